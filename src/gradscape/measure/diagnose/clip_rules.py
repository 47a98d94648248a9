"""Rules on clipped gradients: at every step, or while a GradScaler's factor is still in front of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gradscape.measure.diagnose.advice import HIGHER, options
from gradscape.measure.diagnose.loss.curve import Curve
from gradscape.measure.diagnose.loss.limits import LossLimits
from gradscape.records.diagnosis import Finding, Symptom
from gradscape.records.encoding import Values
from gradscape.records.gradients import SCALER_AT_WORK, FlowHistory

ALWAYS_CLIPPED = "always clipped"
ALWAYS = 0.95  # share of steps that are clipped
ENOUGH = 20  # steps
SCALED = 0.01  # a norm that nobody clips to, and a loss scale of 1024 makes of 10
SAME = 2e-3  # of a factor of two: norms that differ by less are one, clipped


def clip_findings(history: FlowHistory) -> list[Finding]:
    """Return the findings on clipped gradients.

    Args:
        history: History of a watch.
    """
    if history.row != "step":
        return []
    return [*_before_unscaling(history), *_always(history)]


def _norms(history: FlowHistory) -> Values:
    """Return the norms (steps,) of all gradients of the steps that were made."""
    squares = history.rms[~history.skipped] ** 2 * np.array(history.sizes)
    norms: Values = np.sqrt(np.nansum(squares, axis=1))
    return norms


def _before_unscaling(history: FlowHistory) -> list[Finding]:
    """Norms that are one number over a loss scale, which changes by powers of two, at every step."""
    norms = _norms(history)
    scaled = any(note.startswith(SCALER_AT_WORK) for note in history.notes)
    if not scaled or len(norms) < ENOUGH or not 0 < norms.min() <= norms.max() < SCALED:
        return []
    halvings = np.log2(norms / norms[-1])
    if np.abs(halvings - halvings.round()).max() > SAME:
        return []
    stuck = history.loss is not None and Curve(history.loss, LossLimits()).stuck
    return [
        Finding(
            verdict="clipped before unscaling",
            layer="",
            cause=f"the gradient of every step has the norm {norms[-1]:.3g}, or that times a power of two: "
            "it is clipped while the loss scale is still in front of it, and then divided by that",
            remedy=options(
                "scaler.unscale_(optimizer) before gradients are clipped", "no GradScaler, under bfloat16"
            ),
            evidence=(
                Symptom(
                    f"largest norm of the gradient in {len(norms)} steps", float(norms.max()), SCALED,
                    "a norm of 10 at a loss scale of 1024; torch.amp.GradScaler.unscale_", below=True,
                ),
            ),
            mild=not stuck,
        )
    ]  # fmt: skip


def _always(history: FlowHistory) -> list[Finding]:
    """Clipping that bites at nearly every step, with the quantiles that tell where it would do so seldom."""
    if history.clipped is None:
        return []
    factors = history.clipped[~history.skipped]
    share = float((factors < 0.999).mean()) if len(factors) else 0.0
    if len(factors) < ENOUGH or share <= ALWAYS:
        return []
    median, high = np.quantile(_norms(history), (0.5, 0.9))
    return [
        Finding(
            verdict=ALWAYS_CLIPPED,
            layer="",
            cause=f"{100 * share:.0f} % of the steps are clipped, to {np.median(factors):.2g} of the "
            "gradient: steps are those of a normalized gradient",
            remedy=f"nothing, if it trains; else clip at {high:.2g}: nine of ten norms are below it, "
            f"half of them below {median:.2g}",
            evidence=(
                Symptom(
                    f"share of {len(factors)} steps that were clipped", share, ALWAYS,
                    "clipping is meant for exceptions; see Pascanu et al. (2013), §3.2",
                ),
            ),
        )
    ]  # fmt: skip


def with_clipping(findings: Sequence[Finding], history: FlowHistory) -> list[Finding]:
    """Return the findings, with clipping for the cause of steps that would not be small without it.

    Only of optimizers whose step is as large as the gradient: Adam's is not.

    Args:
        findings: Findings in any order.
        history: History of a watch.
    """
    if history.clipped is None or not any(each.verdict == ALWAYS_CLIPPED for each in findings):
        return list(findings)
    made = ~history.skipped
    if not all(facts.plain for facts in history.optimizers):
        return list(findings)
    factor, high = float(np.median(history.clipped[made])), float(np.quantile(_norms(history), 0.9))

    def by_clipping(finding: Finding) -> bool:
        step = finding.evidence[0]
        return finding.verdict == "learning rate too small" and step.value >= factor * step.limit

    return [
        replace(
            each,
            cause=f"{each.cause}: gradients are clipped to {factor:.2g} of what they are",
            remedy=options(f"clip at {high:.2g}: nine of ten norms are below it", HIGHER),
        )
        if by_clipping(each)
        else each
        for each in findings
    ]
