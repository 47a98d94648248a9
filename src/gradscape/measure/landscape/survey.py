"""Evaluations over a plane: grid, points between, path of a training, extreme Hessian eigenvalues."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradscape._text import count_noun
from gradscape.errors import ConfigError
from gradscape.measure.curvature.curvature import Clock, TextCallback, eigenvalues, normal_like
from gradscape.measure.curvature.hvp import Products
from gradscape.measure.landscape.adaptive_grid import Index, interpolated, lattice, refine, scale_of
from gradscape.measure.landscape.directions import Plane, Trajectory
from gradscape.measure.landscape.evaluate import EvaluatorPool, Metric, PointEvaluator, PointValue
from gradscape.measure.landscape.plan import LOOSE, GridPlan
from gradscape.measure.landscape.point_cache import PointCache
from gradscape.records.encoding import Values
from gradscape.records.landscape import Check, Convexity, TrainingPath

EVERY = 5.0  # seconds between reports


@dataclass
class Surface:
    """Arrays over the grid of one plane.

    Attributes:
        loss: Mean loss.
        error: Standard error of the loss.
        metrics: Metrics by name.
        measured: Mask of the evaluated points; the others are interpolated.
    """

    loss: Values
    error: Values
    metrics: dict[str, Values]
    measured: Any


def evaluate_surface(
    pool: EvaluatorPool,
    plane: Plane,
    axes: tuple[Values, ...],
    number: int,
    cache: PointCache | None,
    accuracy: float | None,
    metrics: Mapping[str, Metric],
    clock: Clock,
    report: TextCallback,
) -> Surface:
    """Evaluate one surface, on the whole grid or adaptively.

    Args:
        pool: Evaluators.
        plane: Plane to evaluate over.
        axes: Coordinates along each axis.
        number: Number of the surface, for the cache.
        cache: Points on disk, if any.
        accuracy: Accuracy of an adaptive grid; None for the whole grid.
        metrics: Metrics by name.
        clock: Time limit.
        report: Callback for the progress.
    """
    shape = tuple(map(len, axes))
    empty = np.full(shape, np.nan)
    others = {name: empty.copy() for name in metrics}
    result = Surface(empty.copy(), empty.copy(), others, np.zeros(shape, dtype=bool))
    pool.follow(plane)

    def put(index: Index, loss: float, error: float, values: Mapping[str, float]) -> None:
        result.loss[index], result.error[index], result.measured[index] = loss, error, True
        for name, value in values.items():
            result.metrics[name][index] = value

    def measure(indices: list[Index]) -> None:
        missing = {}
        for index in indices:
            cached = None if cache is None else cache.points.get((number, *index))
            if cached is not None:
                put(index, cached["loss"], cached["error"], cached["metrics"])
            else:
                missing[tuple(float(axis[i]) for axis, i in zip(axes, index, strict=True))] = index
        progress = _ProgressReporter(len(missing), clock, report)

        def done(coordinates: tuple[float, ...], value: PointValue) -> None:
            index = missing[coordinates]
            put(index, value.loss, value.error, value.metrics)
            if cache is not None:
                entry = {"loss": value.loss, "error": value.error, "metrics": dict(value.metrics)}
                cache.add((number, *index), entry)
            progress.advance()

        pool.evaluate(missing, done)

    if accuracy is None:
        measure(lattice(shape, 1))
        return result
    refine(result.loss, result.error, measure, accuracy)
    for values in result.metrics.values():
        _fill(values, result.measured, ~np.isnan(result.loss))
    return result


class _ProgressReporter:
    """Reporter of the progress, every few seconds."""

    def __init__(self, count: int, clock: Clock, report: TextCallback) -> None:
        self.count, self.clock, self.report = count, clock, report
        self.done, self.start, self.last = 0, clock.spent, clock.spent

    def advance(self) -> None:
        self.done += 1
        now = self.clock.spent
        if now - self.last >= EVERY and self.done < self.count:
            self.last = now
            left = (now - self.start) / self.done * (self.count - self.done)
            self.report(f"{self.done} of {count_noun(self.count, 'point')}, about {left:.0f} s left")


def _fill(values: Values, measured: Any, known_loss: Any) -> None:
    """Fill a metric where the loss is interpolated, from the nearest measured point in grid steps."""
    known = np.argwhere(measured)
    for index in np.argwhere(~measured & known_loss):
        nearest_one = known[np.abs(known - index).sum(axis=1).argmin()]
        values[tuple(index)] = values[tuple(nearest_one)]


def check_interpolation(
    pool: EvaluatorPool, plan: GridPlan, losses: Values, checks: int, seed: int
) -> Check | None:
    """Compare the interpolation of the first surface with the loss at random points.

    Args:
        pool: Evaluators.
        plan: Planes and grid.
        losses: Losses on the grid of the first surface.
        checks: Number of points.
        seed: Seed of the points.

    Returns:
        Errors, or None if a loss is not finite or time is up.
    """
    if not np.isfinite(losses).all():
        return None
    scale = scale_of(losses)
    draw = np.random.default_rng(seed)
    places = [[draw.uniform(0, len(axis) - 1) for axis in plan.axes] for _ in range(checks)]
    points = [
        tuple(float(np.interp(p, np.arange(len(a)), a)) for p, a in zip(place, plan.axes, strict=True))
        for place in places
    ]
    errors: list[float] = []
    table = scale.there(losses)

    def done(coordinates: tuple[float, ...], value: PointValue) -> None:
        there = float(scale.there(np.array(value.loss)))
        errors.append(abs(interpolated(table, plan.axes, coordinates) - there) / scale.unit)

    pool.follow(plan.planes[0])
    pool.evaluate(points, done)
    if not errors:
        return None
    kind = "relative" if (losses > 0).all() else "of the range"
    return Check(len(errors), float(np.sqrt(np.mean(np.square(errors)))), float(max(errors)), kind)


def evaluate_path(evaluator: PointEvaluator, plane: Plane, trajectory: Trajectory) -> TrainingPath:
    """Evaluate the losses of a path's checkpoints and of their projections.

    Args:
        evaluator: Evaluator of the plane.
        plane: Plane of the path.
        trajectory: Checkpoints and their coordinates.
    """
    names, parameters = evaluator.objective.names, evaluator.parameters
    losses, projected = [], []
    for state, place in zip(trajectory.states, trajectory.coordinates.tolist(), strict=True):
        buffers = {name: state[name] for name in plane.buffers}
        origin = [state[name].to(p) for name, p in zip(names, parameters, strict=True)]
        evaluator.follow(Plane(origin, (), (), buffers))
        losses.append(evaluator.at(()).loss)
        evaluator.follow(plane)
        projected.append(evaluator.at(tuple(place)).loss)
    return TrainingPath(
        trajectory.coordinates.numpy(),
        trajectory.residual.numpy(),
        np.array(trajectory.explained),
        np.array(losses),
        np.array(projected),
    )


def measure_convexity(
    evaluator: PointEvaluator, plan: GridPlan, count: int, seed: int, clock: Clock
) -> Convexity | None:
    """Measure the extreme eigenvalues of the Hessian on a coarser grid, with the buffers of each point.

    Args:
        evaluator: Evaluator, which gives each point's parameters and buffers.
        plan: Planes and grid, of which the first plane is used.
        count: Number of points along each axis.
        seed: Seed of the random vectors.
        clock: Time limit.

    Returns:
        Eigenvalues, or None if time is up before the first point.
    """
    evaluator.follow(plan.planes[0])
    grids = np.meshgrid(*(np.linspace(a[0], a[-1], count) for a in plan.axes), indexing="ij")
    places, largest, smallest = [], [], []
    for place in np.stack(grids, -1).reshape(-1, len(plan.axes)).tolist():
        if not clock.should_continue():
            break
        start, buffers = evaluator.tensors_at(tuple(place))
        try:
            products = Products(evaluator.objective.changed(start=start, buffers=buffers))
            ends = eigenvalues(products, normal_like(products.gradient, seed), 1, LOOSE, False, clock)
        except ConfigError:  # the loss is not finite at this point, or a derivative of it
            low = high = math.nan
        else:
            low, high = float(ends.smallest[0]), float(ends.largest[0])
        places.append(place)
        smallest.append(low)
        largest.append(high)
    return Convexity(np.array(places), np.array(largest), np.array(smallest)) if places else None
