"""The typical values of the last rows of a history, which the rules of a diagnosis look at."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscape.measure.diagnose.limits import LEAST, SOURCES, Limits
from gradscape.records.diagnosis import Symptom
from gradscape.records.encoding import Values
from gradscape.records.gradients import WEIGHT_KINDS, FlowHistory, OptimizerFacts

Bools = NDArray[np.bool_]
TINY = 1e-30
MOSTLY = 0.9  # of the rows: a unit that has died may answer to a rare sample
# Rows that tell how large the gradient was when the watch began: that of a fast training falls soon.
FIRST = 5


@dataclass(frozen=True)
class View:
    """One optimizer's weight layers in the last rows: medians over steps that were made, input to output.

    Attributes:
        layers: names of the weights.
        gradient: ‖∂L/∂W‖₂; NaN where there never was one.
        rms: of the elements of ∂L/∂W.
        update: ‖ΔW‖₂/‖W‖₂, of weights that are next to nothing over a norm that keeps a signal's size.
        largest_update: of any row.
        earlier_update: as `update`, in the rows before those that are looked at; NaN if there are none.
        earlier_largest: of any of those rows; 0 if there are none.
        gain: ‖∂L/∂W‖₂·‖ΔW‖₂, in units of the loss.
        zero: whether neither it nor its layer's other parameters ever had a gradient but exact zeros.
        absent: whether it never had a gradient at all, not in any row of the history.
        died: whether its layer has had none, but for single rows, for more than half of the rows.
        steepness: ‖∂L/∂W‖₂ over the norm that `update` is held against.
        began_steep: whether that was above its limit in the first row.
        broken: whether it had a non-finite element in the first row in which any had.
        agreement: mean cosine between successive gradients.
        before: whether neither the layer nor a weight or embedding before it has more than a `span`th of the
            last layer's gradient.
        idle: whether neither its steps nor theirs change the loss; never of another optimizer than SGD, which
            takes steps of one size until a gradient grows.
        fallen: the last layer's gradient in the first rows of the history over what it is now.
        optimizer: that trains them.
        rows: of the history that are looked at: the last ones of steps that were made.
        row: what each is of, `step` or `epoch`.
        limits: what to hold them against.
    """

    layers: tuple[str, ...]
    gradient: Values
    rms: Values
    update: Values
    largest_update: Values
    earlier_update: Values
    earlier_largest: Values
    gain: Values
    zero: Bools
    absent: Bools
    died: Bools
    steepness: Values
    began_steep: Bools
    broken: Bools
    agreement: Values
    before: Bools
    idle: Bools
    fallen: float
    optimizer: OptimizerFacts
    rows: NDArray[np.intp]
    row: str
    limits: Limits

    @classmethod
    def of(cls, history: FlowHistory, facts: OptimizerFacts, limits: Limits) -> View | None:
        """Return the view of one optimizer's part of a history.

        Args:
            history: History of a watch or of a run.
            facts: Facts of the optimizer.
            limits: Limits of the rules.

        Returns:
            View; None where the optimizer has made no step that was read, or trains no weight layer while
            others do.
        """
        part = _of_optimizer(history, facts)
        columns, made = part.weights, np.flatnonzero(~part.skipped)
        last, earlier = made[-limits.rows :], made[: -limits.rows]
        beside = WEIGHT_KINDS if set(WEIGHT_KINDS) & set(history.kinds) else part.kinds
        if not len(last) or not set(beside) & set(part.kinds):
            return None
        rms = typical(part.rms[last])
        norms = part.rms * np.sqrt(np.array(part.sizes, dtype=np.float64))
        relative = part.update / sized(part)
        gradient, gain = typical(norms[last]), typical(norms[last] * part.update[last])
        return cls(
            layers=tuple(part.layers[column] for column in columns),
            gradient=gradient[columns],
            rms=rms[columns],
            update=typical(relative[last])[columns],
            largest_update=np.nan_to_num(relative[last], posinf=math.inf).max(axis=0)[columns],
            earlier_update=typical(relative[earlier])[columns],
            earlier_largest=np.nan_to_num(relative[earlier]).max(axis=0, initial=0.0)[columns],
            gain=gain[columns],
            zero=_without_gradient(part, last)[columns],
            absent=_never_there(part)[columns],
            began_steep=norms[made[0]][columns] / sized(part)[made[0]][columns] > limits.steep,
            died=_without_gradient(part, last[(len(last) - 1) // 2 :], MOSTLY)[columns],
            steepness=typical(norms[last] / sized(part)[last])[columns],
            broken=_first_broken(part.nonfinite[made])[columns],
            agreement=_alike(part.agreement[last][:, columns]),
            before=_all_before(part, gradient < gradient[columns[-1]] / limits.span, gradient),
            idle=_all_before(part, gain < limits.gain, gradient) & facts.plain,
            fallen=_fallen(part, norms[made]),
            optimizer=facts,
            rows=last,
            row=part.row,
            limits=limits,
        )

    @property
    def still(self) -> float:
        """‖ΔW‖/‖W‖ below which a layer of SGD's stands still, or next to still beside another."""
        return max(self.limits.still, float(np.nanmax(self.update, initial=0.0)) / self.limits.span)

    def out_of_reach(self, still: float) -> Bools:
        """Return True where too little of a gradient is left in the step: beside Adam's ε, else the weights.

        Optimizers of another kind take steps of a size of their own, whatever the gradient's.

        Args:
            still: ‖ΔW‖/‖W‖ below which a layer of SGD's stands still.

        Returns:
            One value a layer, (L,).
        """
        if self.optimizer.eps:
            found: Bools = self.share < self.limits.reach
        elif self.optimizer.plain and self.optimizer.lr != 0:
            found = self.update < still
        else:
            found = np.zeros(len(self.layers), dtype=np.bool_)
        return found & (self.gradient > 0)

    @property
    def share(self) -> Values:
        """The share of its normal step that Adam's ε leaves each layer."""
        return self.rms / (self.rms + (self.optimizer.eps or 0.0))

    @property
    def alike(self) -> float:
        """Median over layers of the cosine between successive gradients; 1 where there is but one."""
        return float(np.median(self.agreement))

    @property
    def is_noise(self) -> bool:
        """True if successive gradients have nothing in common, and do not undo each other either."""
        return self.limits.overshoot <= self.alike < self.limits.noise

    @property
    def grows(self) -> Values:
        """‖∂L/∂W‖ of each layer over the last's; 0 where that has none."""
        last = self.gradient[-1]
        return self.gradient / last if last > 0 else np.zeros(len(self.layers))

    @property
    def has_gradient(self) -> bool:
        """True if any layer has a gradient in most rows."""
        return bool(np.nan_to_num(self.gradient).max() > 0)

    @property
    def has_faded(self) -> bool:
        """True if next to nothing is left of the gradient that the training began with."""
        return self.fallen > self.limits.faded

    def per_layer(self) -> float:
        """Orders of magnitude that the gradient grows by, a layer, towards the input (least squares)."""
        known = np.flatnonzero(self.gradient > 0)
        if len(known) < 2:
            return 0.0
        return -float(np.polyfit(known, np.log10(self.gradient[known]), 1)[0])

    def evidence(self, limit: str, what: str, value: float, below: bool = False) -> Symptom:
        """Return a value beside its limit.

        Args:
            limit: Name of the limit.
            what: What the value is, in words.
            value: Value.
            below: Whether values below the limit speak for the verdict.
        """
        return Symptom(what, float(value), getattr(self.limits, limit), SOURCES[limit], below)


