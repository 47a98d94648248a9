"""Check a network before it is trained: signal, some real steps, a verdict, and remedies that were tried."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gradscape._text import count_noun
from gradscape.config.arguments import typed
from gradscape.errors import ConfigError, GradscapeError
from gradscape.measure.check.batch_probes import Probed, fit_finding, probed, single_sample
from gradscape.measure.check.loss_calls import LossPass, loss_pass
from gradscape.measure.check.loss_remedies import loss_remedies, loss_trials, rate_trial
from gradscape.measure.check.optimizers import outside
from gradscape.measure.check.rate import asks_for_rate, rate_test, with_rate
from gradscape.measure.check.remedies import REMEDIES
from gradscape.measure.check.trials import (
    SMALLER_EPS,
    Steps,
    Untreated,
    attempt,
    first_made,
    smaller_eps,
    untreated,
)
from gradscape.measure.core.batch import Batch, Loss, unwrapped
from gradscape.measure.core.copied_optimizer import MakeOptimizer, notes_on_state, steppers_of
from gradscape.measure.core.copied_training import Original
from gradscape.measure.core.copying import copied
from gradscape.measure.core.layer_trace import layer_kind
from gradscape.measure.core.parameter_kinds import parameters_and_kinds
from gradscape.measure.core.parameters import facts
from gradscape.measure.core.preserve import leaves_loss
from gradscape.measure.diagnose.activation_rules import signal_findings
from gradscape.measure.diagnose.advice import (
    ANOTHER,
    LOWER,
    by_trials,
    options,
    rank,
    without_contradiction,
)
from gradscape.measure.diagnose.diagnose import OUT_OF_THE_LOSS, place_among
from gradscape.measure.signal.noise_batch import noise_batch
from gradscape.measure.signal.signal import signal
from gradscape.records.check import FELL, CheckRecord, Trial
from gradscape.records.check_progress import CheckProgress
from gradscape.records.diagnosis import Finding, Symptom, gravest_first
from gradscape.records.gradients import WEIGHT_KINDS
from gradscape.records.signal import SignalRecord

STEPS = 10
CONSTANT_BY = ("dead units", "exploding", "vanishing", "saturated", "non-finite")  # an output is the same
ENOUGH = 30  # steps on one batch: a loss that has not moved by then is told as a fault


OnProgress = Callable[[CheckProgress], object]


@typed(seeds=1_000, confirm=1_000_000)
@leaves_loss
def check(
    make_model: nn.Module | Callable[[], nn.Module],
    batch: Any,
    loss: Loss | None = None,
    optimizer: MakeOptimizer | torch.optim.Optimizer | Sequence[torch.optim.Optimizer] = torch.optim.Adam,
    seeds: int = 3,
    confirm: int = 0,
    remedies: bool = True,
    fit: int | None = None,
    causal: bool = False,
    report: OnProgress = lambda progress: None,
) -> CheckRecord:
    """Say before training whether a network will train, and if not why, where, and what would help.

    The signal through the network is measured over seeds; a copy is trained for ten steps on the batch and
    watched; another until it knows the batch by heart; labels and the first loss are looked at; the output
    of a sample must depend on the sample, and on no other one; a short range test looks for the learning
    rate; and each remedy is tried on a copy of its own. The model, and all random numbers, are left as found.

    Args:
        make_model: Factory, called after `torch.manual_seed(0)`, 1, …, or a module.
        batch: (x, y), x, or a dict of the model's arguments.
        loss: loss(output, y), loss(output), or loss(output, dict) in turn, or loss(model, batch), which calls
            the model itself; None for a model whose output has a `loss`.
        optimizer: Function from parameters to the optimizer that is to train them, as a class is; or one or
            several optimizers of the module, of which class, settings and groups are taken, without the
            state. Beside a factory, an optimizer of one group gives its class and settings.
        seeds: Number of a factory's networks that the signal is measured on.
        confirm: Number of real steps for the model and for every remedy, instead of ten.
        remedies: Whether remedies are tried.
        fit: Number of steps, at most, that a copy has to fit this one batch, 0 to leave it out; by default
            200 within five seconds, on as many of its samples as allow these.
        causal: Whether the output at a position must not depend on later positions of the input.
        report: Callback for what the check begins with, such as `print`.

    Raises:
        ConfigError: A factory that raises, a batch that does not fit, labels out of range, a loss that fails,
            a model that cannot be copied, an optimizer of another model.

    Example:
        >>> print(gs.check(make_model, (x, y), nn.functional.cross_entropy))
    """
    if confirm < 0:
        raise ConfigError(f"confirm: {confirm} is not a number of steps; give 0 or more")
    if fit is not None and fit < 0:
        raise ConfigError(f"fit: {fit} is not a number of steps; give 0 or more")
    own = unwrapped(make_model) if isinstance(make_model, nn.Module) else None
    optimizer_for = steppers_of(optimizer, own)
    model = first_made(make_model) if not isinstance(make_model, nn.Module) else unwrapped(make_model)
    given = Batch.of(batch, model, loss)
    steps = Steps(given, loss, optimizer_for, confirm or STEPS, None if own is None else Original(own))
    twin = partial(copied, own) if own is not None else partial(first_made, make_model)
    report(CheckProgress(f"signal through the layers, {count_noun(seeds, 'seed')}"))
    passed = _first_pass(twin, steps)
    measured = signal(make_model, batch, loss, seeds)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(f"make_model: {type(model).__name__} has no parameter to train")
    report(CheckProgress(f"gradients, {count_noun(steps.count, 'real step')}"))
    begun = untreated(make_model, steps)
    as_is = begun.trial
    found = probed(twin, steps, passed, fit, causal, report)
    assert as_is.diagnosis is not None
    findings = _all_findings(measured, model, as_is, found)
    findings += [] if own is None else outside(optimizer, own)
    findings += single_sample(model, steps, findings)
    unfitted = fit_finding(found, findings)
    if found.fit is None or not (found.fit.fits or found.fit.learns):
        unfitted = unfitted or _unlearnt(as_is, findings)
    once = gravest_first([*findings, *unfitted])
    rated = remedies or any(map(asks_for_rate, once))
    if rated:
        report(CheckProgress("range test of learning rates"))
    test = rate_test(make_model, twin, steps, optimizer) if rated else None
    of_test = None if test is None else rate_trial(twin, steps, begun, test)
    tried = _tried(model, twin, steps, passed, begun, report) if remedies else []
    tried += [of_test] if of_test is not None and remedies else []
    advised = with_rate(by_trials(once, tried), test, of_test)
    notes = (*_notes(as_is, once), *found.notes, *notes_on_state(optimizer))
    return CheckRecord(
        signal=measured,
        diagnosis=replace(
            as_is.diagnosis,
            findings=without_contradiction(advised),
            unseen=UNSEEN,
            notes=notes,
        ),
        as_is=as_is,
        remedies=tuple(sorted(tried, key=rank)),
        band=begun.band,
        fit=found.fit,
        facts=(*found.facts, *([] if test is None else [test.told])),
        optimizers=tuple(
            facts(each, ()) for each in steps.optimizer(model if own is None else twin()).optimizers
        ),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        dtypes=tuple({str(each.dtype).removeprefix("torch."): None for each in model.parameters()}),
    )


def _first_pass(twin: Callable[[], nn.Module], steps: Steps) -> LossPass:
    """Return the loss before training; what fails here is told by the signal, with its layer.

    Raises:
        ConfigError: Labels are out of range.
    """
    try:
        model = twin()
    except GradscapeError:
        return LossPass(math.nan, ())
    return loss_pass(partial(steps.value, model))


def _tried(
    model: nn.Module,
    twin: Callable[[], nn.Module],
    steps: Steps,
    passed: LossPass,
    as_is: Untreated,
    report: OnProgress,
) -> list[Trial]:
    """Return the trials of all remedies but the range test's rate, with their effects."""
    around = loss_remedies(twin, steps, passed)
    of = len(REMEDIES) + 1 + len(around)
    tried = []
    for number, name in enumerate((*REMEDIES, SMALLER_EPS), 1):
        report(CheckProgress("remedies", number, of, name))
        within = name in REMEDIES
        trial = attempt(name, model, steps.batch, steps) if within else smaller_eps(model, steps)
        tried.append(as_is.with_effect(trial))
    trials = loss_trials(twin, steps, around, as_is)
    for number, remedy in enumerate(around, len(tried) + 1):
        report(CheckProgress("remedies", number, of, remedy.name))
        tried.append(next(trials))
    return tried


