"""Records of what was never measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradscape.records.curvature import CurvatureRecord, Ends, Spectrum
from gradscape.records.encoding import Values
from gradscape.records.gradients import EPOCH_TABLES, FlowHistory, flow_of_epochs
from gradscape.records.noise import NoiseRecord
from gradscape.records.signal import Jacobian, SignalRecord
from gradscape.records.smoothness import Line, StepSmoothness


def made_flow(
    rows: Sequence[Sequence[float]] | Values,
    layers: Sequence[str] = (),
    kinds: Sequence[str] = (),
    first: int = 1,
    **tables: Sequence[Sequence[float]] | Values,
) -> FlowHistory:
    """A run's flow: all sizes are `rows`, an epoch each, but for those given; nothing is 0 or not finite.

    Without names it is of convolutions and, last, a linear layer.
    """
    sizes = np.array(rows, dtype=np.float64)
    none, count = np.zeros_like(sizes), sizes.shape[1]
    known = {**dict.fromkeys(EPOCH_TABLES, sizes), "zeros": none, "nonfinite": none, **tables}
    return flow_of_epochs(
        layers or [f"layer{place}.weight" for place in range(count)],
        kinds or ["conv"] * (count - 1) + ["linear"],
        [9] * count,
        range(first, first + len(sizes)),
        np.stack([np.array(known[name], dtype=np.float64) for name in EPOCH_TABLES], axis=1),
    )


ONE = made_flow([[1.0]])


def made_curvature(
    nodes: Sequence[float], weights: Sequence[float], largest: float, samples: int = 20, parameters: int = 10
) -> CurvatureRecord:
    """A Hessian with this largest eigenvalue, and a quadrature by one random vector."""
    residuals = np.array([0.01])
    return CurvatureRecord(
        matrix="hessian",
        bn="batch",
        parameters=parameters,
        samples=samples,
        loss=2.0,
        gradient_norm=1.0,
        ends=Ends(np.array([largest]), np.array([min(nodes)]), residuals, residuals, True),
        trace=None,
        spectrum=Spectrum(np.array([nodes]), np.array([weights])),
        stability=None,
        layers=(),
        products=20,
        seconds=1.0,
        complete=True,
        notes=(),
    )


def made_noise(batch_size: int, square: float, trace: float, batches: int = 10) -> NoiseRecord:
    """Gradients with this |G|² and tr Σ_B."""
    products = np.full((batches, batches), square) + trace * np.eye(batches)
    return NoiseRecord(batch_size, "batch", products, ("w",), ("conv",), (9,), np.ones(1), (0,), ())


def made_smoothness(
    step: int,
    along: str,
    lr: float,
    losses: Sequence[float],
    changes: Sequence[float],
    distances: Sequence[float],
    loss: float = 2.0,
) -> StepSmoothness:
    line = Line(along, np.array([loss]), *(np.array([each]) for each in (losses, changes, distances)))
    return StepSmoothness(step, lr, 1.0, 3.0, line)


def made_signal(correlations: Sequence[float]) -> SignalRecord:
    """Signals through convolutions and a linear layer, two images of which are so alike."""
    depth, none = len(correlations), np.array([np.nan])
    one = np.ones((1, depth))
    return SignalRecord(
        layers=tuple(f"layer{place}" for place in range(depth)),
        kinds=("conv",) * (depth - 1) + ("linear",),
        widths=(9,) * depth,
        second_moment=one,
        correlation=np.array([correlations]),
        dead=0 * one,
        saturated=0 * one,
        nonfinite=np.zeros((1, depth), dtype=np.bool_),
        origin="",
        gradient=one,
        weight_gradient=one,
        input_second_moment=none,
        input_correlation=none,
        loss=np.array([4.6]),
        jacobian=Jacobian(none, none, none, none, none, 0, "not measured"),
        samples=100,
        notes=(),
    )
