"""Curvature of a loss at a model's parameters, as plain arrays; no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradscape._codec import Record
from gradscape._text import count_noun
from gradscape.records.display import Displayable
from gradscape.records.encoding import Values
from gradscape.records.norm_statistics import describe_statistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 5  # eigenvalues that are printed
WIDTH = 0.01  # of the density's kernel, in the spectrum's width
MATRICES = {"hessian": "Hessian", "ggn": "generalized Gauss-Newton matrix"}


@dataclass(frozen=True, repr=False)
class Ends(Record):
    """Eigenvalues at both ends of a spectrum, from the outside in; each lies within its residual.

    Attributes:
        largest, smallest: (k,) Eigenvalues, in units of the loss over those of the parameters squared.
        largest_residuals, smallest_residuals: (k,) Residuals ‖Av − λv‖ of a unit vector v, which bounds the
            distance to the nearest eigenvalue.
        converged: True if all residuals are within the tolerance, and, for k above 1, a random vector
            orthogonal to these vectors has shown no other copy of an eigenvalue.
        largest_vectors, smallest_vectors: (k, n) Eigenvectors of unit length; None unless requested.
    """

    largest: Values
    smallest: Values
    largest_residuals: Values
    smallest_residuals: Values
    converged: bool
    largest_vectors: Values | None = None
    smallest_vectors: Values | None = None

    def __str__(self) -> str:
        def format_pairs(values: Values, errors: Values) -> str:
            pairs = list(zip(values, errors, strict=True))[:SHOWN]
            return ", ".join(f"{value:.4g}" + (f" ± {e:.1g}" if e else "") for value, e in pairs)

        largest = format_pairs(self.largest, self.largest_residuals)
        smallest = format_pairs(self.smallest, self.smallest_residuals)
        end = "" if self.converged else "; not yet converged"
        return f"largest eigenvalues {largest}; smallest {smallest}{end}"


@dataclass(frozen=True)
class Estimate:
    """Mean over random probes.

    Attributes:
        value: Mean; NaN if there was no time for it.
        error: Its standard error.
        probes: Number of probes.
    """

    value: float
    error: float
    probes: int

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.error:.1g}, n = {count_noun(self.probes, 'probe')}"


@dataclass(frozen=True, repr=False)
class Spectrum(Record):
    """Gauss quadrature of the spectral density, a row for each probe (Ghorbani et al. 2019, §2).

    Attributes:
        nodes: (probes, m) Eigenvalues of the projected matrices.
        weights: (probes, m) Weights of the nodes; a row sums to 1.
    """

    nodes: Values
    weights: Values

    def density(self, grid: Values | None = None, width: float | None = None) -> tuple[Values, ...]:
        """Return grid (G,), density (G,), which integrates to 1, and its standard error over probes (G,).

        Args:
            grid: (G,) Eigenvalues; by default 1,000 over all nodes.
            width: Standard deviation of the Gaussian that each node is smoothed by; by default a hundredth of
                the spectrum's width.
        """
        low, high = float(self.nodes.min()), float(self.nodes.max())
        width = width or WIDTH * (high - low) or 1e-3 * max(abs(high), 1e-30)
        grid = np.linspace(low - 4 * width, high + 4 * width, 1_000) if grid is None else grid
        apart = (grid[None, :, None] - self.nodes[:, None, :]) / width
        kernel = np.exp(-0.5 * apart**2) / (width * math.sqrt(2 * math.pi))
        rows = (kernel * self.weights[:, None, :]).sum(axis=2)
        error = np.full(len(grid), np.nan)
        if len(rows) > 1:
            error = rows.std(axis=0, ddof=1) / math.sqrt(len(rows))
        return grid, rows.mean(axis=0), error


@dataclass(frozen=True)
class Stability:
    """Distance of a training from the edge of stability.

    Attributes:
        optimizer: Name of its class.
        sharpness: Largest eigenvalue of H + λ, the Hessian and an L2 penalty's λ (of −H + λ for one that
            maximizes), for Adam's kind of P⁻¹(H + λ), P being that of the next step: of Adam
            (1 − β₁ᵗ)(√v̂ + ε), of RAdam this over its rectification, of NAdam √v̂ + ε.
        residual: Residual of the sharpness.
        lr: Learning rate. Where groups have settings of their own, lr and limit are the first group's, and
            the others are counted in those units.
        limit: Sharpness × lr beyond which steps on a quadratic grow: 2 for SGD, 2(1 + β) with momentum
            (Cohen et al. 2021, §2), 38 for Adam with β₁ = 0.9 (Cohen et al. 2022, eq. 3); all are in
            `gradscape.measure.curvature.edge_of_stability`.
    """

    optimizer: str
    sharpness: float
    residual: float
    lr: float
    limit: float

    @property
    def reached(self) -> float:
        """Sharpness × lr over its limit: 1 at the edge."""
        return self.sharpness * self.lr / self.limit

    def __str__(self) -> str:
        where = "beyond" if self.reached > 1 else "below"
        return (
            f"{self.optimizer}: sharpness × lr = {self.sharpness * self.lr:.3g}, "
            f"{where} the edge of stability at {self.limit:.3g}"
        )


@dataclass(frozen=True)
class LayerCurvature:
    """Curvature of the block of one layer's parameters.

    Attributes:
        name: Name of the layer.
        parameters: Number of its parameters.
        ends: Eigenvalues at both ends of its spectrum.
        trace: Trace of the block; None if there was no time.
    """

    name: str
    parameters: int
    ends: Ends
    trace: Estimate | None

    def __str__(self) -> str:
        return f"{self.name}: {self.ends}" + (f"; trace {self.trace}" if self.trace else "")


def scale_for_eigenvalues(axes: Axes, grid: Values) -> None:
    """Scale an axis for eigenvalues, most of which lie near 0, and a few far from it.

    Args:
        axes: Axes whose x-axis is scaled.
        grid: (G,) Eigenvalues to show.
    """
    far = float(np.abs(grid).max(initial=0.0))
    if not far:
        return
    axes.set_xscale("asinh", linear_width=far / 20)
    last = math.floor(math.log10(far))
    powers = [10.0**power for power in (last - 1, last)]
    ticks = [-power for power in powers if -power >= grid.min()] + [0.0, *powers]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


@dataclass(frozen=True, eq=False, repr=False)
class CurvatureRecord(Displayable, Record):
    """Second derivatives of a loss at a model's parameters.

    Attributes:
        matrix: `hessian` or `ggn`.
        bn: Statistics that BatchNorm took, `running` or `batch`; `none` without BatchNorm.
        parameters: Number of parameters, n.
        samples: Number of samples that the loss is the mean over.
        loss: Value of the loss.
        gradient_norm: ‖∂L/∂θ‖₂.
        ends: Eigenvalues at both ends; None unless requested, or without time.
        trace: Sum of all eigenvalues; None likewise.
        spectrum: Quadrature of the density; None likewise.
        stability: Distance of the optimizer from the edge of stability; None likewise.
        layers: Curvature of each layer, if requested.
        products: Number of matrix-vector products, without those of layers.
        seconds: Time of the measurement.
        complete: True if there was time for everything.
        notes: Remarks on how it was measured.
    """

    matrix: str
    bn: str
    parameters: int
    samples: int
    loss: float
    gradient_norm: float
    ends: Ends | None
    trace: Estimate | None
    spectrum: Spectrum | None
    stability: Stability | None
    layers: tuple[LayerCurvature, ...]
    products: int
    seconds: float
    complete: bool
    notes: tuple[str, ...]

    @property
    def largest(self) -> float:
        """Largest eigenvalue; NaN where none was computed."""
        return float(self.ends.largest[0]) if self.ends else math.nan

    @property
    def smallest(self) -> float:
        """Smallest eigenvalue; NaN where none was computed."""
        return float(self.ends.smallest[0]) if self.ends else math.nan

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the spectral density with its standard error, else the eigenvalues; return the axes.

        Args:
            ax: Axes to draw on; by default a new figure's.
        """
        import matplotlib.pyplot as plt

        axes = plt.subplots()[1] if ax is None else ax
        if self.spectrum is not None:
            grid, density, error = self.spectrum.density()
            axes.semilogy(grid, np.maximum(density, 1e-12))
            if np.isfinite(error).all():
                axes.fill_between(grid, np.maximum(density - error, 1e-12), density + error, alpha=0.3)
            axes.set(ylabel="spectral density", ylim=(max(density.max() * 1e-8, 1e-10), density.max() * 3))
            scale_for_eigenvalues(axes, grid)
        elif self.ends is not None:
            values = np.concatenate([self.ends.largest, self.ends.smallest])
            axes.vlines(values, 0, 1, color="C0")
            axes.axvline(0, color="tab:gray", linestyle=":", linewidth=1)
            for end, side in ((float(values.max()), "right"), (float(values.min()), "left")):
                axes.text(end, 1.03, f"{end:.3g}", ha=side, va="bottom")
            axes.set(yticks=[], ylim=(0, 1.2))
        axes.set(xlabel=f"eigenvalue of the {MATRICES[self.matrix]}")
        return axes

    def __str__(self) -> str:
        samples, parameters = count_noun(self.samples, "sample"), count_noun(self.parameters, "parameter")
        lines = [
            f"{MATRICES[self.matrix]} of {parameters} on {samples}{describe_statistics(self.bn)}",
            f"loss {self.loss:.4g}, gradient norm {self.gradient_norm:.3g}",
            *([str(self.ends)] if self.ends else []),
            *([f"trace {self.trace}"] if self.trace else []),
            *([str(self.stability)] if self.stability else []),
            *map(str, self.layers),
            f"{count_noun(self.products, 'product')} in {self.seconds:.3g} s"
            + ("" if self.complete else "; the time limit ended it"),
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])
