"""Eigenvalues of a symmetric matrix that is known by its products with vectors: Lanczos's method, restarted.

Every new vector is made orthogonal to all before, twice: in finite precision the method would otherwise find
eigenvalues again and again (Paige 1971). When the basis has taken its room, the Ritz vectors that are wanted
and some beside them begin the next one (Wu & Simon 2000, thick restart).

A Krylov space has one vector of every eigenvalue, however many times the matrix has it. So what was found is
held against a new random vector, orthogonal to it all: a copy that is missing would come out of that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]
Carry = Callable[[], bool]  # whether there is time left
Draw = Callable[[], Tensor]  # a new (n,) of standard normal numbers
GUARD = 5  # Ritz pairs kept at a restart beside those that are wanted, at each end
# Products of a random vector that hold what was found against it. What it leaves unseen lies, but for one
# time in 100, within 10 % of the spectrum's width beyond what was found (Kuczyński & Woźniakowski 1992,
# Theorem 4.2, n = 10⁶), mostly much nearer: eigenvalues far out are seen first.
CONFIRM = 20


@dataclass(frozen=True)
class Ritz:
    """Approximate eigenpairs; an eigenvalue lies within `residual` of each value.

    Attributes:
        values: (m,) ascending, float64.
        residuals: (m,) ‖Av − λv‖, or more where a random vector has come in between.
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
        draw: random vectors: the first one, and others where a new beginning is needed.
        room: vectors that are kept at most.
    """

    def __init__(self, product: Product, draw: Draw, room: int) -> None:
        start = draw()
        self.product, self.draw, self.size = product, draw, len(start)
        room = min(room, self.size)
        self.basis = start.new_empty(room + 1, self.size)
        self.basis[0] = start / torch.linalg.vector_norm(start)
        self.projected = torch.zeros(room + 1, room + 1, dtype=torch.float64)
        self.count = 0  # vectors whose product is known
        self.since = 0  # products since the last random vector
        self.rest = 0.0  # length of what the last product had beyond the basis
        # What products had along vectors that were given up for a random one: a row for each of those.
        self.dropped = torch.zeros(0, room + 1, dtype=torch.float64)
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
        self.since += 1
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
        known, self.since = self.basis[: self.count], 0
        new = self.draw()
        for _ in range(2):
            new = new - known.T @ (known @ new)
            new = new / torch.linalg.vector_norm(new)
        return new

    def renew(self, residual: float) -> None:
        """Go on from a random vector, orthogonal to the Ritz vectors whose residuals are within this one."""
        found = self.ritz()
        kept = (found.residuals <= residual).nonzero().flatten().tolist()
        beyond = self.keep(kept)
        self.dropped = torch.cat([self.dropped, beyond])
        self.basis[self.count] = self.outside()

    def ritz(self, chosen: slice | list[int] | None = None) -> Ritz:
        """What the basis says of the spectrum; vectors of the chosen ones, or none."""
        m = self.count
        values, inner = torch.linalg.eigh(self.projected[:m, :m])
        vectors = None
        if chosen is not None:
            vectors = inner[:, chosen].T.to(self.basis) @ self.basis[:m]
        residuals = (self.rest * inner[-1]).abs()
        if not self.whole:  # of which nothing is outside
            residuals += (self.dropped[:, :m] @ inner).abs().sum(0)
        return Ritz(values, residuals, inner[0].square(), vectors, self.whole)

    def restart(self, low: int, high: int) -> None:
        """Go on with so many Ritz vectors of each end, and what the last product had beyond."""
        m, low, high = self.count, low + GUARD, high + GUARD
        if low + high >= m - 1:
            low, high = low * (m - 2) // (low + high), high * (m - 2) // (low + high)
        following = self.basis[m].clone()
        self.keep([*range(low), *range(m - high, m)])
        self.basis[self.count] = following

    def keep(self, kept: list[int]) -> Tensor:
        """These Ritz vectors alone; (1, room + 1) what the last product had of them beyond the basis."""
        m = self.count
        values, inner = torch.linalg.eigh(self.projected[:m, :m])
        chosen = inner[:, kept]
        self.count = len(kept)
        self.basis[: self.count] = chosen.T.to(self.basis) @ self.basis[:m]
        self.dropped[:, : self.count] = self.dropped[:, :m] @ chosen
        self.dropped[:, self.count :] = 0
        self.projected.zero_()
        self.projected[range(self.count), range(self.count)] = values[kept]
        beyond = self.projected.new_zeros(1, len(self.basis))
        beyond[0, : self.count] = self.rest * chosen[-1]
        self.rest = 0.0
        return beyond


@dataclass(frozen=True)
class Extremes:
    """Both ends of a spectrum.

    Attributes:
        largest, smallest: (k,) from the outside in.
        largest_residuals, smallest_residuals: (k,) see `Ritz`.
        largest_vectors, smallest_vectors: (k, n), or None.
        products: that were taken.
        converged: whether all residuals are within the tolerance, and a random vector orthogonal to what was
            found has shown no other copy of an eigenvalue.
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
    draw: Draw,
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
        draw: random vectors (n,).
        count: at each end; no more than n.
        tolerance: a residual's, beside the largest value's modulus.
        room: vectors that are kept at most; they are (n,) each.
        most: products at most.
        carry_on: asked before each; False ends with what is known.
        vectors: whether eigenvectors are wanted.
        told: called now and then.
    """
    lanczos = Lanczos(product, draw, max(room, 2 * (count + GUARD) + 2))
    size, products, done = lanczos.size, 0, False
    before: Tensor | None = None  # both ends when the last random vector came in
    while not done and products < most and (products == 0 or carry_on()):
        if lanczos.full and not lanczos.whole:
            lanczos.restart(count, count)
        lanczos.step()
        products += 1
        if lanczos.count < min(2 * count, size) or (products % 5 and not lanczos.full and lanczos.rest):
            continue
        found = lanczos.ritz()
        told(products, found)
        now = torch.cat([found.values[:count], found.values[-count:]])
        largest = float(found.values.abs().max())
        same = before is not None and bool(((now - before).abs() <= tolerance * largest).all())
        # Of the outermost eigenvalue any start has a part: only of those behind it there may be more.
        seen = count == 1 or (same and (lanczos.since >= CONFIRM or not lanczos.rest))
        done = lanczos.whole or (seen and _is_within(found, count, tolerance))
        if not lanczos.rest:
            before = now  # an invariant subspace: the step has begun anew by itself
        elif not done and not same and _is_within(found, count, limit := tolerance * _left(lanczos)):
            before = now
            lanczos.renew(limit * largest)
    return _ends(lanczos, count, products, tolerance, vectors, done)


def _left(lanczos: Lanczos) -> float:
    """Share of the tolerance within which a random vector may come in: it adds to residuals by and by."""
    share: float = 1 - 0.5 ** (1 + len(lanczos.dropped))
    return share


def _is_within(found: Ritz, count: int, tolerance: float) -> bool:
    """Whether both ends have their residuals within the tolerance."""
    largest = float(found.values.abs().max())
    outer = torch.cat([found.residuals[:count], found.residuals[-count:]])
    return bool((outer <= tolerance * largest).all())


def _ends(
    lanczos: Lanczos, count: int, products: int, tolerance: float, vectors: bool, done: bool
) -> Extremes:
    """Both ends as they are known, from the outside in."""
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
        converged=done and bool((residuals <= tolerance * largest).all()),
    )
