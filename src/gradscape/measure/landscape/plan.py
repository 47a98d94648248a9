"""Planes of a landscape and the grid over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
import torch

from gradscape._text import count_noun, join_names
from gradscape.errors import ConfigError
from gradscape.measure.core.objective import Objective
from gradscape.measure.core.parameters import strip_wrappers
from gradscape.measure.curvature.curvature import Clock, eigenvalues, normal_like
from gradscape.measure.curvature.hvp import Products
from gradscape.measure.landscape.directions import (
    Plane,
    State,
    Trajectory,
    plane_along,
    plane_through,
    random_plane,
    trajectory_plane,
)
from gradscape.records.encoding import Values

Directions = Literal["filter", "layer", "gaussian", "hessian", "gradient"]
KINDS = ("filter", "layer", "gaussian", "hessian", "gradient")
MODELS = (0.0, 0.5, 1.0)  # coordinates always on a line between models: both models, and midway
MARGIN = 0.2  # margin around a path, relative to its extent
LOOSE = 1e-2  # tolerance of eigenvalues whose vectors are directions


@dataclass(frozen=True)
class GridPlan:
    """Grid and planes to evaluate, checked.

    Attributes:
        axes: Coordinates along each axis.
        planes: Lines or planes, one for each surface.
        trajectory: Path of a training, if the plane fits one.
    """

    axes: tuple[Values, ...]
    planes: tuple[Plane, ...]
    trajectory: Trajectory | None


def make_plan(
    objective: Objective,
    directions: Directions,
    dims: int,
    points: int,
    span: Sequence[float] | None,
    pairs: int,
    orthogonal: bool,
    through: State | Sequence[State] | None,
    path: Sequence[State] | None,
    seed: int,
) -> GridPlan:
    """Return the planes and the grid over them.

    Args:
        objective: Loss, whose model is the origin.
        directions, dims, points, span, pairs, orthogonal, through, path, seed: See `landscape`.

    Raises:
        ConfigError: If the arguments contradict each other, or a direction is zero or overflows.
    """
    trajectory = None
    if through is not None and path is not None:
        raise ConfigError("through, path: expected one of them; got both")
    if path is not None:
        plane, trajectory = trajectory_plane(objective, path)
        edges = [_around(column) for column in trajectory.coordinates.T.tolist()]
        planes: tuple[Plane, ...] = (plane,)
    elif through is not None:
        planes = _lines_or_plane(objective, through, dims)
        edges = [(0.0, 1.0)] * len(planes[0].directions)
    else:
        planes = _own_planes(objective, directions, dims, pairs, orthogonal, seed)
        edges = [(-1.0, 1.0)] * dims
    if span is not None:
        edges = [(float(span[0]), float(span[1]))] * len(edges)
    axes = [np.linspace(*edge, points) for edge in edges]
    if through is not None and span is None:
        axes = [_beyond_both(points)] * len(axes)
    if through is not None and len(axes) == 1:
        axes = [_with_models(axes[0])]
    for plane in planes:
        _check_range(plane, [(float(axis[0]), float(axis[-1])) for axis in axes])
    return GridPlan(tuple(axes), planes, trajectory)


def _beyond_both(points: int) -> Values:
    """Return (points,) evenly from a quarter before a model, at 0, to about a quarter beyond one at 1."""
    if points < 4:
        return np.linspace(0.0, 1.0, points)
    half = max(1, round((points - 1) / 3))  # steps from 0 to ½
    before = (points - 1 - 2 * half) // 2
    return np.arange(-before, points - before) / (2 * half)


def _with_models(axis: Values) -> Values:
    """Insert the coordinates of the models and midway, if they lie within a line."""
    step = axis[1] - axis[0]
    missing = []
    for c in MODELS:
        nearest_one = int(np.abs(axis - c).argmin())
        if abs(axis[nearest_one] - c) <= 1e-9 * step:
            axis[nearest_one] = c
        elif axis[0] < c < axis[-1]:
            missing.append(c)
    return np.sort(np.append(axis, missing))


def _check_range(plane: Plane, edges: Sequence[tuple[float, float]]) -> None:
    """Refuse a range whose ends overflow the parameters' dtype."""
    for direction, edge in zip(plane.directions, edges, strict=True):
        largest = max(float(piece.abs().max()) for piece in direction if piece.numel())
        farthest = max(map(abs, edge))
        kind = direction[0].dtype
        if farthest * largest > torch.finfo(kind).max:
            name = str(kind).removeprefix("torch.")
            raise ConfigError(
                f"span: expected less; got {farthest:g} times the direction, which overflows {name}"
            )


