"""What is evaluated over a plane: its grid, points between, a training's path, the Hessian's ends."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gradscape._text import counted
from gradscape.errors import ConfigError
from gradscape.measure.core.objective import Objective
from gradscape.measure.curvature.curvature import Clock, Report, eigenvalues, normal_like
from gradscape.measure.curvature.hvp import Products
from gradscape.measure.landscape.adaptive_grid import Index, interpolated, lattice, refine, scale_of
from gradscape.measure.landscape.directions import Plane, Trajectory
from gradscape.measure.landscape.evaluate import Crew, Metric, Value, Walker
from gradscape.measure.landscape.plan import LOOSE, Asked
from gradscape.measure.landscape.point_cache import Kept
from gradscape.records.encoding import Values
from gradscape.records.landscape import Check, Convexity, Path

EVERY = 5.0  # seconds from one report to the next


@dataclass
class Surface:
    """Of one plane: arrays over the grid."""

    loss: Values
    error: Values
    metrics: dict[str, Values]
    measured: Any


def surface(
    crew: Crew,
    plane: Plane,
    axes: tuple[Values, ...],
    number: int,
    kept: Kept | None,
    accuracy: float | None,
    metrics: Mapping[str, Metric],
    clock: Clock,
    report: Report,
) -> Surface:
    """One surface, whole or refined where it must be."""
    shape = tuple(map(len, axes))
    empty = np.full(shape, np.nan)
    others = {name: empty.copy() for name in metrics}
    found = Surface(empty.copy(), empty.copy(), others, np.zeros(shape, dtype=bool))
    crew.follow(plane)

    def put(index: Index, loss: float, error: float, values: Mapping[str, float]) -> None:
        found.loss[index], found.error[index], found.measured[index] = loss, error, True
        for name, value in values.items():
            found.metrics[name][index] = value

    def measure(indices: list[Index]) -> None:
        left = {}
        for index in indices:
            known = None if kept is None else kept.points.get((number, *index))
            if known is not None:
                put(index, known["loss"], known["error"], known["metrics"])
            else:
                left[tuple(float(axis[i]) for axis, i in zip(axes, index, strict=True))] = index
        told = _Told(len(left), clock, report)

        def done(coordinates: tuple[float, ...], value: Value) -> None:
            index = left[coordinates]
            put(index, value.loss, value.error, value.metrics)
            if kept is not None:
                entry = {"loss": value.loss, "error": value.error, "metrics": dict(value.metrics)}
                kept.add((number, *index), entry)
            told.one_more()

        crew.evaluate(left, done)

    if accuracy is None:
        measure(lattice(shape, 1))
        return found
    refine(found.loss, measure, accuracy)
    for values in found.metrics.values():
        _fill(values, found.measured)
    return found


class _Told:
    """Reports how far it is, every so many seconds."""

    def __init__(self, count: int, clock: Clock, report: Report) -> None:
        self.count, self.clock, self.report = count, clock, report
        self.done, self.start, self.last = 0, clock.spent, clock.spent

    def one_more(self) -> None:
        self.done += 1
        now = self.clock.spent
        if now - self.last >= EVERY and self.done < self.count:
            self.last = now
            left = (now - self.start) / self.done * (self.count - self.done)
            self.report(f"{self.done} of {counted(self.count, 'point')}, about {left:.0f} s left")


def _fill(values: Values, measured: Any) -> None:
    """A metric where it was not measured: that of the nearest point that was, in the grid's steps."""
    known = np.argwhere(measured)
    for index in np.argwhere(~measured):
        nearest_one = known[np.abs(known - index).sum(axis=1).argmin()]
        values[tuple(index)] = values[tuple(nearest_one)]


def checked_between(crew: Crew, asked: Asked, losses: Values, checks: int, seed: int) -> Check | None:
    """Interpolation of the first surface against the loss at random points."""
    if not np.isfinite(losses).all():
        return None
    scale = scale_of(losses)
    draw = np.random.default_rng(seed)
    places = [[draw.uniform(0, len(axis) - 1) for axis in asked.axes] for _ in range(checks)]
    points = {
        tuple(
            float(np.interp(p, np.arange(len(a)), a)) for p, a in zip(place, asked.axes, strict=True)
        ): place
        for place in places
    }
    errors: list[float] = []
    table = scale.there(losses)

    def done(coordinates: tuple[float, ...], value: Value) -> None:
        there = float(scale.there(np.array(value.loss)))
        errors.append(abs(interpolated(table, points[coordinates]) - there) / scale.unit)

    crew.follow(asked.planes[0])
    crew.evaluate(points, done)
    if not errors:
        return None
    kind = "relative" if (losses > 0).all() else "of the range"
    return Check(len(errors), float(np.sqrt(np.mean(np.square(errors)))), float(max(errors)), kind)


def followed(walker: Walker, plane: Plane, trajectory: Trajectory) -> Path:
    """The losses of a path's checkpoints, and of their projections."""
    names, parameters = walker.objective.names, walker.parameters
    losses, projected = [], []
    for state, place in zip(trajectory.states, trajectory.coordinates.tolist(), strict=True):
        buffers = {name: state[name] for name in plane.buffers}
        origin = [state[name].to(p) for name, p in zip(names, parameters, strict=True)]
        walker.follow(Plane(origin, (), (), buffers))
        losses.append(walker.at(()).loss)
        walker.follow(plane)
        projected.append(walker.at(tuple(place)).loss)
    return Path(
        trajectory.coordinates.numpy(),
        trajectory.residual.numpy(),
        np.array(trajectory.explained),
        np.array(losses),
        np.array(projected),
    )


def convex(objective: Objective, asked: Asked, count: int, seed: int, clock: Clock) -> Convexity | None:
    """Extreme eigenvalues of the Hessian on a coarser grid."""
    plane = asked.planes[0]
    grids = np.meshgrid(*(np.linspace(a[0], a[-1], count) for a in asked.axes), indexing="ij")
    places, largest, smallest = [], [], []
    for place in np.stack(grids, -1).reshape(-1, len(asked.axes)).tolist():
        if not clock.carry_on():
            break
        start = [o.clone() for o in plane.origin]
        for c, direction in zip(place, plane.directions, strict=True):
            torch._foreach_add_(start, direction, alpha=c)
        try:
            products = Products(objective.changed(start=tuple(start)))
        except ConfigError:  # the loss is not finite there
            low = high = math.nan
        else:
            ends = eigenvalues(products, normal_like(products.gradient, seed), 1, LOOSE, False, clock)
            low, high = float(ends.smallest[0]), float(ends.largest[0])
        places.append(place)
        smallest.append(low)
        largest.append(high)
    return Convexity(np.array(places), np.array(largest), np.array(smallest)) if places else None
