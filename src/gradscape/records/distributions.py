"""Distributions of gradients, weights and activations over a training, as plain arrays; no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradscape._codec import Record
from gradscape._text import count_noun
from gradscape.errors import ConfigError, brief, nearest
from gradscape.records.bands import draw_bands
from gradscape.records.display import Displayable
from gradscape.records.encoding import Values

if TYPE_CHECKING:
    from matplotlib.axes import Axes

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
SHARES = ("zeros", "infinite", "nan")
WIDTH = len(QUANTILES) + len(SHARES)  # numbers of a layer at a reading
BINS = 24 * 8  # of a histogram on each side of 0: eight for a factor of 2
QUANTITIES = {"gradients": "∂L/∂W", "weights": "W", "activations": "output"}


@dataclass(frozen=True, eq=False, repr=False)
class LayerQuantiles(Record):
    """Quantiles of the numbers in each of several tensors, over the readings of a training.

    NaN where a layer was not read, or has no finite number.

    Attributes:
        layers: (L) Names.
        values: (T, L, 7) The 1, 5, 25, 50, 75, 95 and 99 % quantiles of the finite numbers with their sign,
            of n numbers those of rank ⌊q (n − 1)⌋, within 5.9 % of their size.
        zeros: (T, L) Share of numbers that are exactly 0.
        infinite: (T, L) Share of numbers that are infinite.
        nan: (T, L) Share of numbers that are NaN.
    """

    layers: tuple[str, ...]
    values: Values
    zeros: Values
    infinite: Values
    nan: Values

    @classmethod
    def of(cls, layers: tuple[str, ...], table: Values) -> LayerQuantiles:
        """Return the record of a table.

        Args:
            layers: (L) Names.
            table: (T, L, 10) Quantiles and shares.
        """
        zeros, infinite, nan = np.moveaxis(table[..., len(QUANTILES) :], -1, 0)
        return cls(layers, table[..., : len(QUANTILES)], zeros, infinite, nan)

    @property
    def table(self) -> Values:
        """Table (T, L, 10) of quantiles and shares."""
        shares = np.stack([getattr(self, name) for name in SHARES], axis=-1)
        return np.concatenate([self.values, shares], axis=-1)


@dataclass(frozen=True, eq=False, repr=False)
class DistributionHistory(Displayable, Record):
    """Quantiles of gradients, weights and activations of every layer, at some steps of a training.

    Sharded tensors are read as wholes. In distributed training each process has its own samples' activations.

    Attributes:
        steps: (T,) Steps that were read, from 0; of many, older ones ever more thinly.
        gradients: Gradients that each step used, unscaled and after any clipping.
        weights: Weights before the step.
        activations: Layers' outputs in the passes whose gradients the step used, all of them together; None
            where activations are not read.
    """

    steps: NDArray[np.int64]
    gradients: LayerQuantiles
    weights: LayerQuantiles
    activations: LayerQuantiles | None = None

    @property
    def quantities(self) -> dict[str, LayerQuantiles]:
        """Quantiles by the name of what they are of."""
        found = {"gradients": self.gradients, "weights": self.weights, "activations": self.activations}
        return {name: each for name, each in found.items() if each is not None}

    def plot(self, ax: Axes | None = None, layer: str = "", quantity: str = "gradients") -> Axes:
        """Draw the median and bands of a layer over the steps; return the axes.

        The bands are those from 25 to 75 % and from 5 to 95 %; dotted lines are at 1 and 99 %. The axis is
        logarithmic upwards and downwards, and linear about 0.

        Args:
            ax: Axes to draw on; by default a new figure's.
            layer: Name of the layer; by default the first.
            quantity: `gradients`, `weights` or `activations`.

        Raises:
            ConfigError: There is no such quantity or layer.
        """
        if quantity not in self.quantities:
            raise ConfigError(
                f"quantity: expected one of {', '.join(self.quantities)}; got {brief(quantity)}"
                f"{nearest(str(quantity), tuple(self.quantities))}"
            )
        of = self.quantities[quantity]
        name = layer or next(iter(of.layers), "")
        if name not in of.layers:
            raise ConfigError(
                f"layer: expected one of the {count_noun(len(of.layers), 'layer')} in {quantity}.layers; "
                f"got {brief(layer)}{nearest(str(layer), of.layers)}"
            )
        values = of.values[:, of.layers.index(name)]
        return draw_bands(ax, self.steps, values, f"{QUANTITIES[quantity]} of {name}")

    @property
    def drawings(self) -> dict[str, Callable[[Axes], Axes]]:
        """Drawings of a page by their names: each quantity in the first layer and the last."""
        return {
            f"{QUANTITIES[quantity]} of {layer}": partial(self.plot, layer=layer, quantity=quantity)
            for quantity, each in self.quantities.items()
            for layer in dict.fromkeys((*each.layers[:1], *each.layers[-1:]))
        }

    def __str__(self) -> str:
        counts = (f"{len(each.layers)} of {name}" for name, each in self.quantities.items())
        return f"quantiles at {count_noun(len(self.steps), 'reading')}: {', '.join(counts)}"


@dataclass(frozen=True, eq=False, repr=False)
class Histogram(Record):
    """Histogram of the finite numbers of a tensor, with bins of equal width relative to their values.

    Attributes:
        counts: (B) Numbers of values; of 385 bins at most.
        edges: (B + 1) Bounds of the bins, ascending; one bin has what is below 2⁻²⁴ of the largest.
    """

    counts: NDArray[np.int64]
    edges: Values

    @property
    def moments(self) -> tuple[float, float]:
        """Sums of the values and of their squares, as if each lay in the middle of its bin."""
        middles = (self.edges[1:] + self.edges[:-1]) / 2
        return float((self.counts * middles).sum()), float((self.counts * middles**2).sum())


@dataclass(frozen=True)
class Histograms(Record):
    """Histograms of the last reading of distributions.

    Attributes:
        step: Step that was read, from 0.
        layers: By quantity (`gradients`, `weights` and `activations`) and layer; without those that have no
            finite number.
    """

    step: int
    layers: Mapping[str, Mapping[str, Histogram]]


def histogram_of(counts: NDArray[np.int64], edges: Values) -> Histogram | None:
    """Return the histogram of a sketch, its bins near 0 joined; None if it has no finite number.

    Args:
        counts: Numbers of values in buckets that lie as many above 0 as below; what follows them is left out.
        edges: Bounds of the buckets, ascending.
    """
    buckets = len(edges) - 1
    counts, middle = counts[:buckets], buckets // 2
    seen = np.flatnonzero(counts)
    if not len(seen):
        return None
    reach = int(np.abs(seen - middle).max())
    inner = max(0, reach - BINS)  # buckets on each side that are joined with the middle one
    low, high = middle - inner, middle + inner + 1
    joined = np.concatenate([counts[:low], [counts[low:high].sum()], counts[high:]])
    bounds = np.concatenate([edges[: low + 1], edges[high:]])
    kept = np.flatnonzero(joined)
    return Histogram(joined[kept[0] : kept[-1] + 1], bounds[kept[0] : kept[-1] + 2])


def readings_until(history: DistributionHistory, step: int) -> DistributionHistory:
    """Return the readings up to a step.

    Args:
        history: Readings of a training.
        step: Last step.
    """
    return _cut(history, history.steps <= step)


def readings_after(history: DistributionHistory, step: int) -> DistributionHistory:
    """Return the readings after a step.

    Args:
        history: Readings of a training.
        step: Step before the first.
    """
    return _cut(history, history.steps > step)


def _cut(history: DistributionHistory, rows: NDArray[np.bool_]) -> DistributionHistory:
    parts = {
        name: LayerQuantiles.of(each.layers, each.table[rows]) for name, each in history.quantities.items()
    }
    return replace(history, steps=history.steps[rows], **parts)


def quantiles_at(history: DistributionHistory, step: int) -> dict[str, float]:
    """Return the quantiles of a step by name, such as `quantile/gradients/0.weight/5`; none of others.

    Args:
        history: Readings of a training.
        step: Number of the step.
    """
    found = np.flatnonzero(history.steps == step)
    if not len(found):
        return {}
    return {
        f"quantile/{quantity}/{layer}/{100 * share:g}": value
        for quantity, each in history.quantities.items()
        for layer, values in zip(each.layers, each.values[int(found[-1])].tolist(), strict=True)
        for share, value in zip(QUANTILES, values, strict=True)
        if value == value
    }
