"""Verdict on a training, with the numbers it rests on; plain values, no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gradscape._codec import Record, json_text
from gradscape.records.display import Displayable, Reported
from gradscape.records.documents import diagnosis_document
from gradscape.records.gradient_profile import GradientProfile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Every verdict and its grade, the gravest first: `fail` is a training that does not work, `warn` may well
# work and deserves a look, `info` is no fault. Causes stand before what follows from them.
GRADES = {
    "non-finite": "fail",
    "half precision overflows": "fail",
    # The ranks of a distributed training.
    "ranks differ": "fail",
    "rank is silent": "fail",
    # The loss, the output and the targets.
    "output does not fit the loss": "fail",
    "output cannot reach the targets": "fail",
    "loss does not fit the targets": "fail",
    "loss is maximized": "fail",
    "shapes broadcast": "fail",
    "wrong axis": "fail",
    "unusable labels": "fail",
    "inputs out of scale": "fail",
    "targets out of scale": "fail",
    "constant inputs": "fail",
    # The loop, the modes and the optimizer.
    "gradients not cleared": "fail",
    "parameters not trained": "fail",
    "evaluation mode": "fail",
    "BatchNorm of one sample": "fail",
    "batches not shuffled": "fail",
    "target is the network itself": "fail",
    "embeddings collapse": "fail",
    "penalty above the loss": "fail",
    "learning rate is 0": "fail",
    "precision loses the steps": "fail",
    "clipped before unscaling": "fail",
    "reshape mixes axes": "fail",
    # What a check finds by trying.
    "output ignores the input": "fail",
    "samples are mixed": "fail",
    "sees the future": "fail",
    "no activation between layers": "fail",
    "equal units": "fail",
    "sigmoids between layers": "fail",
    "does not fit one batch": "fail",
    # Gradients and outputs of layers.
    "dead units": "fail",
    "frozen layer": "fail",
    "exploding": "fail",
    "vanishing": "fail",
    "below the optimizer's reach": "fail",
    "saturated": "fail",
    "no signal from the input": "fail",
    "attention entropy collapses": "fail",
    "attention logits grow": "fail",
    "learning rate too large": "fail",
    "learning rate too small": "fail",
    # What the loss does, where no cause was found.
    "loss diverges": "fail",
    "loss does not fall": "fail",
    "does not learn": "fail",
    "unlikely loss function": "warn",
    "initial loss too high": "warn",
    "imbalanced labels": "warn",
    "unscaled inputs": "warn",
    "unscaled targets": "warn",
    "parameters outside the optimizer": "warn",
    "tied weights came apart": "warn",
    "frozen parameters": "warn",
    "loss of one sample": "warn",
    "channel order": "warn",
    "discriminator wins": "warn",
    "train and eval differ": "warn",
    "order is not seen": "warn",
    "dropout hides the signal": "warn",
    "residual stream grows": "warn",
    "blocks add nothing": "warn",
    "norm gains out of scale": "warn",
    "output logits drift": "warn",
    "adapters get no gradient": "warn",
    "base weights move": "warn",
    "router collapses": "warn",
    "dead experts": "warn",
    "copied heads": "warn",
    "dead heads": "warn",
    "schedule": "warn",
    "loss spikes": "warn",
    "loss stays high": "warn",
    "unused layer": "warn",
    "overshooting": "warn",
    "too early to tell": "warn",
    "always clipped": "info",
    "noise-dominated": "info",
    "converged": "info",
    "stopped": "info",
    "healthy": "info",
}
# What follows from a cause outside the network's own signals, and is left out where one is found.
SYMPTOMS = (
    "dead units", "frozen layer", "exploding", "vanishing", "below the optimizer's reach", "saturated",
    "no signal from the input", "attention entropy collapses", "attention logits grow",
    "learning rate too large", "learning rate too small", "loss diverges", "loss does not fall",
    "does not learn", "does not fit one batch", "initial loss too high", "overshooting", "noise-dominated",
    "converged", "stopped",
)  # fmt: skip
OF_NO_STEP = (
    "below the optimizer's reach", "learning rate too small", "loss does not fall", "does not learn",
    "noise-dominated", "converged", "stopped",
)  # fmt: skip
OF_NO_PROGRESS = (
    "loss does not fall", "does not learn", "does not fit one batch", "noise-dominated", "converged",
    "stopped",
)  # fmt: skip
# A lower learning rate may do as well.
OF_A_SCALE = tuple(each for each in SYMPTOMS if each != "learning rate too large")
OWN_SYMPTOMS: dict[str, tuple[str, ...]] = {
    "ranks differ": (),
    "rank is silent": (),
    "inputs out of scale": OF_A_SCALE,
    "targets out of scale": OF_A_SCALE,
    "learning rate is 0": OF_NO_STEP,
    "no activation between layers": (*OF_NO_PROGRESS, "learning rate too large"),
    "embeddings collapse": OF_NO_PROGRESS,
    "half precision overflows": (*SYMPTOMS, "non-finite"),
}
VERDICTS = tuple(GRADES)
CAUSES = tuple(name for name in VERDICTS[1 : VERDICTS.index("dead units")] if name not in SYMPTOMS)


@dataclass(frozen=True)
class Symptom:
    """Measured number beside its limit.

    Attributes:
        what: Quantity in words, with its unit.
        value: Number measured.
        limit: Number beyond which it counts.
        source: Source of the limit.
        below: True if it counts below the limit rather than above.
    """

    what: str
    value: float
    limit: float
    source: str
    below: bool = False

    @property
    def counts(self) -> bool:
        """True if the value is beyond its limit."""
        return self.value < self.limit if self.below else self.value > self.limit

    def __str__(self) -> str:
        return f"{self.what}: {self.value:.3g} (limit {self.limit:.3g}; {self.source})"


@dataclass(frozen=True, repr=False)
class Finding(Record):
    """One fault, or the finding that there is none.

    Attributes:
        verdict: One of `VERDICTS`.
        layer: Name of the layer where it begins; empty if it concerns the whole network.
        cause: Inferred cause.
        remedy: Alternatives that would help, separated by semicolons.
        evidence: Numbers, each beyond its limit; for `healthy` none is.
        place: Place of the layer among all weight layers, in words; empty if not known.
        mild: True if the training works all the same, as its loss shows: a `fail` is a `warn` then.
    """

    verdict: str
    layer: str
    cause: str
    remedy: str
    evidence: tuple[Symptom, ...]
    place: str = ""
    mild: bool = False

    @property
    def grade(self) -> str:
        """`fail`, `warn` or `info`."""
        grade = GRADES[self.verdict]
        return "warn" if self.mild and grade == "fail" else grade

    @property
    def heading(self) -> str:
        """Verdict, and the layer where it begins."""
        place = f" ({self.place})" if self.place else ""
        return f"{self.verdict}, beginning at {self.layer}{place}" if self.layer else self.verdict

    def __str__(self) -> str:
        lines = [self.heading, f"  cause: {self.cause}", f"  what would help: {self.remedy}"]
        return "\n".join([*lines, *(f"  {each}" for each in self.evidence)])


def symptoms_of(verdict: str) -> tuple[str, ...]:
    """Return the verdicts that follow from another one.

    Args:
        verdict: One of `VERDICTS`.
    """
    if verdict in OWN_SYMPTOMS:
        return OWN_SYMPTOMS[verdict]
    return SYMPTOMS if verdict in CAUSES else ()


def gravest_first(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return each verdict once, in the order of `VERDICTS`; `healthy` only without any other.

    Where a cause outside the network's own signals is found, what follows from it is left out.

    Args:
        findings: Findings in any order, one at least.
    """
    ill = [finding for finding in findings if finding.verdict != "healthy"]
    explained = {symptom for each in ill if not each.mild for symptom in symptoms_of(each.verdict)}
    ill = [finding for finding in ill if finding.verdict not in explained]
    once = {finding.verdict: finding for finding in reversed(ill)}
    return tuple(sorted(once.values(), key=_gravity)) or tuple(findings[:1])


