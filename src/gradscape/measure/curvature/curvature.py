"""Curvature of a loss: extreme eigenvalues, trace and spectral density, of the whole model and per layer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gradscape._text import count_noun
from gradscape.config.arguments import typed
from gradscape.errors import ConfigError, brief
from gradscape.measure.core.batch import Loss
from gradscape.measure.core.objective import NormStatistics, Objective, norm
from gradscape.measure.core.parameters import strip_wrappers
from gradscape.measure.core.preserve import leaves_loss
from gradscape.measure.curvature.edge_of_stability import stability
from gradscape.measure.curvature.hvp import Matrix, Products, free_bytes
from gradscape.measure.curvature.lanczos import Extremes, NormalSampler, Ritz, extremes
from gradscape.measure.curvature.stochastic import spectrum, trace
from gradscape.records.curvature import CurvatureRecord, Ends, LayerCurvature, Stability
from gradscape.records.norm_statistics import NONE

MOST = 100  # products for the eigenvalues, and as many again for each eigenvalue
BASIS = 120  # Lanczos vectors in memory, if they fit
SHARE = 0.25  # of the free memory, for these vectors
LAYER_TRACE = 12  # products for the trace of a layer
TextCallback = Callable[[str], None]


@dataclass
class Clock:
    """Elapsed time and its limit.

    Attributes:
        limit: Seconds until the measurement ends; None for no limit.
        start: Time of `perf_counter` at the start.
        ended: Whether the limit has been exceeded.
    """

    limit: float | None
    start: float = field(default_factory=time.perf_counter)
    ended: bool = False

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.start

    def should_continue(self) -> bool:
        """Return False from the first call after the limit on."""
        self.ended = self.ended or (self.limit is not None and self.spent > self.limit)
        return not self.ended


@typed(k=1_000, trace_products=1_000_000, probes=10_000, steps=10_000, seed=2**63 - 1)
@leaves_loss
def curvature(
    model: nn.Module,
    loss: Loss | None,
    batches: Any,
    k: int = 5,
    *,
    matrix: Matrix = "hessian",
    bn: NormStatistics = "running",
    trace_products: int = 30,
    probes: int = 0,
    steps: int = 80,
    layers: bool = False,
    vectors: bool = False,
    optimizer: Optimizer | None = None,
    tolerance: float = 1e-3,
    time_limit: float | None = None,
    seed: int = 0,
    report: TextCallback = lambda text: None,
) -> CurvatureRecord:
    """Measure second derivatives of a loss at a model's parameters, by matrix-vector products alone.

    A product costs two gradients if the graph of the backward pass fits in memory, otherwise three. The
    model, its buffers, gradients and modes, and the state of all random generators are preserved.

    Args:
        model: Module; the matrix is over its parameters that require a gradient.
        loss: Function loss(output, y), loss(output) or loss(output, dict), tried in this order, or
            loss(model, batch), which calls the model itself; returns a tensor of one number. None for a model
            whose output has a `loss`.
        batches: One batch, (x, y), x or a dict of the model's arguments (an argument that is itself a tuple,
            list or dict is passed as ((x,), y)), or several: a list, or a DataLoader for one pass. The loss
            is their mean over samples.
        k: Number of eigenvalues at each end of the spectrum; 1 for the largest and the smallest alone, 0 for
            none.
        matrix: `hessian`, or `ggn`, the generalized Gauss-Newton matrix.
        bn: Statistics of BatchNorm: `running` as in evaluation, `batch` of each batch as in training.
        trace_products: Products for the trace, by Hutch++; 6 or more, or 0 for none.
        probes: Probes of the spectral density; 0 for none, 5 or more for a meaningful standard error. The
            first is the beginning of the search for eigenvalues, and costs little if there are any to find.
        steps: Lanczos steps per probe.
        layers: Whether to measure each layer's block too: largest and smallest eigenvalue, and trace.
        vectors: Whether to return eigenvectors.
        optimizer: Optimizer of the model, whose edge of stability is measured, with BatchNorm as in training.
        tolerance: Residual of an eigenvalue, relative to the largest modulus.
        time_limit: Seconds after which the results so far are returned, with their errors.
        seed: Seed of the random vectors.
        report: Callback for messages: the expected cost, then intermediate results.

    Raises:
        ConfigError: If the loss is not one finite number, an operation has no second derivative, there are
            more eigenvalues than parameters, or a setting is out of range.

    Source: Pearlmutter (1994) for products, Lanczos (1950) with full reorthogonalization, Meyer et al. (2021)
        for the trace, Ghorbani et al. (2019) for the density.

    Example:
        >>> print(gs.curvature(model, nn.functional.cross_entropy, (x, y), k=3, probes=5))
    """
    objective = Objective(model, loss, batches, bn)
    _check_settings(objective.size, k, matrix, trace_products, probes, steps, tolerance, time_limit)
    clock = Clock(time_limit)
    products = Products(objective, matrix)
    draw = normal_like(products.gradient, seed)
    _report_cost(products, draw, k, trace_products, probes * steps, clock, report)
    probe = steps if probes else 0
    found = _both_ends(products, draw, k, tolerance, vectors, clock, report, probe) if k else None
    ends = None if found is None else _as_record(found)
    edge: Stability | str | None = None
    if optimizer is not None and clock.should_continue():
        # Of the training loss: with running statistics, the bias before a norm would have curvature.
        trained = (
            products if (matrix, bn) == ("hessian", "batch") else Products(objective.changed(bn="batch"))
        )
        edge = stability(trained, optimizer, draw, tolerance, clock.should_continue)
    sum_of_all, density = None, None
    if trace_products and clock.should_continue():
        sum_of_all = trace(products, draw, trace_products, clock.should_continue)
        report(f"trace {sum_of_all}, {clock.spent:.0f} s")
    if probes and clock.should_continue():
        first = None if found is None else found.probe
        density = spectrum(products, draw, probes, steps, clock.should_continue, first)
        report(f"spectral density, {clock.spent:.0f} s")
    blocks = _by_layer(objective, matrix, seed, tolerance, clock, report) if layers else ()
    return CurvatureRecord(
        matrix=matrix,
        bn=bn if objective.has_batchnorm else NONE,
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


def normal_like(vector: Tensor, seed: int) -> NormalSampler:
    """Return a function that draws standard normal vectors.

    Args:
        vector: Tensor of the shape, dtype and device of the draws.
        seed: Seed of the draws.
    """
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
    """Check the range of the settings."""
    if not 0 <= k <= size:
        raise ConfigError(f"k: expected 0 to {size} eigenvalues of {count_noun(size, 'parameter')}; got {k}")
    if matrix not in ("hessian", "ggn"):
        raise ConfigError(f"matrix: expected hessian or ggn; got {brief(matrix)}")
    if trace_products and trace_products < 6:
        raise ConfigError(f"trace_products: expected 6 or more, or 0 for no trace; got {trace_products}")
    if probes < 0 or steps < 2:
        raise ConfigError(f"probes: expected 0 or more, of 2 steps or more; got {probes} of {steps} steps")
    if not 0 < tolerance < 1:
        raise ConfigError(f"tolerance: expected a number between 0 and 1; got {tolerance}")
    if time_limit is not None and not time_limit > 0:
        raise ConfigError(f"time_limit: expected seconds above 0; got {time_limit}")


def _report_cost(
    products: Products,
    draw: NormalSampler,
    k: int,
    trace_products: int,
    density: int,
    clock: Clock,
    report: TextCallback,
) -> None:
    """Report the time of a product and the maximal time of all."""
    start = time.perf_counter()
    products(draw())
    if products.gradient.is_cuda:
        torch.cuda.synchronize(products.gradient.device)
    seconds = time.perf_counter() - start
    count = min(_most(k), products.size) * (k > 0) + trace_products + density
    graph = "stays in memory" if products.kept else "is too large for the memory and is rebuilt each time"
    limit = f", ended after {clock.limit:g} s" if clock.limit is not None else ""
    report(
        f"{count_noun(products.size, 'parameter')}; a product takes {seconds:.2g} s (its graph {graph}): "
        f"at most {count_noun(count, 'product')}, {count * seconds:.0f} s{limit}"
    )


def _most(k: int) -> int:
    return MOST * (1 + k)


def eigenvalues(
    products: Products,
    draw: NormalSampler,
    k: int,
    tolerance: float,
    vectors: bool,
    clock: Clock,
    report: TextCallback = lambda text: None,
) -> Ends:
    """Compute both ends of the spectrum.

    Args:
        products: Matrix.
        draw: Function that draws random vectors.
        k: Number of eigenvalues at each end.
        tolerance: Residual of an eigenvalue, relative to the largest modulus.
        vectors: Whether to return eigenvectors.
        clock: Time limit.
        report: Callback for intermediate results.
    """
    return _as_record(_both_ends(products, draw, k, tolerance, vectors, clock, report))


def _both_ends(
    products: Products,
    draw: NormalSampler,
    k: int,
    tolerance: float,
    vectors: bool,
    clock: Clock,
    report: TextCallback,
    probe: int = 0,
) -> Extremes:
    """Compute both ends, and a probe of so many steps on the way."""

    def report_ritz(count: int, ritz: Ritz) -> None:
        largest = f"largest eigenvalue {ritz.values[-1]:.4g} ± {ritz.residuals[-1]:.1g}"
        report(f"{count_noun(count, 'product')}: {largest}, {clock.spent:.0f} s")

    vector = products.gradient
    fitting = int(SHARE * min(free_bytes(vector.device), 1e15) / (vector.element_size() * len(vector)))
    basis = min(BASIS + 2 * k, fitting)
    most, go_on = max(_most(k), probe), clock.should_continue
    return extremes(products, draw, k, tolerance, basis, most, go_on, vectors, report_ritz, probe)


def _as_record(ends: Extremes) -> Ends:
    """Return the ends in arrays."""

    def plain_array(values: Tensor | None) -> Any:
        return None if values is None else values.cpu().numpy()

    return Ends(
        plain_array(ends.largest),
        plain_array(ends.smallest),
        plain_array(ends.largest_residuals),
        plain_array(ends.smallest_residuals),
        ends.converged,
        plain_array(ends.largest_vectors),
        plain_array(ends.smallest_vectors),
    )


def _by_layer(
    objective: Objective, matrix: Matrix, seed: int, tolerance: float, clock: Clock, report: TextCallback
) -> tuple[LayerCurvature, ...]:
    """Measure every layer's block, from input to output, until the time limit."""
    blocks: dict[str, list[int]] = {}
    for index, name in enumerate(objective.names):
        blocks.setdefault(strip_wrappers(name).rpartition(".")[0], []).append(index)
    layers = []
    for name, block in blocks.items():
        if not clock.should_continue():
            break
        products = Products(objective, matrix, block)
        draw = normal_like(products.gradient, seed)
        ends = eigenvalues(products, draw, 1, tolerance, False, clock)
        diagonal = trace(products, draw, LAYER_TRACE, clock.should_continue)
        layers.append(LayerCurvature(name or "the model", products.size, ends, diagonal))
        report(f"{layers[-1].name}: largest eigenvalue {ends.largest[0]:.4g}, {clock.spent:.0f} s")
    return tuple(layers)
