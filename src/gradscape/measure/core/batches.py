"""Several batches in a user's form, a list or a loader, as a list that stays the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from gradscape._text import count_noun
from gradscape.errors import ConfigError
from gradscape.measure.core.as_found import generators_undo
from gradscape.measure.core.containers import is_graph, is_record
from gradscape.measure.core.preserve import random_state


def fixed_batches(batches: Any, most: int | None = None) -> tuple[list[Any], list[str]]:
    """Return a list of batches, and notes; a loader that shuffles or augments is iterated once.

    Args:
        batches: One batch, (x, y), x or a dict of the model's arguments, or several: a list, or a DataLoader
            for one pass.
        most: Number of batches after which a loader is left; None for all.

    Raises:
        ConfigError: There are no batches, or something else was given.
    """
    if type(batches) is tuple and len(batches) > 2 and all(isinstance(each, Tensor) for each in batches):
        return [batches], []
    if type(batches) is tuple and len(batches) != 2:
        raise ConfigError(
            f"batches: got {len(batches)} values; give (x, y), x, a dict, or several batches as a list"
        )
    if isinstance(batches, Tensor | Mapping | tuple) or _is_pair(batches) or _is_one(batches):
        return [batches], []
    if not isinstance(batches, Iterable):
        raise ConfigError(f"batches: got {type(batches).__name__}; give a batch, several, or a DataLoader")
    with random_state(), _loader_state(batches):  # the next draws of a training's loader are unchanged
        found = list(islice(batches, most))
    if not found:
        raise ConfigError("batches: there is none; give one at least")
    if not isinstance(batches, DataLoader):
        return found, []
    drawn = "" if _is_in_order(batches) else ", in the order it drew then"
    return found, [f"{count_noun(len(found), 'batch', 'batches')} of one pass of the loader{drawn}"]


@contextmanager
def _loader_state(batches: Any) -> Iterator[None]:
    """Restore a loader's own generators when the block ends, and those of its samplers and its data."""
    places = [batches, *(getattr(batches, name, None) for name in ("sampler", "batch_sampler", "dataset"))]
    places.append(getattr(places[2], "sampler", None))
    undo = [each for place in places for each in generators_undo(place)]
    try:
        yield
    finally:
        for put_back in undo:
            put_back()


def _is_in_order(loader: DataLoader[Any]) -> bool:
    """Return True for a loader that gives its data from the first to the last."""
    batched = loader.batch_sampler
    if batched is None:
        return isinstance(loader.sampler, SequentialSampler)
    return type(batched) is BatchSampler and isinstance(batched.sampler, SequentialSampler)


def _is_one(batches: Any) -> bool:
    """Return True for one batch that is iterable too."""
    return is_graph(batches) or is_record(batches)


def _is_pair(batches: Any) -> bool:
    """Return True for a list [x, y], the form of a DataLoader's batch."""
    return isinstance(batches, list) and len(batches) == 2 and all(isinstance(b, Tensor) for b in batches)
