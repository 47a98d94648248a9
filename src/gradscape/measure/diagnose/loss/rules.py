"""Rules on what a watch has seen of the loss, outputs, targets, inputs and modes.

Those on outputs are in `output_rules`, on targets in `target_rules`, on labels in `label_rules`, on sizes in
`input_rules`, on the loss over steps in `curve_rules`, on modes in `mode_rules`, on networks without an
activation in `linear_rules`, on axes that are mixed in `mixing_rules`, on outputs that collapse in
`collapse_rules`; limits in `limits`.
"""

from __future__ import annotations

import numpy as np

from gradscape.measure.diagnose.loss.collapse_rules import collapse_findings
from gradscape.measure.diagnose.loss.curve import Curve
from gradscape.measure.diagnose.loss.curve_rules import curve_findings
from gradscape.measure.diagnose.loss.input_rules import input_findings, target_scale_findings
from gradscape.measure.diagnose.loss.label_rules import label_findings, label_notes
from gradscape.measure.diagnose.loss.limits import LossLimits
from gradscape.measure.diagnose.loss.linear_rules import linear_findings, linear_notes
from gradscape.measure.diagnose.loss.mixing_rules import mixing_findings, mixing_notes
from gradscape.measure.diagnose.loss.mode_rules import dropout_findings, mode_findings, mode_notes
from gradscape.measure.diagnose.loss.output_rules import output_findings
from gradscape.measure.diagnose.loss.target_rules import division_findings, target_findings
from gradscape.measure.diagnose.loss.terms import series_of
from gradscape.records.diagnosis import Finding
from gradscape.records.loss import LossHistory


@np.errstate(over="ignore", invalid="ignore")  # sizes of a training that breaks are beyond any float
def loss_findings(
    history: LossHistory, limits: LossLimits | None = None, harmed: bool = False
) -> list[Finding]:
    """Return the faults that the loss, and what it was made of, show.

    Args:
        history: Loss at every step, and readings of what it was made of.
        limits: Limits of the rules.
        harmed: Whether other rules say that the training fails, as by dead units: inputs and targets that are
            out of scale are taken for its cause then, and else for something to look at.
    """
    limits = limits or LossLimits()
    curve = Curve(history, limits)
    harmed = harmed or curve.harmed
    found = []
    for series in series_of(history, stuck=curve.harmed):
        found += output_findings(series, limits)
        found += target_findings(series, limits)
        found += label_findings(series, limits)
        found += target_scale_findings(series, limits, harmed)
    return [
        *found,
        *input_findings(curve, harmed),
        *mode_findings(history, limits),
        *dropout_findings(curve),
        *linear_findings(curve),
        *mixing_findings(curve),
        *collapse_findings(curve),
        *division_findings(curve),
        *curve_findings(curve),
    ]


def loss_notes(history: LossHistory) -> tuple[str, ...]:
    """Return what is no fault and worth a note: a softmax that changes nothing, modules in eval mode.

    Args:
        history: Loss at every step, and readings of what it was made of.
    """
    notes = {
        "log_softmax comes before cross_entropy, which applies it itself: it changes nothing"
        for series in series_of(history)
        if series.name == "cross_entropy" and series.bound and series.bound.operation.name == "log_softmax"
    }
    notes |= {note for series in series_of(history) for note in label_notes(series, LossLimits())}
    curve = Curve(history, LossLimits())
    return (*sorted(notes), *mode_notes(history), *linear_notes(curve), *mixing_notes(curve))