def _of_optimizer(history: FlowHistory, facts: OptimizerFacts) -> FlowHistory:
    """The columns and the rows of one optimizer; layers that others train are not compared with its own."""
    if len(history.optimizers) == 1:
        return history
    places = np.array(facts.members, dtype=np.intp)
    rows = np.flatnonzero(~np.isnan(history.update[:, places]).all(axis=1)) if len(places) else places
    changes: dict[str, Any] = {name: getattr(history, name)[np.ix_(rows, places)] for name in TABLES}
    for name in ("layers", "kinds", "sizes", "shapes"):
        values = getattr(history, name)
        changes[name] = tuple(values[place] for place in places) if values else ()
    return replace(
        history,
        steps=history.steps[rows],
        skipped=history.skipped[rows],
        activations=None,
        **changes,
    )


TABLES = (
    "mean_abs", "last_mean_abs", "max_abs", "rms", "zeros", "nonfinite", "agreement", "weight", "update",
    "relative", "relative_update",
)  # fmt: skip


def sized(history: FlowHistory) -> Values:
    """(T, P) ‖W‖₂ to hold steps against: never less than `LEAST` of a matrix that keeps a signal's size.

    Where shapes are not known it is ‖W‖₂ itself, and infinite where that is 0.

    Args:
        history: History of T rows of P parameters.
    """
    least = np.array(
        [
            LEAST * math.sqrt(shape[0]) if kind in WEIGHT_KINDS and shape else 0.0
            for kind, shape in zip(history.kinds, history.shapes or ((),) * len(history.kinds), strict=True)
        ]
    )
    found: Values = np.fmax(history.weight, least)
    return np.where(found == 0, np.inf, found)


