"""How smooth a loss is along the next step of a training: how far its gradient can be trusted."""

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
from gradscape.measure.core.objective import Objective, Statistics, norm
from gradscape.measure.smoothness.optimizer_step import check_optimizer, not_trained, step_per_rate
from gradscape.records.encoding import Values
from gradscape.records.smoothness import Line, SmoothnessRecord

LOST = 0.01  # share of the shortest move that may be rounded away unsaid
# Distances ‖Δθ/|θ|‖₂ of the scale-free line: within 0.5 to 2, at which Kwon et al. (2021) train, the
# gradient of an untrained network turns already.
RELATIVE = (0.05, 0.4)


@typed(points=10_000)
def smoothness(
    model: nn.Module,
    loss: Loss | None,
    batches: Any,
    lr: float | Tensor | None = None,
    *,
    optimizer: Optimizer | None = None,
    range: tuple[float, float] = (0.5, 4.0),
    points: int = 8,
    bn: Statistics = "batch",
    separately: bool = False,
) -> SmoothnessRecord:
    """Measure how loss and gradient change along the gradient, and along an optimiser's next step.

    At the model's parameters θ, with g = ∇L(θ) of fixed batches: L(θ − ηg) and ‖∇L(θ − ηg) − g‖ for learning
    rates η around the one in use. It costs 3 + points gradients, with an optimiser 3 + 2 · points, and as
    many for each batch if separately; the model's memory again for copies of parameters and gradients, with
    an optimiser and in float64 that of its state too. The model, its buffers, gradients and modes, the
    optimiser and all random numbers are left as found. Dropout is off.

    Args:
        model: a module; its parameters that have a gradient are looked at.
        loss: loss(output, y), loss(output), or loss(output, dict) in turn, or loss(model, batch), which calls
            the model itself; a tensor of one number. None for a model whose output has a `loss`.
        batches: one batch, (x, y), x or a dict of the model's arguments (one argument that is a tuple, list
            or dict is given as ((x,), y)), or several: a list, or a DataLoader,
            of which one pass is kept. x and y have N samples along their first or second axis.
        lr: the learning rate; None for that of the optimiser's first group.
        optimizer: that trains the model. A copy of it makes the step Δθ that its state and g lead to, in
            float64 and without clipping, and the loss is also measured at θ + (η / its own lr) · Δθ.
        range: lowest and highest η in units of lr.
        points: P, how many rates η, evenly spaced.
        bn: `batch` for BatchNorm's statistics of each batch, as in training, `running` for those of
            evaluation.
        separately: each batch's own loss, gradient and step, a row for each, instead of those of their mean
            over samples.

    Returns:
        A record whose arrays are of shape (K, P), with K = 1, or the number of batches if separately.

    Raises:
        ConfigError: no learning rate, or one that is not above 0; a range or points that are none; an
            optimiser that needs a closure, cannot be copied, or trains another model; a loss or gradient that
            is not finite at θ; batches that do not fit the model, a loss that is not one number.

    Source: Santurkar et al. (2018), How does batch normalization help optimization?, §3.1 and Fig. 4; the
        range of η is theirs. Kwon et al. (2021), ASAM, §3, for what does not depend on the weights' scale.

    Example:
        >>> print(gs.smoothness(model, nn.functional.cross_entropy, (x, y), lr=0.1, optimizer=optimizer))
    """
    if optimizer is not None:
        check_optimizer(optimizer)
    rate = _learning_rate(lr, optimizer)
    rates = rate * _multiples(range, points)
    objective = Objective(model, loss, batches, bn)
    rows = [_measured(each, optimizer, rates) for each in (objective.each() if separately else [objective])]
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
        bn=bn,
        cost=len(rows) * (1 + sum(line.losses.shape[1] for line in lines)),
        notes=(
            *objective.notes,
            *([] if optimizer is None else not_trained(objective, optimizer)),
            *(note for place, line in enumerate(lines) for note in _odd(line, [r.lost[place] for r in rows])),
        ),
    )


