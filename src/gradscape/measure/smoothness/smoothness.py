"""Smoothness of a loss along the next training step: the range in which its gradient can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

from gradscape.config.arguments import typed
from gradscape.errors import ConfigError, brief
from gradscape.measure.core.batch import Loss, described
from gradscape.measure.core.objective import NormStatistics, Objective, norm
from gradscape.measure.core.preserve import leaves_loss
from gradscape.measure.smoothness.optimizer_step import check_optimizer, not_trained, step_per_rate
from gradscape.records.encoding import Values
from gradscape.records.norm_statistics import NONE
from gradscape.records.smoothness import Line, SmoothnessRecord

LOST = 0.01  # fraction of the shortest move that may be lost to rounding without a note
# Distances ‖Δθ/|θ|‖₂ of the scale-free line: at 0.5 to 2, where Kwon et al. (2021) train, the gradient of an
# untrained network has turned already.
RELATIVE = (0.05, 0.4)


@typed(points=10_000)
@leaves_loss
def smoothness(
    model: nn.Module,
    loss: Loss | None,
    batches: Any,
    lr: float | Tensor | None = None,
    *,
    optimizer: Optimizer | None = None,
    range: tuple[float, float] = (0.5, 4.0),
    points: int = 8,
    bn: NormStatistics = "batch",
    separately: bool = False,
) -> SmoothnessRecord:
    """Measure how loss and gradient change along the gradient, and along an optimizer's next step.

    At the model's parameters θ, with g = ∇L(θ) of fixed batches, this measures L(θ − ηg) and ‖∇L(θ − ηg) − g‖
    for learning rates η around the current one. It costs 3 + points gradients, with an optimizer 3 + 2 ·
    points (per batch if separately), and memory for copies of parameters and gradients, with an optimizer
    also for its state in float64. The model, its buffers, gradients and modes, the optimizer and the state of
    all random generators are preserved. Dropout is off.

    Args:
        model: Module; the gradient is over its parameters that require one.
        loss: Function loss(output, y), loss(output) or loss(output, dict), tried in this order, or
            loss(model, batch), which calls the model itself; returns a tensor of one number. None for a model
            whose output has a `loss`.
        batches: One batch, (x, y), x or a dict of the model's arguments (an argument that is itself a tuple,
            list or dict is passed as ((x,), y)), or several: a list, or a DataLoader for one pass. x and y
            have N samples along their first or second axis.
        lr: Learning rate; None for that of the optimizer's first group.
        optimizer: Optimizer of the model. A copy makes the step Δθ from its state and g, in float64 and
            without clipping, and the loss is also measured at θ + (η / its own lr) · Δθ.
        range: Lowest and highest η in units of lr.
        points: P, the number of rates η, evenly spaced.
        bn: Statistics of BatchNorm: `batch` of each batch as in training, `running` as in evaluation.
        separately: Whether to measure each batch with its own loss, gradient and step, a row for each,
            instead of their mean over samples.

    Returns:
        Record with arrays of shape (K, P), with K = 1, or the number of batches if separately.

    Raises:
        ConfigError: If the learning rate is missing or not above 0, range or points are invalid, the
            optimizer needs a closure, cannot be copied or trains another model, the loss or gradient is not
            finite at θ, the batches do not fit the model, or the loss is not one number.

    Source: Santurkar et al. (2018), How does batch normalization help optimization?, §3.1 and Fig. 4; the
        range of η is theirs. Kwon et al. (2021), ASAM, §3, for the line that does not depend on the weights'
        scale.

    Example:
        >>> print(gs.smoothness(model, nn.functional.cross_entropy, (x, y), lr=0.1, optimizer=optimizer))
    """
    if optimizer is not None:
        check_optimizer(optimizer)
    rate = _learning_rate(lr, optimizer)
    rates = rate * _multiples(range, points)
    objective = Objective(model, loss, batches, bn)
    parts = objective.each() if separately else [objective]
    rows = [_measured(part, optimizer, rates) for part in parts]
    lines = [_stacked(same) for same in zip(*(row.lines for row in rows), strict=True)]
    return SmoothnessRecord(
        lr=rate,
        rates=rates,
        gradient_norm=np.array([row.gradient_norm for row in rows]),
        weight_norm=norm(objective.vector(objective.start)),
        along_gradient=lines[0],
        along_step=None if optimizer is None else lines[2],
        relative=lines[1],
        parameters=objective.size,
        batches=len(objective.whole),
        samples=objective.samples,
        bn=bn if objective.has_batchnorm else NONE,
        cost=len(rows) * (1 + sum(line.losses.shape[1] for line in lines)),
        notes=(
            *objective.notes,
            *([] if optimizer is None else not_trained(objective, optimizer)),
            *(note for n, line in enumerate(lines) for note in _notes(line, [row.lost[n] for row in rows])),
        ),
    )


def _learning_rate(lr: Any, optimizer: Optimizer | None) -> float:
    """Return the learning rate, by default the optimizer's."""
    rate = optimizer.param_groups[0]["lr"] if lr is None and optimizer is not None else lr
    if isinstance(rate, Tensor):
        rate = rate.item() if rate.numel() == 1 else described(rate)
    if not isinstance(rate, Real) or not 0 < float(rate) < math.inf:
        raise ConfigError(
            f"lr: expected a number above 0 such as lr=0.1, or optimizer alone; got {brief(rate)}"
        )
    return float(rate)


