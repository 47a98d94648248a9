"""Gradients and updates of every layer over the steps or epochs of a training, as plain arrays; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from gradscape._codec import Record
from gradscape._text import count_noun
from gradscape.records.activations import ActivationHistory
from gradscape.records.adapters import AdapterFacts
from gradscape.records.display import Displayable, Reported, with_verdict
from gradscape.records.distributions import DistributionHistory, readings_until
from gradscape.records.encoding import Values
from gradscape.records.heatmap import ColorScale, draw_map
from gradscape.records.loss import LossHistory
from gradscape.records.ranks import RankHistory
from gradscape.records.spikes import Spike
from gradscape.records.transformer import TransformerHistory, until

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WEIGHT_KINDS = ("conv", "linear")
SEVERAL = 20  # gradients without a step: a GradScaler skips some until its scale fits
SCALER_AT_WORK = "a GradScaler is at work"  # begins the note of it
# Tables of an epoch that a run keeps: all but `update` and `agreement`.
EPOCH_TABLES = (
    "mean_abs", "last_mean_abs", "max_abs", "rms", "zeros", "nonfinite", "weight", "relative",
    "relative_update",
)  # fmt: skip
SCALES = {
    "mean_abs": ColorScale("mean |∂L/∂W|"),
    "max_abs": ColorScale("largest |∂L/∂W|"),
    "rms": ColorScale("RMS of ∂L/∂W"),
    "update": ColorScale("‖ΔW‖"),
    "weight": ColorScale("‖W‖"),
    "relative": ColorScale("‖∂L/∂W‖ / ‖W‖"),
    "relative_update": ColorScale("‖ΔW‖ / ‖W‖"),
    "agreement": ColorScale("cosine to the step before", (-1.0, 1.0), "RdBu"),
    "zeros": ColorScale("share of exact zeros", (0.0, 1.0)),
    "nonfinite": ColorScale("whether an element is not finite", (0.0, 1.0)),
}


@dataclass(frozen=True, repr=False)
class OptimizerFacts(Record):
    """Settings of an optimizer that decide which part of a gradient reaches the weights.

    Attributes:
        name: Name of its class, such as `Adam`.
        lr: Learning rate at the last reading; None where it has none.
        eps: Number added to the root of the second moment (Adam and its like); None elsewhere, also where a
            setting of that name means something else, as Adafactor's does.
        momentum: Momentum of SGD; None elsewhere.
        members: Places of its parameters among the watched ones.
        plain: True if its step is the learning rate times the gradient, or a mean of gradients, as SGD's is;
            Lion's, Muon's and Adafactor's have a size of their own.
        decay: Weight decay of each of its parameters, in the order of `members`; empty where it has none.
        decoupled: True if the decay is no part of the gradient, as in AdamW.
        maximize: True if it steps along the gradient.
    """

    name: str
    lr: float | None
    eps: float | None
    momentum: float | None
    members: tuple[int, ...]
    plain: bool = False
    decay: tuple[float, ...] = ()
    decoupled: bool = False
    maximize: bool = False

    @property
    def in_words(self) -> str:
        """Name and settings, such as `Adam, lr 0.001, ε 1e-08`."""
        settings = {"lr": self.lr, "ε": self.eps, "momentum": self.momentum}
        words = [f"{name} {value:g}" for name, value in settings.items() if value is not None]
        decay = max(self.decay, default=0.0)
        words += [f"weight decay {decay:g}"] if decay else []
        return ", ".join([self.name, *words, *(["maximizes"] if self.maximize else [])])


@dataclass(frozen=True)
class Clearings(Record):
    """Steps whose gradients were added to those of the step before, because nothing had cleared them.

    Attributes:
        kept: Number of such steps,
        steps: of so many that were looked at.
    """

    kept: int
    steps: int


@dataclass(frozen=True, repr=False)
class Untrained(Record):
    """Parameters that no step changes.

    Attributes:
        names: Names of parameters that require a gradient and belong to no watched optimizer.
        share: Share of the model's numbers that they hold, 0 to 1.
        foreign: Number of the optimizers' parameter tensors that are not of the model.
        frozen: Names of parameters that require no gradient.
        frozen_share: Share of the model's numbers that they hold, 0 to 1.
    """

    names: tuple[str, ...]
    share: float
    foreign: int
    frozen: tuple[str, ...] = ()
    frozen_share: float = 0.0


@dataclass(frozen=True, eq=False, repr=False)
class FlowHistory(Reported, Displayable, Record):
    """Gradients and updates of every parameter tensor, step by step, or in a run epoch by epoch.

    Arrays have one row for each step that was read, oldest first, and one column for each parameter tensor,
    in the order of registration; NaN where a parameter had no gradient or was another optimizer's. A row of
    an epoch has the means over its mini-batches, of `rms` the root of the mean square and of `max_abs` the
    largest.

    Attributes:
        layers: Parameter names, such as `stage1.0.conv1.weight`.
        kinds: `conv`, `linear`, `embedding`, `norm`, `bias` or `scale` (a layer scale's γ, a class token, a
            PReLU's slope).
        sizes: Number of elements of each tensor.
        steps: (T,) Optimizer's step of each row, from 0; for epochs their numbers, from 1.
        skipped: (T,) True if the step was not made, as by a GradScaler, or the gradients thrown away.
        mean_abs: (T, P) Mean |∂L/∂W| over the tensor's elements, the paper's gradient flow.
        last_mean_abs: (T, P) The same for an epoch's last mini-batch alone; for a step `mean_abs`.
        max_abs: (T, P) Largest |∂L/∂W|.
        rms: (T, P) Root of the mean square of ∂L/∂W.
        zeros: (T, P) Share of elements that are exactly zero, 0 to 1.
        nonfinite: (T, P) 1 where an element is infinite or NaN, else 0; for epochs the share of them.
        agreement: (T, P) Cosine of the angle to the row before's gradient, −1 to 1. For gradients that are
            noise it is about 0, for full batches near 1: over many rows its mean is |G|² / (|G|² + tr Σ), of
            which McCandlish et al. (2018), §2.2, make the gradient noise scale. From one element in 127 of
            large tensors where the model has more than a million.
        weight: (T, P) ‖W‖₂ before the step.
        update: (T, P) ‖ΔW‖₂ of the real step; of large tensors from the same elements, to a few per cent.
        relative: (T, P) ‖∂L/∂W‖₂ / ‖W‖₂; 0 where W is 0.
        relative_update: (T, P) ‖ΔW‖₂ / ‖W‖₂; 0 where W is 0.
        optimizers: Settings of the watched optimizers.
        seen: Moment at which gradients were read, in words.
        notes: Oddities, in words.
        activations: Every layer's output at the same steps; None unless requested.
        row: Kind of a row: a `step`, or an `epoch`, for the mean over its mini-batches.
        shapes: Shape of each tensor; empty if not known.
        modules: Names of the classes that the model is made of, each once; empty if not known.
        loss: Loss at every step, and what it was made of; None where it is not known.
        rates: (T, P) Learning rate of each parameter; None where it is not known.
        clipped: (T,) Norm of all gradients that a step used over their norm before clipping, 1 without any;
            None where it is not known.
        clearings: Steps that added to the gradients of the step before; None where it is not known.
        untrained: Parameters that no step changes; None where it is not known.
        dtypes: Dtype of each tensor, such as `float32`; empty if not known.
        parted: Names of embeddings and output layers whose weights were equal in the beginning, and no longer
            are.
        transformer: Attention at some steps; None where there is none, or none that could be read.
        adapters: Layers with adapters of low rank; None where there are none.
        equal_units: Names of weights whose first rows were equal when the watch began, and not 0.
        ranks: What a comparison of ranks has found; None without one, and on other ranks than the first.
        distributions: Quantiles of gradients, weights and activations at some of the steps; None unless
            requested.
    """

    layers: tuple[str, ...]
    kinds: tuple[str, ...]
    sizes: tuple[int, ...]
    steps: NDArray[np.int64]
    skipped: NDArray[np.bool_]
    mean_abs: Values
    last_mean_abs: Values
    max_abs: Values
    rms: Values
    zeros: Values
    nonfinite: Values
    agreement: Values
    weight: Values
    update: Values
    relative: Values
    relative_update: Values
    optimizers: tuple[OptimizerFacts, ...]
    seen: str
    notes: tuple[str, ...]
    activations: ActivationHistory | None = None
    row: Literal["step", "epoch"] = "step"
    shapes: tuple[tuple[int, ...], ...] = ()
    modules: tuple[str, ...] = ()
    loss: LossHistory | None = None
    rates: Values | None = None
    clipped: Values | None = None
    clearings: Clearings | None = None
    untrained: Untrained | None = None
    parted: tuple[tuple[str, str], ...] = ()
    equal_units: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    transformer: TransformerHistory | None = None
    adapters: AdapterFacts | None = None
    ranks: RankHistory | None = None
    distributions: DistributionHistory | None = None

    @property
    def lack(self) -> str:
        """Reason why there is no step to judge; empty if there is one."""
        if not len(self.steps):
            return "no step has been watched yet: train a few steps, then diagnose"
        if self.skipped.all():
            return (
                f"no step of the optimizer was made: gradients came {len(self.steps)} times and were not "
                "used; look whether optimizer.step() is called, or a GradScaler skips every step"
            )
        return ""

    @property
    def spikes(self) -> tuple[Spike, ...]:
        """Spikes of the loss, the last eight, oldest first; see `Spike`."""
        return () if self.loss is None else self.loss.spikes

    @property
    def is_unused(self) -> bool:
        """True if gradients came several times, and no step used any of them."""
        return len(self.skipped) >= SEVERAL and bool(self.skipped.all())

    @property
    def is_cut_off(self) -> bool:
        """True if steps were made, and none of them with a gradient of any parameter."""
        made = self.nonfinite[~self.skipped]
        return len(made) > 0 and bool(np.isnan(made).all())

    @property
    def weights(self) -> NDArray[np.intp]:
        """Columns of the conv and linear weights, input to output; all columns where there is none."""
        places = [place for place, kind in enumerate(self.kinds) if kind in WEIGHT_KINDS]
        return np.array(places or range(len(self.kinds)), dtype=np.intp)

    def plot(self, ax: Axes | None = None, statistic: str = "mean_abs") -> Axes:
        """Draw a map of layer × step, colors logarithmic for sizes and linear for shares; return the axes.

        Args:
            ax: Axes to draw on; by default a new figure's.
            statistic: Table to draw: `mean_abs`, `max_abs`, `rms`, `zeros`, `nonfinite`, `agreement`,
                `weight`, `update`, `relative` or `relative_update`.
        """
        names = [self.layers[column] for column in self.weights]
        values = getattr(self, statistic)[:, self.weights]
        return draw_map(ax, self.steps, names, values, SCALES[statistic], self.row)

    def _summary(self) -> str:
        return with_verdict(self, f"{self.lack}\n{self}" if self.lack else str(self))

    def __str__(self) -> str:
        tensors, rows = f"{len(self.layers)} parameter tensors", len(self.steps)
        if not rows:
            return f"watched {tensors}; no {self.row} has been read yet"
        last = self.mean_abs[-1, self.weights]
        return (
            f"watched {tensors} over {count_noun(rows, 'row')}, "
            f"{self.row}s {self.steps[0]} to {self.steps[-1]}; "
            f"mean |∂L/∂W| of the last: {last[0]:.1e} … {last[-1]:.1e}"
        )


def over(above: Values, below: Values) -> Values:
    """Return above / below; 0 where below is 0.

    Args:
        above, below: (T, P) Tables.
    """
    with np.errstate(invalid="ignore"):  # of weights that are infinite
        return np.divide(above, below, out=np.zeros_like(above), where=below != 0)


def flow_of_epochs(
    layers: Sequence[str], kinds: Sequence[str], sizes: Sequence[int], epochs: Sequence[int], tables: Values
) -> FlowHistory:
    """Return the gradient flow of a run.

    Args:
        layers, kinds, sizes: Names, kinds and numbers of elements of the parameter tensors.
        epochs: (T,) Numbers of the epochs, from 1.
        tables: (T, 9, P) Each epoch's `EPOCH_TABLES`.
    """
    named: dict[str, Any] = {
        name: np.ascontiguousarray(tables[:, place]) for place, name in enumerate(EPOCH_TABLES)
    }
    return FlowHistory(
        layers=tuple(layers),
        kinds=tuple(kinds),
        sizes=tuple(sizes),
        steps=np.array(epochs, dtype=np.int64),
        skipped=np.zeros(len(epochs), dtype=np.bool_),
        **named,
        agreement=np.full_like(named["weight"], np.nan),
        update=named["relative_update"] * named["weight"],
        optimizers=(),
        seen="after backward and before the step; each row is the mean over an epoch's mini-batches",
        notes=(),
        row="epoch",
    )


ROW_TABLES = (
    "steps", "skipped", "mean_abs", "last_mean_abs", "max_abs", "rms", "zeros", "nonfinite", "agreement",
    "weight", "update", "relative", "relative_update", "rates", "clipped",
)  # fmt: skip
OUTPUT_TABLES = ("second_moment", "correlation", "dead", "saturated", "nonfinite")


def slice_rows(history: FlowHistory, rows: slice | NDArray[np.intp]) -> FlowHistory:
    """Return a history with some of its rows, and the loss up to the last of them.

    Args:
        history: History of a watch or a run.
        rows: Rows to keep, in their order.
    """
    tables = {name: getattr(history, name) for name in ROW_TABLES}
    kept: dict[str, Any] = {name: None if table is None else table[rows] for name, table in tables.items()}
    outputs, loss, transformer = history.activations, history.loss, history.transformer
    last = int(kept["steps"][-1]) if len(kept["steps"]) else -1
    if outputs is not None:
        names = ("steps", *OUTPUT_TABLES)
        outputs = replace(outputs, **{name: getattr(outputs, name)[rows] for name in names})
    if loss is not None:
        count = int(np.searchsorted(loss.steps, last, side="right"))
        loss = replace(
            loss,
            steps=loss.steps[:count],
            values=loss.values[:count],
            readings=tuple(each for each in loss.readings if each.step <= last),
            spikes=tuple(each for each in loss.spikes if each.first <= last),
            small=tuple(each for each in loss.small if each[0] <= last),
        )
    transformer = None if transformer is None else until(transformer, last)
    quantiles = None if history.distributions is None else readings_until(history.distributions, last)
    return replace(
        history, **kept, activations=outputs, loss=loss, transformer=transformer, distributions=quantiles
    )
