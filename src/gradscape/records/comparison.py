"""Comparison of two trainings: where they first differ, in what, by how much; no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from gradscape._codec import Record
from gradscape._text import count_noun
from gradscape.records.display import Displayable
from gradscape.records.encoding import Values
from gradscape.records.heatmap import ColorScale, draw_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABELS = {
    "loss": "loss",
    "valid_loss": "validation loss",
    "mean_abs": "mean |∂L/∂W|",
    "relative_update": "‖ΔW‖ / ‖W‖",
    "weight": "‖W‖",
    "second_moment": "mean h² of the output",
}
NAMED = 6  # most further differences, settings or layers in a text
WIDE = 5.0  # range of losses from which their axis is logarithmic: of less its labels lie on one another
COLORS = 1.0  # log10 ratio at the ends of the color scale, at most
LONGEST = 60  # characters of a setting's value


@dataclass(frozen=True)
class Difference(Record):
    """A quantity of a layer in which two trainings differ beyond what is expected.

    Attributes:
        step: First step, or epoch, from which on they do.
        layer: Name of the parameter tensor or of the module; empty for a loss.
        quantity: Name of the quantity, a key of `LABELS`.
        log_ratio: Log10 of b's value over a's there, median over the rows that follow, ±infinity where one is
            zero, missing or not finite; of a loss that is not always positive 0.434 times the difference over
            the median size of the loss.
        expected: Standard error of it that seeds explain, in log10.
        limit: Number of such errors beyond which it counts.
        signed: True of a loss that is not always positive.
    """

    step: int
    layer: str
    quantity: str
    log_ratio: float
    expected: float
    limit: float
    signed: bool = False

    @property
    def times(self) -> float:
        """Number of expected errors that it is away from 0."""
        return abs(self.log_ratio) / self.expected

    def derived(self) -> Mapping[str, Any]:
        """Return the number of expected errors."""
        return {"times": self.times}

    def __str__(self) -> str:
        place = f"{self.layer}: " if self.layer else ""
        if math.isinf(self.log_ratio):
            most = "b" if self.log_ratio > 0 else "a"
            return (
                f"{place}{LABELS[self.quantity]} is zero, missing or not finite in one alone (more in {most})"
            )
        beyond = f"{self.times:.3g} times the expected variation"
        if self.signed:  # it has no ratio
            sizes, way = abs(self.log_ratio) * math.log(10), "above" if self.log_ratio > 0 else "below"
            size = f"{sizes:.3g} times its median size"
            return f"{place}{LABELS[self.quantity]} of b is {size} {way} that of a, {beyond}"
        return (
            f"{place}{LABELS[self.quantity]} of b is {10**self.log_ratio:.3g} times that of a "
            f"(log10 {self.log_ratio:+.2f}), {beyond}"
        )


@dataclass(frozen=True, eq=False, repr=False)
class DifferenceTable(Record):
    """Ratios of a quantity.

    Attributes:
        layers: (L) Names of the layers that both trainings have.
        log_ratio: (T, L) Log10 of b's value over a's, of geometric means over seeds; NaN where it is missing.
        error: (T, L) Standard error to expect of the median over the rows that begin here.
        limit: (L,) Number of such errors beyond which a difference counts.
    """

    layers: tuple[str, ...]
    log_ratio: Values
    error: Values
    limit: Values


@dataclass(frozen=True)
class Setting(Record):
    """A setting that differs.

    Attributes:
        name: Name, of a run the dotted path.
        a, b: Values of both, as plain values; None where it has none.
    """

    name: str
    a: Any
    b: Any

    def __str__(self) -> str:
        return f"{self.name} {shortened(self.a)} → {shortened(self.b)}"


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Displayable, Record):
    """Two trainings, step by step or epoch by epoch.

    Attributes:
        names: Names of a and b.
        row: Kind of a row: `step` or `epoch`.
        steps: (T,) Steps or epochs that all histories have.
        rows: Number of rows of a and of b.
        seeds: Number of histories of a and of b.
        kept: Number of rows that each judged median is of; 1 for the rows themselves.
        lasting: Number of medians in a row in which a difference must stand.
        tests: Number of medians that were judged, of all layers and quantities.
        level: Probability that seeds alone make any of them differ, at most, 0 to 1.
        differences: First difference of each layer and quantity that differs, the earliest first, and of one
            step from input to output.
        equal_rows: Number of rows in the beginning in which all numbers are equal, bit for bit.
        first_unequal: First row, layer and quantity in which any number differs, be it by rounding; None
            where all are equal.
        settings: Settings that differ.
        only_a, only_b: Names of layers that one of them lacks.
        tables: Ratios per quantity.
        losses: (2, T) Loss of a and b at these steps, NaN where it is not known.
        notes: Remarks.
    """

    names: tuple[str, str]
    row: Literal["step", "epoch"]
    steps: NDArray[np.int64]
    rows: tuple[int, int]
    seeds: tuple[int, int]
    kept: int
    lasting: int
    tests: int
    level: float
    differences: tuple[Difference, ...]
    equal_rows: int
    first_unequal: tuple[int, str, str] | None
    settings: tuple[Setting, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    tables: Mapping[str, DifferenceTable]
    losses: Values
    notes: tuple[str, ...]

    @property
    def first(self) -> Difference | None:
        """First difference, in the first layer that differs at that step; None without any."""
        return self.differences[0] if self.differences else None

    @property
    def equal(self) -> bool:
        """True if all numbers are equal, bit for bit."""
        return self.first_unequal is None

    @property
    def differs(self) -> bool:
        """True if they differ beyond what is expected, or in their layers."""
        return bool(self.differences or self.only_a or self.only_b)

    @property
    def by_seeds(self) -> bool:
        """True if the expected variation is that of seeds, not of the two trainings' own steps."""
        return sum(self.seeds) > 2

    def derived(self) -> Mapping[str, Any]:
        """Return the verdict in a sentence, and what it is made of."""
        return {"verdict": self.verdict, "differs": self.differs, "equal": self.equal, "first": self.first}

    @property
    def verdict(self) -> str:
        """Verdict in a sentence."""
        rows = count_noun(len(self.steps), f"common {self.row}")
        if self.first is not None:
            return f"they differ from {self.row} {self.first.step} on, first in {self.first}"
        if self.only_a or self.only_b:
            return f"their layers differ; what both have does not differ beyond noise over {rows}"
        if self.equal:
            return f"equal bit for bit for {rows}"
        if len(self.steps) == 1 and not self.by_seeds:
            return f"{rows} cannot tell whether they differ beyond noise: give more, or other seeds"
        return f"they do not differ beyond noise over {rows}"

    def plot(self, ax: Axes | None = None, quantity: str = "") -> Axes:
        """Draw a map of layer × step of log10 b / a, the first difference marked, below the losses.

        Args:
            ax: Axes to draw on; by default a new figure's.
            quantity: Quantity to draw, a key of `tables`; by default that of the first difference in a layer.
        """
        import matplotlib.pyplot as plt

        axes = plt.subplots(layout="constrained")[1] if ax is None else ax
        quantity = quantity or self._drawn
        table = self.tables.get(quantity)
        if table is None:
            axes.text(0.5, 0.5, "no layer in common", transform=axes.transAxes, ha="center")
            return self._draw_losses(axes, axes)
        sizes = np.abs(table.log_ratio[np.isfinite(table.log_ratio)])
        end = float(min(COLORS, max(sizes.max(initial=0.0), 1e-6)))
        shown = np.where(np.isinf(table.log_ratio), np.sign(table.log_ratio) * end, table.log_ratio)
        panel = _panel_above(axes) if np.isfinite(self.losses).any() else None
        scale = ColorScale(f"log10 b / a of {LABELS[quantity]}", (-end, end), "RdBu")
        draw_map(axes, self.steps, table.layers, shown, scale, self.row)
        for each in self.differences[:1]:
            axes.axvline(each.step, color="black", linewidth=1.0, linestyle=(0, (1, 2)))
            if each.quantity == quantity and each.layer in table.layers:
                axes.plot(
                    each.step, table.layers.index(each.layer) + 1, marker="o", markersize=9,
                    markerfacecolor="none", markeredgecolor="black", clip_on=False,
                )  # fmt: skip
        return self._draw_losses(axes, panel) if panel is not None else axes

    @property
    def _drawn(self) -> str:
        """Quantity of the first difference of a layer; without any that of the gradient."""
        of_layers = [name for name in self.tables if self.tables[name].layers != ("",)]
        known = [each.quantity for each in self.differences if each.quantity in of_layers]
        return [*known, *(name for name in ("mean_abs",) if name in of_layers), *of_layers, ""][0]

    def _draw_losses(self, axes: Axes, panel: Axes) -> Axes:
        """Draw the two curves of the loss on a panel above the map."""
        for name, values, dash in zip("ab", self.losses, ("-", "--"), strict=True):
            panel.plot(self.steps, values, dash, label=name, linewidth=1.2)
        finite = self.losses[np.isfinite(self.losses)]
        if len(finite) and 0 < WIDE * finite.min() < finite.max():
            panel.set_yscale("log")
        panel.set(ylabel="loss")
        panel.legend(fontsize="small")
        if panel is not axes:
            panel.tick_params(labelbottom=False)
        return axes

    def __str__(self) -> str:
        return "\n".join([self.verdict, *(f"  {line}" for line in self._lines())])

    def _lines(self) -> list[str]:
        """Return what the verdict rests on."""
        lines = [self.basis]
        if not self.by_seeds:
            flags = "seeds_of_a=, seeds_of_b= (--seeds-of-a, --seeds-of-b)"
            lines.append(f"stronger with other seeds of both: {flags}")
        if self.first_unequal is not None:
            step, layer, quantity = self.first_unequal
            place = f" of {layer}" if layer else ""
            before = f", after {count_noun(self.equal_rows, 'equal row')}" if self.equal_rows else ""
            lines.append(f"first number that differs at all: {quantity}{place} at {self.row} {step}{before}")
        lines += _listed("settings that differ", self.settings)
        lines += _listed(
            "further differences", [f"{self.row} {each.step}, {each}" for each in self.differences[1:]]
        )
        lines += _listed("layers of a alone", self.only_a) + _listed("layers of b alone", self.only_b)
        return [*lines, *(f"note: {note}" for note in self.notes)]

    @property
    def basis(self) -> str:
        """Line on the variation that was expected, and on how many comparisons were made."""
        of = f"of medians over {self.kept} {self.row}s" if self.kept > 1 else f"of single {self.row}s"
        judged = f"{self.tests:,} comparisons {of}, {self.lasting} in a row to differ"
        error = f"{100 * self.level:g} % for an error in any of them (Bonferroni)"
        if self.by_seeds:
            n = f"n = {self.seeds[0]} and {self.seeds[1]} seeds"
            return f"expected variation: between seeds ({n}); {judged}, {error}"
        return (
            f"expected variation: the trainings' own from {self.row} to {self.row}, and what seeds of small "
            f"networks do, for no other seeds were compared: the verdict is weaker; {judged}, {error}"
        )


def _panel_above(axes: Axes) -> Axes | None:
    """Return a panel in the upper quarter of the place of axes; None where they are free of any grid."""
    spec = axes.get_subplotspec()
    if spec is None:
        return None
    halves = spec.subgridspec(2, 1, height_ratios=(1, 3))
    axes.set_subplotspec(halves[1])
    return axes.figure.add_subplot(halves[0], sharex=axes)


def _listed(head: str, things: Sequence[object]) -> list[str]:
    """Return a line for a few things, or a line for each of longer ones; none without any."""
    if not things:
        return []
    more = [f"… {len(things) - NAMED} more"] if len(things) > NAMED else []
    return [f"{head}: " + "; ".join([*map(str, things[:NAMED]), *more])]


def shortened(value: Any) -> str:
    """Return a setting's value as a text of one line.

    Args:
        value: Plain value; None for none.
    """
    names = value and isinstance(value, list) and all(isinstance(each, str) for each in value)
    text = "none" if value is None else ", ".join(value) if names else str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