def notes_on_frozen(plan: GridPlan, objective: Objective) -> list[str]:
    """Return a note on frozen parameters that are others in the other models, in a list, or an empty list.

    Args:
        plan: Planes and grid.
        objective: Loss, whose model is the origin.
    """
    moved = {name for plane in plan.planes for each in (plane.buffers, *plane.buffer_moves) for name in each}
    frozen = [strip_wrappers(name) for name, _ in objective.model.named_parameters() if name in moved]
    return [f"of these, others in another model, so moved to it: {join_names(frozen)}"] if frozen else []


def notes_on_buffers(plan: GridPlan, objective: Objective) -> list[str]:
    """Return remarks on running variances that are interpolated between models, and go below 0 beyond them.

    Args:
        plan: Planes and grid.
        objective: Loss, whose model is the origin.
    """
    moves = plan.planes[0].buffer_moves
    variances = {
        name: buffer
        for name, buffer in objective.model.named_buffers()
        if name.endswith("running_var") and any(name in move for move in moves)
    }
    if not variances:
        return []
    notes = [
        "between models BatchNorm's running statistics are interpolated, which may raise the barrier: "
        "bn='recalibrated' measures them at each point (Jordan et al. 2023)"
    ]
    below = False
    for plane, corner in product(plan.planes, product(*((axis[0], axis[-1]) for axis in plan.axes))):
        for name, here in variances.items():
            moved = sum(c * move[name] for c, move in zip(corner, plane.buffer_moves, strict=True))
            below |= bool((here + moved < 0).any())
    if below:
        notes.append(
            "beyond the models some running variances fall below 0, where the loss may not be finite: "
            "span=(0, 1) ends at the models"
        )
    return notes


def _lines_or_plane(objective: Objective, through: State | Sequence[State], dims: int) -> tuple[Plane, ...]:
    """Return a line to each of several models, or the plane through two others.

    Raises:
        ConfigError: If there are more than two models for a plane, or none.
    """
    others: list[Any] = list(through) if isinstance(through, list | tuple) else [through]
    if not others or (dims == 2 and len(others) > 2):
        raise ConfigError(
            "through: expected 1 model for a line, 2 for a plane, or with dims=1 any number, a line to each; "
            f"got {count_noun(len(others), 'model')}"
        )
    if dims == 2 and len(others) == 2:
        return (plane_through(objective, others),)
    return tuple(plane_through(objective, [other]) for other in others)


def _own_planes(
    objective: Objective, directions: Directions, dims: int, pairs: int, orthogonal: bool, seed: int
) -> tuple[Plane, ...]:
    """Return planes along random directions, eigenvectors or the gradient."""
    random = torch.Generator().manual_seed(seed)
    if directions in ("filter", "layer", "gaussian"):
        return tuple(random_plane(objective, directions, dims, random, orthogonal) for _ in range(pairs))
    if pairs > 1:
        raise ConfigError(f"pairs: expected 1 for {directions} directions, which are not random; got {pairs}")
    if directions == "hessian":
        products = Products(objective)
        draw = normal_like(products.gradient, seed)
        ends = eigenvalues(products, draw, dims, LOOSE, True, Clock(None))
        assert ends.largest_vectors is not None
        vectors = [torch.from_numpy(v).to(objective.start[0]) for v in ends.largest_vectors]
        words = [f"eigenvector of {value:.3g}" for value in ends.largest]
        return (plane_along(objective, vectors, words),)
    plane = plane_along(objective, [objective.gradient()[1]], ["gradient"])
    if dims == 1:
        return (plane,)
    beside = random_plane(objective, "filter", 1, random, False)
    joint = (*plane.directions, *beside.directions)
    return (Plane(plane.origin, joint, (*plane.words, *beside.words)).checked(),)


def _around(values: Sequence[float]) -> tuple[float, float]:
    """Return a range with a margin at both ends."""
    low, high = min(values), max(values)
    room = MARGIN * (high - low)
    return low - room, high + room
