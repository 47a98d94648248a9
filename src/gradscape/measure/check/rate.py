"""Learning rate of a check: a short range test on copies, and what it says to the findings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from gradscape.errors import GradscapeError, first_line
from gradscape.measure.check.sub_batch import SECONDS, affordable
from gradscape.measure.check.trials import Steps
from gradscape.measure.core.layer_trace import layer_kind
from gradscape.measure.core.parameters import number
from gradscape.measure.diagnose.advice import ANOTHER, FIND_RATE, HIGHER, LOWER, options
from gradscape.measure.lr_range.lr_range import lr_range
from gradscape.records.check import Trial
from gradscape.records.diagnosis import Finding
from gradscape.records.lr_range import LrRange

RATES = 70  # of eight decades, a factor of 1.3 from one to the next
RANGE = (1e-6, 100.0)  # SGD on a tanh network diverges above 10
BESIDE = 100.0  # factor by which the range goes below and above the user's own rate, at least
UNTRAINED = 7  # losses of each seed before its first step
SEEDS = 3
ALIKE = 2.0  # factor between rates that are the same for a range test: seeds differ by as much
# Verdicts that another learning rate may be the cure of.
RATED = (
    "learning rate too large", "learning rate too small", "overshooting", "does not fit one batch",
    "does not learn", "loss diverges", "loss does not fall",
)  # fmt: skip


@dataclass(frozen=True)
class RateTest:
    """Range test of a model on the batch.

    Attributes:
        own: Learning rate of the user's optimizer, of its first group.
        told: What the test says, in words.
        record: The range test; None where it could not be made.
    """

    own: float
    told: str
    record: LrRange | None = None

    @property
    def suggestion(self) -> float:
        """Rate to train with; NaN where there is none."""
        return math.nan if self.record is None else self.record.suggestion

    @property
    def way(self) -> str:
        """Advice that the suggestion comes to beside the user's own rate; empty for none."""
        if self.suggestion > ALIKE * self.own:
            return HIGHER
        return LOWER if self.suggestion < self.own / ALIKE else ""


def rate_test(
    make_model: Any, twin: Callable[[], nn.Module], steps: Steps, optimizer: Any
) -> RateTest | None:
    """Make a range test within about `SECONDS`; of a part of the batch, where the whole takes longer.

    Args:
        make_model: Factory or module.
        twin: Maker of copies.
        steps: Steps of the model as it is.
        optimizer: The user's optimizer, as of `check`.

    Returns:
        Test; None of an optimizer without a learning rate.
    """
    try:
        own = number(steps.optimizer(model := twin()).groups[0].get("lr"))
        if not own or not math.isfinite(own):
            return None
        passes = RATES + UNTRAINED
        part, pace = affordable(twin, steps, passes)
        if passes * pace > 2 * SECONDS:
            needed = f"a range test of {passes} steps takes {passes * pace:.0f} s"
            return RateTest(own, f"no range test was made: {needed}; {FIND_RATE}")
        drawn = steps.own is None or any(layer_kind(module) == "dropout" for module in model.modules())
        seeds = min(SEEDS, max(1, int(SECONDS / (passes * pace)))) if drawn else 1
        rates = min(RANGE[0], own / BESIDE), max(RANGE[1], own * BESIDE)
        record = lr_range(
            make_model, part.batch, steps.loss, optimizer, rates=rates, steps=RATES, seeds=seeds
        )
    except Exception as error:  # of any kind: the trial as it is has told what fails
        why = str(error) if isinstance(error, GradscapeError) else first_line(error)
        return RateTest(math.nan, f"no range test was made: {why}")
    of = "" if part is steps else f" on {part.batch.size} of {steps.batch.size} samples"
    return RateTest(own, f"range test{of}: {record.sentence}", record)


def asks_for_rate(finding: Finding) -> bool:
    """Return True for a fault that another learning rate may be the cure of.

    Args:
        finding: Finding of a check.
    """
    asked = any(option.startswith((LOWER, HIGHER, ANOTHER)) for option in finding.remedy.split("; "))
    return finding.verdict in RATED or (asked and finding.grade == "fail")


def with_rate(findings: Sequence[Finding], test: RateTest | None, tried: Trial | None) -> list[Finding]:
    """Return the findings; those that another rate may cure say which one, if it was not tried in vain.

    Args:
        findings: Findings of a check.
        test: Range test.
        tried: Trial of its rate.
    """
    if test is None or test.record is None:
        return list(findings)
    vain = tried is not None and tried.effect in ("nothing", "raises")
    if vain or not test.way:
        return [replace(each, remedy=options(*_others(each, FIND_RATE))) for each in findings]
    found = [_with_rate(each, test, tried) if asks_for_rate(each) else each for each in findings]
    return [replace(each, remedy=options(*_others(each, FIND_RATE))) for each in found]


def _others(finding: Finding, *without: str) -> list[str]:
    """Return the options of a finding's advice but those that begin so."""
    return [option for option in finding.remedy.split("; ") if not option.startswith(without)]


def _with_rate(finding: Finding, test: RateTest, tried: Trial | None) -> Finding:
    """Return the finding with the rate in its advice, unless that asks for the opposite."""
    opposite = LOWER if test.way == HIGHER else HIGHER
    if len(_others(finding, opposite)) < len(_others(finding)):
        return finding
    beside = "" if tried is None or not tried.effect else f", tried: {tried.change}"
    shown = () if tried is None else (tried.what,)
    left = _others(finding, test.way, ANOTHER, *shown)
    return replace(finding, remedy=options(f"{test.way}, {test.suggestion:.2g} ({test.told}{beside})", *left))
