"""Products of a loss's Hessian or Gauss-Newton matrix with vectors; the matrix is never formed.

Hv = ∂⟨∂L/∂θ, v⟩/∂θ (Pearlmutter 1994), by a backward pass through the backward pass. Its graph stays in
memory if it fits: a product then costs two gradients, and three otherwise.
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
KEPT = 0.5  # of the free memory, for graphs


class Products:
    """Matrix of second derivatives of an objective, as a function of vectors.

    Args:
        objective: Loss over batches.
        matrix: `hessian`, or `ggn`, the generalized Gauss-Newton matrix.
        block: Indices of the parameters to differentiate by, the others being constants; by default all.

    Attributes:
        size: Number of rows of the matrix.
        loss: Value of the objective.
        gradient: Gradient (size,) of the block.
        count: Number of products so far.

    Raises:
        ConfigError: If the loss is not finite, or an operation has no second derivative.
    """

    def __init__(
        self, objective: Objective, matrix: Matrix = "hessian", block: Sequence[int] | None = None
    ) -> None:
        self.objective = objective
        self.block = tuple(range(len(objective.start)) if block is None else block)
        self.part = {"hessian": self._hessian, "ggn": self._gauss_newton}[matrix]
        self.parameters = [p.detach() for p in objective.start]
        for index in self.block:
            self.parameters[index] = self.parameters[index].clone().requires_grad_()
        self.variables = [self.parameters[index] for index in self.block]
        self.size = sum(p.numel() for p in self.variables)
        self.count, self.loss = 0, 0.0
        self.gradient = torch.cat([torch.zeros_like(p).flatten() for p in self.variables])
        self.kept: list[_Linear] = []
        self._build()

    def _build(self) -> None:
        """Compute loss and gradient, and keep the graphs of all parts if they fit in memory."""
        parts = list(zip(self.objective.weights, self.objective.batches, strict=True))
        keep = True
        for number, (weight, batch) in enumerate(parts):
            linear, taken = self._counted(batch)
            if not number:
                keep = taken * len(parts) < KEPT * free_bytes(self.gradient.device)
            self.loss += weight * linear.loss
            self.gradient += weight * linear.gradient
            if keep:
                self.kept.append(linear)
        if not math.isfinite(self.loss) or not bool(self.gradient.isfinite().all()):
            raise ConfigError(
                f"the loss is {self.loss:g} and its gradient not finite: there is no curvature to measure; "
                "gradscape.watch with activations shows where this begins"
            )

    def __call__(self, vector: Tensor) -> Tensor:
        """Return the matrix times a vector, (size,) each.

        Raises:
            ConfigError: If it is not finite.
        """
        self.count += 1
        total, pieces = torch.zeros_like(vector), self.pieces(vector)
        parts = zip(self.objective.weights, self.objective.batches, strict=True)
        with self._evaluating():
            for index, (weight, batch) in enumerate(parts):
                linear = self.kept[index] if self.kept else self.part(batch)
                total += weight * flat(linear.times(pieces, bool(self.kept)))
        if not bool(total.isfinite().all()):
            raise ConfigError(
                f"a second derivative of the loss is not finite, as that of x**1.5 at 0, {INSTEAD}"
            )
        return total

    def _counted(self, batch: Batch) -> tuple[_Linear, float]:
        """Return a batch's part and the bytes of its graph; infinite if torch.func forbids counting."""
        try:
            with self._evaluating(), _counting_bytes() as taken:
                return self.part(batch), taken()
        except ConfigError as error:
            if "torch.func" not in str(error):
                raise
        with self._evaluating():
            return self.part(batch), math.inf

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Run the model at the parameters, by operations with second derivatives; name one without.

        Products of a graph in memory need this too: activation checkpoints call the model again.
        """
        with (
            told_of_backward(),
            _second_derivative_errors(),
            self.objective.at(self.parameters),
            torch.enable_grad(),
            twice_differentiable(self.objective.model),
            Quick(),
        ):
            yield

    def _hessian(self, batch: Batch) -> _Linear:
        loss = self.objective.value(batch)
        gradient = torch.autograd.grad(loss, self.variables, create_graph=True, materialize_grads=True)
        _refuse_dead_ends(gradient)

        def times(pieces: list[Tensor], again: bool) -> list[Tensor]:
            return _derivative(gradient, self.variables, pieces, again)

        return _Linear(loss, gradient, times)

    def _gauss_newton(self, batch: Batch) -> _Linear:
        output = self.objective.output(batch)
        if not isinstance(output, Tensor) or self.objective.loss is None or batch.calling is not None:
            raise ConfigError("matrix: 'ggn' needs a model whose output is a tensor, and loss(output, y)")
        free = output.detach().requires_grad_()
        loss = self.objective.loss_of(batch, free)
        (by_output,) = torch.autograd.grad(loss, free, create_graph=True)
        dummy = torch.zeros_like(output, requires_grad=True)
        pulled = torch.autograd.grad(output, self.variables, dummy, create_graph=True, materialize_grads=True)

        _refuse_dead_ends([*pulled, by_output])

        def times(pieces: list[Tensor], again: bool) -> list[Tensor]:
            (pushed,) = _derivative(pulled, [dummy], pieces, True)
            (curved,) = _derivative([by_output], [free], [pushed], again)
            return _derivative([output], self.variables, [curved], again)

        return _Linear(loss, _derivative([output], self.variables, [by_output.detach()], True), times)

    def pieces(self, vector: Tensor) -> list[Tensor]:
        """Split a vector into tensors like the parameters of the block.

        Args:
            vector: Vector (size,).
        """
        cut = torch.split(vector, [p.numel() for p in self.variables])
        return [
            torch.empty_like(p).copy_(piece.view(p.shape))
            for piece, p in zip(cut, self.variables, strict=True)
        ]


class _Linear:
    """Loss, gradient and products of one batch."""

    def __init__(
        self, loss: Tensor, gradient: Sequence[Tensor], times: Callable[[list[Tensor], bool], list[Tensor]]
    ) -> None:
        self.loss, self.gradient, self.times = float(loss.detach()), flat(gradient), times


def _derivative(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], vectors: Sequence[Tensor], again: bool
) -> list[Tensor]:
    """Return ∂⟨outputs, vectors⟩/∂inputs, zeros for what does not depend on an input."""
    pairs = [(o, v) for o, v in zip(outputs, vectors, strict=True) if o.requires_grad]
    if not pairs:
        return [torch.zeros_like(tensor) for tensor in inputs]
    gradients = torch.autograd.grad(
        [o for o, _ in pairs], inputs, [v for _, v in pairs], retain_graph=again, materialize_grads=True
    )
    return list(gradients)


def flat(pieces: Sequence[Tensor]) -> Tensor:
    """Concatenate tensors as one detached vector.

    Args:
        pieces: Tensors of any shapes.
    """
    return torch.cat([piece.detach().reshape(-1) for piece in pieces])


def free_bytes(device: torch.device) -> float:
    """Return the free memory of a device in bytes.

    Args:
        device: CPU or CUDA device.
    """
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else memory_free()


@contextmanager
def _counting_bytes() -> Iterator[Callable[[], int]]:
    """Count the bytes that autograd saves for a backward pass, each storage once."""
    seen: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        for part in in_memory(tensor):
            storage = part.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # saving the tensor itself would make a reference cycle with its graph

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield lambda: sum(seen.values())


NO_DERIVATIVE = re.compile(r"derivative (?:for|of) '?([\w:.]+)'? is not implemented")
INSTEAD = "which curvature needs; gradscape.smoothness and gradscape.noise need none"


@contextmanager
def _second_derivative_errors() -> Iterator[None]:
    """Name an operation without a second derivative, and what works without one."""
    try:
        yield
    except RuntimeError as error:
        if (match := NO_DERIVATIVE.search(str(error))) is None:
            raise
        raise ConfigError(f"{match.group(1)} has no second derivative, {INSTEAD}") from error


def _refuse_dead_ends(gradient: Sequence[Tensor]) -> None:
    """Refuse functions marked @once_differentiable: they end a gradient's graph, and would count as zero."""
    seen, remaining = set(), [g.grad_fn for g in gradient]
    while remaining:
        node = remaining.pop()
        if node is None or node in seen:
            continue
        if type(node).__name__ == "Error":
            raise ConfigError(f"a function marked @once_differentiable has no second derivative, {INSTEAD}")
        seen.add(node)
        remaining += [following for following, _ in node.next_functions]
