"""Evaluate a loss at many points of a plane, in a thread per core.

Each thread moves the parameters of its own copy of the model; the model itself is never changed. A thread
computes with one core: the value of a point does not depend on the number of threads.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor, nn

from gradscape.config.options import LandscapeStatistics
from gradscape.errors import ConfigError, GradscapeError, cut, first_line, with_place
from gradscape.measure.core.as_found import generators_undo, standing_in
from gradscape.measure.core.batch import Batch
from gradscape.measure.core.copying import copied
from gradscape.measure.core.cuda_graph import Replayed
from gradscape.measure.core.fold_batchnorm import ConvNormPair, Folded, reading
from gradscape.measure.core.layer_trace import layer_kind, unwatched
from gradscape.measure.core.leaves import refuse_uncopied
from gradscape.measure.core.objective import Objective, laid_out
from gradscape.measure.core.preserve import autocast_alone, random_state, seed_generators
from gradscape.measure.landscape.directions import Plane
from gradscape.measure.landscape.sampling_error import HANDFUL, Apart

Metric = Callable[[Any, Any], Any]
Coordinates = tuple[float, ...]


@dataclass(frozen=True)
class PointValue:
    """Loss and metrics at one point.

    Attributes:
        loss: Mean over samples.
        error: Standard error of the loss, over samples or parts of them; NaN for fewer than five.
        metrics: Means over samples by name.
    """

    loss: float
    error: float
    metrics: Mapping[str, float]


class PointEvaluator:
    """Copy of a model that is moved over a plane and evaluated there.

    Args:
        objective: Loss and its batches; with `running` statistics unless bn is `batch`.
        plane: Plane to move over.
        bn: Statistics of BatchNorm.
        metrics: Functions metric(output, y) by name.
        bf16: Whether to compute convolutions and matrix products in bfloat16.
        apart: Function that returns the loss of every sample; None if the loss has no such parts.
        lends: Whether the objective's own model has the parameters of this point while losses and metrics are
            computed, which use it. There can be only one such evaluator.
        draws: Whether a pass draws random numbers, which are the same at each point then. There can be only
            one such evaluator, too: threads share the generators.
    """

    def __init__(
        self,
        objective: Objective,
        plane: Plane,
        bn: LandscapeStatistics,
        metrics: Mapping[str, Metric],
        bf16: bool = False,
        apart: Apart | None = None,
        lends: bool = False,
        draws: bool = False,
    ) -> None:
        self.objective, self.bn, self.metrics = objective, bn, metrics
        self.apart, self.lends, self.draws = apart, lends, draws
        self.model = _detached_copy(objective.model)
        own = dict(self.model.named_parameters())
        self.parameters: list[Tensor] = [own[name] for name in objective.names]
        self.frozen = {name: p for name, p in own.items() if name not in objective.names}
        self.buffers: dict[str, Tensor] = dict(self.model.named_buffers())
        self.own_buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        self.norms: list[Any] = [module for module in self.model.modules() if layer_kind(module) == "norm"]
        self.device = self.parameters[0].device
        self.rewind = [undo for module in self.model.modules() for undo in generators_undo(module)]
        self.bf16 = bf16
        self.pairs: list[ConvNormPair] | None = None
        # Recalibration resets statistics on the host, and seeds are set there.
        on_host = bn == "recalibrated" or draws or self.rewind
        graphed = self.device.type == "cuda" and not on_host
        self.computed: Callable[[], Tensor] = Replayed(self._rows) if graphed else self._rows
        self.follow(plane)

    def follow(self, plane: Plane) -> None:
        """Switch to another plane.

        Args:
            plane: Plane to move over.
        """
        for name in {*plane.buffers, *(each for moves in plane.buffer_moves for each in moves)}:
            if name not in self.buffers:  # a frozen parameter that is another elsewhere
                self.buffers[name], self.own_buffers[name] = self.frozen[name], self.frozen[name].clone()
        self.plane, self.start = plane, self.own_buffers | dict(plane.buffers)

    @torch.no_grad()
    def prepare(self) -> None:
        """Detect foldable BatchNorms, which would otherwise count in the time of the first point.

        Raises:
            ConfigError: If the batch does not fit, or the copy fails or calls its original.
        """
        self.model.eval()
        first = self.objective.batches[0]
        try:
            # The copy's parameters require no gradient: a graph is that of the original.
            with random_state(), self._computing(first), torch.enable_grad():
                output = self._output(first)
        except Exception as error:  # of the user's model, of any type
            with self.objective.at(self.objective.start):
                self.objective.explain(first)
            name = type(self.model).__name__
            raise ConfigError(f"{name}: the copy that is moved fails: {first_line(error)}") from error
        refuse_uncopied(output, self.model, self.objective.own)

    @torch.no_grad()
    def at(self, coordinates: Coordinates) -> PointValue:
        """Return loss and metrics at a point.

        Args:
            coordinates: Coordinates in units of the directions.
        """
        with random_state() if self.draws else nullcontext():
            self._move_to(coordinates)
            self.model.eval()
            for norm in self.norms:
                norm.training = self.bn == "batch"
            return self._mean(self.computed().tolist())

    @torch.no_grad()
    def tensors_at(self, coordinates: Coordinates) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Return copies of the parameters at a point, and by name of what moves beside them.

        Args:
            coordinates: Coordinates in units of the directions.
        """
        with random_state():
            self._move_to(coordinates)
        buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        return tuple(parameter.clone() for parameter in self.parameters), buffers

    def _move_to(self, coordinates: Coordinates) -> None:
        torch._foreach_copy_(self.parameters, self.plane.origin)
        for c, direction in zip(coordinates, self.plane.directions, strict=True):
            torch._foreach_add_(self.parameters, direction, alpha=c)
        for name, buffer in self.buffers.items():
            buffer.copy_(self.start[name])
        for c, moves in zip(coordinates, self.plane.buffer_moves, strict=bool(self.plane.buffer_moves)):
            for name, move in moves.items():
                self.buffers[name].add_(move, alpha=c)
        if self.bn == "recalibrated":
            self._recalibrate()

    def _recalibrate(self) -> None:
        """Set running statistics to the mean over all batches (Izmailov et al. 2018, §3.2)."""
        self.model.eval()
        momenta = []
        for norm in self.norms:
            norm.training = True
            if hasattr(norm, "reset_running_stats"):  # torch's norms, and Batch Renormalization
                norm.reset_running_stats()
                momenta.append((norm, norm.momentum))
                norm.momentum = None
        with autocast_alone(self.device.type):
            for batch in self.objective.whole:
                self._output(batch)
        for norm, momentum in momenta:
            norm.momentum = momentum

    def _rows(self) -> Tensor:
        """Return loss and M metrics of B batches, then the variance over samples: (B + 1, 1 + M), float64."""
        batches, rows, outputs = self.objective.batches, [], []
        with self._computing(batches[0]):
            for batch in batches:
                output = self._output(batch)
                rows.append(self._row(batch, output))
                if self.apart is not None:
                    outputs.append(_widest(output))
            spread = torch.full_like(rows[0], math.nan)
            if self.apart is not None:
                with self._lent():
                    spread.fill_(self.apart(outputs, batches).double().var(unbiased=False))
            return torch.stack([*rows, spread])

    def _row(self, batch: Batch, output: Any) -> Tensor:
        with self._lent():
            loss = batch.loss(self.objective.loss, _widest(output))
            values = [_metric_of(each, output, batch, self.device) for each in self.metrics.items()]
        return torch.stack([_as_number(loss, self.device), *values])

    @contextmanager
    def _lent(self) -> Iterator[None]:
        """Give the objective's own model the parameters and buffers of this point, if the loss uses it."""
        if not self.lends:
            yield
            return
        values = dict(self.model.named_parameters()) | self.buffers
        with standing_in(self.objective.model, values, self.objective.found), unwatched():
            yield

    def _mean(self, rows: Sequence[Sequence[float]]) -> PointValue:
        """Average over batches, weighted by their samples."""
        *rows, (variance, *_) = rows
        weights, count = self.objective.weights, self.independent
        means = [sum(map(operator.mul, weights, column)) for column in zip(*rows, strict=True)]
        deviations = [row[0] - means[0] for row in rows]
        if self.apart is None:  # d * d becomes infinite; d**2 would raise OverflowError
            variance = sum(w * d * d for w, d in zip(weights, deviations, strict=True))
        error = math.sqrt(variance / (count - 1)) if count else math.nan
        return PointValue(means[0], error, dict(zip(self.metrics, means[1:], strict=True)))

    @property
    def independent(self) -> int:
        """Number of samples, or parts of them, in the standard error; 0 if there are too few."""
        count = len(self.objective.batches) if self.apart is None else self.objective.samples
        return count if count >= HANDFUL else 0

    @contextmanager
    def _computing(self, batch: Batch) -> Iterator[None]:
        """Compute with folded BatchNorm, and in bfloat16 if requested."""
        with ExitStack() as stack:
            stack.enter_context(autocast_alone(self.device.type, self.bf16))
            if self.bn != "batch":
                if self.pairs is None:
                    with reading(self.model) as reader:
                        self.pairs = reader.found(self._output(batch))
                stack.enter_context(Folded(self.pairs))
            yield

    def _output(self, batch: Batch) -> Any:
        if self.draws:
            seed_generators(0)  # as of an objective's passes
        for put_back in self.rewind:  # generators that the model holds
            put_back()
        with unwatched():
            return batch.output(self.model)


