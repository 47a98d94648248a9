"""A loss at many points of a plane, one after the other in as many threads as there are cores.

Each thread has a copy of the model, whose parameters it moves; the model itself is never touched. A thread
computes with one core: what a point's value is does not depend on how many there are.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gradscape.errors import ConfigError, first_line
from gradscape.measure.core.as_found import standing_in
from gradscape.measure.core.batch import Batch
from gradscape.measure.core.copying import copied
from gradscape.measure.core.cuda_graph import Replayed
from gradscape.measure.core.fold_batchnorm import Folded, Pair, reading
from gradscape.measure.core.layer_trace import layer_kind, unwatched
from gradscape.measure.core.leaves import refuse_uncopied
from gradscape.measure.core.objective import Objective, laid_out
from gradscape.measure.core.preserve import random_state
from gradscape.measure.landscape.directions import Plane
from gradscape.measure.landscape.sampling_error import HANDFUL, Apart

NormStatistics = Literal["running", "batch", "recalibrated"]
Metric = Callable[[Any, Any], Any]
Coordinates = tuple[float, ...]


@dataclass(frozen=True)
class Value:
    """At one point.

    Attributes:
        loss: the mean over samples.
        error: its standard error, over samples, or over parts of them; NaN for fewer than five.
        metrics: name → mean over samples.
    """

    loss: float
    error: float
    metrics: Mapping[str, float]


class Walker:
    """A copy of a model that is moved over a plane and evaluated there.

    Args:
        objective: the loss and its batches; `running` for all but a batch's own statistics.
        plane: where it is moved.
        bn: the statistics of BatchNorm.
        metrics: name → metric(output, y).
        bf16: compute convolutions and products in bfloat16.
        apart: the loss of every sample; None where it cannot be taken apart.
        lends: let the objective's model stand where this is while losses and metrics are computed: they use
            it. Of such walkers there can be one.
    """

    def __init__(
        self,
        objective: Objective,
        plane: Plane,
        bn: NormStatistics,
        metrics: Mapping[str, Metric],
        bf16: bool = False,
        apart: Apart | None = None,
        lends: bool = False,
    ) -> None:
        self.objective, self.bn, self.metrics = objective, bn, metrics
        self.apart, self.lends = apart, lends
        self.model = _detached_copy(objective.model)
        own = dict(self.model.named_parameters())
        self.parameters: list[Tensor] = [own[name] for name in objective.names]
        self.buffers = dict(self.model.named_buffers())
        self.found = {name: buffer.clone() for name, buffer in self.buffers.items()}
        self.norms: list[Any] = [module for module in self.model.modules() if layer_kind(module) == "norm"]
        self.device = self.parameters[0].device
        self.bf16 = bf16
        self.pairs: list[Pair] | None = None
        graphed = self.device.type == "cuda" and bn != "recalibrated"  # which resets statistics on the host
        self.computed: Callable[[], Tensor] = Replayed(self.rows) if graphed else self.rows
        self.follow(plane)

    def follow(self, plane: Plane) -> None:
        """Move over another plane from now on."""
        self.plane, self.start = plane, self.found | dict(plane.buffers)

    @torch.no_grad()
    def prepare(self) -> None:
        """Read what can be folded, which the first point would be timed with.

        Raises:
            ConfigError: the batch does not fit, or what was copied fails or calls what it was copied from.
        """
        self.model.eval()
        first = self.objective.batches[0]
        try:
            # The copy's parameters need no gradient: a graph is one of the original's.
            with self.as_computed(first), torch.enable_grad():
                output = self.output(first)
        except Exception as error:  # of any kind
            with self.objective.at(self.objective.start):
                self.objective.explain(first)
            name = type(self.model).__name__
            raise ConfigError(f"{name}: the copy that is moved fails: {first_line(error)}") from error
        refuse_uncopied(output, self.model, self.objective.own)

    @torch.no_grad()
    def at(self, coordinates: Coordinates) -> Value:
        """Loss and metrics at a point."""
        self.move(coordinates)
        if self.bn == "recalibrated":
            self.recalibrate()
        self.model.eval()
        for norm in self.norms:
            norm.training = self.bn == "batch"
        return self.mean(self.computed().tolist())

    def move(self, coordinates: Coordinates) -> None:
        torch._foreach_copy_(self.parameters, self.plane.origin)
        for c, direction in zip(coordinates, self.plane.directions, strict=True):
            torch._foreach_add_(self.parameters, direction, alpha=c)
        for name, buffer in self.buffers.items():
            buffer.copy_(self.start[name])
        for c, moves in zip(coordinates, self.plane.buffer_moves, strict=bool(self.plane.buffer_moves)):
            for name, move in moves.items():
                self.buffers[name].add_(move, alpha=c)

    def recalibrate(self) -> None:
        """Running statistics as the mean over all batches here (Izmailov et al. 2018, §3.2)."""
        self.model.eval()
        kept = []
        for norm in self.norms:
            norm.training = True
            if hasattr(norm, "reset_running_stats"):  # torch's norms, and Batch Renormalization
                norm.reset_running_stats()
                kept.append((norm, norm.momentum))
                norm.momentum = None
        for batch in self.objective.whole:
            self.output(batch)
        for norm, momentum in kept:
            norm.momentum = momentum

    def rows(self) -> Tensor:
        """(B + 1, 1 + M) loss and metrics of every batch, in float64; last the variance over samples."""
        batches, rows, outputs = self.objective.batches, [], []
        with self.as_computed(batches[0]):
            for batch in batches:
                output = self.output(batch)
                rows.append(self.row(batch, output))
                if self.apart is not None:
                    outputs.append(_widest(output))
            spread = torch.full_like(rows[0], math.nan)
            if self.apart is not None:
                with self.lent():
                    spread.fill_(self.apart(outputs, batches).double().var(unbiased=False))
            return torch.stack([*rows, spread])

    def row(self, batch: Batch, output: Any) -> Tensor:
        with self.lent():
            values = [batch.loss(self.objective.loss, _widest(output))]
            values += [metric(output, *batch.further) for metric in self.metrics.values()]
        return torch.stack([_as_number(value, self.device) for value in values])

    @contextmanager
    def lent(self) -> Iterator[None]:
        """The objective's own model with the parameters and buffers of here, where a loss uses it."""
        if not self.lends:
            yield
            return
        values = dict(self.model.named_parameters()) | self.buffers
        with standing_in(self.objective.model, values, self.objective.found), unwatched():
            yield

    def mean(self, rows: Sequence[Sequence[float]]) -> Value:
        """Over batches, each weighted by its samples."""
        *rows, (variance, *_) = rows
        weights, count = self.objective.weights, self.independent
        means = [sum(map(operator.mul, weights, column)) for column in zip(*rows, strict=True)]
        apart = [row[0] - means[0] for row in rows]
        if self.apart is None:  # each * each, for ** would not overflow
            variance = sum(w * each * each for w, each in zip(weights, apart, strict=True))
        error = math.sqrt(variance / (count - 1)) if count else math.nan
        return Value(means[0], error, dict(zip(self.metrics, means[1:], strict=True)))

    @property
    def independent(self) -> int:
        """Samples, or parts of them, that the standard error is over; 0 where there are too few."""
        count = len(self.objective.batches) if self.apart is None else self.objective.samples
        return count if count >= HANDFUL else 0

    @contextmanager
    def as_computed(self, batch: Batch) -> Iterator[None]:
        """BatchNorm folded, in bfloat16 if asked for."""
        with ExitStack() as stack:
            stack.enter_context(
                torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else nullcontext()
            )
            if self.bn != "batch":
                if self.pairs is None:
                    with reading(self.model) as found:
                        self.pairs = found.found(self.output(batch))
                stack.enter_context(Folded(self.pairs))
            yield

    def output(self, batch: Batch) -> Any:
        with unwatched():
            return batch.output(self.model)


