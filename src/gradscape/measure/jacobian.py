"""Singular values of the Jacobian of a network's output by its input, by products with it alone.

A product from the left is one backward pass, uᵀJ; one from the right is a backward pass through that,
Jv = ∂⟨uᵀJ, v⟩/∂u. Both run on one graph, so that dropout's mask is the same in every product, and the
double backward exists for layers that have no forward-mode derivative, such as LSTMs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

DENSE = 128  # rows up to which J is computed in full: as many backward passes as the estimates take
PROBES = 32  # of Hutchinson's estimate
ITERATIONS = 100  # of the power method, at most
TOLERANCE = 1e-3  # relative change of σ_max at which it ends


@dataclass(frozen=True)
class Singular:
    """Of one Jacobian: σ_max, σ_min (NaN if not known), mean σ² with its standard error, and how."""

    largest: float
    smallest: float
    mean_square: float
    error: float
    how: str


def singular_values(output: Tensor, source: Tensor, size: int, dense: int | None = None) -> Singular:
    """Largest, smallest and mean squared singular value of ∂output/∂source.

    Args:
        output: (N, …) made from `source`; its graph is kept.
        source: (N, …) that requires a gradient.
        size: N samples; the mean is over N · min(outputs, inputs per sample).
        dense: rows up to which the matrix is computed in full and decomposed, by default 128; above that the
            largest is the power method's and the mean square Hutchinson's.

    Example:
        >>> x = torch.eye(2, requires_grad=True)
        >>> singular_values(3 * x, x, size=2).largest
        3.0
    """
    count = size * min(output.numel() // size, source.numel() // size)
    if output.numel() <= (DENSE if dense is None else dense):
        return in_full(output, source, count)
    largest, steps = power_method(output, source)
    mean, error = hutchinson(output, source, count)
    how = f"power method, {steps} iterations; Hutchinson, {PROBES} probes"
    return Singular(largest, math.nan, mean, error, how)


def in_full(output: Tensor, source: Tensor, count: int) -> Singular:
    """Row by row, then by a singular value decomposition in float64."""
    rows = [left(output, source, unit).flatten() for unit in units(output)]
    matrix = torch.stack(rows).double().cpu()
    if not matrix.isfinite().all():
        return Singular(math.nan, math.nan, math.nan, math.nan, "the Jacobian is not finite")
    found = torch.linalg.svdvals(matrix)
    square = float(found.square().sum()) / count
    return Singular(float(found[0]), float(found[count - 1]), square, 0.0, "computed in full")


def units(output: Tensor) -> Iterator[Tensor]:
    for place in range(output.numel()):
        unit = torch.zeros_like(output)
        unit.view(-1)[place] = 1
        yield unit


def power_method(output: Tensor, source: Tensor) -> tuple[float, int]:
    """σ_max by v ← JᵀJv, and after how many iterations it moved by less than the tolerance."""
    direction = torch.randn_like(source)
    dummy = torch.zeros_like(output, requires_grad=True)
    (linear,) = torch.autograd.grad(output, source, dummy, create_graph=True)  # uᵀJ, linear in u
    before = 0.0
    for step in range(1, ITERATIONS + 1):
        direction = direction / direction.abs().max()  # first: squares of 1e-30 are 0
        direction = direction / torch.linalg.vector_norm(direction)
        forward = torch.autograd.grad(linear, dummy, direction, retain_graph=True)[0]
        now = float(torch.linalg.vector_norm(forward.double()))
        if now == 0 or not math.isfinite(now) or abs(now - before) <= TOLERANCE * now:
            return now, step
        before, direction = now, left(output, source, forward / now)
        if not direction.any():
            return now, step
    return before, ITERATIONS


def hutchinson(output: Tensor, source: Tensor, count: int) -> tuple[float, float]:
    """Mean σ² = E‖uᵀJ‖² / count over signs u, and its standard error (Hutchinson 1990)."""
    found = []
    for _ in range(PROBES):
        signs = torch.randint(0, 2, output.shape, device=output.device).to(output.dtype) * 2 - 1
        found.append(float(left(output, source, signs).double().square().sum()) / count)
    values = torch.tensor(found, dtype=torch.float64)
    return float(values.mean()), float(values.std() / math.sqrt(PROBES))


def left(output: Tensor, source: Tensor, vector: Tensor) -> Tensor:
    """uᵀJ, in the shape of the source."""
    return torch.autograd.grad(output, source, vector, retain_graph=True)[0]


@contextmanager
def twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Run recurrent layers and attention by kernels that have a second derivative: fused ones have none."""
    with sdpa_kernel(SDPBackend.MATH):
        if not any(isinstance(module, nn.RNNBase) for module in model.modules()):
            yield  # convolutions are much slower without them
            return
        before = torch._C._get_mkldnn_enabled()
        torch._C._set_mkldnn_enabled(False)  # .flags() would also set what a CPU build warns of
        try:
            with torch.backends.cudnn.flags(enabled=False):
                yield
        finally:
            torch._C._set_mkldnn_enabled(before)