def _detached_copy(model: nn.Module) -> nn.Module:
    """Copy a model without gradients, in float32 at least, in the memory layout of fast convolutions.

    Raises:
        ConfigError: If it cannot be copied.
    """
    twin = copied(model)
    twin._apply(  # type: ignore[no-untyped-call]
        lambda tensor: laid_out(tensor) if tensor.is_floating_point() else tensor.clone()
    )
    return twin.requires_grad_(False)


def _as_number(value: Any, device: torch.device) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64, device=device).reshape(())


def _metric_of(named: tuple[str, Metric], output: Any, batch: Batch, device: torch.device) -> Tensor:
    """Return the value of a user's metric.

    Raises:
        ConfigError: It fails, or returns anything but one number.
    """
    name, metric = named
    try:
        return _as_number(metric(output, *batch.further), device)
    except GradscapeError:
        raise
    except Exception as error:  # of the user's function, of any type
        raise ConfigError(
            f"metrics: {cut(name)} failed: {with_place(error)}; expected a function of the output and y that "
            "returns one number"
        ) from error


def _widest(output: Any) -> Any:
    """Cast a bfloat16 output to float32: a loss in bfloat16 has three digits."""
    return output.float() if isinstance(output, Tensor) and output.dtype == torch.bfloat16 else output