def _detached_copy(model: nn.Module) -> nn.Module:
    """A copy without gradients, in float32 at least, laid out as convolutions are fastest.

    Raises:
        ConfigError: it cannot be copied.
    """
    twin = copied(model)
    twin._apply(  # type: ignore[no-untyped-call]
        lambda tensor: laid_out(tensor) if tensor.is_floating_point() else tensor.clone()
    )
    return twin.requires_grad_(False)


def _as_number(value: Any, device: torch.device) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64, device=device).reshape(())


def _widest(output: Any) -> Any:
    """An output tensor in float32 at least: a loss of bfloat16 has three digits."""
    return output.float() if isinstance(output, Tensor) and output.dtype == torch.bfloat16 else output


class Crew:
    """Walkers of one plane after another, each in a thread of one core.

    Args:
        walkers: as many as are to be at work at once.
        carry_on: whether there is time left.
    """

    def __init__(self, walkers: Sequence[Walker], carry_on: Callable[[], bool]) -> None:
        self.walkers, self.carry_on = walkers, carry_on

    def follow(self, plane: Plane) -> None:
        for walker in self.walkers:
            walker.follow(plane)

    def evaluate(self, points: Iterable[Coordinates], done: Callable[[Coordinates, Value], None]) -> None:
        """Evaluate points while there is time, each told to `done` in this thread as soon as it is known.

        As many are under way as there are walkers, so that an end in between loses no more than those.
        """
        free: SimpleQueue[Walker] = SimpleQueue()
        for walker in self.walkers:
            free.put(walker)

        def work(point: Coordinates) -> tuple[Coordinates, Value]:
            walker = free.get()
            try:
                return point, walker.at(point)
            finally:
                free.put(walker)

        left, under_way = iter(points), set[Future[tuple[Coordinates, Value]]]()
        with random_state(), _one_core_each(len(self.walkers)) as pool:
            while True:
                while len(under_way) < len(self.walkers) and self.carry_on():
                    if (point := next(left, None)) is None:
                        break
                    under_way.add(pool.submit(work, point))
                if not under_way:
                    return
                ready, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for future in ready:
                    done(*future.result())


@contextmanager
def _one_core_each(workers: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads whose operations take one core each; the caller's own setting is put back."""
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)
