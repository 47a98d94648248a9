"""Thread of a rank that leaves its rows and signs of life on the board, and on the first rank reads all."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradscape.errors import first_line
from gradscape.measure.watch.ranks.board import Board
from gradscape.measure.watch.ranks.comparison import Comparison, Head, Row, Tensors
from gradscape.measure.watch.ranks.replicas import Ranks
from gradscape.measure.watch.ranks.silence import Beat, Silences
from gradscape.measure.watch.ranks.standstill import standstill
from gradscape.records.ranks import RankSilence

WAITING = 64  # rows that may wait to be compared; later ones are left out
SOON = 0.5  # seconds from one look for the rows of others to the next
LINGER = 3.0  # seconds that the end of a watch waits for the last comparison


@dataclass(frozen=True)
class Draft:
    """Row of a rank whose checksums may still be on their way on the device."""

    head: tuple[int, int, Tensor | int, tuple[float, ...], str]
    keys: tuple[str, ...]
    sums: Tensor
    ready: torch.cuda.Event | None

    def row(self) -> Row:
        """Return the row; waits for the device."""
        if self.ready is not None:
            self.ready.synchronize()
        step, passes, skipped, rates, model = self.head
        return Row(step, passes, int(skipped), rates, model, self.keys, self.sums.cpu().numpy())


class Exchange:
    """Exchange of rows and signs of life between ranks, in a thread that the training never waits for.

    Args:
        board: Board of the process group.
        rank: This rank.
        world: Number of ranks.
        silence: Number of seconds after which a rank is silent.
        progress: Function that returns the numbers of backward passes begun and of steps made; None once the
            training is gone.
        tell: Function that is called with each new silence, on the first rank, or the second if that is it.

    Attributes:
        comparison: Differences so far; on the first rank alone.
        silences: Silences so far; on the first two ranks.
        error: Error that ended the exchange, though not the training; empty if none did.
        sent: Number of bytes left on the board.
    """

    def __init__(
        self,
        board: Board,
        rank: int,
        world: int,
        silence: float,
        progress: Callable[[], tuple[int, int] | None],
        tell: Callable[[RankSilence], None],
    ) -> None:
        self.board, self.rank, self.world, self.progress, self.tell = board, rank, world, progress, tell
        self.silence, self.period = silence, min(5.0, silence / 10)
        self.comparison, self.error, self.sent = Comparison(), "", 0
        self.silences = Silences(world, silence, time.monotonic())
        self.training = threading.get_ident()
        self._drafts: deque[Draft] = deque()
        self._own: deque[tuple[int, float]] = deque()  # steps of own rows on the board, and when they came
        self._changed, self._ending, self._beats = threading.Condition(), False, 0
        self._last, self._moved, self._due = (0, 0), time.monotonic(), 0.0
        self._known: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="gradscape ranks", daemon=True)
        self._thread.start()

    def add(self, draft: Draft) -> bool:
        """Hand over a row, and return whether it is taken: none is while too many wait.

        Args:
            draft: Row to compare.
        """
        with self._changed:
            if len(self._drafts) + len(self._own) >= WAITING or self.error:
                return False
            self._drafts.append(draft)
            self._changed.notify_all()
        return True

    def close(self) -> None:
        """End the exchange; the first rank waits a few seconds for the last comparison."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(LINGER + 5)

    # In the thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._ending:
                self._turn()
                pending = self.rank == 0 and bool(self._own)
                with self._changed:
                    self._changed.wait_for(
                        lambda: self._drafts or self._ending,
                        min(self.period, SOON) if pending else self.period,
                    )
            end = time.monotonic() + LINGER
            while True:
                self._turn()
                if self.rank or not self._own or time.monotonic() > end:
                    break
                time.sleep(0.02)
        except Exception as error:  # any type, such as the end of the store's host: a training goes on
            self.error = first_line(error)

    def _turn(self) -> None:
        """Leave what is new on the board, and read what others have left."""
        self._publish()
        if self._ending or time.monotonic() >= self._due:
            self._due = time.monotonic() + self.period
            self._beat()
            if self.rank < 2:
                self._listen()
        if self.rank == 0:
            while self._own and self._compare(*self._own[0]):
                self.board.put("done", str(self._own.popleft()[0]).encode())

    def _publish(self) -> None:
        """Leave rows on the board, and remove those that have been compared."""
        while self._drafts:
            row = self._drafts[0].row()
            if row.layout not in self._known:
                self._put(f"keys/{row.layout}", "\n".join(row.keys).encode())
                self._known.add(row.layout)
            self._put(f"row/{row.step}/{self.rank}", row.sums.tobytes())
            self._put(f"head/{row.step}/{self.rank}", row.head())
            self._own.append((row.step, time.monotonic()))
            self._drafts.popleft()
        if self.rank and self._own and (done := self.board.take(["done"])[0]) is not None:
            while self._own and self._own[0][0] <= int(done):
                self._drop(self._own.popleft()[0], self.rank)

    def _put(self, name: str, note: bytes) -> None:
        self.board.put(name, note)
        self.sent += len(name) + len(note)

    def _drop(self, step: int, rank: int) -> None:
        self.board.drop(f"row/{step}/{rank}")
        self.board.drop(f"head/{step}/{rank}")

    def _beat(self) -> None:
        """Give a sign of life, with the place where the training stands if it makes no progress."""
        now, counted = time.monotonic(), self.progress()
        self._ending |= counted is None
        if counted is not None and counted != self._last:
            self._last, self._moved = counted, now
        passes, step = self._last
        idle = now - self._moved
        place = standstill(self.training) if idle >= self.silence / 2 else ("", False)
        self._beats += 1
        self._put(f"beat/{self.rank}", Beat(self._beats, step, passes, idle, *place, self._ending).encode())

    def _listen(self) -> None:
        """Read the signs of life of all ranks, and tell new silences."""
        lines = self.board.take([f"beat/{rank}" for rank in range(self.world)])
        beats = {rank: Beat.decode(line) for rank, line in enumerate(lines) if line is not None}
        for each in self.silences.update(beats, time.monotonic()):
            if not self._ending and (self.rank == 0 or each.rank == 0):
                self.tell(each)

    def _compare(self, step: int, since: float) -> bool:
        """Compare the ranks after a step, and return True; return False while rows may still come."""
        lines = self.board.take([f"head/{step}/{rank}" for rank in range(self.world)])
        missing = [rank for rank, line in enumerate(lines) if line is None]
        late = time.monotonic() - since >= self.silence
        if not (late or all(self.silences.is_gone(rank) for rank in missing)):
            return False
        heads = {rank: Head.of(line) for rank, line in enumerate(lines) if line is not None}
        if len(heads) > 1:
            self.comparison.add(step, heads, self._tensors(step, heads))
        self._drop(step, 0)
        return True

    def _tensors(self, step: int, heads: dict[int, Head]) -> dict[Ranks, Tensors]:
        """Return the checksums, read once for the ranks whose digests are the same."""
        alike: dict[tuple[str, str], list[int]] = {}
        for rank, head in heads.items():
            alike.setdefault((head.keys, head.sums), []).append(rank)
        found: dict[Ranks, Tensors] = {}
        for (keys, _), ranks in alike.items():
            names, sums = self.board.take([f"keys/{keys}", f"row/{step}/{ranks[0]}"])
            if names and sums is not None:
                found[tuple(ranks)] = names.decode().split("\n"), _table(sums)
        return found


def _table(note: bytes) -> NDArray[np.int64]:
    return np.frombuffer(note, dtype=np.int64).reshape(2, -1)
