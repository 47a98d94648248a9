"""Spike of a loss: how high and how long, its batch, and the layers that moved first; no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gradscape._codec import Record
from gradscape._text import count_noun, strip_controls
from gradscape.errors import cut
from gradscape.records.encoding import Values

AHEAD = 8  # steps before a loss spikes within which an optimizer's second moment fell behind: see `Spike`
NAMED, LETTERS = 8, 40  # ids of a batch that a text names, and letters of each


@dataclass(frozen=True, eq=False)
class TensorPrint(Record):
    """Fingerprint of a tensor that the model was given, of 1,024 of its elements at most, evenly spread.

    Attributes:
        shape, dtype: Those of the whole tensor.
        hash: First 16 digits of the elements' SHA-256, in hexadecimal; equal tensors have equal ones.
        mean, std, low, high: Statistics of the finite elements; NaN where there is none.
        zeros, nonfinite: Shares of elements that are 0, and that are infinite or NaN, 0 to 1.
        commonest: Share of the most frequent value, 0 to 1, of whole numbers; NaN of others.
    """

    shape: tuple[int, ...]
    dtype: str
    hash: str = ""
    mean: float = math.nan
    std: float = math.nan
    low: float = math.nan
    high: float = math.nan
    zeros: float = math.nan
    nonfinite: float = math.nan
    commonest: float = math.nan

    def __str__(self) -> str:
        form = f"{self.dtype} {self.shape}"
        if not self.hash:
            return form
        broken = f", {100 * self.nonfinite:.2g} % not finite" if self.nonfinite else ""
        if not math.isnan(self.commonest):
            numbers = f"{self.low:.0f} to {self.high:.0f}, {100 * self.commonest:.2g} % of them alike"
        else:
            numbers = f"mean {self.mean:.3g}, std {self.std:.3g}{broken}"
        return f"{form}, {numbers}, hash {self.hash}"


@dataclass(frozen=True, eq=False)
class BatchPrint(Record):
    """Batch of a step, as far as it is known.

    Attributes:
        ids: Ids of its samples that `Watch.batch` was told, at most 1,024, whole numbers or texts.
        count: Number of all ids told.
        inputs: Fingerprints of the tensors that the model was given; of several forward passes one after the
            other, eight at most.
    """

    ids: tuple[int | str, ...] = ()
    count: int = 0
    inputs: tuple[TensorPrint, ...] = ()

    def __str__(self) -> str:
        if self.ids:
            rest = self.count - min(NAMED, len(self.ids))
            more = f" and {rest} more" if rest else ""
            names = (cut(strip_controls(str(each)), LETTERS) for each in self.ids[:NAMED])
            return f"ids {', '.join(names)}{more}"
        more = f" and {count_noun(len(self.inputs) - 1, 'tensor')} more" if len(self.inputs) > 1 else ""
        return f"{self.inputs[0]}{more}" if self.inputs else "unknown"


@dataclass(frozen=True)
class LayerMove(Record):
    """Parameter tensor whose gradient or update left its usual range about a spike.

    Attributes:
        layer: Name of the parameter.
        quantity: `gradient`, ‖∂L/∂W‖, or `update`, ‖ΔW‖.
        step: First step at which it did.
        ahead: Number of steps before the loss did; negative if after it.
        factor: Its size there over the median of the steps before.
        deviations: Logarithm of that, in robust standard deviations.
    """

    layer: str
    quantity: Literal["gradient", "update"]
    step: int
    ahead: int
    factor: float
    deviations: float

    def __str__(self) -> str:
        when = "with it"
        if self.ahead:
            when = f"{count_noun(abs(self.ahead), 'step')} {'before' if self.ahead > 0 else 'after'} it"
        return f"{self.quantity} of {self.layer}, {self.factor:.3g} times its usual size, {when}"


@dataclass(frozen=True, eq=False)
class SpikeWindow(Record):
    """Rows of a watch around a spike, 20 before it and 10 after at most; kept when later rows replace them.

    Attributes:
        steps: (T,) Steps of the rows.
        losses: (T,) Loss; NaN where none is known.
        gradient: (T,) ‖∂L/∂W‖ of all parameters together.
        update: (T,) ‖ΔW‖ of all parameters together.
        layers: Names of L parameters, those that moved, in the order in which they did.
        gradients: (T, L) ‖∂L/∂W‖ of these.
        updates: (T, L) ‖ΔW‖ of these.
    """

    steps: NDArray[np.int64]
    losses: Values
    gradient: Values
    update: Values
    layers: tuple[str, ...]
    gradients: Values
    updates: Values


@dataclass(frozen=True, eq=False)
class Spike(Record):
    """Steps at which the loss is above what the noise of the steps around explains.

    An update that grows before the loss does speaks for the optimizer's state: Wortsman et al. (2023), §3.4,
    saw losses spike 1 to 8 steps after squared gradients had outgrown AdamW's second moment, and Molybog et
    al. (2023) updates that are large and no longer point downhill. Chowdhery et al. (2022), §5.1, saw spikes
    that neither the batch made nor the state, but both together; see `gradscape.replay`.

    Attributes:
        first: First step whose loss is too high.
        peak: Step of the highest loss.
        usual: Loss before it, the median of 21 steps.
        value: Highest loss; infinite where it is not finite.
        factor: Highest loss over the usual one.
        deviations: Logarithm of that, in robust standard deviations of the noise.
        back: Number of steps until the loss is back; None if it is not yet.
        batch: Batch of the first step; None where it is not known.
        moves: Parameters whose gradient or update left its usual range, the first ones first, eight at most.
        window: Rows around it; None where none is known.
    """

    first: int
    peak: int
    usual: float
    value: float
    factor: float
    deviations: float
    back: int | None
    batch: BatchPrint | None = None
    moves: tuple[LayerMove, ...] = ()
    window: SpikeWindow | None = None

    @property
    def update_before(self) -> float:
        """Largest norm of all updates in the eight steps before, over the median of those before these."""
        window = self.window
        if window is None:
            return math.nan
        near = (window.steps < self.first) & (window.steps >= self.first - AHEAD)
        far = window.update[window.steps < self.first - AHEAD]
        far, close = far[np.isfinite(far)], window.update[near]
        close = close[np.isfinite(close)]
        usual = float(np.median(far)) if len(far) else 0.0
        return float(close.max()) / usual if len(close) and usual > 0 else math.nan

    def derived(self) -> dict[str, float]:
        """Size of the updates before it."""
        return {"update_before": self.update_before}

    def __str__(self) -> str:
        lines = [self.heading]
        if self.batch is not None:
            lines.append(f"  batch: {self.batch}")
        lines += [f"  moved: {each}" for each in self.moves[:3]]
        if math.isfinite(self.update_before):
            lines.append(f"  largest update in the {AHEAD} steps before: {self.update_before:.3g} × usual")
        return "\n".join(lines)

    @property
    def heading(self) -> str:
        """Line with the step, the height and the length."""
        steps = f"step {self.first}" if self.peak == self.first else f"steps {self.first} to {self.peak}"
        back = "not back yet" if self.back is None else f"back after {count_noun(self.back, 'step')}"
        if not math.isfinite(self.factor):
            return f"loss not finite at {steps}, {self.usual:.3g} before, {back}"
        return (
            f"loss {self.value:.3g} at {steps}, {self.factor:.3g} times the {self.usual:.3g} before "
            f"({self.deviations:.3g} deviations), {back}"
        )
