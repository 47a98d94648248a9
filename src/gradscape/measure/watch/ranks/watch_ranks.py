"""Compare the ranks of a watched training every few steps, without a collective operation."""

from __future__ import annotations

import atexit
import logging
import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gradscape.errors import ConfigError, brief, first_line
from gradscape.measure.core.parameters import number
from gradscape.measure.watch.ranks.board import board_of_group
from gradscape.measure.watch.ranks.checksum import checksum
from gradscape.measure.watch.ranks.comparison import ABSENT
from gradscape.measure.watch.ranks.exchange import Draft, Exchange
from gradscape.measure.watch.ranks.replicas import Replicas, replicas_of
from gradscape.measure.watch.step_reading import is_out_of_reach
from gradscape.records.diagnosis import Finding
from gradscape.records.ranks import RankHistory, RankSilence

log = logging.getLogger("gradscape")


@dataclass(frozen=True)
class Ranks:
    """Options of a comparison of ranks; see `gradscape.watch`.

    Attributes:
        every: Number of steps from one comparison to the next; the first is after the first step.
        buffers: Whether to compare buffers too, such as running statistics, which DDP sends from the first
            rank to the others before each forward pass.
        silence: Number of seconds without progress, or without a sign of life, after which a rank is told.

    Raises:
        ConfigError: A number is not above 0.

    Example:
        >>> flow = gs.watch(model, optimizer, ranks=gs.Ranks(every=50, buffers=True))
    """

    every: int = 100
    buffers: bool = False
    silence: float = 120.0

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ConfigError(f"ranks: expected a number of steps, 1 or more; got {brief(self.every)}")
        if not 0 < self.silence < math.inf:
            raise ConfigError(f"silence: expected a number of seconds above 0; got {brief(self.silence)}")


class Watched(Protocol):
    """Training that is watched: a `Recorder`."""

    model: nn.Module
    notes: list[str]
    steps: int
    passes: int
    error: str


class RankWatch:
    """Comparison of the ranks of a watched training.

    Every rank must begin it, and ends it with its watch, or with its process.

    Args:
        recorder: Watched training.
        optimizers: Function that returns its optimizers.
        options: Options.
        tell: Function that is called with a finding on each silent rank, from another thread.
    """

    def __init__(
        self,
        recorder: Watched,
        optimizers: Callable[[], Sequence[Optimizer]],
        options: Ranks,
        tell: Callable[[Finding], None],
    ) -> None:
        self.recorder, self.optimizers, self.options, self._tell = recorder, optimizers, options, tell
        self._skipped: Tensor | int = 0
        self._noted = False
        board = board_of_group()
        self.exchange: Exchange | None = None
        if board is None:
            recorder.notes.append("ranks are not compared: this process is alone, or its group has no store")
            return
        self.rank, self.world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        reference = weakref.ref(self)  # the thread must not keep a training alive that is gone

        def progress() -> tuple[int, int] | None:
            found = reference()
            if found is None or found.recorder.error:  # nothing is counted any more: that is no standstill
                return None
            return found.recorder.passes, found.recorder.steps

        def on_silence(silence: RankSilence) -> None:
            log.warning("%s", silence)
            if (found := reference()) is not None:
                found._tell(silence.finding())

        self.exchange = Exchange(board, self.rank, self.world, options.silence, progress, on_silence)
        # The interpreter's end could end the process in the middle of the thread's call.
        atexit.register(self.exchange.close)

    def after_step(self) -> None:
        """Compare the ranks if it is time to; what fails ends the comparison, with a note."""
        if self.exchange is None or self.exchange.error:
            return
        try:
            self._count_skipped()
            if self.recorder.steps == 1 or self.recorder.steps % self.options.every == 0:
                self._compare()
        except Exception as error:  # any type: the watch goes on without
            self.exchange.error = first_line(error)

    def _count_skipped(self) -> None:
        """Count steps that a fused optimizer leaves out for a GradScaler; the device is not waited for."""
        for optimizer in self.optimizers():
            if isinstance(found := getattr(optimizer, "found_inf", None), Tensor):
                self._skipped = self._skipped + (found.detach().reshape(()) != 0).long()

    def _compare(self) -> None:
        """Compute the checksums of this rank, and hand them over."""
        assert self.exchange is not None
        if is_out_of_reach():
            return
        recorder = self.recorder
        found = replicas_of(recorder.model, range(self.world), self.rank, self.options.buffers)
        if not self._noted:
            self._noted = True
            recorder.notes += found.notes
        sums = _sums(found)
        event = None
        if sums.is_cuda:
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(torch.cuda.current_stream(sums.device))
        rates = tuple(rate for optimizer in self.optimizers() for rate in _rates(optimizer))
        head = (recorder.steps, recorder.passes, self._skipped, rates, found.model)
        self.exchange.add(Draft(head, tuple(each.key for each in found.compared), sums, event))

    def close(self) -> None:
        """End the comparison; the first rank waits a few seconds for the last one."""
        if self.exchange is not None:
            self.exchange.close()
            atexit.unregister(self.exchange.close)

    @property
    def notes(self) -> list[str]:
        """Sentence on what ended the comparison, in a list."""
        ended = self.exchange.error if self.exchange is not None else ""
        return [f"ranks are not compared any more: {ended}"] if ended else []

    def history(self) -> RankHistory | None:
        """Return what was found so far; None on other ranks than the first."""
        if self.exchange is None or self.rank:
            return None
        found = self.exchange.comparison
        return RankHistory(
            self.world,
            self.options.every,
            found.count,
            found.step,
            found.tensors,
            found.differences,
            tuple(self.exchange.silences.found),
        )


def options_of(ranks: int | Ranks | None) -> Ranks | None:
    """Return the options of a comparison; None for none.

    Args:
        ranks: Options, or the number of steps between comparisons alone.
    """
    return ranks if ranks is None or isinstance(ranks, Ranks) else Ranks(every=ranks)


def _sums(found: Replicas) -> Tensor:
    """Return the checksums of tensors and of their gradients (2, tensors), on the device of the first."""
    if not found.compared:
        return torch.zeros(2, 0, dtype=torch.int64)
    device = found.compared[0].tensor.device
    absent = torch.tensor(ABSENT, device=device)
    tensors = [checksum(each.tensor).to(device) for each in found.compared]
    gradients = [
        absent if each.gradient is None else checksum(each.gradient).to(device) for each in found.compared
    ]
    return torch.stack([torch.stack(tensors), torch.stack(gradients)])


def _rates(optimizer: Optimizer) -> list[float]:
    """Return the learning rates of an optimizer's groups; NaN where one is on another device, or is none."""
    found = []
    for group in optimizer.param_groups:
        rate = group.get("lr")
        known = not (isinstance(rate, Tensor) and rate.is_cuda)  # reading it would wait for the device
        value = number(rate) if known else None
        found.append(math.nan if value is None else value)
    return found
