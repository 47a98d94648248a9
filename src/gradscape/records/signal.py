"""Signal through a network before it is trained, as plain arrays; no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradscape._codec import Record
from gradscape._text import count_noun
from gradscape.records.display import Displayable
from gradscape.records.encoding import Values
from gradscape.records.gradients import FlowHistory

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WEIGHT_KINDS = ("conv", "linear", "recurrent", "attention")
SHOWN = 12  # rows of a printed table at each end

SETTLES = 8  # weight layers from which on the first half is taken for the way to where q settles


@dataclass(frozen=True, eq=False, repr=False)
class Jacobian(Record):
    """Singular values σ of the Jacobian of outputs by inputs of a batch (Pennington et al. 2017, §2).

    The batch's Jacobian holds those of its samples as blocks and, where BatchNorm couples samples, those
    between them too. Arrays (S,) have an entry for each seed; NaN where it could not be measured.

    Attributes:
        largest: σ_max; unless computed in full it is approached from below.
        largest_error: Distance from it within which a singular value lies; 0 if computed in full.
        smallest: σ_min of the min(outputs, inputs) per sample; NaN unless computed in full.
        mean_square: Mean of σ² over the min(outputs, inputs) per sample: 1 where signals keep their length.
        mean_square_error: Standard error of that over the probes; 0 if computed in full.
        samples: Number of samples of the batch that were used.
        how: Manner of the computation, in words.
    """

    largest: Values
    largest_error: Values
    smallest: Values
    mean_square: Values
    mean_square_error: Values
    samples: int
    how: str

    def __str__(self) -> str:
        if np.isnan(self.largest).all():
            return f"input-output Jacobian: {self.how}"
        error = float(self.mean_square_error.mean())
        distance = float(self.largest_error.max())
        high = f"{self.largest.mean():.3g}" + (f" ± {distance:.1g}" if distance else "")
        low = "" if np.isnan(self.smallest).all() else f", smallest {self.smallest.mean():.3g}"
        return (
            f"input-output Jacobian: largest singular value {high}{low}, mean square "
            f"{self.mean_square.mean():.3g}" + (f" ± {error:.1g}" if error else "") + f" ({self.how})"
        )


@dataclass(frozen=True, eq=False, repr=False)
class SignalRecord(Displayable, Record):
    """Signal and gradient at every layer's output, in the order in which the forward pass ran them.

    Arrays (S, L) have a row for each seed, one for a given model, and a column for each call of a layer: a
    module that calls no other, or an activation called as a function. NaN where there is nothing to measure.
    Moments are means of squares.

    Attributes:
        layers: (L) Module names; `name (call 2)` for a module called again, `module relu` for a function.
        kinds: (L) `conv`, `linear`, `recurrent`, `attention`, `embedding`, `norm`, `activation`, `dropout`,
            `pool` or `other`.
        widths: (L) Numbers in a layer's output for each sample.
        second_moment: (S, L) q, mean h² of the output over samples, units and positions.
        correlation: (S, L) c, mean cosine between the outputs for two of at most 16 samples, uncentered.
        dead: (S, L) Share of units of a ReLU-like activation that are ≤ 0 on every sample and position.
        saturated: (S, L) Share of values where tanh's or sigmoid's derivative is < 1 % of its largest.
        nonfinite: (S, L) True if the output has an infinite value or NaN.
        origin: Place where the first such value arose, beginning with a layer's name; empty if none did.
        gradient: (S, L) Mean (∂L/∂h)² over the output.
        weight_gradient: (S, L) Mean (∂L/∂W)² over the layer's weights, biases left out; NaN if frozen.
        input_second_moment, input_correlation: (S,) The same for the batch itself; NaN for integers.
        loss: (S,) Loss of the batch.
        jacobian: Singular values of the Jacobian of outputs by inputs.
        samples: Number of samples in the batch, N.
        notes: Oddities, in words.
    """

    layers: tuple[str, ...]
    kinds: tuple[str, ...]
    widths: tuple[int, ...]
    second_moment: Values
    correlation: Values
    dead: Values
    saturated: Values
    nonfinite: NDArray[np.bool_]
    origin: str
    gradient: Values
    weight_gradient: Values
    input_second_moment: Values
    input_correlation: Values
    loss: Values
    jacobian: Jacobian
    samples: int
    notes: tuple[str, ...]

    @property
    def weights(self) -> NDArray[np.intp]:
        """(W) columns of convolutions, linear, recurrent and attention layers, input to output."""
        places = [i for i, kind in enumerate(self.kinds) if kind in WEIGHT_KINDS]
        return np.array(places, dtype=np.intp)

    @property
    def chi(self) -> Values:
        """(S, W − 1) χ_l = Σ(∂L/∂h_l)² / Σ(∂L/∂h_{l+1})² between the outputs of successive weight layers.

        Sums run over units and positions: in a wide fully connected network this is χ₁ of Schoenholz et al.
        (2017), on back-propagation of gradients, whatever the widths. 1 where gradients keep their length,
        less where they vanish.
        """
        energy = self.energy
        above, below = energy[:, :-1], energy[:, 1:]
        return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)

    @property
    def energy(self) -> Values:
        """(S, W) Σ(∂L/∂h)² per sample at the outputs of the weight layers."""
        columns = self.weights
        found: Values = self.gradient[:, columns] * np.array(self.widths, dtype=np.float64)[columns]
        return found

    @property
    def mean_chi(self) -> float:
        """χ over depth: exp of the slope of −ln Σ(∂L/∂h_l)² by least squares over the deeper weight layers.

        Of eight or more the second half: near the input q and c have not settled, and χ there is another.
        The mean over seeds of the slopes; zeros and non-finite values are left out, NaN for fewer than two.
        """
        settled = self.energy[:, -self.fitted_layers :]
        slopes = [slope for row in settled if not math.isnan(slope := _fitted_slope(row))]
        return math.exp(-float(np.mean(slopes))) if slopes else math.nan

    @property
    def fitted_layers(self) -> int:
        """Number of weight layers, counted from the output, that χ is fitted to."""
        count = len(self.weights)
        return count - count // 2 if count >= SETTLES else count

    @property
    def depth_scale(self) -> float:
        """ξ = 1/|ln χ|, weight layers over which gradients change by e in the square; inf where χ is 1."""
        chi = self.mean_chi
        return math.nan if math.isnan(chi) else math.inf if chi == 1 else 1 / abs(math.log(chi))

    @property
    def depth_scale_how(self) -> str:
        """Manner of the estimate of χ and the depth scale, in words."""
        seeds = len(self.second_moment)
        return (
            f"least squares over the outputs of {self.fitted_layers} of {len(self.weights)} weight layers, "
            f"n = {seeds} seed{'s' if seeds > 1 else ''}"
        )

    @property
    def chi_in_words(self) -> str:
        """Line on χ and the depth scale; empty where they are not known."""
        if math.isnan(self.mean_chi):
            return ""
        scale = f"depth scale {self.depth_scale:.3g} layers"
        return f"χ = {self.mean_chi:.3g}, {scale} ({self.depth_scale_how})"

    def derived(self) -> Mapping[str, Any]:
        """Return χ between layers and over depth, and the depth scale."""
        return {name: getattr(self, name) for name in ("chi", "mean_chi", "depth_scale", "depth_scale_how")}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw second moments of signal and gradient, and the correlation at the right; return the axes.

        Args:
            ax: Axes to draw on; by default a new figure's.
        """
        import matplotlib.pyplot as plt
        from matplotlib.ticker import MaxNLocator

        axes = plt.subplots(layout="constrained")[1] if ax is None else ax
        depth = np.arange(1, len(self.layers) + 1)
        for name, values in (("output h²", self.second_moment), ("gradient (∂L/∂h)²", self.gradient)):
            shown = over_seeds(values, geometric=True)
            axes.semilogy(depth, np.where(shown > 0, shown, np.nan), marker="o", markersize=3, label=name)
        right = axes.twinx()
        right.plot(depth, over_seeds(self.correlation), color="tab:gray", linestyle="--")
        right.set(ylim=(-0.05, 1.05), ylabel="correlation of two samples (dashed)")
        axes.set(xlabel="layer (input → output)", ylabel="second moment")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)  # beside all curves
        return axes

    def __str__(self) -> str:
        seeds = len(self.second_moment)
        parts = (count_noun(len(self.layers), "layer"), count_noun(self.samples, "sample"))
        lines = [f"signal through {', '.join(parts)}, n = {count_noun(seeds, 'seed')}", *self.table()]
        if self.chi_in_words:
            lines.append(self.chi_in_words)
        lines.append(str(self.jacobian))
        if self.origin:
            lines.append(f"first non-finite value: {self.origin}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def over_depth(self) -> dict[str, Values]:
        """Return each measure of the layers, (L,) over seeds, per name."""
        sizes = ("second_moment", "gradient", "weight_gradient")
        names = ("second_moment", "correlation", "dead", "saturated", "gradient", "weight_gradient")
        return {name: over_seeds(getattr(self, name), geometric=name in sizes) for name in names}

    def table(self) -> list[str]:
        """Return a line of text for each layer, without the middle of a deep network."""
        columns = self.over_depth().values()
        rows = [["layer", "kind", "q", "c", "dead", "saturated", "(∂L/∂h)²", "(∂L/∂W)²"]]
        for place, (name, kind) in enumerate(zip(self.layers, self.kinds, strict=True)):
            numbers = (float(column[place]) for column in columns)
            rows.append([name, kind, *("–" if math.isnan(v) else format(v, ".3g") for v in numbers)])
        if len(self.layers) > 2 * SHOWN:
            rows[SHOWN + 1 : -SHOWN] = [["…", *[""] * (len(rows[0]) - 1)]]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]  # as narrow as it can be
        lines = (
            [f"{cell:{'<' if place < 2 else '>'}{widths[place]}}" for place, cell in enumerate(row)]
            for row in rows
        )
        return ["  ".join(line).rstrip() for line in lines]


