"""What random vectors tell of a matrix known by its products: its trace and its spectral density."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gradscape.measure.curvature.lanczos import Carry, Draw, Lanczos, Product
from gradscape.records.curvature import Estimate, Spectrum


def _signs(draw: Draw) -> Tensor:
    """(n,) of ±1 with equal chance, whose estimates of a trace vary least (Hutchinson 1990)."""
    values = draw()
    return torch.ones_like(values).copysign(values)


def trace(product: Product, draw: Draw, products: int, carry_on: Carry = lambda: True) -> Estimate | None:
    """Trace by Hutch++ (Meyer et al. 2021, Algorithm 1): a third of the products finds the directions that
    weigh most, a third sums the trace over these exactly, and signs estimate that of the rest.

    Args:
        product: of the matrix.
        draw: random vectors.
        products: 6 or more, in thirds.
        carry_on: asked before each of the rest's; at least two are made.

    Returns:
        None if time ran out before there were two.
    """
    third, size = products // 3, len(draw())
    sketch = []
    for _ in range(min(third, size)):
        if not carry_on():
            break
        sketch.append(product(_signs(draw)))
    basis = torch.linalg.qr(torch.stack(sketch, dim=1))[0] if sketch else draw().new_empty(size, 0)
    exact = 0.0
    for column in basis.T:
        exact += float(column.double() @ product(column.contiguous()).double())
    rest: list[float] = []
    while len(rest) < max(third, 2) and (len(rest) < 2 or carry_on()):
        if basis.shape[1] == size:
            return Estimate(exact, 0.0, third)  # nothing is left over
        probe = _signs(draw)
        probe = probe - basis @ (basis.T @ probe)
        rest.append(float(probe.double() @ product(probe).double()))
    values = torch.tensor(rest, dtype=torch.float64)
    return Estimate(exact + float(values.mean()), float(values.std() / math.sqrt(len(rest))), len(rest))


def spectrum(
    product: Product, draw: Draw, probes: int, steps: int, carry_on: Carry = lambda: True
) -> Spectrum | None:
    """Spectral density by stochastic Lanczos quadrature (Ubaru et al. 2017; Ghorbani et al. 2019).

    Args:
        product: of the matrix.
        draw: random vectors; rotation-invariant, so that weights are those of the density.
        probes: runs of Lanczos.
        steps: of each.
        carry_on: asked before each step; a run that has half of them counts.

    Returns:
        None if time ran out before the first run had half of its steps.
    """
    nodes, weights = [], []
    for _ in range(probes):
        lanczos = Lanczos(product, draw, steps)
        while not lanczos.full and carry_on():
            lanczos.step()
        if lanczos.full or lanczos.count >= steps / 2:
            found = lanczos.ritz()
            missing = len(lanczos.basis) - 1 - lanczos.count
            nodes.append(torch.nn.functional.pad(found.values, (0, missing), value=float(found.values[-1])))
            weights.append(torch.nn.functional.pad(found.first, (0, missing)))
    if not nodes:
        return None
    return Spectrum(torch.stack(nodes).numpy(), torch.stack(weights).numpy())
