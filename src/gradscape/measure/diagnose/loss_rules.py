"""Rules on what a watch has seen of the loss, outputs, targets, inputs and modes."""

from __future__ import annotations

from gradscape.measure.diagnose.loss_limits import LossLimits
from gradscape.measure.diagnose.loss_terms import series_of
from gradscape.measure.diagnose.output_rules import output_findings
from gradscape.measure.diagnose.target_rules import target_findings
from gradscape.records.diagnosis import Finding
from gradscape.records.loss import LossHistory


def loss_findings(history: LossHistory, limits: LossLimits | None = None) -> list[Finding]:
    """Return the faults that the loss, and what it was made of, show.

    Args:
        history: Loss at every step, and readings of what it was made of.
        limits: Limits of the rules.
    """
    limits = limits or LossLimits()
    found = []
    for series in series_of(history):
        found += [*output_findings(series, limits), *target_findings(series, limits)]
    return found