def _all_before(history: FlowHistory, lost: Bools, gradient: Values) -> Bools:
    """(L,) of each weight layer, whether it and all that signals come through before it have lost theirs.

    Embeddings, tokens and scales count; norms and biases stand beside weights, and are left out, as is what
    has no gradient.
    """
    beside = np.array([kind in ("norm", "bias") for kind in history.kinds])
    found: Bools = np.logical_and.accumulate(lost | ~(gradient > 0) | beside)
    return found[history.weights]


def _fallen(history: FlowHistory, norms: Values) -> float:
    """Ratio of the last layer's ‖∂L/∂W‖ in the first rows to that now: of its parameter that fell least.

    A bias there has the gradient of the outputs themselves: it does not fall where an explosion has ended.

    Args:
        history: of the parameters.
        norms: (T, P) ‖∂L/∂W‖ in the rows of steps that were made.
    """
    known = np.flatnonzero(np.nan_to_num(norms).any(axis=0))
    if not len(known) or len(norms) < 2 * FIRST:
        return 1.0
    owners = [name.rpartition(".")[0] for name in history.layers]
    last = [place for place in known if owners[place] == owners[known[-1]]]
    first, now = typical(norms[:FIRST, last]), typical(norms[-2 * FIRST :, last])
    counted = (first > 0) & ~np.isnan(now)
    with np.errstate(divide="ignore"):
        return float((first[counted] / now[counted]).min(initial=math.inf)) if counted.any() else 1.0


def _never_there(history: FlowHistory) -> Bools:
    """(P,) whether no row has a gradient, not even one that is not finite."""
    there: Bools = np.isfinite(history.rms) | (history.nonfinite > 0)
    found: Bools = np.logical_not(there.any(axis=0))
    return found


def _alike(agreement: Values) -> Values:
    """Mean over rows that have one before them; 1 where none has."""
    known = np.isfinite(agreement)
    counted = np.maximum(known.sum(axis=0), 1)
    found: Values = np.where(known.any(axis=0), np.where(known, agreement, 0.0).sum(axis=0) / counted, 1.0)
    return found


def _first_broken(nonfinite: Values) -> Bools:
    """(P,) of the first row in which any gradient is not finite; later ones follow from it."""
    rows = np.flatnonzero((nonfinite == 1).any(axis=1))
    found: Bools = nonfinite[rows[0]] == 1 if len(rows) else np.zeros(nonfinite.shape[1], dtype=np.bool_)
    return found


def _without_gradient(history: FlowHistory, rows: NDArray[np.intp], share: float = 1.0) -> Bools:
    """(P,) whether no parameter of the tensor's layer had a gradient other than exact zeros.

    Args:
        history: of the parameters.
        rows: that are looked at.
        share: of these rows, in which it is so at least.
    """
    still = np.nan_to_num(history.zeros[rows], nan=1.0) == 1
    owners = [name.rpartition(".")[0] for name in history.layers]
    quiet = {owner: np.ones(len(rows), dtype=np.bool_) for owner in owners}
    for owner, column in zip(owners, still.T, strict=True):
        quiet[owner] &= column
    return np.array([quiet[owner].mean() >= share for owner in owners])


def typical(values: Values) -> Values:
    """Return the median of each column's finite values; NaN where there is none.

    Args:
        values: (T, L) Rows of a history.
    """
    if not len(values):
        return np.full(values.shape[1], np.nan)
    finite = np.isfinite(values)
    count = finite.sum(axis=0)[None]
    # All columns at once: a median each took seconds of a model of thousands of tensors.
    ordered = np.sort(np.where(finite, values, np.inf), axis=0)
    middle = (np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(values) - 1))
    lower, upper = (np.take_along_axis(ordered, place, axis=0)[0] for place in middle)
    found: Values = np.where(count[0] > 0, (lower + upper) / 2, np.nan)
    return found
