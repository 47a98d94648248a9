"""The Hessian's spectrum at a moment of a run, on images that are the same at all of them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import cross_entropy

from gradscape.config import RunConfig
from gradscape.errors import ConfigError
from gradscape.measure.curvature import curvature
from gradscape.records import Curvature
from gradscape.store import RunFolder
from gradscape.train.state import TrainState, build_model

PROBES, STEPS = 2, 20  # of the spectral density: for its outline, at a fraction of the training's cost
TOLERANCE = 1e-2  # of an extreme eigenvalue, beside the largest modulus


def measure_curvature(
    config: RunConfig,
    folder: RunFolder,
    moment: str,
    state: TrainState,
    batches: list[tuple[Tensor, Tensor]],
    report: Callable[[str], None],
) -> None:
    """Measure it and keep it, unless the folder has it; a loss that has none is reported.

    Args:
        config, folder: the run's.
        moment: `start` or `end`.
        state: the run's, whose weights are looked at.
        batches: (x, y) each: BatchNorm takes the statistics of each, as in training.
        report: called with a sentence where there is news.
    """
    if moment in folder.curvature():
        return
    # Of layers that are not fused: Triton's kernels have no second derivative.
    model = build_model(config, batches[0][0].device)
    model.load_state_dict(state.model.state_dict())
    try:
        found = curvature(
            model, cross_entropy, batches, 1, bn="batch", tolerance=TOLERANCE, trace_products=0,
            probes=PROBES, steps=STEPS,
        )  # fmt: skip
    except ConfigError as error:
        report(f"no curvature at the {moment}: {error}")
        return
    assert found.ends is not None
    assert found.spectrum is not None
    ends, spectrum = found.ends, found.spectrum
    kept = Curvature(
        loss=found.loss,
        images=found.samples,
        parameters=found.parameters,
        largest=float(ends.largest[0]),
        smallest=float(ends.smallest[0]),
        largest_residual=float(ends.largest_residuals[0]),
        smallest_residual=float(ends.smallest_residuals[0]),
        nodes=tuple(map(tuple, spectrum.nodes.tolist())),
        weights=tuple(map(tuple, spectrum.weights.tolist())),
    )
    folder.add_curvature(moment, kept)
