"""Result of a check before training: signal, verdict, and effect of each remedy; plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, groupby
from typing import TYPE_CHECKING, Any

from gradscape._codec import Record, json_text
from gradscape._text import count_noun
from gradscape.records.diagnosis import Diagnosis
from gradscape.records.display import Displayable, Reported
from gradscape.records.documents import check_document
from gradscape.records.gradients import OptimizerFacts
from gradscape.records.signal import SignalRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FELL = 0.01  # of the loss that the steps begin with: less is no fall
# Effect of a remedy on the loss beside the model as it is, the best first, in words.
EFFECTS = {
    "lowers": "end lower than as it is",
    "predicts": "give more right answers, by another loss function, whose values are not comparable",
    "nothing": "end where it ends as it is",
    "raises": "end higher, above the loss that the model begins with, or where they began",
    "": "not tried",
}
MOVES = ("lowers", "predicts")


@dataclass(frozen=True, repr=False)
class Trial(Record):
    """Some real steps on the batch by a copy of the model with a remedy, or by the model as it is.

    Attributes:
        remedy: Name of the remedy; empty for the model as it is.
        what: Change that was made, or why it could not be.
        diagnosis: Diagnosis after the steps; None where nothing could be tried.
        span: Orders of magnitude between ‖∂L/∂W‖ of the last weight layer and the first's; NaN if unknown.
        losses: Loss before each step.
        effect: `lowers`, `nothing` or `raises`, on the loss at the end; empty for the model as it is, and
            where nothing could be tried; `predicts` of a remedy with another loss function, on the share of
            right answers.
        right: Share of right answers after the steps as it is, and with a remedy that has another loss
            function; empty for all others.
    """

    remedy: str
    what: str
    diagnosis: Diagnosis | None
    span: float
    losses: tuple[float, ...]
    effect: str = ""
    right: tuple[float, ...] = ()

    def derived(self) -> Mapping[str, Any]:
        """Verdict, and the layer that it begins at."""
        return {"verdict": self.verdict, "layer": self.diagnosis.layer if self.diagnosis else ""}

    @property
    def verdict(self) -> str:
        """Verdict of the diagnosis; `not tried` without one."""
        return self.diagnosis.verdict if self.diagnosis else "not tried"

    @property
    def change(self) -> str:
        """Loss before the first step and before the last, in words."""
        return f"loss {self.losses[0]:.3g} → {self.losses[-1]:.3g} in {len(self.losses)} steps"

    @property
    def beside(self) -> str:
        """Share of right answers beside that as it is, in words; empty where losses can be compared."""
        if not self.right:
            return ""
        return f", right answers {self.right[1]:.2g} where it has {self.right[0]:.2g} as it is"

    @property
    def fell(self) -> bool:
        """True if the loss fell by a hundredth at least."""
        return self.losses[-1] < (1 - FELL * math.copysign(1, self.losses[0])) * self.losses[0]

    def __str__(self) -> str:
        if self.diagnosis is None:
            return f"{self.remedy}: {self.what}"
        span = "" if math.isnan(self.span) else f", gradients span 10^{self.span:.1f}"
        return f"{self.remedy}: {self.change}{self.beside}, {self.verdict}{span} ({self.what})"


FITS = 0.1  # of the loss that the steps begin with
ENOUGH = 100  # steps: before that a loss that does not fall is no verdict


@dataclass(frozen=True, repr=False)
class Fit(Record):
    """Steps of a copy on one batch, until it knows that by heart or the budget is spent.

    Attributes:
        losses: Loss before each step.
        constant: Loss of the best output that is the same for all samples; NaN where it is not known.
        evaluated: Loss after the steps in eval mode; NaN where the model was in eval mode, or has none there.
        samples: Number of samples of the batch that the steps were made on; 0 for all.
        size: Number of samples of the batch.
        seconds: Time after which the steps were ended; NaN where they were not.
    """

    losses: tuple[float, ...]
    constant: float = math.nan
    evaluated: float = math.nan
    samples: int = 0
    size: int = 0
    seconds: float = math.nan

    @property
    def fits(self) -> bool:
        """True if less than a tenth of the loss is left, which is not negative."""
        return 0 <= self.losses[-1] <= FITS * self.losses[0]

    @property
    def learns(self) -> bool:
        """True if a tenth of the loss is gone, and more than the best constant output would take away."""
        last = self.losses[-1]
        return last < self.losses[0] - FITS * abs(self.losses[0]) and not last >= self.constant

    @property
    def over(self) -> str:
        """Samples that the steps were made on, in words."""
        return f"{self.samples} of its {self.size} samples" if self.samples else "this batch"

    def derived(self) -> Mapping[str, Any]:
        """Value of `fits`."""
        return {"fits": self.fits}

    def __str__(self) -> str:
        change = (
            f"loss {self.losses[0]:.3g} → {self.losses[-1]:.3g} in {count_noun(len(self.losses), 'step')}"
        )
        if self.fits:
            return f"fits {self.over}: {change}"
        beside = "" if math.isnan(self.constant) else f"; a constant output costs {self.constant:.3g}"
        return f"{self._told}: {change}{beside}"

    @property
    def _told(self) -> str:
        """Words for steps that have not fitted the batch."""
        if self.learns:
            return f"learns {self.over}, and has not fitted it yet"
        if len(self.losses) >= ENOUGH or not math.isfinite(self.losses[-1]):
            return f"does not fit {self.over}"
        within = "" if math.isnan(self.seconds) else f" within {self.seconds:g} s"
        return f"too few steps{within} to tell whether it fits {self.over} (give fit={2 * ENOUGH})"


@dataclass(frozen=True, repr=False)
class CheckRecord(Reported, Displayable, Record):
    """A network before training.

    Attributes:
        signal: Signal through its layers, over seeds.
        diagnosis: Findings from the signal and some real steps of the model as it is, the gravest first.
        as_is: Those steps.
        remedies: Trials of remedies, the best first: those whose loss ends lower than as it is by more than
            the band, by that loss; those that end within it, by verdict and by how alike gradients are from
            end to end; those that end higher; what could not be tried comes last.
        band: Variation over seeds of the loss that steps of the model as it is end at; a hundredth at least.
        fit: Steps of a copy until it fits the batch; None where they were left out.
        facts: What else was found about batch and loss, a line each.
        optimizers: Settings of the optimizers that made the steps.
        parameters: Number of the model's parameters.
        dtypes: Dtypes of the parameters, each once.
    """

    signal: SignalRecord
    diagnosis: Diagnosis
    as_is: Trial
    remedies: tuple[Trial, ...]
    band: float = 0.0
    fit: Fit | None = None
    facts: tuple[str, ...] = ()
    optimizers: tuple[OptimizerFacts, ...] = ()
    parameters: int = 0
    dtypes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """Verdict of the diagnosis."""
        return self.diagnosis.verdict

    @property
    def moved(self) -> tuple[Trial, ...]:
        """Remedies that lowered the loss, or gave more right answers by another."""
        return tuple(trial for trial in self.remedies if trial.effect in MOVES)

    def derived(self) -> Mapping[str, Any]:
        """Verdict, grade and layer of the diagnosis, and whether the loss fell."""
        return {**self.diagnosis.derived(), "fell": self.as_is.fell}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw signal and gradient through depth; return the axes.

        Args:
            ax: Axes to draw on; by default a new figure's.
        """
        return self.signal.plot(ax)

    def to_json(self) -> str:
        """Return a JSON document of the schema `gradscape.check/1`, in which fields are only ever added.

        It has all fields of a diagnosis. `gradscape schema check` prints the schema.

        Example:
            >>> text = gs.check(make_model, (x, y), loss).to_json()
        """
        return json_text(check_document(self))

    def verdict_last(self) -> str:
        """Return the whole text with the gravest finding at its end, which a terminal shows last."""
        remedies = [*self._remedy_lines(), ""] if self.remedies else []
        lines = [str(self.signal), "", *remedies, *self._step_lines]
        return "\n".join([*lines, self.diagnosis.verdict_last()])

    @property
    def _step_lines(self) -> list[str]:
        """Lines on the steps that were made, and on the batch."""
        fell = "it falls" if self.as_is.fell else "it does not fall"
        return [f"as it is, by {self.by}: {self.as_is.change}: {fell}", *self.of_batch]

    @property
    def by(self) -> str:
        """Optimizers that made the steps, in words."""
        return " and ".join(each.in_words for each in self.optimizers) or "steps"

    def __str__(self) -> str:
        lines = [str(self.diagnosis), *self._step_lines, "", str(self.signal)]
        if self.remedies:
            lines += ["", *self._remedy_lines()]
        return "\n".join(lines)

    def _summary(self) -> str:
        remedies = self._remedy_lines() if self.remedies else []
        return "\n".join([str(self.diagnosis), *self._step_lines, *remedies])

    @property
    def of_batch(self) -> tuple[str, ...]:
        """Lines on the batch and the loss: whether the batch was fitted, and facts."""
        return (*(() if self.fit is None else (str(self.fit),)), *self.facts)

    def by_effect(self) -> list[tuple[str, list[Trial]]]:
        """Return the remedies under a heading with their effect on the loss, the best first."""
        within = {"nothing": f" (within {self.band:.2g})"}
        return [
            (EFFECTS[effect] + within.get(effect, ""), list(trials))
            for effect, trials in groupby(self.remedies, key=lambda trial: trial.effect)
        ]

    def _remedy_lines(self) -> list[str]:
        """Return the lines of the remedies by effect, numbered through."""
        well = "nothing needs a remedy; " if self.verdict == "healthy" else ""
        lines = [f"{well}remedies tried on copies, the best first:"]
        number = count(1)
        for heading, trials in self.by_effect():
            lines += [f"  {heading}:", *(f"  {next(number)}. {trial}" for trial in trials)]
        return lines if self.moved or self.as_is.fell else [*lines, f"  {UNMOVED}"]


UNMOVED = "no remedy moved the loss: look at the loss itself, the last layer, the inputs and the labels"
