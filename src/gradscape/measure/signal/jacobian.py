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
STEPS = 100  # of Golub and Kahan's method, at most, of two products each
TOLERANCE = 1e-3  # of σ_max: how far a singular value may lie from what is told


@dataclass(frozen=True)
class Singular:
    """Of one Jacobian: σ_max, σ_min (NaN if not known), mean σ² with its standard error, and how.

    A singular value lies within `largest_error` of σ_max, which is approached from below.
    """

    largest: float
    smallest: float
    mean_square: float
    error: float
    how: str
    largest_error: float = 0.0


def singular_values(output: Tensor, source: Tensor, size: int, dense: int | None = None) -> Singular:
    """Largest, smallest and mean squared singular value of ∂output/∂source.

    Args:
        output: (N, …) made from `source`; its graph is kept.
        source: (N, …) that requires a gradient.
        size: N samples; the mean is over N · min(outputs, inputs per sample).
        dense: rows up to which the matrix is computed in full and decomposed, by default 128; above that the
            largest is Golub and Kahan's and the mean square Hutchinson's.

    Example:
        >>> x = torch.eye(2, requires_grad=True)
        >>> singular_values(3 * x, x, size=2).largest
        3.0
    """
    count = size * min(output.numel() // size, source.numel() // size)
    if output.numel() <= (DENSE if dense is None else dense):
        return _in_full(output, source, count)
    largest, apart, steps = _largest_by_lanczos(output, source)
    mean, error = _hutchinson(output, source, count)
    how = f"Golub-Kahan, {steps} steps; Hutchinson, {PROBES} probes"
    return Singular(largest, math.nan, mean, error, how, apart)


def _in_full(output: Tensor, source: Tensor, count: int) -> Singular:
    """Row by row, then by a singular value decomposition in float64."""
    rows = [_left(output, source, unit).flatten() for unit in _units(output)]
    matrix = torch.stack(rows).double().cpu()
    if not matrix.isfinite().all():
        return Singular(math.nan, math.nan, math.nan, math.nan, "the Jacobian is not finite")
    found = torch.linalg.svdvals(matrix)
    square = float(found.square().sum()) / count
    return Singular(float(found[0]), float(found[count - 1]), square, 0.0, "computed in full")


def _units(output: Tensor) -> Iterator[Tensor]:
    for place in range(output.numel()):
        unit = torch.zeros_like(output)
        unit.view(-1)[place] = 1
        yield unit


def _largest_by_lanczos(output: Tensor, source: Tensor) -> tuple[float, float, int]:
    """σ_max from below, a bound on its distance to a singular value, and the steps taken.

    Golub & Kahan (1965): products with J and Jᵀ in turn make an upper bidiagonal B with J V = U B and
    Jᵀ U = V Bᵀ + β v eᵀ, so that of a left singular vector x of B the residual is β |x_k|. All vectors are
    kept orthogonal, or values would come again; lengths are in float64, for squares of 1e-30 are 0 in less.
    """
    dummy = torch.zeros_like(output, requires_grad=True)
    (linear,) = torch.autograd.grad(output, source, dummy, create_graph=True)  # uᵀJ, linear in u
    right, lefts = [_scaled_to_one(torch.randn_like(source))[0]], list[Tensor]()
    most = min(STEPS, source.numel(), output.numel())
    bidiagonal = torch.zeros(most, most, dtype=torch.float64)
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
            beta = 0.0  # J takes the new vector into what is known: there is no more of it
        vectors, values, _ = torch.linalg.svd(bidiagonal[: k + 1, : k + 1])
        sigma = float(values[0])
        error = beta * abs(float(vectors[k, 0])) if length else 0.0
        if beta <= sigma * torch.finfo(source.dtype).eps or error <= TOLERANCE * sigma:
            break
        right.append(rest)
    return sigma, error, k + 1


def _scaled_to_one(vector: Tensor) -> tuple[Tensor, float]:
    """A vector of length 1, and the length it had."""
    most = float(vector.abs().max())  # first: a square of 1e-30 is 0
    if not most or not math.isfinite(most):
        return vector, most
    small = vector / most
    length = float(torch.linalg.vector_norm(small, dtype=torch.float64))
    return small / length, most * length


def _beyond(vector: Tensor, known: list[Tensor]) -> tuple[Tensor, Tensor, float]:
    """Components along known unit vectors, in float64; of what is left the direction and the length."""
    inside = torch.zeros(len(known), dtype=torch.float64)
    unit, length = _scaled_to_one(vector)
    if not known or not length or not math.isfinite(length):
        return inside, unit, length
    basis = torch.stack([each.flatten() for each in known])
    rest = unit.flatten()
    for _ in range(2):
        again = basis @ rest
        rest = rest - basis.T @ again
        inside += again.double().cpu()
    new, share = _scaled_to_one(rest.view_as(unit))
    return inside * length, new, share * length


def _hutchinson(output: Tensor, source: Tensor, count: int) -> tuple[float, float]:
    """Mean σ² = E‖uᵀJ‖² / count over signs u, and its standard error (Hutchinson 1990)."""
    found = []
    for _ in range(PROBES):
        signs = torch.randint(0, 2, output.shape, device=output.device).to(output.dtype) * 2 - 1
        found.append(float(_left(output, source, signs).double().square().sum()) / count)
    values = torch.tensor(found, dtype=torch.float64)
    return float(values.mean()), float(values.std() / math.sqrt(PROBES))


def _left(output: Tensor, source: Tensor, vector: Tensor) -> Tensor:
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
