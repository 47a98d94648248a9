"""What a check before training has found: signal, verdict, and what each remedy does; plain values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradscape.diagnosis import Diagnosis
from gradscape.signal import SignalRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Trial:
    """A remedy on a copy of the model, or the model as it is: what some real steps on the batch show.

    Attributes:
        remedy: its name; empty of the model as it is.
        what: was done, or why it could not be.
        diagnosis: after the steps; None where nothing could be tried.
        span: orders of magnitude between ‖∂L/∂W‖ of the last weight layer and the first's; NaN if unknown.
        losses: before each step.
    """

    remedy: str
    what: str
    diagnosis: Diagnosis | None
    span: float
    losses: tuple[float, ...]

    @property
    def verdict(self) -> str:
        return self.diagnosis.verdict if self.diagnosis else "not tried"

    def __str__(self) -> str:
        if self.diagnosis is None:
            return f"{self.remedy}: not tried: {self.what}"
        change = f"loss {self.losses[0]:.3g} → {self.losses[-1]:.3g} in {len(self.losses)} steps"
        return f"{self.remedy}: {self.verdict}, gradients span 10^{self.span:.1f}, {change} ({self.what})"


@dataclass(frozen=True)
class CheckRecord:
    """A network before training.

    Attributes:
        signal: through its layers, over seeds.
        diagnosis: from the signal and some real steps of the model as it is; findings, the gravest first.
        as_is: those steps.
        remedies: the best first: healthy ones before others, those that end below the loss that the model
            begins with before others, then by the loss after steps if they were to be confirmed, else by how
            alike gradients are from end to end; what could not be tried comes last.
    """

    signal: SignalRecord
    diagnosis: Diagnosis
    as_is: Trial
    remedies: tuple[Trial, ...]

    @property
    def verdict(self) -> str:
        return self.diagnosis.verdict

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return {
            "verdict": self.verdict,
            "layer": self.diagnosis.layer,
            "diagnosis": self.diagnosis.to_dict(),
            "as_is": told(self.as_is),
            "remedies": [told(trial) for trial in self.remedies],
            "signal": self.signal.to_dict(),
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """Signal and gradient through depth; returns the axes."""
        return self.signal.plot(ax)

    def __str__(self) -> str:
        lines = [str(self.diagnosis), "", str(self.signal)]
        if self.remedies:
            well = "nothing needs a remedy; " if self.verdict == "healthy" else ""
            lines += ["", f"{well}remedies tried on copies, the best first:"]
            lines += [f"  {number}. {trial}" for number, trial in enumerate(self.remedies, 1)]
        return "\n".join(lines)


def told(trial: Trial) -> dict[str, Any]:
    return {
        "remedy": trial.remedy,
        "what": trial.what,
        "verdict": trial.verdict,
        "layer": trial.diagnosis.layer if trial.diagnosis else "",
        "span": None if math.isnan(trial.span) else trial.span,
        "losses": list(trial.losses),
    }
