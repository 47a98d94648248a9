"""Tensors of a model that several ranks hold copies of, and which ranks these are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gradscape._text import count_noun
from gradscape.measure.core.parameters import is_plain, named, strip_wrappers, unwrapped

Ranks = tuple[int, ...]


@dataclass(frozen=True)
class Replica:
    """Part of a tensor that this rank and others hold copies of.

    Attributes:
        name: Name of the tensor in the model, without those of wrappers.
        is_buffer: Whether it is a buffer rather than a parameter.
        ranks: Ranks that hold a copy, this one among them.
        tensor: Copy of this rank.
        gradient: Gradient of the copy; None without one.
    """

    name: str
    is_buffer: bool
    ranks: Ranks
    tensor: Tensor
    gradient: Tensor | None

    @property
    def key(self) -> str:
        """Name, kind and holders: what two ranks must have in common to be compared."""
        shape = "x".join(map(str, self.tensor.shape))
        return f"{'b' if self.is_buffer else 'p'} {self.name} {shape} {_spans(self.ranks)}"


@dataclass(frozen=True)
class Replicas:
    """Tensors to compare, and how many cannot be.

    Attributes:
        compared: Tensors that at least two ranks hold copies of.
        sharded: Number of parameters whose parts lie on one rank each.
        unread: Number of parameters that cannot be read as copies: of FSDP1 or ZeRO-3, sparse, quantized.
        buffers: Number of buffers, other than counters, that are left out.
        wrapped: Whether a wrapper of torch says which ranks hold copies.
        model: Digest of all parameters' names: ranks that train other parts of a model have another.
    """

    compared: tuple[Replica, ...]
    sharded: int
    unread: int
    buffers: int
    wrapped: bool
    model: str

    @property
    def notes(self) -> list[str]:
        """Sentences on what is not compared."""
        found = []
        if self.sharded:
            found.append(
                f"ranks: {count_noun(self.sharded, 'parameter tensor')} not compared, since each part lies "
                "on one rank alone, as under FSDP without a replicate dimension"
            )
        if self.unread:
            found.append(
                f"ranks: {count_noun(self.unread, 'parameter tensor')} not compared, since their wrapper "
                "does not say which ranks hold copies (FSDP1, ZeRO-3), or they are sparse or quantized"
            )
        if self.buffers:
            found.append(
                f"ranks: {count_noun(self.buffers, 'buffer')} not compared, since running statistics may "
                "differ; Ranks(buffers=True) compares them"
            )
        if not self.wrapped:
            found.append(
                "ranks: the model is in no DDP or FSDP, so that all ranks are taken to hold copies of it"
            )
        return found


def replicas_of(model: nn.Module, world: Sequence[int], rank: int, buffers: bool) -> Replicas:
    """Find the tensors of a model that other ranks hold copies of.

    Args:
        model: Model, perhaps wrapped.
        world: All ranks.
        rank: This rank.
        buffers: Whether to compare buffers too.
    """
    groups, foreign, entries = _ddp_groups(model), _foreign(model), named(model)
    compared, sharded, unread, wrapped = [], 0, 0, bool(groups or foreign)
    for name, _, parameter in entries:
        if id(parameter) in foreign or hasattr(parameter, "ds_id"):
            unread += 1
            continue
        holders = groups.get(id(parameter))
        wrapped |= hasattr(parameter, "placements")
        ranks = _ranks_of(parameter) if holders is None else holders
        ranks = tuple(world) if ranks is None else ranks
        held = _local(parameter)
        if held is None:
            unread += 1
        elif len(ranks) < 2 or rank not in ranks:
            sharded += 1
        else:
            compared.append(Replica(name, False, ranks, held, _local_gradient(parameter)))
    ours = _buffers(model)
    if buffers:
        common = next(iter(groups.values()), tuple(world))
        compared += [Replica(name, True, common, each, None) for name, each in ours]
    model_digest = digest_of(*(name for name, _, _ in entries))
    return Replicas(tuple(compared), sharded, unread, 0 if buffers else len(ours), wrapped, model_digest)


def digest_of(*texts: str) -> str:
    """Return a digest of texts, 16 characters.

    Args:
        texts: Any texts.
    """
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def _ddp_groups(model: nn.Module) -> dict[int, Ranks]:
    """Return the ranks of the DDP module around each parameter, per id."""
    from torch.distributed import get_process_group_ranks

    found: dict[int, Ranks] = {}
    for module in model.modules():
        if isinstance(module, DistributedDataParallel):
            ranks = tuple(sorted(get_process_group_ranks(module.process_group)))
            found |= {id(parameter): ranks for parameter in module.parameters()}
    return found


def _foreign(model: nn.Module) -> set[int]:
    """Return the ids of parameters in FSDP1, whose plain tensors are shards."""
    wrappers = [each for each in model.modules() if type(each).__name__ == "FullyShardedDataParallel"]
    return {id(parameter) for module in wrappers for parameter in module.parameters()}


def _ranks_of(tensor: Any) -> Ranks | None:
    """Return the ranks that hold the same part of a DTensor as this one; None for a plain tensor."""
    if not hasattr(tensor, "placements"):
        return None
    mesh, coordinate = tensor.device_mesh, tensor.device_mesh.get_coordinate()
    if coordinate is None or any(placement.is_partial() for placement in tensor.placements):
        return ()
    index = tuple(
        slice(None) if placement.is_replicate() else place
        for placement, place in zip(tensor.placements, coordinate, strict=True)
    )
    return tuple(sorted(mesh.mesh[index].flatten().tolist()))


def _local(tensor: Any) -> Tensor | None:
    """Return the part of a tensor that this rank holds; None if its bits cannot be read."""
    whole = tensor.detach()
    held: Tensor = whole.to_local() if hasattr(whole, "placements") else whole
    return held if is_plain(held) else None


def _local_gradient(parameter: Any) -> Tensor | None:
    """Return the gradient of this rank's part; None without one, or where it lies otherwise."""
    gradient = parameter.grad
    if gradient is None or getattr(gradient, "placements", None) != getattr(parameter, "placements", None):
        return None
    return _local(gradient)


def _buffers(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Return the buffers that can differ by what a rank has seen, with their names."""
    found = ((strip_wrappers(name), _local(each)) for name, each in unwrapped(model).named_buffers())
    return [
        (name, held) for name, held in found if held is not None and held.is_floating_point() and held.numel()
    ]


def _spans(numbers: Iterable[int]) -> str:
    """Return whole numbers as spans, such as 0-3,8.

    Example:
        >>> _spans([0, 1, 2, 3, 8])
        '0-3,8'
    """
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
