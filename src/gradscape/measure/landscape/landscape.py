"""Loss over lines and planes in the space of a model's parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from gradscape._text import count_noun
from gradscape.config.arguments import typed
from gradscape.config.options import LandscapeStatistics
from gradscape.errors import ConfigError, brief, cut, nearest
from gradscape.measure.core.batch import Loss
from gradscape.measure.core.containers import tensors
from gradscape.measure.core.objective import Objective
from gradscape.measure.core.preserve import leaves_loss
from gradscape.measure.curvature.curvature import Clock, TextCallback
from gradscape.measure.landscape.adaptive_grid import levels_of
from gradscape.measure.landscape.directions import State
from gradscape.measure.landscape.evaluate import EvaluatorPool, Metric, PointEvaluator, PointValue
from gradscape.measure.landscape.plan import (
    KINDS,
    Directions,
    GridPlan,
    make_plan,
    notes_on_buffers,
    notes_on_frozen,
)
from gradscape.measure.landscape.point_cache import PointCache, digest
from gradscape.measure.landscape.sampling_error import shuffled, split_by_sample
from gradscape.measure.landscape.survey import (
    check_interpolation,
    evaluate_path,
    evaluate_surface,
    measure_convexity,
)
from gradscape.records.landscape import LandscapeRecord
from gradscape.records.norm_statistics import NONE

STATISTICS = get_args(LandscapeStatistics)


@typed(points=10_000, pairs=1_000, checks=1_000_000, convexity=1_000, workers=1_024, seed=2**63 - 1)
@leaves_loss
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
    bn: LandscapeStatistics = "running",
    metrics: Mapping[str, Metric] | None = None,
    bf16: bool = False,
    accuracy: float | None = None,
    checks: int = 0,
    convexity: int = 0,
    keep: str | Path | None = None,
    workers: int | None = None,
    time_limit: float | None = None,
    seed: int = 0,
    report: TextCallback = lambda text: None,
) -> LandscapeRecord:
    """Evaluate a loss over a line or a plane through a model's parameters.

    Points are evaluated concurrently, each by one core, on parts of the batches that fit in a processor's
    cache; BatchNorm in eval mode is folded into the convolution before it. The model, its buffers, gradients
    and modes, and the state of all random generators are preserved.

    Args:
        model: Module at the origin.
        loss: Function loss(output, y), loss(output) or loss(output, dict), tried in this order, or
            loss(model, batch), which calls the model itself; returns a tensor of one number. None for a model
            whose output has a `loss`.
        batches: One batch, (x, y), x or a dict of the model's arguments (an argument that is itself a tuple,
            list or dict is passed as ((x,), y)), or several: a list, or a DataLoader for one pass. The loss
            is their mean over samples.
        directions: `filter` or `layer`, Gaussian, scaled to the norm of the weights in each (Li et al. 2018,
            §4); `gaussian`, of norm 1; `hessian`, the eigenvectors of its largest eigenvalues; `gradient`,
            for a plane with a filter-normalized second direction.
        dims: 1 for a line, 2 for a plane.
        points: Number of points along each axis.
        span: First and last coordinate, in units of the directions; by default -1 to 1, for a line between
            models a quarter beyond them, for a path around all of it.
        pairs: Number of surfaces, each with its own random direction or pair of directions.
        orthogonal: Whether to make the second random direction orthogonal to the first.
        through: Another model or its state_dict, for the line to it, at 1; two, for the plane through all
            three; any number with `dims=1`, for a line to each.
        path: Checkpoints of a training, for the plane nearest to them, with the last at the origin.
        bn: Statistics of BatchNorm: `running`, `batch` of each batch, or `recalibrated` at each point on all
            batches.
        metrics: Functions metric(output, y) by name, each returning the mean over a batch; by default
            `accuracy` for a classifier.
        bf16: Whether to compute convolutions and matrix products in bfloat16; twice as fast on processors
            that have it.
        accuracy: Error, relative to the loss, up to which points are interpolated instead of evaluated; where
            the loss's own standard error is larger, up to that. None to evaluate all points.
        checks: Number of random points off the grid that compare interpolation with the loss.
        convexity: Number of points along each axis for the Hessian's extreme eigenvalues.
        keep: Path of a file for the points; an existing one is continued.
        workers: Number of concurrent points; by default one per thread of torch, one on a GPU. One, too, if a
            pass draws random numbers, which are the same at every point then, or the loss uses the model.
        time_limit: Seconds after which the results so far are returned, NaN elsewhere.
        seed: Seed of the random directions.
        report: Callback for messages: the expected cost, then the progress.

    Raises:
        ConfigError: If models differ in shape, a direction has norm zero, or a setting is out of range.
        StoreError: If `keep` contains another landscape.

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
    apart = split_by_sample(objective)
    if apart is None and bn != "batch":
        objective = shuffled(objective, seed)
    plan = make_plan(objective, directions, dims, points, span, pairs, orthogonal, through, path, seed)
    output, lends, draws = _first_look(objective)
    measures = dict(metrics) if metrics is not None else _default_metrics(objective, output)
    if wrong := [name for name, metric in measures.items() if not callable(metric)]:
        raise ConfigError(
            f"metrics: expected functions of output and y; got another value for {cut(wrong[0])}"
        )
    count = 1 if lends or draws else workers or (1 if objective.start[0].is_cuda else torch.get_num_threads())
    evaluators = [
        PointEvaluator(objective, plan.planes[0], bn, measures, bf16, apart, lends, draws)
        for _ in range(count)
    ]
    pool = EvaluatorPool(evaluators, clock.should_continue)
    middle = _evaluate_middle(evaluators[0], plan, clock, count, report)
    cache = None
    if keep is not None:
        cache = PointCache(Path(keep), _identity(objective, plan, bn, bf16, measures, evaluators[0]))
    surfaces = [
        evaluate_surface(pool, plane, plan.axes, number, cache, accuracy, measures, clock, report)
        for number, plane in enumerate(plan.planes)
    ]
    losses = np.stack([surface.loss for surface in surfaces])
    check, along, curved = None, None, None
    if checks and clock.should_continue():
        check = check_interpolation(pool, plan, losses[0], checks, seed)
    if plan.trajectory is not None and clock.should_continue():
        along = evaluate_path(evaluators[0], plan.planes[0], plan.trajectory)
    if convexity and clock.should_continue():
        curved = measure_convexity(evaluators[0], plan, convexity, seed, clock)
    return LandscapeRecord(
        directions=plan.planes[0].words,
        axes=plan.axes,
        loss=losses,
        error=np.stack([surface.error for surface in surfaces]),
        error_n=evaluators[0].independent,
        metrics={name: np.stack([surface.metrics[name] for surface in surfaces]) for name in measures},
        measured=np.stack([surface.measured for surface in surfaces]),
        lengths=np.array([plane.lengths for plane in plan.planes]),
        middle=np.full(len(plan.planes), middle.loss),  # all planes have one origin
        between=through is not None,
        bn=bn if objective.has_batchnorm else NONE,
        precision="bf16" if bf16 else "fp32",
        parameters=objective.size,
        samples=objective.samples,
        check=check,
        path=along,
        convexity=curved,
        evaluations=sum(int(surface.measured.sum()) for surface in surfaces),
        seconds=clock.spent,
        complete=not clock.ended,
        notes=(
            *objective.notes,
            *notes_on_frozen(plan, objective),
            *(notes_on_buffers(plan, objective) if bn == "running" else ()),
        ),
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
    """Check the range of the settings."""
    if directions not in KINDS:
        hint = nearest(str(directions), KINDS)
        raise ConfigError(f"directions: expected one of {', '.join(KINDS)}; got {brief(directions)}{hint}")
    if dims not in (1, 2):
        raise ConfigError(f"dims: expected 1 for a line or 2 for a plane; got {brief(dims)}")
    if points < 2:
        raise ConfigError(f"points: expected 2 or more; got {points}")
    if span is not None:
        ordered = isinstance(span, tuple | list) and len(span) == 2 and all(isinstance(s, Real) for s in span)
        if not ordered or not -math.inf < span[0] < span[1] < math.inf:
            raise ConfigError(f"span: expected two increasing numbers such as (-1, 1); got {brief(span)}")
    if pairs < 1:
        raise ConfigError(f"pairs: expected 1 or more; got {pairs}")
    if bn not in STATISTICS:
        raise ConfigError(
            f"bn: expected one of {', '.join(STATISTICS)}; got {brief(bn)}{nearest(str(bn), STATISTICS)}"
        )
    if accuracy is not None:
        if not 0 < accuracy < 1:
            raise ConfigError(f"accuracy: expected a number between 0 and 1; got {accuracy}")
        if not levels_of(points):
            raise ConfigError(f"points: expected 9, 17, 21, 25, 33, 41, 49, 65 or 81 to refine; got {points}")
    if checks < 0 or (checks and points < 4):
        raise ConfigError(f"checks: expected 0 or more, on 4 points or more; got {checks} on {points} points")
    if convexity < 0:
        raise ConfigError(f"convexity: expected 0 or more; got {convexity}")
    if workers is not None and workers < 1:
        raise ConfigError(f"workers: expected 1 or more; got {workers}")
    if time_limit is not None and not time_limit > 0:
        raise ConfigError(f"time_limit: expected seconds above 0; got {time_limit}")


def _first_look(objective: Objective) -> tuple[Any, bool, bool]:
    """Return the first batch's output, whether the loss uses the model too, and whether a pass draws.

    Raises:
        ConfigError: If the batch does not fit, the loss fails, or it needs gradients, which are off.
    """
    try:
        return objective.first_look()
    except ConfigError as error:
        if "does not require grad" in str(error):
            raise ConfigError(
                "loss: expected one without gradients, which are off in a landscape; give one of the output"
            ) from error
        raise


def _default_metrics(objective: Objective, output: Any) -> dict[str, Metric]:
    """Return accuracy if outputs are (N, classes) and targets are class numbers."""
    batch = objective.batches[0]
    target = batch.further[0] if len(batch.further) == 1 else None
    if not isinstance(target, Tensor) or target.shape != (batch.size,) or target.is_floating_point():
        return {}
    classifies = isinstance(output, Tensor) and output.dim() == 2 and output.shape[1] > 1
    return {"accuracy": _accuracy_of} if classifies and len(output) == batch.size else {}


def _accuracy_of(output: Tensor, y: Tensor) -> Tensor:
    return (output.argmax(1) == y).float().mean()


def _evaluate_middle(
    evaluator: PointEvaluator, plan: GridPlan, clock: Clock, workers: int, report: TextCallback
) -> PointValue:
    """Evaluate the origin and report the expected time of all points."""
    evaluator.prepare()
    before = clock.spent
    evaluator.follow(plan.planes[0])
    value = evaluator.at((0.0,) * len(plan.axes))
    seconds = clock.spent - before
    count = len(plan.planes) * math.prod(len(axis) for axis in plan.axes)
    limit = f", ended after {clock.limit:g} s" if clock.limit is not None else ""
    report(
        f"a point takes {seconds:.2g} s, {workers} at once: at most {count_noun(count, 'point')}, "
        f"{count * seconds / workers:.0f} s{limit}"
    )
    return value


def _identity(
    objective: Objective,
    plan: GridPlan,
    bn: str,
    bf16: bool,
    metrics: Mapping[str, Metric],
    evaluator: PointEvaluator,
) -> dict[str, Any]:
    """Return what the values of the points depend on, but for the code of model, loss and metrics."""
    geometry = [t for plane in plan.planes for pieces in (plane.origin, *plane.directions) for t in pieces]
    inputs = [v for b in objective.whole for v in tensors((b.given, b.further))]
    held = objective.others().values()
    moved = [each for plane in plan.planes for each in (plane.buffers, *plane.buffer_moves)]
    return {
        "tensors": digest([*geometry, *held, *tensors(moved), *inputs]),
        "axes": [[float(axis[0]), float(axis[-1]), len(axis)] for axis in plan.axes],
        "surfaces": len(plan.planes),
        "bn": bn,
        "precision": "bf16" if bf16 else "fp32",
        "metrics": sorted(metrics),
        "errors over": evaluator.independent,
    }
