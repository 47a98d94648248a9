"""Verdict on what a watch has seen: the fault, where it begins, why, and what would help.

The rules are in `rules`, their limits in `limits`; those on the outputs of layers in `activation_rules`,
on the loss in `loss`, on transformers in `transformer`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradscape.errors import ConfigError, brief
from gradscape.measure.diagnose.activation_rules import activation_findings
from gradscape.measure.diagnose.advice import LOWER, Traits, options, with_warm_up, without_contradiction
from gradscape.measure.diagnose.channel_rules import channel_findings
from gradscape.measure.diagnose.clip_rules import clip_findings, with_clipping
from gradscape.measure.diagnose.from_run import divergence, plateau, recorded
from gradscape.measure.diagnose.limits import SOURCES
from gradscape.measure.diagnose.limits import Limits as Limits
from gradscape.measure.diagnose.loop_rules import loop_findings
from gradscape.measure.diagnose.loss.curve import Curve
from gradscape.measure.diagnose.loss.limits import LossLimits
from gradscape.measure.diagnose.loss.linear_rules import linear_findings
from gradscape.measure.diagnose.loss.rules import loss_findings, loss_notes
from gradscape.measure.diagnose.progress_rules import progress_findings, without_aftermath
from gradscape.measure.diagnose.rank_rules import rank_findings
from gradscape.measure.diagnose.rules import findings_of, healthy
from gradscape.measure.diagnose.transformer.rules import transformer_findings
from gradscape.measure.diagnose.view import Bools, View, sized, typical
from gradscape.measure.diagnose.weight_rules import weight_findings
from gradscape.records.activations import ActivationHistory
from gradscape.records.diagnosis import Diagnosis, Finding, Symptom, gravest_first
from gradscape.records.gradient_profile import GradientProfile
from gradscape.records.gradients import FlowHistory
from gradscape.records.loss import LossHistory
from gradscape.records.run import RunRecord

if TYPE_CHECKING:  # not at run time: the rules need no torch, so that commands and pages can judge at once
    from gradscape.measure.watch.watch import Watch


def diagnose(watched: Watch | FlowHistory | RunRecord, limits: Limits | None = None) -> Diagnosis:
    """Say what is wrong with a training, the gravest first; `healthy` if nothing is.

    Layers are compared with those that the same optimizer trains. A fault of the loss, the data or the loop
    is named before what follows from it in the gradients, which is left out.
    A recorded run is judged by the means of its epochs: a single step that is too large, and gradients that
    have nothing in common, do not show in them. One that diverged is `non-finite`, whatever else is found;
    one that ends at guessing `does not learn`, or after fewer than 50 steps it is `too early to tell`.

    Args:
        watched: Watch, history of a watch, or record of a run.
        limits: Limits of the rules; of a run, `rows` are epochs.

    Raises:
        ConfigError: No step has been watched, a run has no epoch or was read without its gradient
            statistics, or `watched` is something else.

    Example:
        >>> print(gs.diagnose(flow))
        >>> gs.diagnose(gs.RunFolder(Path("runs/first")).record()).verdict
    """
    return _diagnosed(watched, limits, progress=True)


def diagnose_few(watched: Watch) -> Diagnosis:
    """Say what is wrong with a few steps on one batch, whose loss is not expected to have fallen far.

    Args:
        watched: Watch of the steps.
    """
    return _diagnosed(watched, None, progress=False)


def _history_of(watched: Watch) -> FlowHistory:
    history = watched.history() if callable(getattr(watched, "history", None)) else None
    if not isinstance(history, FlowHistory):
        raise ConfigError(
            f"watched: got {type(watched).__name__}; give what gs.watch returned, or a run's record"
        )
    return history


@np.errstate(divide="ignore", over="ignore", invalid="ignore")  # of a training that breaks, so do its ratios
def _diagnosed(watched: Watch | FlowHistory | RunRecord, limits: Limits | None, progress: bool) -> Diagnosis:
    """Return the diagnosis, with what a loss that is still high speaks for or without."""
    if isinstance(watched, RunRecord) and not watched.epochs and (ended := divergence(watched)):
        return Diagnosis(tuple(ended), "in no whole epoch", ())
    history = watched if isinstance(watched, FlowHistory | RunRecord) else _history_of(watched)
    history = recorded(history) if isinstance(history, RunRecord) else history
    if limits is not None and not isinstance(limits, Limits):
        raise ConfigError(f"limits: expected gs.Limits; got {brief(limits)}; type gs.Limits(large=10.0)")
    limits, traits = limits or Limits(), Traits.of(history)
    views = [found for facts in history.optimizers if (found := View.of(history, facts, limits))]
    if history.is_unused:
        return Diagnosis((_never_stepped(history),), history.seen, history.notes)
    if not views:
        raise ConfigError(history.lack)
    findings = [finding for view in views for finding in findings_of(view, traits)]
    if history.is_cut_off:
        findings = [_without_any(history)]
    findings += [*loop_findings(history), *clip_findings(history), *weight_findings(history)]
    findings += [*channel_findings(history), *transformer_findings(history)]
    findings += rank_findings(history.ranks)
    notes = _out_of_the_loss(views)
    if history.loss is not None:
        harmed = any(each.grade == "fail" for each in findings)
        of_loss = loss_findings(history.loss, harmed=harmed)
        findings = [*of_loss, *findings] if _loss_first(history, history.loss) else [*findings, *of_loss]
        notes += loss_notes(history.loss)
    if history.activations is not None:
        rows = np.flatnonzero(~history.skipped)[-limits.rows :]
        of_outputs = activation_findings(history.activations, rows, limits, traits.norm)
        # Of two that are non-finite the earlier is the cause: broken gradients break later outputs.
        first = _backward_first(history, history.activations)
        findings = [*findings, *of_outputs] if first else [*of_outputs, *findings]
    if isinstance(watched, RunRecord):
        findings += divergence(watched)
        findings += [] if any(each.grade == "fail" for each in findings) else plateau(watched)
    if history.loss is not None and history.row == "step":
        curve = Curve(history.loss, LossLimits())
        findings += (
            progress_findings(history, views, traits, curve, findings)
            if progress
            else linear_findings(curve, early=True)
        )
        findings = _milder(without_aftermath(findings, curve), curve)
    once = gravest_first(with_clipping(findings, history) or [healthy(views[-1])])
    told = [_placed(_after_large_steps(each, history, limits), history) for each in once]
    return Diagnosis(
        without_contradiction(with_warm_up(told, history)),
        history.seen,
        (*history.notes, *notes),
        _unseen(history, known_loss=isinstance(watched, RunRecord)),
        _profile(history, limits.rows),
    )


def _profile(history: FlowHistory, rows: int) -> GradientProfile:
    """Return the weight layers' typical gradients in the last rows of steps that were made."""
    made, columns = np.flatnonzero(~history.skipped)[-rows:], history.weights
    broken = (history.nonfinite[made] == 1).any(axis=0)
    values = np.where(broken, math.inf, typical(history.mean_abs[made]))[columns]
    return GradientProfile(tuple(history.layers[column] for column in columns), tuple(values.tolist()))


