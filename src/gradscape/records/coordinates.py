"""Coordinate check: sizes of activations and of their changes against width, and what they say; no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from gradscape._codec import Record
from gradscape._text import count_noun, join_names, literal, shorten
from gradscape.errors import ConfigError, brief
from gradscape.records.display import Displayable
from gradscape.records.encoding import Values
from gradscape.records.width_exponents import (
    MARGIN,
    LayerExponents,
    LayerVerdict,
    ends,
    fitted,
    in_words,
    judged,
    nearest,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Verdict = Literal["flat", "grows", "shrinks", "undecided", "still", "diverges"]
LABELS = {"sizes": "mean |x|", "changes": "mean |xₜ − x₀|", "effective": "mean |effective update|"}
SHOWN = 12  # rows of a printed table at each end
NAMED = 10  # most layers that a legend names


@dataclass(frozen=True, eq=False, repr=False)
class CoordinateCheck(Displayable, Record):
    """Sizes of every layer's output at several widths, over the first steps (Yang et al. 2022, §D.1).

    Arrays (S, W, T + 1, L) have an entry for each seed, width, step from 0 (before the first) and layer; NaN
    where there is none, as after a training has diverged. All are means of absolute values over samples,
    units and positions of the first batch.

    Attributes:
        widths: (W) Widths.
        layers: (L) Names of the modules that hold parameters, in the order of their calls; `name (call 2)`
            for one called again; last the network's output, `(output)` where no such module returns it.
        kinds: (L) `conv`, `linear`, `norm`, …; `output`.
        output: Layer that returns the network's output, or `(output)`; empty if that is no tensor.
        readout: Layer whose output becomes the network's after a further operation, such as a multiplier;
            what follows is judged in its place. Empty if there is none.
        sizes: Size of the output xₜ.
        changes: Size of xₜ − x₀.
        effective: Size of f(Wₜ, xₜ) − f(W₀, xₜ), the layer's own part of the change, for its parameters W and
            its input xₜ (Haas et al. 2025); NaN for a network's output that no layer returns.
        losses: (S, W, T + 1) Loss of the first batch.
        optimizer: Name of the optimizer.
        batches: Number of batches that steps are made on, in turn.
        samples: Number of samples in the first batch.
        notes: Remarks on how it was measured.
    """

    widths: tuple[int, ...]
    layers: tuple[str, ...]
    kinds: tuple[str, ...]
    output: str
    readout: str
    sizes: Values
    changes: Values
    effective: Values
    losses: Values
    optimizer: str
    batches: int
    samples: int
    notes: tuple[str, ...]

    @property
    def steps(self) -> int:
        """Number of training steps, T."""
        return int(self.sizes.shape[2]) - 1

    @cached_property
    def finite(self) -> NDArray[np.bool_]:
        """(S, W, T + 1) True where all outputs and the loss are finite."""
        found: NDArray[np.bool_] = np.isfinite(self.sizes).all(axis=3) & np.isfinite(self.losses)
        return found

    @property
    def judged_step(self) -> int:
        """Last step at which everything is finite, at which layers are judged; −1 if there is none."""
        whole = np.minimum.accumulate(self.finite.all(axis=(0, 1)))
        return int(whole.sum()) - 1

    @property
    def divergence(self) -> dict[int, int]:
        """First step after which something is not finite for some seed, per width that has one."""
        return {
            width: int((~self.finite[:, place].all(axis=0)).argmax())
            for place, width in enumerate(self.widths)
            if not self.finite[:, place].all()
        }

    @cached_property
    def by_layer(self) -> tuple[LayerExponents, ...]:
        """(L) exponents and verdict of every layer, at `judged_step`."""
        return self.at_step(self.judged_step)

    def at_step(self, step: int) -> tuple[LayerExponents, ...]:
        """Return exponents and verdict of every layer after another number of steps.

        Args:
            step: Number of training steps; 0 has the outputs before training alone.
        """
        return tuple(self._judged(place, step) for place in range(len(self.layers)))

    def _judged(self, place: int, step: int) -> LayerExponents:
        widths, name = np.array(self.widths, dtype=np.float64), self.layers[place]
        if step < 0:
            return judged(name, None, None, None, moves=True, last=False)
        changes, effective = (array[:, :, step, place] for array in (self.changes, self.effective))
        return judged(
            name,
            fitted(widths, self.sizes[:, :, 0, place]),
            fitted(widths, changes),
            fitted(widths, effective),
            moves=step == 0 or bool((np.nan_to_num(changes) + np.nan_to_num(effective) > 0).any()),
            last=name == self.output,
        )

    @property
    def counted(self) -> tuple[LayerExponents, ...]:
        """Layers that the overall verdict rests on: all but the readout, whose output is scaled further."""
        return tuple(each for each in self.by_layer if each.layer != self.readout)

    def having(self, verdict: LayerVerdict) -> list[LayerExponents]:
        """Return the layers that have a verdict, in the order of their calls.

        Args:
            verdict: Verdict of a layer.
        """
        return [each for each in self.counted if each.verdict == verdict]

    @property
    def verdict(self) -> Verdict:
        """Overall verdict: `diverges`, else the gravest of a layer; `still` if nothing changes."""
        if self.divergence:
            return "diverges"
        known: tuple[LayerVerdict, ...] = ("grows", "shrinks", "undecided", "flat")
        return next((verdict for verdict in known if self.having(verdict)), "still")

    @property
    def first(self) -> str:
        """First layer whose coordinates grow with width; empty if none does."""
        return next((each.layer for each in self.having("grows")), "")

    def derived(self) -> Mapping[str, Any]:
        """Return verdicts, exponents, and where it diverges."""
        return {
            "verdict": self.verdict,
            "first": self.first,
            "judged_step": self.judged_step,
            "divergence": {str(width): step for width, step in self.divergence.items()},
            "exponents": [each.to_dict() for each in self.by_layer],
        }

    @property
    def heading(self) -> str:
        """Line with the overall verdict, and the layer that it is of."""
        if self.divergence:
            places = [f"{width} (step {step})" for width, step in self.divergence.items()]
            later = f"; {self._of_layers}" if self.judged_step > 0 else ""
            return f"not finite at width {join_names(places)}{later}"
        return self._of_layers

    @property
    def _of_layers(self) -> str:
        steps = f"after {count_noun(self.judged_step, 'step')}"
        for verdict in ("grows", "shrinks"):
            if found := self.having(verdict):
                first, when = found[0], "before training" if "initial" in found[0].reason else steps
                more = f", and {count_noun(len(found) - 1, 'layer')} after it" if len(found) > 1 else ""
                return (
                    f"{verdict} with width: first {first.layer}, whose {first.reason} goes as width^"
                    f"{in_words(first.exponent)} {when}{more}"
                )
        if found := self.having("undecided"):
            names = join_names([each.layer for each in found])
            return f"undecided at {names}: take more seeds, wider networks, or widths farther apart"
        if not (flat := self.having("flat")):
            return "nothing changes: no layer's output moves in these steps"
        still = self.having("still")
        rest = f"; {join_names([each.layer for each in still])} did not move" if still else ""
        moving = f"outputs and updates of {count_noun(len(flat), 'layer')} keep their size {steps}"
        return f"scales with width as muP should: {moving}{rest}"

    def plot(
        self,
        ax: Axes | None = None,
        of: Literal["sizes", "changes", "effective"] = "changes",
        step: int | None = None,
    ) -> Axes:
        """Draw sizes over width, a line with a band from the least to the largest seed for each layer.

        Args:
            ax: Axes to draw on; by default a new figure's.
            of: Array to draw.
            step: Number of training steps after which; by default `judged_step`.

        Raises:
            ConfigError: There is no such array or step.
        """
        import matplotlib as mpl
        import matplotlib.pyplot as plt

        if of not in LABELS:
            raise ConfigError(f"of: expected one of {', '.join(LABELS)}; got {brief(of)}")
        if step is not None and not 0 <= step <= self.steps:
            raise ConfigError(f"step: expected 0 … {self.steps}; got {brief(step)}")
        step = max(self.judged_step, 0) if step is None else step
        axes = plt.subplots(layout="constrained")[1] if ax is None else ax
        many, count = len(self.layers) > NAMED, len(self.layers)
        for place, name in enumerate(self.layers):
            sizes = getattr(self, of)[:, :, step, place]
            sizes = np.where(np.isfinite(sizes) & (sizes > 0), sizes, np.nan)
            if np.isnan(sizes).all():
                continue
            color = mpl.colormaps["plasma"](0.26 + 0.5 * place / max(count - 1, 1))
            axes.plot(
                self.widths, _over(np.nanmean, sizes), color=color, marker="o", markersize=3,
                linestyle="--" if name == self.output else "-",
                label=literal(shorten(name, 24)) if not many or place in (0, count - 1) else None,
            )  # fmt: skip
            axes.fill_between(
                self.widths, _over(np.nanmin, sizes), _over(np.nanmax, sizes), color=color, alpha=0.15,
                linewidth=0,
            )  # fmt: skip
        after = "before training" if not step else f"after {count_noun(step, 'step')}"
        axes.set(xscale="log", yscale="log", xlabel="width", ylabel=f"{LABELS[of]} {after}")
        axes.set_xticks(self.widths, [str(width) for width in self.widths])
        axes.minorticks_off()
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small")
        return axes

    def plot_exponents(self, ax: Axes | None = None) -> Axes:
        """Draw every layer's exponents with their intervals, and the band within which they count as 0.

        Args:
            ax: Axes to draw on; by default a new figure's.
        """
        import matplotlib.pyplot as plt

        axes = plt.subplots(layout="constrained")[1] if ax is None else ax
        axes.axvspan(-MARGIN, MARGIN, color="tab:gray", alpha=0.2, linewidth=0)
        shown = (("initial", "o", "x₀"), ("change", "s", "xₜ − x₀"), ("effective", "D", "effective update"))
        for shift, (name, marker, label) in zip((-0.25, 0, 0.25), shown, strict=True):
            places = [(row, e) for row, each in enumerate(self.by_layer) if (e := getattr(each, name))]
            if places:
                means = np.array([exponent.mean for _, exponent in places])
                reach = np.abs(np.array([ends(exponent) for _, exponent in places]).T - means)
                axes.errorbar(
                    means, [row + shift for row, _ in places], xerr=reach, marker=marker, markersize=4,
                    linestyle="none", elinewidth=1, label=label,
                )  # fmt: skip
        step = max(1, -(-len(self.layers) // 30))
        names = [literal(shorten(name, 24)) for name in self.layers[::step]]
        axes.set_yticks(range(0, len(self.layers), step), names)
        axes.set(ylim=(len(self.layers) - 0.5, -0.5), xlabel="exponent of width (95 % interval over seeds)")
        axes.legend(fontsize="small")
        return axes

    @property
    def drawings(self) -> dict[str, Callable[[Axes], Axes]]:
        """Functions that draw the panels of the page on axes, per title."""
        last = self.judged_step
        found: dict[str, Callable[[Axes], Axes]] = {
            "Exponents": self.plot_exponents,
            "Outputs before training": lambda axes: self.plot(axes, "sizes", 0),
        }
        if last > 0:
            found |= {
                "Changes of the outputs": self.plot,
                "Effective updates": lambda axes: self.plot(axes, "effective", last),
                "Outputs after training": lambda axes: self.plot(axes, "sizes", last),
            }
        return found

    def __str__(self) -> str:
        seeds = count_noun(len(self.sizes), "seed")
        lines = [
            self.heading,
            f"{self.optimizer}, {count_noun(self.steps, 'step')}, widths {', '.join(map(str, self.widths))}, "
            f"n = {seeds}, {count_noun(self.samples, 'sample')}",
            "exponents of width with 95 % intervals over seeds, ≈ the multiple of ½ that they allow:",
            *self.table(),
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def table(self) -> list[str]:
        """Return a line of text for each layer, without the middle of a deep network."""
        wide = max(len("layer"), *map(len, self.layers))
        heads = ("x₀", "xₜ − x₀", "effective update")
        lines = [f"{'layer':{wide}}  {'verdict':9}" + "".join(f"  {head:27}" for head in heads).rstrip()]
        for place, each in enumerate(self.by_layer):
            if len(self.layers) > 2 * SHOWN and SHOWN <= place < len(self.layers) - SHOWN:
                lines += ["…"] if place == SHOWN else []
                continue
            verdict = "(scaled)" if each.layer == self.readout else each.verdict
            cells = (_cell(e) for e in (each.initial, each.change, each.effective))
            lines.append(f"{each.layer:{wide}}  {verdict:9}" + "".join(f"  {c:27}" for c in cells).rstrip())
        return lines


def _cell(exponent: Any) -> str:
    """Return an exponent for the table, with the multiple of ½ that its interval allows."""
    near = nearest(exponent)
    return in_words(exponent) + (f" ≈ {near}" if near else "")


def _over(reduce: Callable[..., Any], sizes: Values) -> Values:
    """Return a statistic over the seeds (W,), NaN where none is known."""
    known = ~np.isnan(sizes).all(axis=0)
    found = np.full(sizes.shape[1], np.nan)
    found[known] = reduce(sizes[:, known], axis=0)
    return found
