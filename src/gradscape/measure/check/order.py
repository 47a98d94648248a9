"""Order of the places in a sequence: whether attention can see it at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from gradscape.measure.check.dependence import Dependence, Passes, change, first_argument, rounding
from gradscape.measure.core.batch import Batch
from gradscape.measure.core.containers import tensors
from gradscape.measure.diagnose.advice import options
from gradscape.records.diagnosis import Finding, Symptom

FEWEST = 5  # places: two ends, and three between them whose order counts
BESIDE = 1e-4  # change through another order over that through other tokens: less is rounding
ATTENTION = (F.scaled_dot_product_attention, F.multi_head_attention_forward)
SOFTMAX = (torch.softmax, Tensor.softmax, F.softmax)


def look_for_order(model: nn.Module, batch: Batch, found: Dependence) -> None:
    """Look whether the output of a model with attention depends on the order of the input's places.

    Attention and layers of single places treat places alike, whatever their order; positions that are added
    to tokens tell them apart. Tokens between the ends are put into another order, and outputs compared at the
    ends, or the whole output where it has no places. Under a causal mask, two layers of attention see the
    order without positions (Haviv et al. 2022), and nothing is told.

    Args:
        model: Copy, of which no trained parameter is 0 that is drawn in training, as learned positions are.
        batch: Batch.
        found: Findings and notes, which this one is added to.
    """
    main = next((t for t in tensors(batch.given) if t.dim()), None)
    if main is None or batch.calling is not None or main.dim() not in (2, 3) or main.shape[1] < FEWEST:
        return
    if main.dim() == 2 and main.is_floating_point():
        return
    passes = Passes(model, batch)
    with _AttentionCalls(main.shape[1]) as calls:
        base = passes.output(batch)
    if not calls.seen or base is None or base.is_complex() or base.shape[:1] != main.shape[:1]:
        return
    for first in (1, main.shape[1] // 2):
        share = _order_counts(passes, base, main, first)
        if share is not None and share < BESIDE:
            _report(found, first, main, share)
            return


class _AttentionCalls(TorchFunctionMode):
    """Context that tells whether attention over so many places is computed.

    Args:
        places: Number of places.
    """

    def __init__(self, places: int) -> None:
        super().__init__()
        self.places, self.seen = places, False

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        scores = first_argument(args, kwargs or {}) if func in SOFTMAX else None
        over_places = scores is not None and scores.dim() > 2 and min(scores.shape[-2:]) >= self.places
        self.seen |= func in ATTENTION or over_places
        return func(*args, **(kwargs or {}))


def _order_counts(passes: Passes, base: Tensor, main: Tensor, first: int) -> float | None:
    """Return the change through another order from a place on, over that through other samples' values.

    None where it cannot be told: too few places, all alike, or of no effect whatever they are.
    """
    places = main.shape[1]
    inner = torch.arange(first, places - 1)
    if len(inner) < 2:
        return None
    order = torch.cat([torch.arange(first), inner.flip(0), torch.tensor([places - 1])])
    kept = torch.cat([torch.arange(first), torch.tensor([places - 1])])

    def reordered(value: Tensor) -> Tensor:
        return value.index_select(1, order.to(value.device))

    def replaced(value: Tensor) -> Tensor:
        other = value.roll(1, 0)
        other[:, kept] = value[:, kept]
        return other

    moved, control = (_moved(passes, base, main, act) for act in (reordered, replaced))
    if moved is None or control is None or control <= rounding(base):
        return None
    same = bool((reordered(main) == main).all())
    return None if same else moved / control


def _moved(passes: Passes, base: Tensor, main: Tensor, act: Callable[[Tensor], Tensor]) -> float | None:
    """Return the change of the outputs at both ends where the input and its masks are changed.

    Positions that are given as an input of their own remain.
    """

    def changed(value: Tensor) -> Tensor:
        along = value.dim() > 1 and value.shape[:2] == main.shape[:2]
        return act(value) if along and (value is main or _is_mask(value)) else value

    output = passes.output(passes.batch.mapped(changed))
    if output is None or output.shape != base.shape:
        return None
    if base.dim() > 2 and base.shape[1] == main.shape[1]:
        base, output = base[:, [0, -1]], output[:, [0, -1]]
    return change(base, output)


def _is_mask(value: Tensor) -> bool:
    return value.dtype is torch.bool or bool(((value == 0) | (value == 1)).all())


def _report(found: Dependence, first: int, main: Tensor, share: float) -> None:
    which = f"places from {first + 1} to {main.shape[1] - 1} of {main.shape[1]}"
    if main.dim() == 3:  # a set of objects is meant to have no order
        found.notes.append(
            f"the output does not depend on the order of {which}: right for a set, not in time"
        )
        return
    found.findings.append(
        Finding(
            verdict="order is not seen",
            layer="",
            cause=f"the output is the same whatever the order of the tokens at {which}",
            remedy=options(
                "add embeddings of the positions to those of the tokens", "rotary or relative positions",
                "nothing, if a bag of tokens is meant",
            ),
            evidence=(
                Symptom(
                    "change of the output through another order of tokens, over that through other tokens",
                    share, BESIDE, "it treats all places alike; Vaswani et al. (2017), §3.5", below=True,
                ),
            ),
        )
    )  # fmt: skip
