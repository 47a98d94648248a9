"""What every tracker has in common: new rows only, by one process only, and never at the training's cost."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Self

import torch

from gradscape.errors import ConfigError, nearest
from gradscape.measure.watch.activations import STATISTICS as OUTPUTS
from gradscape.measure.watch.watch import COLUMNS, Watch
from gradscape.records.activations import ActivationHistory
from gradscape.records.gradients import FlowHistory

ALL = (*COLUMNS, "relative", "relative_update")
CHARTS = ("mean_abs", "rms", "relative_update")  # of every statistic a dashboard would draw hundreds
Row = tuple[int, dict[str, float]]

log = logging.getLogger("gradscape")  # not `warnings`: those can be made errors, which would end the training


class Sink(ABC):
    """Writes what a watch has read, each row once; the trackers are its subclasses.

    In distributed training only the first process writes. A sink that fails says so once, in one line to the
    log `gradscape`, and is left out from then on: the training goes on.

    Args:
        statistics: of `FlowHistory`, each written as `gradient/<layer>/<statistic>`. Of a watch that reads
            activations theirs are written too, as `activation/<layer>/<statistic>`.

    Raises:
        ConfigError: a statistic that there is not.

    Example:
        >>> flow = gs.watch(model, optimizer)
        >>> with trackers.JsonLines("gradients.jsonl").follow(flow):
        ...     ...  # train

        or, when you say it:

        >>> log = trackers.JsonLines("gradients.jsonl")
        >>> log.write(flow)
    """

    def __init__(self, statistics: Sequence[str]) -> None:
        for name in statistics:
            if name not in ALL:
                raise ConfigError(
                    f"statistics: there is no {name!r}; give some of {', '.join(ALL)}{nearest(name, ALL)}"
                )
        self.statistics = tuple(statistics)
        self.flow: Watch | None = None
        self.written = self.first = 0
        self.opened = self.failed = False
        self.writes: bool | None = None  # whether this is the process that does

    def follow(self, flow: Watch, every: int = 100, first: int = 0) -> Self:
        """Write after each so many steps of the training from now on, and the rest when it or the watch ends.

        Args:
            flow: what `gradscape.watch` gave.
            every: steps; no more than the watch keeps rows, or some are overwritten unwritten. Each writing
                waits for the device.
            first: the number of the watch's first step, where a training goes on from a checkpoint.

        Raises:
            ConfigError: `every` is no number of steps, or the watch has ended.
        """
        if every < 1:
            raise ConfigError(f"every: {every} is not a number of steps; give 1 or more")
        if flow.closed:
            raise ConfigError("flow: this watch has ended; follow it before it is closed, or write() it now")
        self.take(flow)
        self.first = first

        def after_step() -> None:
            if flow.steps % every == 0:
                self.write(flow)

        flow.after_row.append(after_step)
        flow.at_end.append(self.close)
        return self

    def write(self, flow: Watch) -> None:
        """Write the rows that were read since the last time.

        Args:
            flow: what `gradscape.watch` gave; of a new one all rows are written.
        """
        self.take(flow)
        self.write_guarded()

    def write_guarded(self, rest: bool = False) -> None:
        if self.writes and not self.failed:
            self.guarded(lambda: self.write_new(rest))

    def close(self) -> None:
        """Write the rest of what is followed, and let go of file, run or connection."""
        if self.flow is not None:
            self.write_guarded(rest=True)
        if self.opened and not self.failed:
            self.guarded(self.end)
        self.opened = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self, flow: Watch) -> None:
        if flow is not self.flow:
            self.flow, self.written, self.first = flow, 0, 0
        if self.writes is None:  # asked once: when the group is gone every process would be the first
            self.writes = _first_process()

    def write_new(self, rest: bool) -> None:
        """Write rows that were not written yet; the one under way only with the rest."""
        assert self.flow is not None
        history = self.flow.history(since=self.written)
        ever = len(self.flow.ring.steps)
        if lost := ever - self.written - len(history.steps):
            log.warning("%s: %d rows were overwritten before they were written; write more often", self, lost)
        found = list(rows(history, self.statistics, self.first))
        if found and self.flow.row is not None and not rest:
            found.pop()
            ever -= 1
        self.written = ever
        if not found:
            return
        if not self.opened:
            self.begin()
            self.opened = True
        self.put(found)

    def guarded(self, act: Callable[[], None]) -> None:
        """Do it; what goes wrong ends this sink, not the training."""
        state = random.getstate()  # MLflow draws from it, and the training's augmentation may too
        try:
            act()
        except Exception as error:
            self.failed = True
            log.warning("%s is left out from now on: %s", self, in_one_line(error))
            with contextlib.suppress(Exception):
                self.end()
        finally:
            random.setstate(state)

    @abstractmethod
    def begin(self) -> None:
        """Open what is written to; only ever called by the process that writes."""

    @abstractmethod
    def put(self, rows: Sequence[Row]) -> None:
        """Write the rows."""

    @abstractmethod
    def end(self) -> None:
        """Close what `begin` opened."""

    def __str__(self) -> str:
        return type(self).__name__


def rows(history: FlowHistory, statistics: Sequence[str], first: int = 0) -> Iterator[Row]:
    """The step and the named values of each row; those of parameters that had no gradient are left out."""
    names = [[f"gradient/{layer}/{name}" for layer in history.layers] for name in statistics]
    values = [getattr(history, name) for name in statistics]
    for t, step in enumerate(history.steps.tolist()):
        row = {"gradient/skipped": float(history.skipped[t])}
        for keys, array in zip(names, values, strict=True):
            for key, value, bad in zip(keys, array[t].tolist(), history.nonfinite[t].tolist(), strict=True):
                if bad == 1 or not math.isnan(value):
                    row[key] = value
        if history.activations is not None:
            row |= _of_outputs(history.activations, t)
        yield first + step, row


def _of_outputs(outputs: ActivationHistory, t: int) -> dict[str, float]:
    """The named values of a row; those of layers that did not run or have no such thing are left out."""
    return {
        f"activation/{layer}/{name}": value
        for name in OUTPUTS
        for layer, value, bad in zip(
            outputs.layers, getattr(outputs, name)[t].tolist(), outputs.nonfinite[t].tolist(), strict=True
        )
        if not math.isnan(value) or (bad and name == "second_moment")
    }


def _first_process() -> bool:
    """Whether this process is alone or of rank 0."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank() == 0
    return True


def in_one_line(error: Exception, most: int = 200) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:most]}{'…' if len(text) > most else ''}"


def require(library: str, extra: str) -> None:
    """Said before the training begins, not by the first writing.

    Raises:
        ConfigError: the library is not installed.
    """
    if importlib.util.find_spec(library) is None:
        raise ConfigError(f"{library} is not installed; type: pip install 'gradscape[{extra}]'")
