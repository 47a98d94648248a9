"""Numbers of a transformer within a training, as plain arrays; no torch."""

from __future__ import annotations

from dataclasses import dataclass, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradscape._codec import Record
from gradscape._text import count_noun
from gradscape.errors import ConfigError
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
class StreamHistory(Record):
    """Residual stream through depth, as each normalization layer is given it.

    Attributes:
        layers: (S) Names of the normalization layers, in the order in which they run; the first is given the
            embedding, the last the sum of all blocks.
        size: (T, S) Root of the mean square of the stream.
        share: (T, S) Share of the first one, h₀, in the stream h: ⟨h, h₀⟩ / ⟨h, h⟩, the mean over tokens. The
            shares of h₀ and of what each block adds are 1 together.
    """

    layers: tuple[str, ...]
    size: Values
    share: Values


@dataclass(frozen=True, eq=False, repr=False)
class LogitHistory(Record):
    """Output logits, as the cross-entropy is given them, of a few tokens.

    Attributes:
        largest: (T,) Largest logit.
        log_z: (T,) log Σ exp(logit), the mean over tokens, which z-loss keeps near 0 (Chowdhery et al. 2022,
            §5).
    """

    largest: Values
    log_z: Values


@dataclass(frozen=True, eq=False, repr=False)
class RouterHistory(Record):
    """Routers of a mixture of experts, R with at most E experts, in the order in which they run.

    Attributes:
        layers: (R) Names of the routers.
        experts: (R) Numbers of experts.
        load: (T, R, E) Share of what is routed that each expert gets; NaN where there is no such expert.
        entropy: (T, R) Entropy of the router's probabilities, the mean over tokens, over that of equal ones.
        tokens: (T, R) Number of tokens that were routed.
        chosen: (T, R) Number of experts of each token.
    """

    layers: tuple[str, ...]
    experts: tuple[int, ...]
    load: Values
    entropy: Values
    tokens: Values
    chosen: Values


@dataclass(frozen=True, eq=False, repr=False)
class TransformerHistory(Displayable, Record):
    """Numbers of a transformer at some steps of a training; in memory at most a few hundred readings.

    Attributes:
        steps: (T,) Steps that were read, from 0.
        attention: Heads of the attention; None where none was recognized.
        stream: Residual stream; None where there are fewer than two normalization layers in it.
        logits: Output logits; None where the loss is no cross-entropy of a linear layer's output.
        routers: Routers of experts; None where there is none.
    """

    steps: NDArray[np.int64]
    attention: AttentionHistory | None
    stream: StreamHistory | None = None
    logits: LogitHistory | None = None
    routers: RouterHistory | None = None

    def plot(self, ax: Axes | None = None, statistic: str = "") -> Axes:
        """Draw a map of layer × step; return the axes.

        Args:
            ax: Axes to draw on; by default a new figure's.
            statistic: `entropy`, `uniform`, `logit`, `alike` or `output` of attention, the mean over heads;
                `size` or `share` of the stream; `routing`, a router's entropy. By default the first there is.
        """
        maps = self._maps()
        name = statistic or next(iter(maps), "")
        if name not in maps:
            raise ConfigError(f"statistic: expected one of {', '.join(maps) or 'none'}; got {statistic!r}")
        layers, values = maps[name]
        return draw_map(ax, self.steps, layers, values, SCALES[name])

    def _maps(self) -> dict[str, tuple[tuple[str, ...], Values]]:
        """Return the layers and the values (T, L) of each statistic."""
        found: dict[str, tuple[tuple[str, ...], Values]] = {}
        if self.attention is not None:
            heads = self.attention
            found |= {name: (heads.layers, mean_of_heads(getattr(heads, name))) for name in OF_HEADS}
        if self.stream is not None:
            found |= {name: (self.stream.layers, getattr(self.stream, name)) for name in ("size", "share")}
        if self.routers is not None:
            found["routing"] = self.routers.layers, self.routers.entropy
        return found

    def __str__(self) -> str:
        layers = 0 if self.attention is None else len(self.attention.layers)
        routers = "" if self.routers is None else f", {count_noun(len(self.routers.layers), 'router')}"
        return f"{count_noun(layers, 'attention layer')}{routers} at {count_noun(len(self.steps), 'reading')}"


OF_HEADS = ("entropy", "uniform", "logit", "alike", "output")
SCALES = {
    "entropy": ColorScale("entropy of attention (nats)"),
    "uniform": ColorScale("entropy of equal weights (nats)"),
    "logit": ColorScale("largest attention logit"),
    "alike": ColorScale("likeness to another head", (-1.0, 1.0), "RdBu"),
    "output": ColorScale("RMS of a head's output"),
    "size": ColorScale("RMS of the residual stream"),
    "routing": ColorScale("entropy of the router over that of equal shares", (0.0, 1.0)),
    "share": ColorScale("share of the embedding in the stream", (0.0, 1.0)),
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
    row = int(found[0])
    values: dict[str, float] = {}
    if (heads := history.attention) is not None:
        entropy, logit = mean_of_heads(heads.entropy)[row], np.fmax.reduce(heads.logit[row], axis=-1)
        for name, each in (("entropy", entropy), ("logit", logit)):
            values |= _named("attention", heads.layers, name, each)
    if (stream := history.stream) is not None:
        for name in ("size", "share"):
            values |= _named("stream", stream.layers, name, getattr(stream, name)[row])
    if history.logits is not None:
        values |= {
            f"logits/{name}": float(getattr(history.logits, name)[row]) for name in ("largest", "log_z")
        }
    if (routers := history.routers) is not None:
        loads = np.fmax.reduce(routers.load[row], axis=-1)
        for name, each in (("entropy", routers.entropy[row]), ("largest_load", loads)):
            values |= _named("router", routers.layers, name, each)
    return {name: value for name, value in values.items() if not np.isnan(value)}


def _named(kind: str, layers: tuple[str, ...], name: str, values: Values) -> dict[str, float]:
    return {f"{kind}/{layer}/{name}": float(value) for layer, value in zip(layers, values, strict=True)}


def until(history: TransformerHistory, step: int) -> TransformerHistory:
    """Return the readings up to a step.

    Args:
        history: Readings of a training.
        step: Last step.
    """
    rows = history.steps <= step
    parts = {name: _cut(each, rows) for name, each in vars(history).items() if is_dataclass(each)}
    return replace(history, steps=history.steps[rows], **parts)


def _cut(part: Any, rows: NDArray[np.bool_]) -> Any:
    """Return a part of a history with some of its rows."""
    tables = {name: each[rows] for name, each in vars(part).items() if isinstance(each, np.ndarray)}
    return replace(part, **tables)