def _gravity(finding: Finding) -> tuple[int, int]:
    """Place of a finding among others: by its grade, then as in `VERDICTS`."""
    return ("fail", "warn", "info").index(finding.grade), VERDICTS.index(finding.verdict)


@dataclass(frozen=True, repr=False)
class Diagnosis(Reported, Displayable, Record):
    """Findings, the gravest first; the first is the verdict.

    Attributes:
        findings: Findings, one at least.
        seen: Moment at which the gradients were read, in words.
        notes: Oddities, in words.
        unseen: Quantities that were not looked at, in words.
        profile: Gradient of each weight layer; None where no step was made, and in the status of a run, whose
            gradients are in its folder.
    """

    findings: tuple[Finding, ...]
    seen: str
    notes: tuple[str, ...]
    unseen: tuple[str, ...] = ()
    profile: GradientProfile | None = field(default=None, compare=False)  # NaN is not equal to itself

    @property
    def verdict(self) -> str:
        """Verdict of the first finding, which is the gravest."""
        return self.findings[0].verdict

    @property
    def grade(self) -> str:
        """`fail`, `warn` or `info`: that of the verdict, which is the gravest."""
        return self.findings[0].grade

    @property
    def layer(self) -> str:
        """Layer of the first finding."""
        return self.findings[0].layer

    @property
    def heading(self) -> str:
        """Verdict, and the layer where it begins."""
        return self.findings[0].heading

    def derived(self) -> Mapping[str, Any]:
        """Verdict, grade and layer of the first finding."""
        return {"verdict": self.verdict, "grade": self.grade, "layer": self.layer}

    def to_json(self) -> str:
        """Return a JSON document of the schema `gradscape.diagnosis/1`, in which fields are only ever added.

        `gradscape schema diagnosis` prints the schema.

        Example:
            >>> text = gs.diagnose(flow).to_json()
        """
        return json_text(diagnosis_document(self))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the gradient of each weight layer, that of the verdict marked; return the axes.

        Args:
            ax: Axes to draw on; by default a new figure's.
        """
        import matplotlib.pyplot as plt

        axes = plt.subplots(layout="constrained")[1] if ax is None else ax
        if self.profile is None:
            axes.set(xticks=[], yticks=[])
            axes.text(0.5, 0.5, "no step was made", transform=axes.transAxes, ha="center", va="center")
            return axes
        return self.profile.plot(axes, self.layer)

    def verdict_last(self) -> str:
        """Return the whole text with the gravest finding at its end, which a terminal shows last."""
        return "\n".join([*self._remarks, *(str(finding) for finding in reversed(self.findings))])

    @property
    def _remarks(self) -> list[str]:
        """Lines on what the findings rest on."""
        unseen = [f"not looked at: {', '.join(self.unseen)}"] if self.unseen else []
        notes = [f"note: {note}" for note in self.notes]
        return [f"gradients were read {self.seen}", *unseen, *notes]

    def __str__(self) -> str:
        return "\n".join([*(str(finding) for finding in self.findings), *self._remarks])
