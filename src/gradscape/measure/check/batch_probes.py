"""Probes of a batch and a loss on copies of a model: labels, first loss, dependence, reach, and a fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from gradscape._text import count_noun, join_names
from gradscape.errors import ConfigError, first_line
from gradscape.measure.check.dependence import dependence, without_zeros
from gradscape.measure.check.fit import fit_batch, fit_findings, mode_findings
from gradscape.measure.check.labels import (
    initial_findings,
    initial_line,
    initial_notes,
    label_findings,
    label_notes,
)
from gradscape.measure.check.loss_calls import LossPass
from gradscape.measure.check.order import look_for_order
from gradscape.measure.check.trials import Steps
from gradscape.measure.core.parameters import strip_wrappers
from gradscape.measure.core.preserve import random_state
from gradscape.measure.diagnose.advice import options
from gradscape.records.check import Fit
from gradscape.records.check_progress import CheckProgress
from gradscape.records.diagnosis import Finding, Symptom


@dataclass
class Probed:
    """Findings of all probes of a batch.

    Attributes:
        findings: Faults.
        constant: Faults where no layer is found to blame, as of `Dependence`.
        notes: Remarks, as sentences.
        facts: Numbers that are no fault, a line each.
        fit: Steps on the batch; None where they were left out.
    """

    findings: list[Finding] = field(default_factory=list)
    constant: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    fit: Fit | None = None


def probed(
    twin: Callable[[], nn.Module],
    steps: Steps,
    passed: LossPass,
    fit: int | None,
    causal: bool,
    report: Callable[[CheckProgress], object],
) -> Probed:
    """Look at the batch and the loss by every probe.

    Args:
        twin: Maker of copies.
        steps: Batch, loss and optimizer.
        passed: Loss before training, and its calls of loss functions.
        fit: Number of steps to fit the batch in, as of `check`.
        causal: Whether outputs must not depend on later positions.
        report: Callback for what is begun.

    Raises:
        ConfigError: `causal` is asked of an output without positions.
    """
    report(CheckProgress("batch and loss: labels, reach, what the output depends on"))
    found = Probed(label_findings(passed.calls), notes=label_notes(passed.calls))
    if (call := passed.main) is not None:
        found.findings += initial_findings(passed.value, call)
        found.notes += initial_notes(passed.value, call)
        found.facts.append(initial_line(passed.value, call))
    found.findings += _unreached(twin(), steps)
    _add_dependence(twin, steps, causal, found)
    if fit != 0:
        report(CheckProgress("fitting one batch"))
        fitted = fit_batch(twin, steps, fit, call)
        found.fit = fitted.fit
        found.findings += mode_findings(fitted)
    return found


def _add_dependence(twin: Callable[[], nn.Module], steps: Steps, causal: bool, found: Probed) -> None:
    try:
        model = without_zeros(twin())
        looked = dependence(model, steps.batch, causal)
        if not looked.findings:
            look_for_order(model, steps.batch, looked)
    except ConfigError as error:
        if causal:
            raise
        found.notes.append(f"it was not looked at what the output depends on: {error}")
        return
    except Exception as error:  # of any kind: a model may refuse other batches, or eval mode
        found.notes.append(f"it was not looked at what the output depends on: {first_line(error)}")
        return
    found.findings += looked.findings
    found.constant += looked.constant
    found.notes += looked.notes


def _unreached(model: nn.Module, steps: Steps) -> list[Finding]:
    """Report parameters that the loss's backward pass does not come to, where it comes to others."""
    with random_state(), torch.enable_grad():
        steps.backward(model)
    wanted = [(name, p) for name, p in model.named_parameters() if p.requires_grad and p.numel()]
    names = [name for name, p in wanted if p.grad is None]
    if not names or len(names) == len(wanted):
        return []
    return [
        Finding(
            verdict="unused layer",
            layer=strip_wrappers(names[0]),
            cause=f"the loss's backward pass does not reach {count_noun(len(names), 'parameter')} of "
            f"{len(wanted)}: {join_names(names)}",
            remedy=options(
                "look whether its output is used in forward() and enters the loss",
                "look for detach(), .data, numpy or torch.no_grad() after it",
            ),
            evidence=(
                Symptom("parameters without a gradient", float(len(names)), 0.0, "none is meant to be"),
            ),
        )
    ]


def single_sample(model: nn.Module, steps: Steps, others: list[Finding]) -> list[Finding]:
    """Return the cause of a fault that is found on a batch of one sample, where BatchNorm takes it for many.

    Args:
        model: Network.
        steps: Batch of every step.
        others: All other findings.
    """
    names = [name for name, m in model.named_modules() if isinstance(m, _BatchNorm) and m.training]
    if steps.batch.size > 1 or not names or not any(finding.grade == "fail" for finding in others):
        return []
    return [
        Finding(
            verdict="BatchNorm of one sample",
            layer=names[0],
            cause="it subtracts the mean of the only sample, of which no average is left for layers after it",
            remedy=options("a larger batch", "GroupNorm or LayerNorm in place of BatchNorm"),
            evidence=(
                Symptom("samples in the batch", 1.0, 2.0, "Ioffe & Szegedy (2015), Algorithm 1", below=True),
            ),
        )
    ]


def fit_finding(found: Probed, others: list[Finding]) -> list[Finding]:
    """Return the finding that the batch was not fitted, where no fault is known that explains it.

    Args:
        found: What the probes found.
        others: All other findings.
    """
    if found.fit is None or any(finding.grade == "fail" for finding in others):
        return []
    return fit_findings(found.fit) if math.isfinite(found.fit.losses[-1]) else []