def _multiples(range: Any, points: int) -> Values:
    """Return evenly spaced multiples (points,) over a range.

    Raises:
        ConfigError: If the range is not two increasing numbers above 0, or there are fewer than two points.
    """
    ordered = isinstance(range, tuple | list) and len(range) == 2 and all(isinstance(r, Real) for r in range)
    if not ordered or not 0 < range[0] < range[1] < math.inf:
        raise ConfigError(f"range: expected two rising multiples of lr such as (0.5, 4); got {brief(range)}")
    if points < 2:
        raise ConfigError(f"points: expected 2 or more; got {points}")
    return np.linspace(float(range[0]), float(range[1]), points)


@dataclass
class _Row:
    """Measurements of one loss: a line for each direction, and the fraction of its move lost to rounding."""

    gradient_norm: float
    lines: list[Line]
    lost: list[float]


def _measured(objective: Objective, optimizer: Optimizer | None, rates: Values) -> _Row:
    """Measure one loss along its gradient and the optimizer's step.

    Raises:
        ConfigError: If loss or gradient is not finite at the start.
    """
    loss, gradient = objective.gradient()
    length = norm(gradient)
    if not math.isfinite(loss) or not math.isfinite(length):
        raise ConfigError(
            f"the loss is {loss:g} and its gradient's norm {length:g}: there is no smoothness to measure; "
            "gradscape.watch with activations shows where this begins"
        )
    lines = [
        along(objective, loss, gradient, gradient, rates, "the gradient"),
        relative(objective, loss, gradient),
    ]
    lost = [_rounded_away(objective, gradient, rates[0]), 0.0]
    if optimizer is not None:
        step = step_per_rate(objective, optimizer, gradient)
        lines.append(along(objective, loss, gradient, step, rates, f"{type(optimizer).__name__}'s step"))
        lost.append(_rounded_away(objective, step, rates[0]))
    return _Row(length, lines, lost)


def relative(objective: Objective, loss: float, gradient: Tensor) -> Line:
    """Measure along T²g with lengths relative to the parameters' size, T = diag|θ|.

    The result is the same for two networks that differ only by scales of weights which a norm or the next
    layer cancels: steps, distances and changes scale with |θ| (Kwon et al. 2021, §3).

    Args:
        objective: Loss and its n parameters θ.
        loss: L(θ).
        gradient: g = ∇L(θ), (n,).
    """
    size = objective.vector(objective.start).abs()
    pull = size * gradient
    unit = pull / (norm(pull) or 1.0)
    return along(objective, loss, gradient, unit, np.array(RELATIVE), "the gradient relative to θ", size)


def along(
    objective: Objective,
    loss: float,
    gradient: Tensor,
    direction: Tensor,
    rates: Values,
    name: str,
    size: Tensor | float = 1.0,
) -> Line:
    """Measure one row: L(θ − ηTd), ‖T(∇L(θ − ηTd) − g)‖ and ‖ηd‖ at each η.

    Args:
        objective: Loss and its n parameters θ.
        loss: L(θ).
        gradient: g = ∇L(θ), (n,).
        direction: d, (n,).
        rates: η, (P,).
        name: Name of the direction, for the record.
        size: T, the unit of d: (n,) or one number.
    """
    pairs = []
    for rate in rates:
        value, there = objective.gradient(objective.moved(size * direction, -float(rate)))
        pairs.append((value, norm(size * (there - gradient))))
    losses, changes = np.array(pairs, dtype=np.float64).T[:, None]
    return Line(name, np.array([loss]), losses, changes, norm(direction) * rates[None])


def _stacked(rows: Sequence[Line]) -> Line:
    """Stack the rows of several lines as one line."""
    arrays = ("loss", "losses", "changes", "distances")
    return Line(rows[0].along, *(np.concatenate([getattr(row, name) for row in rows]) for name in arrays))


def _rounded_away(objective: Objective, direction: Tensor, rate: float) -> float:
    """Return the fraction of a move that rounding loses when it is added to the parameters."""
    exact = -float(rate) * direction
    actual = objective.vector(objective.moved(direction, -float(rate))) - objective.vector(objective.start)
    return norm(actual - exact) / length if (length := norm(exact)) else 0.0


def _notes(line: Line, lost: Sequence[float]) -> list[str]:
    """Return notes on values that are not finite, missing, or unreliable."""
    notes = []
    if bad := int((~line.finite).sum()):
        notes.append(
            f"along {line.along}, loss or gradient is not finite at {bad} of {line.finite.size} points: "
            "minima and maxima are over the others"
        )
    if (line.distances == 0).any():
        notes.append(f"{line.along} is zero: nothing moves; β and the Lipschitz estimate are unknown")
    if max(lost) > LOST:
        notes.append(
            f"along {line.along}, rounding loses {100 * max(lost):.2g} % of the shortest move: "
            "give model and batches in float64"
        )
    return notes
