"""Repeat a step on copies with a suspected batch and with others: was the batch the cause of a spike?"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gradscape.config.arguments import typed
from gradscape.errors import ConfigError, brief, first_line
from gradscape.measure.core.batch import Batch, Loss, unwrapped
from gradscape.measure.core.batches import fixed_batches
from gradscape.measure.core.copied_optimizer import Steppers, all_given, steppers_of
from gradscape.measure.core.copied_training import Original, go_backward, loss_of_copy
from gradscape.measure.core.copying import copied
from gradscape.measure.core.layer_trace import unwatched
from gradscape.measure.core.preserve import leaves_loss, random_state, refuse
from gradscape.records.encoding import Values
from gradscape.records.replay import ReplayRecord

JUDGES = 8  # other batches by which steps are judged: each is evaluated after each step


@typed(suspect=1_000_000)
@leaves_loss
def replay(
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer],
    batches: Any,
    loss: Loss | None = None,
    *,
    suspect: int,
    held_out: Any = None,
    clip: float | None = None,
    usual: float | None = None,
) -> ReplayRecord:
    """Repeat a step with a suspected batch and with others, and say whether the batch caused a spike.

    Model and optimizer are as they were before the step: load a checkpoint, with the states of both and of
    the generators. From there one step is made with each batch, each on a copy, with the same random numbers;
    the losses of other batches are compared before and after. Model, optimizer and generators are left as
    found. It takes a step and up to eight forward passes for each batch.

    The batch is the cause if its own loss is beyond that of the others, or if a step with it raises the loss
    of other batches by more than steps with others do; the state is, if a step with any batch raises it. That
    it takes both is what Chowdhery et al. (2022), §5.1, found of a large model: a batch before which it
    spiked did no harm to an earlier checkpoint. To try that, load an earlier one and call this again.

    Args:
        model: Module, in the mode that it is trained in.
        optimizer: One or several optimizers of it, with their state.
        batches: Batches as of `gradscape.lr_range`, (x, y) among them: the suspected one and others, such as
            those before and after it; ten others are a good number, three the fewest that decide.
        loss: loss(output, y), loss(output), or loss(model, batch); None for a model whose output has a
            `loss`. It returns one number.
        suspect: Place of the suspected batch in `batches`, from 0.
        held_out: Batches by which steps are judged; by default the first eight of the others.
        clip: Norm to which all gradients together are clipped before the step, as by
            `torch.nn.utils.clip_grad_norm_`; None for no clipping.
        usual: Loss before the spike, such as `flow.history().spikes[0].usual`: if the loss of every batch is
            above it before any step, the state was the cause.

    Raises:
        ConfigError: There are no other batches, `suspect` is none of them, the loss is not one number or
            below 0, or model or optimizer cannot be copied.

    Source: Chowdhery et al. (2022), PaLM, §5.1; intervals of Student's t over the other batches, 99.5 %.

    Example:
        >>> print(gs.replay(model, optimizer, batches, loss, suspect=1))
    """
    own = unwrapped(model)
    refuse(own)
    optimizers = all_given(optimizer)
    fixed, notes = fixed_batches(batches)
    _check(fixed, suspect, clip, usual)
    further = [] if held_out is None else fixed_batches(held_out)[0]
    others = [place for place in range(len(fixed)) if place != suspect][:JUDGES]
    with random_state(), unwatched(), torch.enable_grad():
        stage = _Stage(own, optimizers, loss, clip)
        given = [Batch.of(batch, own, loss) for batch in fixed]
        judges = [Batch.of(batch, own, loss) for batch in further] or [given[place] for place in others]
        before = stage.losses(copied(own), judges)
        steps = [stage.step(batch, judges) for batch in given]
    if not own.training:
        notes.append("the model was in eval mode: call model.train() before, as a loop does")
    return _record(steps, before, [-1] * len(further) or others, suspect, stage.name, usual, notes)


@dataclass(frozen=True)
class _Step:
    """Loss of a batch, norms of its gradient and of its step, and the judges' losses after it."""

    own: float
    gradient: float
    update: float
    after: Values


