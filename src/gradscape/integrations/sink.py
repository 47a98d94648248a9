"""Base class of the trackers: new rows only, written by one process, and never at the training's cost."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import ClassVar, Self

import numpy as np

from gradscape.errors import ConfigError, nearest
from gradscape.measure.watch.activations import STATISTICS as OUTPUTS
from gradscape.measure.watch.alerts import is_first_process
from gradscape.measure.watch.recorder import COLUMNS
from gradscape.measure.watch.watch import Watch
from gradscape.records.activations import ActivationHistory
from gradscape.records.distributions import Histogram, quantiles_at
from gradscape.records.gradients import FlowHistory, slice_rows
from gradscape.records.transformer import numbers_at

ALL = (*COLUMNS, "relative", "relative_update")
CHARTS = ("mean_abs", "rms", "relative_update")  # all statistics would be hundreds of charts
# First part of the names in rows and of histograms, beside `loss`.
KINDS = ("gradient", "activation", "attention", "stream", "logits", "router", "distribution")
Row = tuple[int, dict[str, float]]

log = logging.getLogger("gradscape")  # not `warnings`: those can be made errors, which would end the training


class Sink(ABC):
    """Writer of what a watch has read, each row once; the trackers are its subclasses.

    In distributed training only the first process writes. A sink that fails logs one line to `gradscape` and
    is left out from then on: the training goes on. A subclass implements `_begin`, `_put` and `_end`.

    Args:
        statistics: Names of statistics of `FlowHistory`, each written as `gradient/<layer>/<statistic>`. A
            watch that reads activations has theirs written too, as `activation/<layer>/<statistic>`. The loss
            is written as `loss`, where it was seen; of a transformer, at the steps that were read,
            `attention/<layer>/entropy`, the mean over heads, `attention/<layer>/logit`, the largest,
            `stream/<layer>/size` and `share`, `logits/largest` and `logits/log_z`, `router/<layer>/entropy`
            and `largest_load`. Of a watch that reads distributions, trackers that have histograms get
            `distribution/<quantity>/<layer>`, that of the last reading at each writing, and JSON lines
            `quantile/<quantity>/<layer>/<per cent>`.

    Raises:
        ConfigError: A name is not that of a statistic.

    Example:
        >>> flow = gs.watch(model, optimizer)
        >>> with trackers.JsonLines("gradients.jsonl").follow(flow):
        ...     ...  # train

        or at a moment of your choice:

        >>> log = trackers.JsonLines("gradients.jsonl")
        >>> log.write(flow)
    """

    has_histograms: ClassVar[bool] = False  # whether the tracker draws histograms,
    has_quantiles: ClassVar[bool] = False  # or rows have quantiles instead

    def __init__(self, statistics: Sequence[str]) -> None:
        for name in statistics:
            if name not in ALL:
                raise ConfigError(
                    f"statistics: expected some of {', '.join(ALL)}; got {name!r}{nearest(name, ALL)}"
                )
        self.statistics = tuple(statistics)
        self.flow: Watch | None = None
        self.written = self.first = 0
        self.drawn = -1  # step of the last histograms
        self.opened = self.failed = False
        self.writes: bool | None = None  # True in the process that writes; None before the first row

    def follow(self, flow: Watch, every: int = 100, first: int = 0) -> Self:
        """Write every `every` steps of the training from now on, and the rest when it or the watch ends.

        Args:
            flow: Watch returned by `gradscape.watch`.
            every: Number of steps from one writing to the next; no more than the watch keeps rows, or some
                are overwritten before they are written. Each writing waits for the device.
            first: Number of the watch's first step, where a training continues from a checkpoint.

        Raises:
            ConfigError: `every` is below 1, or the watch has ended.
        """
        if every < 1:
            raise ConfigError(f"every: expected a number of steps, 1 or more; got {every}")
        if flow.closed:
            raise ConfigError("flow: this watch has ended; follow it before it is closed, or write() it now")
        self._take(flow)
        self.first = first

        def after_step() -> None:
            if flow.steps % every == 0:
                self.write(flow)

        flow.on_step(after_step)
        flow.on_close(self.close)
        return self

    def write(self, flow: Watch) -> None:
        """Write the rows that were read since the last time.

        Args:
            flow: Watch returned by `gradscape.watch`; all rows of a new one are written.
        """
        self._take(flow)
        self._write_guarded()

    def _write_guarded(self, rest: bool = False) -> None:
        if self.writes and not self.failed:
            self._guarded(lambda: self._write_new(rest))

    def close(self) -> None:
        """Write the rest of the followed watch, and close file, run or connection."""
        if self.flow is not None:
            self._write_guarded(rest=True)
        if self.opened and not self.failed:
            self._guarded(self._end)
        self.opened = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, flow: Watch) -> None:
        if flow is not self.flow:
            self.flow, self.written, self.first, self.drawn = flow, 0, 0, -1
        if self.writes is None:  # decided once: when the group is gone every process would be the first
            self.writes = is_first_process()

    def _write_new(self, rest: bool) -> None:
        """Write rows that were not written yet; the unfinished one only with the rest."""
        new = list(rows(self._unwritten(rest), self.statistics, self.first, self.has_quantiles))
        if not new:
            return
        if not self.opened:
            self._begin()
            self.opened = True
        self._put(new)
        if self.has_histograms:
            self._draw_histograms()

    def _draw_histograms(self) -> None:
        """Write the histograms of the last reading of distributions, once."""
        assert self.flow is not None
        found = self.flow.histograms()
        if found is not None and found.step > self.drawn:
            named = {
                f"distribution/{quantity}/{layer}": histogram
                for quantity, layers in found.layers.items()
                for layer, histogram in layers.items()
            }
            self._put_histograms(self.first + found.step, named)
            self.drawn = found.step

    def _unwritten(self, rest: bool) -> FlowHistory:
        """Return the rows that were not written yet, which count as written from now on."""
        assert self.flow is not None
        history, ever = self.flow.history(since=self.written), self.flow.rows
        if lost := ever - self.written - len(history.steps):
            log.warning("%s: %d rows were overwritten before they were written; write more often", self, lost)
        if self.flow.is_mid_row and not rest and len(history.steps):
            history, ever = slice_rows(history, slice(-1)), ever - 1
        self.written = ever
        return history

    def _guarded(self, act: Callable[[], None]) -> None:
        """Call `act`; an error ends this sink, not the training."""
        state = random.getstate()  # MLflow draws from it, and the training's augmentation may too
        try:
            act()
        except Exception as error:
            self.failed = True
            log.warning("%s is left out from now on: %s", self, in_one_line(error))
            with contextlib.suppress(Exception):
                self._end()
        finally:
            random.setstate(state)

    @abstractmethod
    def _begin(self) -> None:
        """Open file, run or connection; only the process that writes calls it."""

    @abstractmethod
    def _put(self, rows: Sequence[Row]) -> None:
        """Write the rows."""

    def _put_histograms(self, step: int, histograms: Mapping[str, Histogram]) -> None:
        """Write histograms by name, where the tracker has them."""
        raise NotImplementedError

    @abstractmethod
    def _end(self) -> None:
        """Close what `_begin` opened."""

    def __str__(self) -> str:
        return type(self).__name__


def rows(
    history: FlowHistory, statistics: Sequence[str], first: int = 0, quantiles: bool = False
) -> Iterator[Row]:
    """Yield the step and the named values of each row, without those of parameters that had no gradient.

    Args:
        history: Rows that the watch has read.
        statistics: Names of statistics of `FlowHistory`.
        first: Number of the watch's first step.
        quantiles: Whether rows have quantiles, where distributions were read.
    """
    names = [[f"gradient/{layer}/{name}" for layer in history.layers] for name in statistics]
    values = [getattr(history, name) for name in statistics]
    losses = _losses(history)
    for t, step in enumerate(history.steps.tolist()):
        row = {"gradient/skipped": float(history.skipped[t])}
        if step in losses:
            row["loss"] = losses[step]
        for keys, array in zip(names, values, strict=True):
            for key, value, bad in zip(keys, array[t].tolist(), history.nonfinite[t].tolist(), strict=True):
                if bad == 1 or not math.isnan(value):
                    row[key] = value
        if history.activations is not None:
            row |= _of_outputs(history.activations, t)
        if history.transformer is not None:
            row |= numbers_at(history.transformer, step)
        if quantiles and history.distributions is not None:
            row |= quantiles_at(history.distributions, step)
        yield first + step, row


def _losses(history: FlowHistory) -> dict[int, float]:
    """Return the loss of each row's step, as far as it was seen."""
    loss = history.loss
    if loss is None or not len(history.steps):
        return {}
    first = int(np.searchsorted(loss.steps, history.steps[0]))
    return dict(zip(loss.steps[first:].tolist(), loss.values[first:].tolist(), strict=True))


def _of_outputs(outputs: ActivationHistory, t: int) -> dict[str, float]:
    """Return a row's values of outputs, without those of layers that did not run or lack the statistic."""
    return {
        f"activation/{layer}/{name}": value
        for name in OUTPUTS
        for layer, value, bad in zip(
            outputs.layers, getattr(outputs, name)[t].tolist(), outputs.nonfinite[t].tolist(), strict=True
        )
        if not math.isnan(value) or (bad and name == "second_moment")
    }


def in_one_line(error: Exception, most: int = 200) -> str:
    """Return an error's type and text in one line.

    Args:
        error: Error to name.
        most: Number of characters of the text, at most.
    """
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:most]}{'…' if len(text) > most else ''}"


def require(library: str) -> None:
    """Check that a library is installed: before the training begins, not at the first writing.

    Args:
        library: Name of the module.

    Raises:
        ConfigError: The library is not installed.
    """
    if importlib.util.find_spec(library) is None:
        raise ConfigError(f"{library} is not installed; type: pip install {library}")
