"""A loss over lines and planes of a model's parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gradscape._text import counted
from gradscape.config.arguments import typed
from gradscape.errors import ConfigError, brief, cut, nearest
from gradscape.measure.core.batch import Loss
from gradscape.measure.core.containers import tensors
from gradscape.measure.core.objective import Objective
from gradscape.measure.curvature.curvature import Clock, Report
from gradscape.measure.landscape.adaptive_grid import levels_of
from gradscape.measure.landscape.directions import State
from gradscape.measure.landscape.evaluate import Crew, Metric, NormStatistics, Value, Walker
from gradscape.measure.landscape.plan import KINDS, Asked, Directions, plan
from gradscape.measure.landscape.point_cache import Kept, digest
from gradscape.measure.landscape.sampling_error import shuffled, taken_apart
from gradscape.measure.landscape.survey import checked_between, convex, followed, surface
from gradscape.records.landscape import LandscapeRecord

STATISTICS = ("running", "batch", "recalibrated")


@typed(points=10_000, pairs=1_000, checks=1_000_000, convexity=1_000, workers=1_024, seed=2**63 - 1)
def landscape(
    model: nn.Module,
    loss: Loss | None,
    batches: Any,
    directions: Directions = "filter",
    *,
    dims: int = 2,
    points: int = 25,
    span: Sequence[float] | None = None,
    pairs: int = 1,
    orthogonal: bool = False,
    through: State | Sequence[State] | None = None,
    path: Sequence[State] | None = None,
    bn: NormStatistics = "running",
    metrics: Mapping[str, Metric] | None = None,
    bf16: bool = False,
    accuracy: float | None = None,
    checks: int = 0,
    convexity: int = 0,
    keep: str | FilePath | None = None,
    workers: int | None = None,
    time_limit: float | None = None,
    seed: int = 0,
    report: Report = lambda text: None,
) -> LandscapeRecord:
    """Evaluate a loss over a line or a plane through a model's parameters.

    Points are evaluated side by side, each by one core, on parts of the batches that stay in a processor's
    cache; an eval-mode BatchNorm is folded into the convolution before it. The model, its buffers, gradients
    and modes, and all random numbers, are left as found.

    Args:
        model: a module, at the origin.
        loss: loss(output, y), loss(output), or loss(output, dict) in turn, or loss(model, batch), which calls
            the model itself; a tensor of one number. None for a model whose output has a `loss`.
        batches: one batch, (x, y), x or a dict of the model's arguments (one argument that is a tuple, list
            or dict is given as ((x,), y)), or several: a list, or a DataLoader,
            of which one pass is kept. The loss is their mean over samples.
        directions: `filter` or `layer`, Gaussian, scaled to the weights' length in each (Li et al. 2018, §4);
            `gaussian`, of length 1; `hessian`, its eigenvectors of largest eigenvalues; `gradient`, and for a
            plane a filter-normalised one beside it.
        dims: 1 for a slice, 2 for a plane.
        points: along each axis.
        span: first and last coordinate, in units of the directions; by default -1 to 1, a line between models
            a quarter beyond them, and around all of a path.
        pairs: surfaces of as many random directions, or pairs of them.
        orthogonal: make the second random direction orthogonal to the first.
        through: another model, or its state_dict: the line to it, at 1; two: the plane through all three;
            with `dims=1` any number: a line to each.
        path: checkpoints of a training, the last one in the middle: the plane that is nearest to them.
        bn: the statistics of BatchNorm: the `running` ones, each `batch`'s own, or `recalibrated` at each
            point on all batches.
        metrics: name → metric(output, y), a number, the mean over a batch; by default `accuracy` for a
            classifier.
        bf16: compute convolutions and products in bfloat16; on a processor that has it, twice as fast.
        accuracy: of a grid that is refined only where cubic interpolation is less accurate than this,
            relative to the loss; None to evaluate all points.
        checks: random points off the grid at which interpolation is held against the loss.
        convexity: points along each axis at which the Hessian's extreme eigenvalues are found.
        keep: a file for the points: given again, it is gone on with.
        workers: points at once; by default one for each of torch's threads, and one on a GPU.
        time_limit: seconds, after which what is known so far is returned; NaN elsewhere.
        seed: of the random directions.
        report: called with what it will cost, and how far it is.

    Raises:
        ConfigError: models of other shapes, a direction of norm zero, a setting out of range.
        StoreError: `keep` holds another landscape.

    Source: Li et al. (2018), Visualizing the Loss Landscape of Neural Nets; Goodfellow et al. (2015) for
        lines between models.

    Example:
        >>> print(gs.landscape(model, nn.functional.cross_entropy, (x, y), points=21, pairs=3, checks=20))
    """
    _check_settings(
        directions, dims, points, span, pairs, bn, accuracy, checks, convexity, workers, time_limit
    )
    clock = Clock(time_limit)
    objective = Objective(model, loss, batches, "batch" if bn == "batch" else "running")
    apart = taken_apart(objective)
    if apart is None and bn != "batch":
        objective = shuffled(objective, seed)
    asked = plan(objective, directions, dims, points, span, pairs, orthogonal, through, path, seed)
    output, lends = _first_look(objective)
    measures = dict(metrics) if metrics is not None else _default_metrics(objective, output)
    if wrong := [name for name, metric in measures.items() if not callable(metric)]:
        raise ConfigError(f"metrics: {cut(wrong[0])} is no function of output and y")
    count = 1 if lends else workers or (1 if objective.start[0].is_cuda else torch.get_num_threads())
    walkers = [Walker(objective, asked.planes[0], bn, measures, bf16, apart, lends) for _ in range(count)]
    crew = Crew(walkers, clock.carry_on)
    middle = _told_first(walkers[0], asked, clock, count, report)
    kept = (
        None
        if keep is None
        else Kept(FilePath(keep), identity(objective, asked, bn, bf16, measures, walkers[0]))
    )
    found = [
        surface(crew, plane, asked.axes, number, kept, accuracy, measures, clock, report)
        for number, plane in enumerate(asked.planes)
    ]
    losses = np.stack([one.loss for one in found])
    checked = checked_between(crew, asked, losses[0], checks, seed) if checks and clock.carry_on() else None
    along = None
    if asked.trajectory is not None and clock.carry_on():
        along = followed(walkers[0], asked.planes[0], asked.trajectory)
    curved = convex(objective, asked, convexity, seed, clock) if convexity and clock.carry_on() else None
    return LandscapeRecord(
        directions=asked.planes[0].words,
        axes=asked.axes,
        loss=losses,
        error=np.stack([one.error for one in found]),
        error_n=walkers[0].independent,
        metrics={name: np.stack([one.metrics[name] for one in found]) for name in measures},
        measured=np.stack([one.measured for one in found]),
        lengths=np.array([plane.lengths for plane in asked.planes]),
        middle=np.full(len(asked.planes), middle.loss),  # all planes have one origin
        between=through is not None,
        bn=bn,
        precision="bf16" if bf16 else "fp32",
        parameters=objective.size,
        samples=objective.samples,
        check=checked,
        path=along,
        convexity=curved,
        evaluations=sum(int(one.measured.sum()) for one in found),
        seconds=clock.spent,
        complete=not clock.ended,
        notes=tuple(objective.notes),
    )


def _check_settings(
    directions: str,
    dims: int,
    points: int,
    span: Any,
    pairs: int,
    bn: str,
    accuracy: float | None,
    checks: int,
    convexity: int,
    workers: int | None,
    time_limit: float | None,
) -> None:
    """Refuse what cannot be."""
    if directions not in KINDS:
        hint = nearest(str(directions), KINDS)
        raise ConfigError(f"directions: {brief(directions)} is not one of {', '.join(KINDS)}{hint}")
    if dims not in (1, 2):
        raise ConfigError(f"dims: {brief(dims)} is not possible; give 1 for a slice or 2 for a plane")
    if points < 2:
        raise ConfigError(f"points: {points} make no grid; give 2 or more")
    if span is not None:
        ordered = isinstance(span, tuple | list) and len(span) == 2 and all(isinstance(s, Real) for s in span)
        if not ordered or not -math.inf < span[0] < span[1] < math.inf:
            raise ConfigError(f"span: {brief(span)} is none; give two rising numbers, such as (-1, 1)")
    if pairs < 1:
        raise ConfigError(f"pairs: {pairs} is not possible; give 1 or more")
    if bn not in STATISTICS:
        raise ConfigError(
            f"bn: {brief(bn)} is not one of {', '.join(STATISTICS)}{nearest(str(bn), STATISTICS)}"
        )
    if accuracy is not None:
        if not 0 < accuracy < 1:
            raise ConfigError(f"accuracy: {accuracy} is not possible; give a number between 0 and 1")
        if not levels_of(points):
            raise ConfigError(f"points: {points} cannot be refined; give 9, 17, 21, 25, 33, 41, 49, 65 or 81")
    if checks < 0 or (checks and points < 4):
        raise ConfigError(f"checks: {checks} on {points} points; give 0 or more, on 4 points or more")
    if convexity < 0:
        raise ConfigError(f"convexity: {convexity} is not possible; give 0 or more")
    if workers is not None and workers < 1:
        raise ConfigError(f"workers: {workers} is not possible; give 1 or more")
    if time_limit is not None and not time_limit > 0:
        raise ConfigError(f"time_limit: {time_limit} is not a number of seconds; give one above 0")


def _first_look(objective: Objective) -> tuple[Any, bool]:
    """The output on the first batch, and whether the loss uses the model besides.

    Raises:
        ConfigError: the batch does not fit, the loss fails, or wants gradients, which there are none of.
    """
    try:
        return objective.first_look()
    except ConfigError as error:
        if "does not require grad" in str(error):
            raise ConfigError(
                "loss: wants a gradient, and a landscape makes none; give one computed from the output alone"
            ) from error
        raise


def _default_metrics(objective: Objective, output: Any) -> dict[str, Metric]:
    """Accuracy, where outputs are (N, classes) and targets their numbers."""
    batch = objective.batches[0]
    target = batch.further[0] if len(batch.further) == 1 else None
    if not isinstance(target, Tensor) or target.shape != (batch.size,) or target.is_floating_point():
        return {}
    classifies = isinstance(output, Tensor) and output.dim() == 2 and output.shape[1] > 1
    return {"accuracy": _accuracy_of} if classifies and len(output) == batch.size else {}


def _accuracy_of(output: Tensor, y: Tensor) -> Tensor:
    return (output.argmax(1) == y).float().mean()


def _told_first(walker: Walker, asked: Asked, clock: Clock, workers: int, report: Report) -> Value:
    """The middle's value, and from its time what all will take."""
    walker.prepare()
    before = clock.spent
    walker.follow(asked.planes[0])
    value = walker.at((0.0,) * len(asked.axes))
    each = clock.spent - before
    count = len(asked.planes) * math.prod(len(axis) for axis in asked.axes)
    limit = f", ended after {clock.limit:g} s" if clock.limit is not None else ""
    report(
        f"a point takes {each:.2g} s, {workers} at once: at most {counted(count, 'point')}, "
        f"{count * each / workers:.0f} s{limit}"
    )
    return value


def identity(
    objective: Objective, asked: Asked, bn: str, bf16: bool, metrics: Mapping[str, Metric], walker: Walker
) -> dict[str, Any]:
    """What the points depend on."""
    places = [t for plane in asked.planes for pieces in (plane.origin, *plane.directions) for t in pieces]
    given = [v for b in objective.whole for v in tensors((b.given, b.further))]
    buffers = [b for _, b in objective.model.named_buffers()]
    return {
        "tensors": digest([*places, *buffers, *given]),
        "axes": [[float(axis[0]), float(axis[-1]), len(axis)] for axis in asked.axes],
        "surfaces": len(asked.planes),
        "bn": bn,
        "precision": "bf16" if bf16 else "fp32",
        "metrics": sorted(metrics),
        "errors over": walker.independent,
    }