# Oddities of layers and steps that a training may have and work: they hold for it as a whole, or they do not.
MILD = (
    "equal units", "dead units", "exploding", "vanishing", "below the optimizer's reach", "saturated",
    "learning rate too large", "learning rate too small", "attention entropy collapses",
    "attention logits grow",
)  # fmt: skip
UNNEEDED = "blocks add nothing"  # no fault where the task is learnt without them


def _milder(findings: list[Finding], curve: Curve) -> list[Finding]:
    """Return the findings, as warnings where the loss says that the training works, or comes to work."""
    mild = MILD if curve.learns else ("learning rate too large",) if curve.recovers else ()
    learnt = f"; the loss falls all the same, to {curve.over_guessing:.2g} of guessing's"
    return [
        replace(each, mild=True, cause=each.cause + learnt) if each.verdict in mild else each
        for each in findings
        if not (curve.learns and each.verdict == UNNEEDED)
    ]


def _loss_first(history: FlowHistory, loss: LossHistory) -> bool:
    """Return True if the loss was not finite before any gradient of an earlier step was."""
    broken = history.steps[(history.nonfinite == 1).any(axis=1)]
    first = loss.steps[~np.isfinite(loss.values)]
    return len(first) > 0 and (not len(broken) or first[0] <= broken[0])


def _without_any(history: FlowHistory) -> Finding:
    """Report that steps were made, and none with a gradient; a loss is seen only where its gradients come."""
    steps = int((~history.skipped).sum())
    came = history.loss is not None and len(history.loss.values) > 0
    return Finding(
        verdict="parameters not trained" if came else "frozen layer",
        layer="",
        cause=f"gradients have come to the parameters, and were gone at each of {steps} steps"
        if came
        else f"no gradient has reached any parameter in {steps} steps: the loss is cut off from the model, "
        "or backward() is never called",
        remedy="zero_grad() before backward() or after step(), not between them"
        if came
        else "look for detach(), .data, .item(), numpy or torch.no_grad() between the model and the loss, "
        "and for a missing backward()",
        evidence=(Symptom("steps without any gradient", float(steps), 0.0, "none is meant to be"),),
    )


