"""Singular values of the Jacobian of a network's output by its input, from products alone.

A product from the left is one backward pass, uᵀJ; one from the right is a backward pass through that,
Jv = ∂⟨uᵀJ, v⟩/∂u. Both use one graph: dropout's mask is the same in every product, and layers without a
forward-mode derivative, such as LSTMs, work too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

DENSE = 128  # rows up to which J is computed in full, with as many backward passes as the estimates
PROBES = 32  # probes of Hutchinson's estimate
STEPS = 100  # maximal steps of Golub and Kahan's method, of two products each
TOLERANCE = 1e-3  # error of σ_max, relative to it


@dataclass(frozen=True)
class Singular:
    """Singular values of one Jacobian.

    Attributes:
        largest: σ_max; estimates approach it from below.
        smallest: σ_min, NaN if unknown.
        mean_square: Mean of σ².
        error: Standard error of the mean.
        how: Methods used.
        largest_error: Distance from σ_max to a singular value, at most.
    """

    largest: float
    smallest: float
    mean_square: float
    error: float
    how: str
    largest_error: float = 0.0


def singular_values(output: Tensor, source: Tensor, size: int, dense: int | None = None) -> Singular:
    """Return the largest, smallest and mean squared singular value of ∂output/∂source.

    Args:
        output: Tensor (N, …) computed from `source`; its graph is retained.
        source: Tensor (N, …) that requires a gradient.
        size: N, the number of samples; the mean is over N · min(outputs, inputs per sample).
        dense: Rows up to which the matrix is computed in full and decomposed, by default 128; above that,
            Golub and Kahan's method yields the largest value and Hutchinson's the mean square.

    Example:
        >>> x = torch.eye(2, requires_grad=True)
        >>> singular_values(3 * x, x, size=2).largest
        3.0
    """
    count = size * min(output.numel() // size, source.numel() // size)
    if output.numel() <= (DENSE if dense is None else dense):
        return _in_full(output, source, count)
    largest, distance, steps = _largest_by_lanczos(output, source)
    mean, error = _hutchinson(output, source, count)
    how = f"Golub-Kahan, {steps} steps; Hutchinson, {PROBES} probes"
    return Singular(largest, math.nan, mean, error, how, distance)


def _in_full(output: Tensor, source: Tensor, count: int) -> Singular:
    """Compute the matrix row by row and decompose it in float64."""
    rows = [_left(output, source, unit).flatten() for unit in _units(output)]
    matrix = torch.stack(rows).double().cpu()
    if not matrix.isfinite().all():
        return Singular(math.nan, math.nan, math.nan, math.nan, "the Jacobian is not finite")
    values = torch.linalg.svdvals(matrix)
    square = float(values.square().sum()) / count
    return Singular(float(values[0]), float(values[count - 1]), square, 0.0, "computed in full")


def _units(output: Tensor) -> Iterator[Tensor]:
    for index in range(output.numel()):
        unit = torch.zeros_like(output, memory_format=torch.contiguous_format)
        unit.view(-1)[index] = 1
        yield unit


def _largest_by_lanczos(output: Tensor, source: Tensor) -> tuple[float, float, int]:
    """Return σ_max from below, a bound on its distance to a singular value, and the number of steps.

    Golub & Kahan (1965): alternating products with J and Jᵀ yield an upper bidiagonal B with J V = U B and
    Jᵀ U = V Bᵀ + β v eᵀ; the residual of a left singular vector x of B is β |x_k|. All vectors are
    orthogonalized, otherwise values would repeat; norms are in float64, since the square of 1e-30 is 0 in
    float32.
    """
    dummy = torch.zeros_like(output, requires_grad=True)
    (linear,) = torch.autograd.grad(output, source, dummy, create_graph=True)  # uᵀJ, linear in u
    right, lefts = [_scaled_to_one(torch.randn_like(source))[0]], list[Tensor]()
    most = min(STEPS, source.numel(), output.numel())
    bidiagonal = torch.zeros(most, most, dtype=torch.float64, device="cpu")
    for k in range(most):
        forward = torch.autograd.grad(linear, dummy, right[k], retain_graph=True)[0]
        inside, new, length = _beyond(forward, lefts)
        bidiagonal[:k, k], bidiagonal[k, k] = inside, length
        if not math.isfinite(length):
            return math.nan, math.nan, k + 1
        if length:
            lefts.append(new)
            _, rest, beta = _beyond(_left(output, source, new), right)
        else:
            beta = 0.0  # J maps the new vector into the basis: the space is exhausted
        vectors, values, _ = torch.linalg.svd(bidiagonal[: k + 1, : k + 1])
        sigma = float(values[0])
        error = beta * abs(float(vectors[k, 0])) if length else 0.0
        if beta <= sigma * torch.finfo(source.dtype).eps or error <= TOLERANCE * sigma:
            break
        right.append(rest)
    return sigma, error, k + 1


def _scaled_to_one(vector: Tensor) -> tuple[Tensor, float]:
    """Return a vector scaled to norm 1, and its norm."""
    most = float(vector.abs().max())  # scale first: the square of 1e-30 is 0
    if not most or not math.isfinite(most):
        return vector, most
    small = vector / most
    length = float(torch.linalg.vector_norm(small, dtype=torch.float64))
    return small / length, most * length


def _beyond(vector: Tensor, units: list[Tensor]) -> tuple[Tensor, Tensor, float]:
    """Return components along unit vectors, in float64, and direction and norm of the remainder."""
    inside = torch.zeros(len(units), dtype=torch.float64, device="cpu")
    unit, length = _scaled_to_one(vector)
    if not units or not length or not math.isfinite(length):
        return inside, unit, length
    basis = torch.stack([known.flatten() for known in units])
    rest = unit.flatten()
    for _ in range(2):
        again = basis @ rest
        rest = rest - basis.T @ again
        inside += again.double().cpu()
    new, share = _scaled_to_one(rest.view_as(unit))
    return inside * length, new, share * length


def _hutchinson(output: Tensor, source: Tensor, count: int) -> tuple[float, float]:
    """Return the mean σ² = E‖uᵀJ‖² / count over random signs u, and its standard error (Hutchinson 1990)."""
    squares = []
    for _ in range(PROBES):
        signs = torch.randint(0, 2, output.shape, device=output.device).to(output.dtype) * 2 - 1
        squares.append(float(_left(output, source, signs).double().square().sum()) / count)
    values = torch.tensor(squares, dtype=torch.float64, device="cpu")
    return float(values.mean()), float(values.std() / math.sqrt(PROBES))


def _left(output: Tensor, source: Tensor, vector: Tensor) -> Tensor:
    """Return uᵀJ, of the shape of the source."""
    return torch.autograd.grad(output, source, vector, retain_graph=True)[0]


@contextmanager
def twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Run recurrent layers and attention by kernels with a second derivative, which fused ones lack.

    Args:
        model: Module that will run.
    """
    with sdpa_kernel(SDPBackend.MATH):
        if not any(isinstance(module, nn.RNNBase) for module in model.modules()):
            yield  # convolutions are much slower without oneDNN
            return
        before = torch._C._get_mkldnn_enabled()
        torch._C._set_mkldnn_enabled(False)  # .flags() would also set options that a CPU build warns about
        try:
            with torch.backends.cudnn.flags(enabled=False):
                yield
        finally:
            torch._C._set_mkldnn_enabled(before)