class _Stage:
    """State from which every step is made.

    Args:
        model, optimizers, loss, clip: As of `replay`.
    """

    def __init__(
        self, model: nn.Module, optimizers: list[Optimizer], loss: Loss | None, clip: float | None
    ) -> None:
        self.model, self.optimizers, self.loss, self.clip = model, optimizers, loss, clip
        self.original, self.make = Original(model), steppers_of(optimizers, model)
        self.name = " and ".join(type(each).__name__ for each in optimizers)

    def losses(self, twin: nn.Module, judges: list[Batch]) -> Values:
        """Return the losses of batches, each with the random numbers that the step began with.

        Args:
            twin: Copy, whose buffers may change.
            judges: Batches.
        """
        found = []
        for batch in judges:
            with random_state(), torch.no_grad():
                found.append(float(self._value(twin, batch)))
        return np.array(found)

    def step(self, batch: Batch, judges: list[Batch]) -> _Step:
        """Make a step on a copy, and return what it does.

        Args:
            batch: Batch of the step.
            judges: Batches that are evaluated after it.
        """
        twin = copied(self.model)
        steppers = self.make(twin)
        self._load(steppers)
        parameters = [p for p in twin.parameters() if p.requires_grad]
        start = [p.detach().clone() for p in parameters]
        with random_state():
            steppers.zero_grad()
            value = self._value(twin, batch)
            go_backward(value, twin)
            norm = _norm([p.grad for p in parameters if p.grad is not None])
            if self.clip is not None:
                torch.nn.utils.clip_grad_norm_(parameters, self.clip)
            steppers.step()
        moved = _norm([p.detach() - first for p, first in zip(parameters, start, strict=True)])
        return _Step(float(value.detach()), norm, moved, self.losses(twin, judges))

    def _value(self, twin: nn.Module, batch: Batch) -> Tensor:
        return loss_of_copy(twin, batch, self.loss, self.original)

    def _load(self, steppers: Steppers) -> None:
        """Give the copies' optimizers the state of the originals, copied."""
        if len(steppers.optimizers) != len(self.optimizers):
            raise ConfigError("optimizer: one of them trains no parameter of the model: leave it out")
        for made, original in zip(steppers.optimizers, self.optimizers, strict=True):
            try:
                made.load_state_dict(copy.deepcopy(original.state_dict()))
            except Exception as error:  # of any kind: a class of the user's own
                name = type(original).__name__
                raise ConfigError(
                    f"optimizer: the state of {name} cannot be copied ({first_line(error)}); its parameters "
                    "must be the model's own"
                ) from error


def _norm(values: Sequence[Tensor]) -> float:
    """Return the norm of several tensors together."""
    parts = [float(torch.linalg.vector_norm(_dense(each).double())) for each in values]
    return math.hypot(*parts) if all(map(math.isfinite, parts)) else math.inf


def _dense(values: Tensor) -> Tensor:
    return values.coalesce().values() if values.is_sparse else values


def _check(batches: list[Any], suspect: int, clip: float | None, usual: float | None) -> None:
    """Refuse arguments that are out of range."""
    if len(batches) < 2:
        raise ConfigError(
            "batches: expected the suspected batch and others, such as those before it; got one alone"
        )
    if not 0 <= suspect < len(batches):
        raise ConfigError(f"suspect: expected a place in batches, 0 to {len(batches) - 1}; got {suspect}")
    for name, value in (("clip", clip), ("usual", usual)):
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"{name}: expected a number above 0; got {brief(value)}")


def _record(
    steps: list[_Step],
    before: Values,
    judged: list[int],
    suspect: int,
    optimizer: str,
    usual: float | None,
    notes: list[str],
) -> ReplayRecord:
    own = np.array([step.own for step in steps])
    after = np.array([step.after for step in steps])
    low = min((float(v) for v in (*own, *before, *after.flat) if math.isfinite(v)), default=math.nan)
    if low < 0:
        raise ConfigError(f"loss: expected numbers of 0 or more, which are compared by ratios; got {low:.3g}")
    return ReplayRecord(
        suspect=suspect,
        optimizer=optimizer,
        own=own,
        gradient=np.array([step.gradient for step in steps]),
        update=np.array([step.update for step in steps]),
        judged=np.array(judged, dtype=np.int64),
        before=before,
        after=after,
        usual=math.nan if usual is None else float(usual),
        notes=tuple(notes),
    )