def _fitted_slope(energy: Values) -> float:
    """Return the slope of ln energy over its place by least squares; NaN for fewer than two usable values."""
    good = np.isfinite(energy) & (energy > 0)
    if good.sum() < 2:
        return math.nan
    return float(np.polyfit(np.flatnonzero(good), np.log(energy[good]), 1)[0])


def over_seeds(values: Values, geometric: bool = False) -> Values:
    """Return the mean (L,) over seeds without NaN.

    Args:
        values: (S, L) Values, a row for each seed.
        geometric: Take the geometric mean, for values that span orders of magnitude.
    """
    counts = (~np.isnan(values)).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(values) if geometric else values
        mean = np.nansum(logs, axis=0) / counts
        found: Values = np.exp(mean) if geometric else mean
    return found


@dataclass(frozen=True, repr=False)
class RunStart(Displayable, Record):
    """Network of a run before its first step, on the first batch of training images, not augmented.

    Attributes:
        signal: Signal through its layers, BatchNorm taking the batch's statistics; no Jacobian.
        flow: Gradients in one row, of epoch 0.
    """

    signal: SignalRecord
    flow: FlowHistory

    @property
    def gradients(self) -> Values:
        """Mean |∂L/∂W| of the conv and linear weights alone, input to output: the paper's axis."""
        found: Values = self.flow.mean_abs[0, self.flow.weights]
        return found

    @property
    def correlation(self) -> Values:
        """Correlation of two images in the output of every layer with weights, input to output."""
        found: Values = self.signal.correlation[0, self.signal.weights]
        return found

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the signal through depth; return the axes.

        Args:
            ax: Axes to draw on; by default a new figure's.
        """
        return self.signal.plot(ax)

    def __str__(self) -> str:
        return str(self.signal)