class EvaluatorPool:
    """Evaluators of successive planes, each in a thread of one core.

    Args:
        evaluators: One for each concurrent point.
        should_continue: Function that returns False when time is up.
    """

    def __init__(self, evaluators: Sequence[PointEvaluator], should_continue: Callable[[], bool]) -> None:
        self.evaluators, self.should_continue = evaluators, should_continue

    def follow(self, plane: Plane) -> None:
        """Switch to another plane.

        Args:
            plane: Plane to move over.
        """
        for evaluator in self.evaluators:
            evaluator.follow(plane)

    def evaluate(
        self, points: Iterable[Coordinates], done: Callable[[Coordinates, PointValue], None]
    ) -> None:
        """Evaluate points until time is up.

        Args:
            points: Coordinates of the points.
            done: Callback for each value as soon as it is computed, called in this thread. An interruption
                loses at most the points in progress, one per evaluator.
        """
        free: SimpleQueue[PointEvaluator] = SimpleQueue()
        for evaluator in self.evaluators:
            free.put(evaluator)

        def work(point: Coordinates) -> tuple[Coordinates, PointValue]:
            evaluator = free.get()
            try:
                return point, evaluator.at(point)
            finally:
                free.put(evaluator)

        remaining, under_way = iter(points), set[Future[tuple[Coordinates, PointValue]]]()
        with random_state(), _one_core_each(len(self.evaluators)) as pool:
            while True:
                while len(under_way) < len(self.evaluators) and self.should_continue():
                    if (point := next(remaining, None)) is None:
                        break
                    under_way.add(pool.submit(work, point))
                if not under_way:
                    return
                ready, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for future in ready:
                    done(*future.result())


@contextmanager
def _one_core_each(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Make a pool of threads whose operations use one core each; restore the caller's setting."""
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)