def _all_findings(measured: SignalRecord, model: nn.Module, as_is: Trial, found: Probed) -> list[Finding]:
    """Return what signal, steps and probes found."""
    assert as_is.diagnosis is not None
    of_signal = signal_findings(measured, norm=any(layer_kind(m) == "norm" for m in model.modules()))
    learns = found.fit is not None and (found.fit.fits or found.fit.learns)
    of_layers = [
        *(_placed(_milder(finding, learns), measured, model) for finding in of_signal),
        *(_milder(_on_one_batch(finding), learns) for finding in as_is.diagnosis.findings),
    ]
    known = any(finding.verdict in CONSTANT_BY for finding in of_layers)
    return [*found.findings, *of_layers, *([] if known else found.constant)]


def _notes(as_is: Trial, findings: Sequence[Finding]) -> list[str]:
    """Return the notes of the steps, without that on layers outside the loss where a finding has them."""
    assert as_is.diagnosis is not None
    named = any(finding.verdict == "unused layer" for finding in findings)
    return [note for note in as_is.diagnosis.notes if not (named and note.startswith(OUT_OF_THE_LOSS))]


UNSEEN = ("the training loop: its data, schedule, clipping, modes",)


def _milder(finding: Finding, learns: bool) -> Finding:
    """Return the finding as a warning where a copy learns the batch, too small as signal or steps look."""
    if not learns or finding.verdict not in ("no signal from the input", "learning rate too small"):
        return finding
    return replace(finding, mild=True, cause=f"{finding.cause}; a copy learns this batch all the same")


