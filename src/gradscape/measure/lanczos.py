"""Eigenvalues of a symmetric matrix that is known by its products with vectors: Lanczos's method, restarted.

Every new vector is made orthogonal to all before, twice: in finite precision the method would otherwise find
eigenvalues again and again (Paige 1971). When the basis has taken its room, the Ritz vectors that are wanted
and some beside them begin the next one (Wu & Simon 2000, thick restart).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]
Carry = Callable[[], bool]  # whether there is time left
GUARD = 5  # Ritz pairs kept at a restart beside those that are wanted, at each end


@dataclass(frozen=True)
class Ritz:
    """Approximate eigenpairs; an eigenvalue lies within `residual` of each value.

    Attributes:
        values: (m,) ascending, float64.
        residuals: (m,) ‖Av − λv‖.
        first: (m,) squares of the first entries of the projected matrix's eigenvectors: the quadrature
            weights of a run that was not restarted (Golub & Welsch 1969).
        vectors: (m, n) of unit length, or none.
        whole: whether the basis is the whole space: then the values are all there are.
    """

    values: Tensor
    residuals: Tensor
    first: Tensor
    vectors: Tensor | None
    whole: bool


class Lanczos:
    """A Krylov basis that grows by a product at a time.

    Args:
        product: (n,) → (n,), symmetric.
        start: (n,) the first vector, of any length.
        room: vectors that are kept at most.
    """

    def __init__(self, product: Product, start: Tensor, room: int) -> None:
        self.product, self.size = product, len(start)
        room = min(room, self.size)
        self.basis = start.new_empty(room + 1, self.size)
        self.basis[0] = start / torch.linalg.vector_norm(start)
        self.projected = torch.zeros(room + 1, room + 1, dtype=torch.float64)
        self.count = 0  # vectors whose product is known
        self.rest = 0.0  # length of what the last product had beyond the basis
        self.scale = 0.0  # largest product's length: what numbers are small beside

    @property
    def full(self) -> bool:
        return self.count == len(self.basis) - 1

    @property
    def whole(self) -> bool:
        """Whether nothing lies outside the basis."""
        return self.count == self.size

    def step(self) -> None:
        """One product more."""
        j = self.count
        known = self.basis[: j + 1]
        new = self.product(self.basis[j])
        self.scale = max(self.scale, float(torch.linalg.vector_norm(new)))
        inside = known @ new
        new = new - known.T @ inside
        again = known @ new
        new = new - known.T @ again
        self.projected[: j + 1, j] = self.projected[j, : j + 1] = (inside + again).double().cpu()
        self.count += 1
        self.rest = float(torch.linalg.vector_norm(new))
        if self.rest > self.size**0.5 * torch.finfo(new.dtype).eps * self.scale:
            self.basis[j + 1] = new / self.rest
            self.projected[j + 1, j] = self.projected[j, j + 1] = self.rest
            return
        self.rest = 0.0  # an invariant subspace: what else there is begins anywhere outside it
        if not self.whole:
            self.basis[j + 1] = self.outside()

    def outside(self) -> Tensor:
        """A unit vector orthogonal to the basis."""
        known = self.basis[: self.count]
        new = torch.randn_like(self.basis[0])
        for _ in range(2):
            new = new - known.T @ (known @ new)
            new = new / torch.linalg.vector_norm(new)
        return new

    def ritz(self, chosen: slice | list[int] | None = None) -> Ritz:
        """What the basis says of the spectrum; vectors of the chosen ones, or none."""
        m = self.count
        values, inner = torch.linalg.eigh(self.projected[:m, :m])
        vectors = None
        if chosen is not None:
            vectors = inner[:, chosen].T.to(self.basis) @ self.basis[:m]
        residuals = (self.rest * inner[-1]).abs()
        return Ritz(values, residuals, inner[0].square(), vectors, self.whole)

    def restart(self, low: int, high: int) -> None:
        """Go on with so many Ritz vectors of each end, and what the last product had beyond."""
        m, low, high = self.count, low + GUARD, high + GUARD
        if low + high >= m - 1:
            low, high = low * (m - 2) // (low + high), high * (m - 2) // (low + high)
        kept = [*range(low), *range(m - high, m)]
        found = self.ritz(kept)
        assert found.vectors is not None
        following = self.basis[m].clone()
        self.count = len(kept)
        self.basis[: self.count] = found.vectors
        self.basis[self.count] = following
        self.projected.zero_()
        self.projected[range(self.count), range(self.count)] = found.values[kept]


@dataclass(frozen=True)
class Extremes:
    """Both ends of a spectrum.

    Attributes:
        largest, smallest: (k,) from the outside in.
        largest_residuals, smallest_residuals: (k,) see `Ritz`.
        largest_vectors, smallest_vectors: (k, n), or None.
        products: that were taken.
        converged: whether all residuals are within the tolerance.
    """

    largest: Tensor
    smallest: Tensor
    largest_residuals: Tensor
    smallest_residuals: Tensor
    largest_vectors: Tensor | None
    smallest_vectors: Tensor | None
    products: int
    converged: bool


def extremes(
    product: Product,
    start: Tensor,
    count: int,
    tolerance: float,
    room: int,
    most: int,
    carry_on: Carry = lambda: True,
    vectors: bool = False,
    told: Callable[[int, Ritz], None] = lambda products, ritz: None,
) -> Extremes:
    """The eigenvalues at both ends, by products with the matrix.

    Args:
        product: of the matrix with (n,).
        start: (n,) a random vector.
        count: at each end; no more than n.
        tolerance: a residual's, beside the largest value's modulus.
        room: vectors that are kept at most; they are (n,) each.
        most: products at most.
        carry_on: asked before each; False ends with what is known.
        vectors: whether eigenvectors are wanted.
        told: called now and then.
    """
    size = len(start)
    lanczos = Lanczos(product, start, max(room, min(size, 2 * (count + GUARD) + 2)))
    products, done = 0, False
    while not done and products < most and (products == 0 or carry_on()):
        if lanczos.full and not lanczos.whole:
            lanczos.restart(count, count)
        lanczos.step()
        products += 1
        if lanczos.count >= min(2 * count, size) and (products % 5 == 0 or lanczos.full or lanczos.rest == 0):
            found = lanczos.ritz()
            told(products, found)
            done = lanczos.whole or is_within(found, count, tolerance)
    return ends(lanczos, count, products, tolerance, vectors)


def is_within(found: Ritz, count: int, tolerance: float) -> bool:
    """Whether both ends are known; after an invariant subspace there may be more than it has shown."""
    largest = float(found.values.abs().max())
    ends = torch.cat([found.residuals[:count], found.residuals[-count:]])
    return bool((ends <= tolerance * largest).all()) and float(found.residuals.max()) > 0


def ends(lanczos: Lanczos, count: int, products: int, tolerance: float, vectors: bool) -> Extremes:
    m = lanczos.count
    count = min(count, m)
    order = [*range(count), *range(m - 1, m - 1 - count, -1)]
    found = lanczos.ritz(order if vectors else None)
    largest = float(found.values.abs().max()) if m else math.nan
    residuals = found.residuals[order]
    return Extremes(
        largest=found.values[order[count:]],
        smallest=found.values[order[:count]],
        largest_residuals=residuals[count:],
        smallest_residuals=residuals[:count],
        largest_vectors=None if found.vectors is None else found.vectors[count:],
        smallest_vectors=None if found.vectors is None else found.vectors[:count],
        products=products,
        converged=bool((residuals <= tolerance * largest).all()),
    )