def _learning_rate(lr: Any, optimizer: Optimizer | None) -> float:
    """The given one, or else the optimiser's."""
    given = optimizer.param_groups[0]["lr"] if lr is None and optimizer is not None else lr
    if isinstance(given, Tensor):
        given = given.item() if given.numel() == 1 else described(given)
    if not isinstance(given, Real) or not 0 < float(given) < math.inf:
        raise ConfigError(
            f"lr: {brief(given)} is not a learning rate; type a number above 0, as lr=0.1, "
            "or give optimizer alone"
        )
    return float(given)


def _multiples(range: Any, points: int) -> Values:
    """(points,) evenly spaced over a range.

    Raises:
        ConfigError: it is not two rising numbers above 0, or points are fewer than two.
    """
    ordered = isinstance(range, tuple | list) and len(range) == 2 and all(isinstance(r, Real) for r in range)
    if not ordered or not 0 < range[0] < range[1] < math.inf:
        raise ConfigError(f"range: {brief(range)} is none; give two rising multiples of lr, such as (0.5, 4)")
    if points < 2:
        raise ConfigError(f"points: {points} is not a number of rates in a range; give 2 or more")
    return np.linspace(float(range[0]), float(range[1]), points)


@dataclass
class _Row:
    """What was measured of one loss: a line for each direction, and the share of its moves that was lost."""

    gradient_norm: float
    lines: list[Line]
    lost: list[float]


def _measured(objective: Objective, optimizer: Optimizer | None, rates: Values) -> _Row:
    """One loss, along its gradient and the optimiser's step.

    Raises:
        ConfigError: it is not finite where it begins.
    """
    loss, gradient = objective.gradient()
    length = norm(gradient)
    if not math.isfinite(loss) or not math.isfinite(length):
        raise ConfigError(
            f"the loss is {loss:g} and its gradient's norm {length:g}: there is no smoothness to measure; "
            "gradscape.watch with activations tells where that begins"
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
    """Loss and gradient along T²g, all lengths being those of parameters over their own size, T = diag|θ|.

    Two networks that differ by a scale of their weights alone, which a norm or the next layer takes back,
    have the same of it: steps, distances and changes scale with |θ| (Kwon et al. 2021, §3).
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
    """Measure one row: L(θ − ηTd), ‖T(∇L(θ − ηTd) − g)‖ and ‖ηd‖ at each η, T being the unit that d is in."""
    found = []
    for rate in rates:
        value, there = objective.gradient(objective.moved(size * direction, -float(rate)))
        found.append((value, norm(size * (there - gradient))))
    losses, changes = np.array(found, dtype=np.float64).T[:, None]
    return Line(name, np.array([loss]), losses, changes, norm(direction) * rates[None])


def _stacked(rows: Sequence[Line]) -> Line:
    """The rows of several as one's."""
    arrays = ("loss", "losses", "changes", "distances")
    return Line(rows[0].along, *(np.concatenate([getattr(row, name) for row in rows]) for name in arrays))


def _rounded_away(objective: Objective, direction: Tensor, rate: float) -> float:
    """Share of a move that is lost where it is added to the parameters."""
    wanted = -float(rate) * direction
    made = objective.vector(objective.moved(direction, -float(rate))) - objective.vector(objective.start)
    return norm(made - wanted) / length if (length := norm(wanted)) else 0.0


def _odd(line: Line, lost: Sequence[float]) -> list[str]:
    """Notes on what is not finite, not there, or not to be trusted."""
    found = []
    if bad := int((~line.finite).sum()):
        found.append(
            f"along {line.along} loss or gradient is not finite at {bad} of {line.finite.size} points: "
            "minima and maxima are over the others"
        )
    if (line.distances == 0).any():
        found.append(f"{line.along} is zero: nothing moves, and β and the Lipschitz estimate are not known")
    if max(lost) > LOST:
        found.append(
            f"along {line.along} rounding takes {100 * max(lost):.2g} % of the shortest move: "
            "give model and batches in float64"
        )
    return found
