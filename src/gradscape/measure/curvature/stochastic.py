"""Trace and spectral density of a matrix, estimated from its products with random vectors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gradscape.measure.curvature.lanczos import Lanczos, NormalSampler, Product, Ritz, ShouldContinue
from gradscape.records.curvature import Estimate, Spectrum


def _signs(draw: NormalSampler) -> Tensor:
    """Draw (n,) of ±1 with equal probability, whose estimates of a trace vary least (Hutchinson 1990)."""
    values = draw()
    return torch.ones_like(values).copysign(values)


def trace(
    product: Product, draw: NormalSampler, products: int, should_continue: ShouldContinue = lambda: True
) -> Estimate | None:
    """Estimate the trace by Hutch++ (Meyer et al. 2021, Algorithm 1).

    A third of the products finds the dominant directions, a third sums the trace over these exactly, and a
    third estimates the trace of the rest with random signs.

    Args:
        product: Function that multiplies the matrix by a vector (n,).
        draw: Function that draws random vectors (n,).
        products: Number of products, 6 or more.
        should_continue: Function that returns False when time is up; the rest has at least two products.

    Returns:
        Trace with its standard error.
    """
    third, size = products // 3, len(draw())
    sketch = []
    for _ in range(min(third, size)):
        if not should_continue():
            break
        sketch.append(product(_signs(draw)))
    basis = torch.linalg.qr(torch.stack(sketch, dim=1))[0] if sketch else draw().new_empty(size, 0)
    exact = 0.0
    for column in basis.T:
        exact += float(column.double() @ product(column.contiguous()).double())
    rest: list[float] = []
    while len(rest) < max(third, 2) and (len(rest) < 2 or should_continue()):
        if basis.shape[1] == size:
            return Estimate(exact, 0.0, third)  # there is no rest
        probe = _signs(draw)
        probe = probe - basis @ (basis.T @ probe)
        rest.append(float(probe.double() @ product(probe).double()))
    values = torch.tensor(rest, dtype=torch.float64, device="cpu")
    return Estimate(exact + float(values.mean()), float(values.std() / math.sqrt(len(rest))), len(rest))


def spectrum(
    product: Product,
    draw: NormalSampler,
    probes: int,
    steps: int,
    should_continue: ShouldContinue = lambda: True,
    first: Ritz | None = None,
) -> Spectrum | None:
    """Estimate the spectral density by stochastic Lanczos quadrature.

    Source: Ubaru et al. (2017), Ghorbani et al. (2019).

    Args:
        product: Function that multiplies the matrix by a vector (n,).
        draw: Function that draws rotation-invariant random vectors (n,).
        probes: Number of Lanczos runs.
        steps: Steps per run.
        should_continue: Function that returns False when time is up; a run with half of its steps counts.
        first: Ritz pairs of a first run that has been done.

    Returns:
        Nodes and weights, (probes, steps) each; None if time ran out before half of the first run.
    """
    runs = [] if first is None else [first]
    while len(runs) < probes:
        lanczos = Lanczos(product, draw, steps)
        while not lanczos.full and should_continue():
            lanczos.step()
        if not lanczos.full and lanczos.count < steps / 2:
            break
        runs.append(lanczos.ritz())
    if not runs:
        return None
    longest = max(len(run.values) for run in runs)
    nodes, weights = [], []
    for run in runs:
        missing = longest - len(run.values)
        nodes.append(torch.nn.functional.pad(run.values, (0, missing), value=float(run.values[-1])))
        weights.append(torch.nn.functional.pad(run.first, (0, missing)))
    return Spectrum(torch.stack(nodes).numpy(), torch.stack(weights).numpy())
