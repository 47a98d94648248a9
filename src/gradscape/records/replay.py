"""Step repeated with one batch and with others, and whether that batch was the cause; no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradscape._codec import Record
from gradscape._text import count_noun
from gradscape.records.display import Displayable
from gradscape.records.encoding import Values
from gradscape.stats.student_t import student_t

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEVEL = 0.995  # of intervals; a healthy batch stands out by chance once in 200 replays
FEWEST = 3  # other batches without which their spread is not known
HIGHER = 1.5  # times the other batches' loss from which a batch's own is high, as of `spikes_of`
RISE = 1.05  # times the loss before from which a step has raised it; a healthy step changes it by less
NOTHING = 1e-6  # share of the usual loss below which losses are alike, such as one that is 0 by rounding
VERDICTS = {
    "batch": "the batch was the cause",
    "state": "any batch does it: the state was the cause",
    "both": "the state and the batch together were the cause",
    "not decided": "not decided",
}


@dataclass(frozen=True)
class Effect(Record):
    """A number of the suspected batch beside those of the others, as factors.

    Attributes:
        suspect: Its factor.
        others: Geometric mean of the others' factors.
        low, high: Ends of the 99.5 % interval of that mean.
        most: Upper end of the interval in which one more batch would lie, by the others' spread.
        n: Number of other batches.
    """

    suspect: float
    others: float
    low: float
    high: float
    most: float
    n: int

    @classmethod
    def of(cls, suspect: float, others: Values) -> Effect:
        """Return the effect from logarithms.

        Args:
            suspect: Logarithm of its factor.
            others: (n,) Logarithms of theirs.
        """
        n, known = len(others), bool(np.isfinite(others).all())
        mean = float(others.mean())
        spread = float(others.std(ddof=1)) if n > 1 and known else math.inf
        t = student_t(n - 1, LEVEL) if n > 1 else math.inf
        half = t * spread / math.sqrt(n) if n > 1 else math.inf
        most = mean + t * spread * math.sqrt(1 + 1 / n) if known else math.inf
        ends = (mean - half, mean + half) if known else (mean, math.inf)
        return cls(_exp(suspect), _exp(mean), _exp(ends[0]), _exp(ends[1]), _exp(most), n)

    def stands_out(self, factor: float) -> bool:
        """Return True if the suspect is beyond the others' spread, and by a factor above their mean.

        Args:
            factor: Factor.
        """
        return self.n >= FEWEST and self.suspect > self.most and self.suspect > factor * self.others

    def all_rise(self, factor: float) -> bool:
        """Return True if the others are above a factor in the mean, beyond chance.

        Args:
            factor: Factor.
        """
        return self.n >= FEWEST and self.low > factor

    def __str__(self) -> str:
        return (
            f"{self.suspect:.3g} with it; {self.others:.3g} with the others (99.5 % interval "
            f"{self.low:.3g} … {self.high:.3g}, one more within {self.most:.3g}, n = {self.n})"
        )


@dataclass(frozen=True, eq=False, repr=False)
class ReplayRecord(Displayable, Record):
    """One step repeated on copies with each of B batches, all from the same state.

    Attributes:
        suspect: Place of the suspected batch among them.
        optimizer: Name of the optimizer.
        own: (B,) Loss of each batch before the step.
        gradient: (B,) Norm of all its gradients.
        update: (B,) Norm of the step that is made with it.
        judged: (E,) Places of the batches by which the step is judged, −1 for those held out.
        before: (E,) Their losses before the step.
        after: (B, E) Their losses after a step with each batch.
        usual: Loss before the spike; NaN where it was not given.
        notes: Remarks on how it was measured, in words.
    """

    suspect: int
    optimizer: str
    own: Values
    gradient: Values
    update: Values
    judged: NDArray[np.int64]
    before: Values
    after: Values
    usual: float
    notes: tuple[str, ...]

    @property
    def others(self) -> NDArray[np.intp]:
        """Places of the other batches."""
        return np.flatnonzero(np.arange(len(self.own)) != self.suspect)

    @cached_property
    def rises(self) -> Values:
        """(B,) logarithm of the judged losses after a step with each batch over those before, the mean.

        A batch does not judge its own step, which lowers its own loss.
        """
        ratios = self._logs(self.after) - self._logs(self.before)
        apart = self.judged[None, :] != np.arange(len(self.own))[:, None]
        return np.array([_mean(row[mask]) for row, mask in zip(ratios, apart, strict=True)])

    def _logs(self, values: Values) -> Values:
        """Return logarithms of losses, infinite of those that are not finite; 0 counts as next to nothing."""
        known = self.before[np.isfinite(self.before) & (self.before > 0)]
        least = NOTHING * float(np.median(known)) if len(known) else NOTHING
        finite = np.isfinite(values)
        return np.where(finite, np.log(np.maximum(np.where(finite, values, 1.0), least)), math.inf)

    @cached_property
    def own_loss(self) -> Effect:
        """Loss of the suspected batch before the step, over the geometric mean of the others'."""
        logs = self._logs(self.own)
        centered = logs - logs[self.others].mean()
        return Effect.of(float(centered[self.suspect]), centered[self.others])

    @cached_property
    def rise(self) -> Effect:
        """Losses of other batches after the step over those before it."""
        return Effect.of(float(self.rises[self.suspect]), self.rises[self.others])

    @cached_property
    def level(self) -> Effect | None:
        """Loss of each batch before the step over the usual one; None where that was not given."""
        if math.isnan(self.usual):
            return None
        logs = self._logs(self.own) - math.log(self.usual)
        return Effect.of(float(logs[self.suspect]), logs[self.others])

    @property
    def verdict(self) -> str:
        """`batch`, `state`, `both` or `not decided`: see `reason`.

        The batch, if its own loss before the step, or what its step does to other batches' losses, is beyond
        the spread of the others; the state, if steps with other batches raise the loss too, or it was above
        the usual one before any step; both, if both.
        """
        batch = self.own_loss.stands_out(HIGHER) or self.rise.stands_out(RISE)
        high = self.level is not None and self.level.all_rise(HIGHER)
        state = self.rise.all_rise(RISE) or high
        return "both" if batch and state else "batch" if batch else "state" if state else "not decided"

    @property
    def reason(self) -> str:
        """Reason of the verdict, in words."""
        n = len(self.others)
        if n < FEWEST:
            return f"{count_noun(n, 'other batch', 'other batches')}: give {FEWEST} at least, better 10"
        parts = []
        if self.own_loss.stands_out(HIGHER):
            parts.append(f"its own loss is {self.own_loss.suspect:.3g} times that of the others")
        if self.rise.stands_out(RISE):
            parts.append(
                f"a step with it makes the others' loss {self.rise.suspect:.3g} times as high, one with "
                f"another {self.rise.others:.3g} times"
            )
        elif self.rise.all_rise(RISE):
            parts.append(f"a step with any other batch makes the loss {self.rise.others:.3g} times as high")
        if self.level is not None and self.level.all_rise(HIGHER):
            parts.append(f"before the step the loss of any batch is {self.level.others:.3g} times the usual")
        return "; ".join(parts) or "neither the batch nor a step stands out beyond the others' spread"

    def derived(self) -> Mapping[str, Any]:
        """Return verdict, reason and the effects."""
        return {
            "verdict": self.verdict, "reason": self.reason, "own_loss": self.own_loss, "rise": self.rise,
            "level": self.level,
        }  # fmt: skip

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw each batch's own loss against what a step with it does to the others' loss; return the axes.

        Args:
            ax: Axes to draw on; by default a new figure's.
        """
        import matplotlib.pyplot as plt

        axes = plt.subplots(layout="constrained")[1] if ax is None else ax
        factors = np.exp(np.clip(self.rises, -300, 300))
        here = self.others
        axes.plot(self.own[here], factors[here], "o", color="tab:gray", label="other batches")
        axes.plot(self.own[self.suspect], factors[self.suspect], "D", color="tab:red", label="suspect")
        axes.axhline(1, color="tab:gray", linewidth=0.8, linestyle=":")
        if not math.isnan(self.usual):
            axes.axvline(self.usual, color="tab:gray", linewidth=0.8, linestyle="--", label="usual loss")
        positive = bool((self.own[np.isfinite(self.own)] > 0).all())
        axes.set(xscale="log" if positive else "linear", yscale="log")
        axes.set(xlabel="loss of the batch before the step", ylabel="others' loss after the step / before")
        axes.legend()
        return axes

    def __str__(self) -> str:
        lines = [
            f"{VERDICTS[self.verdict]} ({self.reason})",
            f"loss of the batch before the step, over the others': {self.own_loss}",
            f"others' loss after the step, over that before: {self.rise}",
        ]
        if self.level is not None:
            lines.append(f"loss before the step, over the usual {self.usual:.3g}: {self.level}")
        gradient, update = (each[self.suspect] / np.median(each[self.others]) for each in self._norms)
        lines.append(
            f"with it ‖∂L/∂W‖ is {gradient:.3g} and the step of {self.optimizer} {update:.3g} times the "
            "others' median"
        )
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    @property
    def _norms(self) -> tuple[Values, Values]:
        return self.gradient, self.update


def _mean(values: Values) -> float:
    return float(values.mean()) if len(values) else math.nan


def _exp(value: float) -> float:
    """Return the exponential, infinite beyond any float."""
    return math.exp(value) if value < 700 else math.inf