def _never_stepped(history: FlowHistory) -> Finding:
    """Report that gradients came and no step used them."""
    return Finding(
        verdict="parameters not trained",
        layer="",
        cause=f"gradients came {len(history.steps)} times, and no step of the optimizer used them",
        remedy=options(
            "optimizer.step() after backward()", "a lower init_scale, if a GradScaler skips every step",
            "look for gradients that are not finite",
        ),
        evidence=(
            Symptom(
                "gradients that no step used", float(len(history.steps)), 0.0, "each is meant to be used",
            ),
        ),
    )  # fmt: skip


def _unseen(history: FlowHistory, known_loss: bool) -> tuple[str, ...]:
    """List what a verdict knows nothing of."""
    outputs = "the layers' outputs" + (", which activations=True adds" if history.row == "step" else "")
    loss = history.loss
    known_loss |= loss is not None and len(loss.values) > 0
    told = loss is not None and any(
        term.name != "unknown" for reading in loss.readings for term in reading.terms
    )
    return (
        *(() if known_loss else ("the loss",)),
        *(("what the loss was made of",) if known_loss and not told and loss is not None else ()),
        *((outputs,) if history.activations is None else ()),
    )


OUT_OF_THE_LOSS = "no gradient was ever there for"  # begins the note on such layers


def _out_of_the_loss(views: list[View]) -> tuple[str, ...]:
    """Notes on layers that never had a gradient, though ones before them have: unused heads and poolers."""
    names = [
        name
        for view in views
        for name, absent in zip(view.layers, view.absent & ~view.zero.all(), strict=True)
        if absent
    ]
    return (
        (f"{OUT_OF_THE_LOSS} {', '.join(names)}: unused, or cut off from the loss by a detach()",)
        if names
        else ()
    )


def _placed(finding: Finding, history: FlowHistory) -> Finding:
    """Add the layer's number among the weight layers, the last one before it of a layer without weights."""
    weights = [history.layers[column] for column in history.weights]
    if finding.layer in weights:
        return replace(finding, place=f"weight layer {weights.index(finding.layer) + 1} of {len(weights)}")
    if history.activations is None or finding.layer not in history.activations.layers:
        return finding
    return replace(finding, place=place_among(finding.layer, history.activations.layers, weights))


def place_among(layer: str, order: tuple[str, ...], weights: list[str]) -> str:
    """Return the number of a module among weight layers, or of the one that runs before it, in words.

    Args:
        layer: Name of the module's call.
        order: Names of all calls, in the order in which they run.
        weights: Names of the weights, input to output.

    Returns:
        Place, as "after weight layer 2 of 5"; empty where no weight layer runs before.
    """
    owners = [name.rpartition(".")[0] for name in weights]
    for name in reversed(order[: order.index(layer) + 1]):
        module = name.partition(" (call")[0]
        if module in owners:
            after = "" if name == layer else "after "
            return f"{after}weight layer {owners.index(module) + 1} of {len(weights)}"
    return ""


def _after_large_steps(finding: Finding, history: FlowHistory, limits: Limits) -> Finding:
    """Reword a non-finite finding whose cause is that steps had replaced the weights before."""
    if finding.verdict != "non-finite":
        return finding
    broken = _broken_rows(history)
    if history.activations is not None:
        broken |= history.activations.nonfinite.any(axis=1)
    before = int(np.argmax(broken))
    steps = np.nan_to_num((history.update / sized(history))[:before, history.weights], posinf=math.inf)
    if not steps.size or steps.max() <= limits.large:
        return finding
    what = "‖ΔW‖/‖W‖ of the largest step before that"
    return replace(
        finding,
        cause=f"steps had replaced the weights before: {finding.cause}",
        remedy=options(LOWER, "warm-up", "clip gradients"),
        evidence=(Symptom(what, float(steps.max()), limits.large, SOURCES["large"]), *finding.evidence),
    )


def _backward_first(history: FlowHistory, outputs: ActivationHistory) -> bool:
    """Return True if a gradient was not finite in a row before any output was."""
    broken = np.flatnonzero(_broken_rows(history))
    return len(broken) > 0 and (outputs.origin is None or broken[0] < outputs.origin[0])


def _broken_rows(history: FlowHistory) -> Bools:
    """(T,) whether a step was made with a gradient that is not finite."""
    found: Bools = (history.nonfinite == 1).any(axis=1) & ~history.skipped
    return found
