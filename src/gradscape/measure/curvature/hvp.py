"""Products of a loss's Hessian, or of its Gauss-Newton matrix, with vectors; the matrix is never formed.

Hv = ∂⟨∂L/∂θ, v⟩/∂θ (Pearlmutter 1994), by a backward pass through the backward pass. The graph of that is
kept where the memory holds it: a product then costs what two gradients do, and three otherwise.
Gv = Jᵀ(∂²L/∂f²)Jv, with J = ∂f/∂θ (Schraudolph 2002), where Jv is the derivative of uᵀJ by u.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from gradscape._machine import memory_free
from gradscape.errors import ConfigError
from gradscape.measure.core.as_found import in_memory
from gradscape.measure.core.batch import Batch
from gradscape.measure.core.leaves import told_of_backward
from gradscape.measure.core.objective import Objective
from gradscape.measure.curvature.double_backward import Quick
from gradscape.measure.signal.jacobian import twice_differentiable

Matrix = Literal["hessian", "ggn"]
Pieces = list[Tensor]
KEPT = 0.5  # of the free memory: what graphs may take


class Products:
    """Multiplies vectors by a matrix of second derivatives of an objective.

    Args:
        objective: the loss.
        matrix: `hessian`, or `ggn`, the generalised Gauss-Newton matrix.
        block: places of the parameters that are looked at, the others being constants; by default all.

    Attributes:
        size: of the matrix.
        loss: the objective's value.
        gradient: (size,) of the looked-at parameters.
        count: products so far.

    Raises:
        ConfigError: the loss is not finite, or an operation has no second derivative.
    """

    def __init__(
        self, objective: Objective, matrix: Matrix = "hessian", block: Sequence[int] | None = None
    ) -> None:
        self.objective = objective
        self.block = tuple(range(len(objective.start)) if block is None else block)
        self.part = {"hessian": self.hessian, "ggn": self.gauss_newton}[matrix]
        self.parameters = [p.detach() for p in objective.start]
        for place in self.block:
            self.parameters[place] = self.parameters[place].clone().requires_grad_()
        self.looked_at = [self.parameters[place] for place in self.block]
        self.size = sum(p.numel() for p in self.looked_at)
        self.count, self.loss = 0, 0.0
        self.gradient = torch.cat([torch.zeros_like(p).flatten() for p in self.looked_at])
        self.kept: list[Linear] = []
        self.build()

    def build(self) -> None:
        """The graphs of all parts, kept if there is room for them; and loss and gradient."""
        parts = list(zip(self.objective.weights, self.objective.batches, strict=True))
        keep = True
        for number, (weight, batch) in enumerate(parts):
            linear, taken = self.counted(batch)
            if not number:
                keep = taken * len(parts) < KEPT * room(self.gradient.device)
            self.loss += weight * linear.loss
            self.gradient += weight * linear.gradient
            if keep:
                self.kept.append(linear)
        if not math.isfinite(self.loss) or not bool(self.gradient.isfinite().all()):
            raise ConfigError(
                f"the loss is {self.loss:g} and its gradient not finite: there is no curvature to measure; "
                "gradscape.watch with activations tells where that begins"
            )

    def __call__(self, vector: Tensor) -> Tensor:
        """(size,) the matrix times a vector (size,)."""
        self.count += 1
        total, pieces = torch.zeros_like(vector), self.pieces(vector)
        parts = zip(self.objective.weights, self.objective.batches, strict=True)
        with self.evaluating():
            for place, (weight, batch) in enumerate(parts):
                linear = self.kept[place] if self.kept else self.part(batch)
                total += weight * flat(linear.times(pieces, bool(self.kept)))
        return total

    def counted(self, batch: Batch) -> tuple[Linear, float]:
        """A batch's part, and the bytes of its graph; torch.func within the model forbids counting."""
        try:
            with self.evaluating(), _counting_bytes() as taken:
                return self.part(batch), taken()
        except ConfigError as error:
            if "torch.func" not in str(error):
                raise
        with self.evaluating():
            return self.part(batch), math.inf

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """The model as it is measured, by operations with second derivatives, or a line on what has none.

        Products of a graph that is kept are made within it too: activation checkpoints call the model again.
        """
        with (
            told_of_backward(),
            _told_of_second_derivatives(),
            self.objective.at(self.parameters),
            torch.enable_grad(),
            twice_differentiable(self.objective.model),
            Quick(),
        ):
            yield

    def hessian(self, batch: Batch) -> Linear:
        loss = self.objective.value(batch)
        gradient = torch.autograd.grad(loss, self.looked_at, create_graph=True, materialize_grads=True)
        _refuse_dead_ends(gradient)

        def times(pieces: Pieces, again: bool) -> Pieces:
            return _derivative(gradient, self.looked_at, pieces, again)

        return Linear(loss, gradient, times)

    def gauss_newton(self, batch: Batch) -> Linear:
        output = self.objective.output(batch)
        if not isinstance(output, Tensor) or self.objective.loss is None or batch.calling is not None:
            raise ConfigError("matrix: 'ggn' needs a model whose output is a tensor, and loss(output, y)")
        free = output.detach().requires_grad_()
        loss = self.objective.loss_of(batch, free)
        (by_output,) = torch.autograd.grad(loss, free, create_graph=True)
        dummy = torch.zeros_like(output, requires_grad=True)
        pulled = torch.autograd.grad(output, self.looked_at, dummy, create_graph=True, materialize_grads=True)

        _refuse_dead_ends([*pulled, by_output])

        def times(pieces: Pieces, again: bool) -> Pieces:
            (pushed,) = _derivative(pulled, [dummy], pieces, True)
            (curved,) = _derivative([by_output], [free], [pushed], again)
            return _derivative([output], self.looked_at, [curved], again)

        return Linear(loss, _derivative([output], self.looked_at, [by_output.detach()], True), times)

    def pieces(self, vector: Tensor) -> Pieces:
        """A vector as tensors like the looked-at parameters."""
        cut = torch.split(vector, [p.numel() for p in self.looked_at])
        return [
            torch.empty_like(p).copy_(piece.view(p.shape))
            for piece, p in zip(cut, self.looked_at, strict=True)
        ]


