"""Fit one batch: a network that learns anything can learn that by heart."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from gradscape.measure.check.loss_calls import LossCall, loss_pass
from gradscape.measure.check.sub_batch import SECONDS, affordable
from gradscape.measure.check.trials import Steps
from gradscape.measure.core.preserve import random_state, seed_generators
from gradscape.measure.diagnose.advice import ANOTHER, options
from gradscape.records.check import ENOUGH, FELL, Fit
from gradscape.records.diagnosis import Finding, Symptom

BUDGET = 200  # steps
LEARNT = 0.01  # of the loss at the start: it goes no further
NEAR = 0.02  # of the best constant output's loss
PARTS = 4  # the last part of the steps beside the one before: does it still fall
MARGIN = 3.0  # standard errors
FORGOTTEN = 0.5  # of what was learnt, gone in eval mode


@dataclass(frozen=True)
class Fitted:
    """Copy that was trained on the batch.

    Attributes:
        fit: Steps that it made.
        model: The copy.
        steps: Batch that they were made on, loss and optimizer.
    """

    fit: Fit
    model: nn.Module
    steps: Steps


def fit_batch(
    twin: Callable[[], nn.Module], steps: Steps, count: int | None, call: LossCall | None
) -> Fitted:
    """Train a copy on the batch until it knows it by heart, or the budget is spent.

    A batch that takes too long for `BUDGET` steps within `SECONDS` is fitted in part: of fewer samples a
    network that learns anything knows the sooner, and of fewer steps nothing is known at all.

    Args:
        twin: Maker of copies.
        steps: Batch, loss and optimizer.
        count: Number of steps at most; None for `BUDGET`, and no more than `SECONDS`.
        call: Call of the loss function that is the loss; None where it is not known.
    """
    part = affordable(twin, steps, BUDGET)[0] if count is None else steps
    model = twin()
    if part is not steps:
        call = loss_pass(partial(part.value, model)).main
    ends = math.inf if count is not None else time.monotonic() + SECONDS
    losses, late = _trained(model, part, BUDGET if count is None else count, ends)
    fit = Fit(
        tuple(losses),
        constant=math.nan if call is None else call.constant,
        samples=0 if part is steps else part.batch.size,
        size=steps.batch.size,
        seconds=SECONDS if late else math.nan,
    )
    return Fitted(replace(fit, evaluated=_in_eval_mode(model, part)), model, part)


def _trained(model: nn.Module, steps: Steps, count: int, ends: float) -> tuple[list[float], bool]:
    """Return the losses before each step, and whether the time has ended them."""
    losses: list[float] = []
    with random_state(), torch.enable_grad():
        seed_generators(0)
        stepper = steps.optimizer(model)
        for _ in range(count):
            stepper.zero_grad()
            losses.append(steps.backward(model))
            if _knows_it(losses) or not math.isfinite(losses[-1]):
                break
            if time.monotonic() > ends:
                return losses, True
            stepper.step()
    return losses, False


def _knows_it(losses: list[float]) -> bool:
    return losses[0] > 0 and all(abs(each) <= LEARNT * losses[0] for each in losses[-2:])


def _in_eval_mode(model: nn.Module, steps: Steps) -> float:
    """Return the loss of the trained copy in eval mode; NaN where it was so all along, or has none."""
    if not any(module.training for module in model.modules()):
        return math.nan
    try:
        with torch.no_grad(), random_state():
            return float(steps.value(model.eval()))
    except Exception:  # of any kind: a model may have no loss in eval mode
        return math.nan


def fit_findings(fit: Fit) -> list[Finding]:
    """Report a loss that ends where it began, or at what the best constant output costs.

    Args:
        fit: Steps on one batch.
    """
    losses = np.array(fit.losses)
    if len(losses) < ENOUGH or not np.isfinite(losses).all() or still_falls(fit):
        return []
    first, last = float(losses[0]), float(np.median(losses[-len(losses) // PARTS :]))
    where = fit.over if fit.samples else "one batch"
    steps, source = f"{len(losses)} steps on {where}", "a network that learns anything can fit one batch"
    constant = fit.constant
    if fit.constant > 0 and last > (1 - NEAR) * constant:
        cause = (
            f"in {steps} the loss comes to {last:.3g}; the best output that is the same for all samples "
            f"costs {constant:.3g}"
        )
        what, value, limit = "loss over that of the best constant output", last / constant, 1 - NEAR
        evidence = Symptom(what, value, limit, source)
    elif (first - last) < FELL * abs(first):
        cause = f"in {steps} the loss stays where it began: {first:.3g} → {last:.3g}"
        what = f"share by which the loss fell in {steps}"
        evidence = Symptom(what, (first - last) / abs(first), FELL, source, below=True)
    else:
        return []
    remedy = options(ANOTHER, "look at the loss, the last layer, inputs and labels")
    return [Finding("does not fit one batch", "", cause, remedy, (evidence,))]


def still_falls(fit: Fit) -> bool:
    """Return True if the last part of the losses lies below the one before by more than their noise.

    Args:
        fit: Steps on one batch.
    """
    size = len(fit.losses) // PARTS
    if size < 2:
        return True
    last, before = np.array(fit.losses[-size:]), np.array(fit.losses[-2 * size : -size])
    noise = float(np.hypot(np.diff(last).std(), np.diff(before).std())) / math.sqrt(2 * size)
    return float(before.mean() - last.mean()) > max(MARGIN * noise, 1e-6 * abs(fit.losses[0]))


def mode_findings(fitted: Fitted) -> list[Finding]:
    """Report a loss that rises again where the trained copy is put into eval mode.

    Not after a few steps that have not fitted the batch: while weights move far, statistics lag behind.

    Args:
        fitted: Copy in eval mode; its running statistics are replaced.
    """
    fit, model = fitted.fit, fitted.model
    first, last = fit.losses[0], fit.losses[-1]
    learnt = first - last
    if not (math.isfinite(fit.evaluated) and learnt > 0.5 * abs(first)):
        return []
    if not fit.fits and len(fit.losses) < ENOUGH:
        return []
    gone = (fit.evaluated - last) / learnt
    if gone <= FORGOTTEN:
        return []
    norms = [module for module in model.modules() if _has_statistics(module)]
    cause, remedy = _why(norms, model, fitted.steps, last + FORGOTTEN * learnt, len(fit.losses))
    if not cause:
        return []
    what = f"share of what {len(fit.losses)} steps learnt that is gone in eval mode"
    evidence = Symptom(what, gone, FORGOTTEN, "the same network on the same batch")
    return [Finding("train and eval differ", "", cause, remedy, (evidence,))]


def _has_statistics(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.running_mean is not None


def _lag(norm: Any, count: int) -> float:
    """Return the share of running statistics that is of before so many steps; of a plain mean none is."""
    return 0.0 if norm.momentum is None else float((1 - norm.momentum) ** count)


def _why(norms: list[nn.Module], model: nn.Module, steps: Steps, limit: float, count: int) -> tuple[str, str]:
    """Return cause and remedy; empty where running statistics have not had the time to follow."""
    own = ("modules compute something else in eval mode than in train mode", "look for `self.training`")
    if not norms:
        return own
    lag = max(_lag(norm, count) for norm in norms)
    for norm in norms:
        norm.reset_running_stats()  # type: ignore[operator]
        norm.momentum = None  # type: ignore[assignment]  # the mean over passes: here of one
        norm.train()
    with torch.no_grad(), random_state():
        steps.value(model)
        settled = float(steps.value(model.eval()))
    if settled > limit:
        return (
            own
            if not steps.batch.size < 4
            else (
                f"BatchNorm's statistics of {steps.batch.size} samples are not those that it evaluates with",
                options("a larger batch", "GroupNorm or LayerNorm in place of BatchNorm"),
            )
        )
    if lag == 1:
        return (
            "BatchNorm has momentum 0, which in PyTorch is the weight of a new batch: its running statistics "
            "stay what they were",
            options("momentum=0.1"),
        )
    if lag > 0.05:
        return "", ""
    return (
        "BatchNorm's running statistics lag behind the weights, which each step moves far",
        options("a lower learning rate", "a larger momentum of BatchNorm"),
    )
