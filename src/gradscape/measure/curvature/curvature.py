"""Curvature of a loss: eigenvalues at both ends, trace, spectral density, whole model and per layer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gradscape._text import counted
from gradscape.config.arguments import typed
from gradscape.errors import ConfigError, brief
from gradscape.measure.core.batch import Loss
from gradscape.measure.core.objective import Objective, Statistics, norm
from gradscape.measure.core.parameters import plain
from gradscape.measure.curvature.edge_of_stability import stability
from gradscape.measure.curvature.hvp import Matrix, Products, room
from gradscape.measure.curvature.lanczos import Draw, Ritz, extremes
from gradscape.measure.curvature.stochastic import spectrum, trace
from gradscape.records.curvature import CurvatureRecord, Ends, LayerCurvature, Stability

MOST = 100  # products for the eigenvalues, and as many more for each that is wanted
BASIS = 120  # Lanczos vectors that are kept, where there is room for them
SHARE = 0.25  # of the free memory: what they may take
LAYER_TRACE = 12  # products
Report = Callable[[str], None]


@dataclass
class Clock:
    """How long there is, and how long it took."""

    limit: float | None
    start: float = field(default_factory=time.perf_counter)
    ended: bool = False

    @property
    def spent(self) -> float:
        return time.perf_counter() - self.start

    def carry_on(self) -> bool:
        self.ended = self.ended or (self.limit is not None and self.spent > self.limit)
        return not self.ended


@typed(k=1_000, trace_products=1_000_000, probes=10_000, steps=10_000, seed=2**63 - 1)
def curvature(
    model: nn.Module,
    loss: Loss | None,
    batches: Any,
    k: int = 5,
    *,
    matrix: Matrix = "hessian",
    bn: Statistics = "running",
    trace_products: int = 30,
    probes: int = 0,
    steps: int = 80,
    layers: bool = False,
    vectors: bool = False,
    optimizer: Optimizer | None = None,
    tolerance: float = 1e-3,
    time_limit: float | None = None,
    seed: int = 0,
    report: Report = lambda text: None,
) -> CurvatureRecord:
    """Measure second derivatives of a loss at a model's parameters, by products with vectors alone.

    A product costs two gradients where the memory holds the graph of the backward pass, three elsewhere. The
    model, its buffers, gradients and modes, and all random numbers, are left as found.

    Args:
        model: a module; its parameters that have a gradient are looked at.
        loss: loss(output, y), loss(output), or loss(output, dict) in turn, or loss(model, batch), which calls
            the model itself; a tensor of one number. None for a model whose output has a `loss`.
        batches: one batch, (x, y), x or a dict of the model's arguments (one argument that is a tuple, list
            or dict is given as ((x,), y)), or several: a list, or a DataLoader,
            of which one pass is kept. The loss is their mean over samples.
        k: eigenvalues at each end of the spectrum; 0 for none.
        matrix: `hessian`, or `ggn`, the generalised Gauss-Newton matrix.
        bn: `running` for BatchNorm's statistics of evaluation, `batch` for those of each batch, as in
            training.
        trace_products: for the trace, by Hutch++; 6 or more, or 0 for none.
        probes: of the spectral density; 0 for none, 5 or more for a standard error that means something.
        steps: of Lanczos's method for each probe.
        layers: each layer's block too: its largest and smallest eigenvalue and its trace.
        vectors: keep the eigenvectors.
        optimizer: that trains the model: its edge of stability is told, BatchNorm being as in training.
        tolerance: an eigenvalue's residual, beside the largest modulus.
        time_limit: seconds, after which what is known so far is returned, with its error.
        seed: of the random vectors.
        report: called with what it will cost, and with what is known on the way.

    Raises:
        ConfigError: a loss that is not one number or not finite, an operation without a second derivative,
            more eigenvalues than parameters, a setting out of range.

    Source: Pearlmutter (1994) for products, Lanczos (1950) with full reorthogonalisation, Meyer et al. (2021)
        for the trace, Ghorbani et al. (2019) for the density.

    Example:
        >>> print(gs.curvature(model, nn.functional.cross_entropy, (x, y), k=3, probes=5))
    """
    objective = Objective(model, loss, batches, bn)
    _check_settings(objective.size, k, matrix, trace_products, probes, steps, tolerance, time_limit)
    clock = Clock(time_limit)
    products = Products(objective, matrix)
    draw = normal_like(products.gradient, seed)
    _tell_cost(products, draw, k, trace_products, probes * steps, clock, report)
    ends = eigenvalues(products, draw, k, tolerance, vectors, clock, report) if k else None
    edge: Stability | str | None = None
    if optimizer is not None and clock.carry_on():
        # Of the loss that is trained: with running statistics the bias before a norm has a curvature.
        trained = (
            products if (matrix, bn) == ("hessian", "batch") else Products(objective.changed(bn="batch"))
        )
        edge = stability(trained, optimizer, draw, tolerance, clock.carry_on)
    sum_of_all, density = None, None
    if trace_products and clock.carry_on():
        sum_of_all = trace(products, draw, trace_products, clock.carry_on)
        report(f"trace {sum_of_all}, {clock.spent:.0f} s")
    if probes and clock.carry_on():
        density = spectrum(products, draw, probes, steps, clock.carry_on)
        report(f"spectral density, {clock.spent:.0f} s")
    blocks = _by_layer(objective, matrix, seed, tolerance, clock, report) if layers else ()
    return CurvatureRecord(
        matrix=matrix,
        bn=bn,
        parameters=objective.size,
        samples=objective.samples,
        loss=products.loss,
        gradient_norm=norm(products.gradient),
        ends=ends,
        trace=sum_of_all,
        spectrum=density,
        stability=edge if isinstance(edge, Stability) else None,
        layers=blocks,
        products=products.count,
        seconds=clock.spent,
        complete=not clock.ended,
        notes=(*objective.notes, *([edge] if isinstance(edge, str) else [])),
    )


def normal_like(vector: Tensor, seed: int) -> Draw:
    """New vectors of standard normal numbers at each call."""
    random = torch.Generator(vector.device).manual_seed(seed)
    return lambda: torch.empty_like(vector).normal_(generator=random)


def _check_settings(
    size: int,
    k: int,
    matrix: str,
    trace_products: int,
    probes: int,
    steps: int,
    tolerance: float,
    time_limit: float | None,
) -> None:
    """Refuse what cannot be."""
    if not 0 <= k <= size:
        raise ConfigError(f"k: {k} eigenvalues of {counted(size, 'parameter')}; give 0 to {size}")
    if matrix not in ("hessian", "ggn"):
        raise ConfigError(f"matrix: {brief(matrix)} is not one of hessian, ggn")
    if trace_products and trace_products < 6:
        raise ConfigError(f"trace_products: {trace_products} are too few; give 6 or more, or 0 for no trace")
    if probes < 0 or steps < 2:
        raise ConfigError(f"probes: {probes} of {steps} steps; give 0 or more, of 2 steps or more")
    if not 0 < tolerance < 1:
        raise ConfigError(f"tolerance: {tolerance} is not possible; give a number between 0 and 1")
    if time_limit is not None and not time_limit > 0:
        raise ConfigError(f"time_limit: {time_limit} is not a number of seconds; give one above 0")


def _tell_cost(
    products: Products,
    draw: Draw,
    k: int,
    trace_products: int,
    density: int,
    clock: Clock,
    report: Report,
) -> None:
    """What a product takes, and how long all will at most."""
    start = time.perf_counter()
    products(draw())
    if products.gradient.is_cuda:
        torch.cuda.synchronize(products.gradient.device)
    each = time.perf_counter() - start
    count = min(_most(k), products.size) * (k > 0) + trace_products + density
    kept = "kept" if products.kept else "too large to keep, so each product makes it again"
    limit = f", ended after {clock.limit:g} s" if clock.limit is not None else ""
    report(
        f"{counted(products.size, 'parameter')}; a product takes {each:.2g} s (the graph is {kept}): "
        f"at most {counted(count, 'product')}, {count * each:.0f} s{limit}"
    )


def _most(k: int) -> int:
    return MOST * (1 + k)


def eigenvalues(
    products: Products,
    draw: Draw,
    k: int,
    tolerance: float,
    vectors: bool,
    clock: Clock,
    report: Report = lambda text: None,
) -> Ends:
    """Both ends of the spectrum."""

    def told(count: int, ritz: Ritz) -> None:
        largest = f"largest eigenvalue {ritz.values[-1]:.4g} ± {ritz.residuals[-1]:.1g}"
        report(f"{counted(count, 'product')}: {largest}, {clock.spent:.0f} s")

    vector = products.gradient
    held = int(SHARE * min(room(vector.device), 1e15) / (vector.element_size() * len(vector)))
    found = extremes(
        products, draw, k, tolerance, min(BASIS + 2 * k, held), _most(k), clock.carry_on, vectors, told
    )

    def plain_array(values: Tensor | None) -> Any:
        return None if values is None else values.cpu().numpy()

    return Ends(
        plain_array(found.largest),
        plain_array(found.smallest),
        plain_array(found.largest_residuals),
        plain_array(found.smallest_residuals),
        found.converged,
        plain_array(found.largest_vectors),
        plain_array(found.smallest_vectors),
    )


def _by_layer(
    objective: Objective, matrix: Matrix, seed: int, tolerance: float, clock: Clock, report: Report
) -> tuple[LayerCurvature, ...]:
    """Every layer's block, input to output, while there is time."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(objective.names):
        places.setdefault(plain(name).rpartition(".")[0], []).append(place)
    found = []
    for name, block in places.items():
        if not clock.carry_on():
            break
        products = Products(objective, matrix, block)
        draw = normal_like(products.gradient, seed)
        ends = eigenvalues(products, draw, 1, tolerance, False, clock)
        diagonal = trace(products, draw, LAYER_TRACE, clock.carry_on)
        found.append(LayerCurvature(name or "the model", products.size, ends, diagonal))
        report(f"{found[-1].name}: largest eigenvalue {ends.largest[0]:.4g}, {clock.spent:.0f} s")
    return tuple(found)