class Linear:
    """What a batch multiplies vectors by, and its loss and gradient."""

    def __init__(
        self, loss: Tensor, gradient: Sequence[Tensor], times: Callable[[Pieces, bool], Pieces]
    ) -> None:
        self.loss, self.gradient, self.times = float(loss.detach()), flat(gradient), times


def _derivative(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], vectors: Sequence[Tensor], again: bool
) -> Pieces:
    """∂⟨outputs, vectors⟩/∂inputs; zeros where nothing depends on anything."""
    pairs = [(o, v) for o, v in zip(outputs, vectors, strict=True) if o.requires_grad]
    if not pairs:
        return [torch.zeros_like(each) for each in inputs]
    found = torch.autograd.grad(
        [o for o, _ in pairs], inputs, [v for _, v in pairs], retain_graph=again, materialize_grads=True
    )
    return list(found)


def flat(pieces: Sequence[Tensor]) -> Tensor:
    return torch.cat([piece.detach().reshape(-1) for piece in pieces])


def room(device: torch.device) -> float:
    """Bytes that are free where tensors are."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else memory_free()


@contextmanager
def _counting_bytes() -> Iterator[Callable[[], int]]:
    """Of what autograd keeps for a backward pass, each storage once."""
    seen: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        for part in in_memory(tensor):
            storage = part.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # the tensor itself would be held by its own graph, and that by it, for good

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield lambda: sum(seen.values())


NO_DERIVATIVE = re.compile(r"derivative (?:for|of) '?([\w:.]+)'? is not implemented")
INSTEAD = "which curvature needs; gradscape.smoothness and gradscape.noise need none"


@contextmanager
def _told_of_second_derivatives() -> Iterator[None]:
    """An operation without a second derivative is named, and what works without one."""
    try:
        yield
    except RuntimeError as error:
        if (found := NO_DERIVATIVE.search(str(error))) is None:
            raise
        raise ConfigError(f"{found.group(1)} has no second derivative, {INSTEAD}") from error


def _refuse_dead_ends(gradient: Sequence[Tensor]) -> None:
    """What is marked @once_differentiable ends the graph of a gradient: its part would be taken for zero."""
    seen, left = set(), [g.grad_fn for g in gradient]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        if type(node).__name__ == "Error":
            raise ConfigError(f"a function marked @once_differentiable has no second derivative, {INSTEAD}")
        seen.add(node)
        left += [following for following, _ in node.next_functions]