def _placed(finding: Finding, measured: SignalRecord, model: nn.Module) -> Finding:
    """Return the finding with its layer's number among the weight layers."""
    weights = [name for name, kind, _ in parameters_and_kinds(model) if kind in WEIGHT_KINDS]
    if finding.layer not in measured.layers:
        return finding
    return replace(finding, place=place_among(finding.layer, measured.layers, weights))


def _on_one_batch(finding: Finding) -> Finding:
    """Reword noise: a check makes all its steps on one batch, of which no larger one is the cure."""
    if finding.verdict != "noise-dominated":
        return finding
    return replace(
        finding,
        cause="successive gradients on the same batch have little in common: steps are too large, or the "
        "model draws at random, as dropout does",
        remedy=options(LOWER, "less dropout"),
    )


def _unlearnt(as_is: Trial, found: Sequence[Finding]) -> list[Finding]:
    """Report a loss that has not moved in as many steps on one batch as a network needs, without a cause."""
    first, last = as_is.losses[0], as_is.losses[-1]
    if any(finding.grade == "fail" for finding in found):
        return []
    if as_is.fell or len(as_is.losses) < ENOUGH or not (math.isfinite(last) and first):
        return []
    what = f"share by which the loss fell in {len(as_is.losses)} steps on one batch"
    source = "a network that learns fits one batch"
    return [
        Finding(
            verdict="does not learn",
            layer="",
            cause=f"the loss on one batch does not fall: {as_is.change}",
            remedy=options(ANOTHER, "look at the loss, the last layer, inputs and labels"),
            evidence=(Symptom(what, (first - last) / abs(first), FELL, source, below=True),),
        )
    ]


def check_on_noise(
    make_model: Callable[[], nn.Module], shape: Sequence[int], causal: bool = False, **options: Any
) -> CheckRecord:
    """`check` a classifier on standard normal noise and labels that are drawn from as many as it has outputs.

    Args:
        make_model: Factory of a module from samples (N, …) to (N, classes); a causal one from (N, T, …) to
            (N, T, classes).
        shape: Shape of the batch, (N, …).
        causal: As of `check`; there is a label for each position then.
        options: Further arguments of `check`.

    Raises:
        ConfigError: As `check`, and a module with another output.
    """
    change = "give the shape of a sample by --input, or by --batch a batch of your own, as of tokens"
    own = "a batch and a loss of your own: --batch NAME --loss NAME"
    batch = noise_batch(make_model, shape, own, causal, change)
    record = check(make_model, batch, cross_entropy_of_each, causal=causal, **options)
    told = f"on noise, {' × '.join(map(str, shape))}, and random labels, by cross_entropy"
    return replace(record, facts=(told, *record.facts))


def cross_entropy_of_each(output: Tensor, y: Tensor) -> Tensor:
    """Return the mean cross-entropy over samples, or over all their positions.

    Args:
        output: Logits (N, classes) or (N, T, classes), or any that cross_entropy takes.
        y: Class numbers of the samples or positions.
    """
    if output.shape[:-1] != y.shape:
        return nn.functional.cross_entropy(output, y)
    return nn.functional.cross_entropy(output.flatten(0, -2), y.flatten())
