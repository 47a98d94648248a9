"""Extreme eigenvalues of a symmetric matrix from its products with vectors: restarted Lanczos.

Every new vector is orthogonalized twice against all before: in finite precision the method would otherwise
find the same eigenvalues repeatedly (Paige 1971). When the basis is full, the outer Ritz vectors start the
next one (Wu & Simon 2000, thick restart).

A Krylov space has one vector per distinct eigenvalue, whatever its multiplicity. The method therefore
continues from a random vector orthogonal to the converged Ritz vectors, which would reveal a missing copy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]
ShouldContinue = Callable[[], bool]  # returns whether there is time left
NormalSampler = Callable[[], Tensor]  # returns new standard normal numbers (n,)
GUARD = 5  # additional Ritz pairs in a restart, at each end
# Products that check the eigenvalues with a random vector. With probability 0.99 an eigenvalue that they miss
# lies within 10 % of the spectrum's width beyond these (Kuczyński & Woźniakowski 1992, Theorem 4.2, n = 10⁶),
# mostly much nearer: the outermost eigenvalues appear first.
CONFIRM = 20


@dataclass(frozen=True)
class Ritz:
    """Approximate eigenpairs; an eigenvalue lies within `residual` of each value.

    Attributes:
        values: Ritz values (m,), ascending, float64.
        residuals: ‖Av − λv‖, (m,); upper bounds after a random vector was inserted.
        first: Squares of the first entries of the projected matrix's eigenvectors, (m,): the quadrature
            weights of a run without restart (Golub & Welsch 1969).
        vectors: Ritz vectors (m, n) of unit length, or None.
        whole: Whether the basis spans the whole space, so that the values are all eigenvalues.
    """

    values: Tensor
    residuals: Tensor
    first: Tensor
    vectors: Tensor | None
    whole: bool


class Lanczos:
    """Krylov basis that grows by one product at a time.

    Args:
        product: Function that multiplies the symmetric matrix by a vector (n,).
        draw: Function that draws random vectors (n,), for the start and for new starts.
        room: Maximal number of basis vectors.
    """

    def __init__(self, product: Product, draw: NormalSampler, room: int) -> None:
        start = draw()
        self.product, self.draw, self.size = product, draw, len(start)
        room = min(room, self.size)
        self.basis = start.new_empty(room + 1, self.size)
        self.basis[0] = start / torch.linalg.vector_norm(start)
        self.projected = torch.zeros(room + 1, room + 1, dtype=torch.float64, device="cpu")
        self.count = 0  # vectors with a product
        self.since = 0  # products since the last random vector
        self.rest = 0.0  # norm of the last product's part outside the basis
        # Parts of products along vectors that a random one replaced, a row for each replacement.
        self.dropped = torch.zeros(0, room + 1, dtype=torch.float64, device="cpu")
        self.scale = 0.0  # largest norm of a product, the scale of rounding

    @property
    def full(self) -> bool:
        """True if the basis has no room for another product."""
        return self.count == len(self.basis) - 1

    @property
    def spans_all(self) -> bool:
        """True if the basis spans the whole space."""
        return self.count == self.size

    def step(self) -> None:
        """Extend the basis by one product."""
        j = self.count
        basis = self.basis[: j + 1]
        new = self.product(self.basis[j])
        self.scale = max(self.scale, float(torch.linalg.vector_norm(new)))
        inside = basis @ new
        new = new - basis.T @ inside
        again = basis @ new
        new = new - basis.T @ again
        self.projected[: j + 1, j] = self.projected[j, : j + 1] = (inside + again).double().cpu()
        self.count += 1
        self.since += 1
        self.rest = float(torch.linalg.vector_norm(new))
        if self.rest > self.size**0.5 * torch.finfo(new.dtype).eps * self.scale:
            self.basis[j + 1] = new / self.rest
            self.projected[j + 1, j] = self.projected[j, j + 1] = self.rest
            return
        self.rest = 0.0  # an invariant subspace: start anew anywhere outside it
        if not self.spans_all:
            self.basis[j + 1] = self._outside()

    def _outside(self) -> Tensor:
        """Draw a unit vector orthogonal to the basis, by two passes."""
        basis, self.since = self.basis[: self.count], 0
        new = self.draw()
        for _ in range(2):
            new = new - basis.T @ (basis @ new)
            new = new / torch.linalg.vector_norm(new)
        return new

    def renew(self, residual: float) -> None:
        """Continue from a random vector orthogonal to the converged Ritz vectors.

        Args:
            residual: Residual of a converged Ritz vector, at most.
        """
        converged = (self.ritz().residuals <= residual).nonzero().flatten().tolist()
        self.dropped = torch.cat([self.dropped, self._project(converged)])
        self.basis[self.count] = self._outside()

    def ritz(self, chosen: slice | list[int] | None = None) -> Ritz:
        """Return the Ritz pairs of the basis.

        Args:
            chosen: Indices of the Ritz vectors to compute; None for none.
        """
        m = self.count
        values, inner = torch.linalg.eigh(self.projected[:m, :m])
        vectors = None
        if chosen is not None:
            vectors = inner[:, chosen].T.to(self.basis) @ self.basis[:m]
        residuals = (self.rest * inner[-1]).abs()
        if not self.spans_all:  # otherwise nothing is outside
            residuals += (self.dropped[:, :m] @ inner).abs().sum(0)
        return Ritz(values, residuals, inner[0].square(), vectors, self.spans_all)

    def restart(self, low: int, high: int) -> None:
        """Reduce the basis to outer Ritz vectors and the last product's part outside the basis.

        Args:
            low, high: Numbers of Ritz vectors at either end, besides the guard vectors.
        """
        m, low, high = self.count, low + GUARD, high + GUARD
        if low + high >= m - 1:
            low, high = low * (m - 2) // (low + high), high * (m - 2) // (low + high)
        following = self.basis[m].clone()
        self._project([*range(low), *range(m - high, m)])
        self.basis[self.count] = following

    def _project(self, indices: list[int]) -> Tensor:
        """Reduce the basis to some Ritz vectors; return their residuals, (1, room + 1)."""
        m = self.count
        values, inner = torch.linalg.eigh(self.projected[:m, :m])
        chosen = inner[:, indices]
        self.count = len(indices)
        self.basis[: self.count] = chosen.T.to(self.basis) @ self.basis[:m]
        self.dropped[:, : self.count] = self.dropped[:, :m] @ chosen
        self.dropped[:, self.count :] = 0
        self.projected.zero_()
        self.projected[range(self.count), range(self.count)] = values[indices]
        beyond = self.projected.new_zeros(1, len(self.basis))
        beyond[0, : self.count] = self.rest * chosen[-1]
        self.rest = 0.0
        return beyond


@dataclass(frozen=True)
class Extremes:
    """Both ends of a spectrum.

    Attributes:
        largest, smallest: Eigenvalues (k,), from the outside in.
        largest_residuals, smallest_residuals: Residuals (k,), see `Ritz`.
        largest_vectors, smallest_vectors: Eigenvectors (k, n), or None.
        products: Number of products.
        converged: Whether all residuals are within the tolerance, and a random vector has revealed no other
            copy of an eigenvalue.
        probe: Ritz pairs after the steps of a probe, of which the first random vector is one; None if they
            are not asked for, or time ran out before half of them.
    """

    largest: Tensor
    smallest: Tensor
    largest_residuals: Tensor
    smallest_residuals: Tensor
    largest_vectors: Tensor | None
    smallest_vectors: Tensor | None
    products: int
    converged: bool
    probe: Ritz | None = None


def extremes(
    product: Product,
    draw: NormalSampler,
    count: int,
    tolerance: float,
    room: int,
    most: int,
    should_continue: ShouldContinue = lambda: True,
    vectors: bool = False,
    report: Callable[[int, Ritz], None] = lambda products, ritz: None,
    probe: int = 0,
) -> Extremes:
    """Compute the eigenvalues at both ends from products with the matrix.

    Args:
        product: Function that multiplies the matrix by a vector (n,).
        draw: Function that draws random vectors (n,).
        count: Number of eigenvalues at each end, n at most.
        tolerance: Residual, relative to the largest modulus.
        room: Maximal number of basis vectors (n,).
        most: Maximal number of products.
        should_continue: Function that returns False when time is up.
        vectors: Whether to return eigenvectors.
        report: Callback with the number of products and the Ritz pairs, now and then.
        probe: Steps of a probe of the spectral density, which the first steps are then, at least so many; 0
            for none, as if there is no room for them.
    """
    room = max(room, 2 * (count + GUARD) + 2)
    lanczos = Lanczos(product, draw, room)
    size, products, done = lanczos.size, 0, False
    probe, probed = min(probe, size) if probe <= room else 0, None
    before: Tensor | None = None  # both ends when the last random vector was inserted
    while not done and products < most and (products == 0 or should_continue()):
        if lanczos.full and not lanczos.spans_all:
            lanczos.restart(count, count)
        lanczos.step()
        products += 1
        if lanczos.count < min(2 * count, size) or products < probe:
            continue
        if products % 5 and products != probe and not lanczos.full and lanczos.rest:
            continue
        ritz = lanczos.ritz()
        if products == probe:
            probed = ritz
        report(products, ritz)
        now = torch.cat([ritz.values[:count], ritz.values[-count:]])
        largest = float(ritz.values.abs().max())
        same = before is not None and bool(((now - before).abs() <= tolerance * largest).all())
        # Any start has a component along the outermost eigenvalue: only further ones may have copies.
        confirmed = count == 1 or (same and (lanczos.since >= CONFIRM or not lanczos.rest))
        done = lanczos.spans_all or (confirmed and _is_within(ritz, count, tolerance))
        if not lanczos.rest:
            before = now  # an invariant subspace: the step has started anew
        elif not done and not same and _is_within(ritz, count, limit := tolerance * _share_left(lanczos)):
            before = now
            lanczos.renew(limit * largest)
    if probe / 2 <= products < probe:
        probed = lanczos.ritz()
    return replace(_ends(lanczos, count, products, tolerance, vectors, done), probe=probed)


def _share_left(lanczos: Lanczos) -> float:
    """Return the fraction of the tolerance for inserting a random vector, which increases residuals."""
    share: float = 1 - 0.5 ** (1 + len(lanczos.dropped))
    return share


def _is_within(ritz: Ritz, count: int, tolerance: float) -> bool:
    """Return True if the residuals at both ends are within the tolerance."""
    largest = float(ritz.values.abs().max())
    outer = torch.cat([ritz.residuals[:count], ritz.residuals[-count:]])
    return bool((outer <= tolerance * largest).all())


def _ends(
    lanczos: Lanczos, count: int, products: int, tolerance: float, vectors: bool, done: bool
) -> Extremes:
    """Return the current values of both ends, from the outside in."""
    m = lanczos.count
    count = min(count, m)
    order = [*range(count), *range(m - 1, m - 1 - count, -1)]
    ritz = lanczos.ritz(order if vectors else None)
    largest = float(ritz.values.abs().max()) if m else math.nan
    residuals = ritz.residuals[order]
    return Extremes(
        largest=ritz.values[order[count:]],
        smallest=ritz.values[order[:count]],
        largest_residuals=residuals[count:],
        smallest_residuals=residuals[:count],
        largest_vectors=None if ritz.vectors is None else ritz.vectors[count:],
        smallest_vectors=None if ritz.vectors is None else ritz.vectors[:count],
        products=products,
        converged=done and bool((residuals <= tolerance * largest).all()),
    )
