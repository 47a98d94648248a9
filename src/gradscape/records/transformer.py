"""Numbers of a transformer's attention within a training, as plain arrays; no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradscape._codec import Record
from gradscape._text import count_noun
from gradscape.records.display import Displayable
from gradscape.records.encoding import Values
from gradscape.records.heatmap import ColorScale, draw_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, repr=False)
class AttentionHistory(Record):
    """Heads of every attention, in the order in which they run.

    Arrays (T, A, H) have a row for each reading and a column for each of A calls of an attention with at most
    H heads; NaN where one did not run, has fewer heads or does not tell. Of a pass, 16 queries of each of
    4 samples are read; a row is the mean over passes of a step, of `logit` the largest.

    Attributes:
        layers: (A) Names of the modules; `name (call 2)` for one called again.
        heads: (A) Numbers of heads.
        entropy: Entropy of a query's weights over keys, in nats, the mean over queries; dropout left out.
        uniform: Entropy of equal weights on all keys that those queries may attend to.
        logit: Largest scaled product of a query and a key that it may attend to.
        alike: Largest correlation of a head's logits with those of another head, −1 to 1, each query's mean
            taken off: 1 of a copy.
        output: Root of the mean square of a head's output, before the heads are joined.
    """

    layers: tuple[str, ...]
    heads: tuple[int, ...]
    entropy: Values
    uniform: Values
    logit: Values
    alike: Values
    output: Values


@dataclass(frozen=True, eq=False, repr=False)
class TransformerHistory(Displayable, Record):
    """Numbers of a transformer at some steps of a training; in memory at most a few hundred readings.

    Attributes:
        steps: (T,) Steps that were read, from 0.
        attention: Heads of the attention.
    """

    steps: NDArray[np.int64]
    attention: AttentionHistory

    def plot(self, ax: Axes | None = None, statistic: str = "entropy") -> Axes:
        """Draw a map of attention × step, the mean over heads; return the axes.

        Args:
            ax: Axes to draw on; by default a new figure's.
            statistic: `entropy`, `uniform`, `logit`, `alike` or `output`.
        """
        values = mean_of_heads(getattr(self.attention, statistic))
        return draw_map(ax, self.steps, self.attention.layers, values, SCALES[statistic])

    def __str__(self) -> str:
        layers = count_noun(len(self.attention.layers), "attention layer")
        return f"{layers} at {count_noun(len(self.steps), 'reading')}"


SCALES = {
    "entropy": ColorScale("entropy of attention (nats)"),
    "uniform": ColorScale("entropy of equal weights (nats)"),
    "logit": ColorScale("largest attention logit"),
    "alike": ColorScale("likeness to another head", (-1.0, 1.0), "RdBu"),
    "output": ColorScale("RMS of a head's output"),
}


def mean_of_heads(values: Values) -> Values:
    """Return the mean over the heads that there are, (T, A); NaN where there is none.

    Args:
        values: (T, A, H) Numbers of heads.
    """
    known = ~np.isnan(values)
    counted = known.sum(axis=-1)
    total = np.where(known, values, 0.0).sum(axis=-1)
    found: Values = np.where(counted > 0, total / np.maximum(counted, 1), np.nan)
    return found


def numbers_at(history: TransformerHistory, step: int) -> dict[str, float]:
    """Return the numbers of a step for a tracker, by name; none of a step that was not read.

    Args:
        history: Readings of a training.
        step: Number of the step.
    """
    found = np.flatnonzero(history.steps == step)
    if not len(found):
        return {}
    seen, row = history.attention, int(found[0])
    entropy, logit = mean_of_heads(seen.entropy)[row], np.fmax.reduce(seen.logit[row], axis=-1)
    values = {
        f"attention/{layer}/{name}": float(each[place])
        for place, layer in enumerate(seen.layers)
        for name, each in (("entropy", entropy), ("logit", logit))
    }
    return {name: value for name, value in values.items() if not np.isnan(value)}


def until(history: TransformerHistory, step: int) -> TransformerHistory:
    """Return the readings up to a step.

    Args:
        history: Readings of a training.
        step: Last step.
    """
    rows = history.steps <= step
    tables = {name: getattr(history.attention, name)[rows] for name in SCALES}
    return replace(history, steps=history.steps[rows], attention=replace(history.attention, **tables))
