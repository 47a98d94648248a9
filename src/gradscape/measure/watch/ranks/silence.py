"""Tell a rank that stands still, or gives no sign of life, from those that wait for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from gradscape.records.ranks import RankSilence

KEPT = 64  # silences that are kept


@dataclass(frozen=True)
class Beat:
    """Sign of life of a rank, which a thread of its own gives.

    Attributes:
        number: Number of the sign, which grows as long as the process lives.
        step: Number of steps that the training has made.
        passes: Number of backward passes that it has begun.
        idle: Seconds without progress, by its own clock: signs may arrive late.
        where: Place in the training's code where it stands; empty while it makes progress.
        waits: Whether it stands within torch.distributed or a backward pass, where it may wait for others.
        closed: Whether the watch has ended there.
    """

    number: int
    step: int
    passes: int
    idle: float = 0.0
    where: str = ""
    waits: bool = False
    closed: bool = False

    def encode(self) -> bytes:
        """Return the sign as one line of JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, line: bytes) -> Beat:
        """Read what `encode` returned.

        Args:
            line: The line.
        """
        return cls(**json.loads(line))

    @property
    def progress(self) -> tuple[int, int]:
        """Passes and steps: ranks that wait for another one have begun a pass more."""
        return self.passes, self.step


@dataclass
class _State:
    beat: Beat
    beaten: float  # time of the last sign of life
    moved: float  # time of the last progress
    told: int | None = None  # index of the silence that stands
    behind: float | None = None  # time since when others have made more progress


class Silences:
    """Silences of the ranks so far.

    A rank is silent if it has given no sign of life for `limit` seconds. It stands still if it has made no
    progress for as long, and some other has made more for half that time. Where all stand still at the same
    point, as in an evaluation, none is told, unless most of them wait within torch.distributed: then those
    that do not are.

    Args:
        world: Number of ranks.
        limit: Number of seconds.
        now: Time, in seconds.

    Attributes:
        found: Silences, the earliest first.
    """

    def __init__(self, world: int, limit: float, now: float) -> None:
        self.limit, self.found = limit, list[RankSilence]()
        self._states = {rank: _State(Beat(-1, 0, 0), now, now) for rank in range(world)}

    def is_gone(self, rank: int) -> bool:
        """Return True if a rank has ended its watch, or gives no sign of life.

        Args:
            rank: Number of the rank.
        """
        state = self._states[rank]
        known = state.told is not None and not self.found[state.told].alive
        return state.beat.closed or known

    def update(self, beats: Mapping[int, Beat], now: float) -> list[RankSilence]:
        """Take the signs of life that ranks gave last, and return the silences that are new.

        Args:
            beats: Last sign of each rank; without those that have given none yet.
            now: Time, in seconds.
        """
        for rank, beat in beats.items():
            self._take(self._states[rank], beat, now)
        open_ones = {rank: state for rank, state in self._states.items() if not state.beat.closed}
        dead = [rank for rank, state in open_ones.items() if now - state.beaten >= self.limit]
        alive = {rank: state for rank, state in open_ones.items() if rank not in dead}
        new = []
        for rank in sorted({*dead, *self._still(alive, now)}):
            state = self._states[rank]
            if state.told is None and len(self.found) < KEPT:
                state.told = len(self.found)
                new.append(self._silence(rank, rank in alive, now))
                self.found.append(new[-1])
        return new

    def _take(self, state: _State, beat: Beat, now: float) -> None:
        if beat.number != state.beat.number:
            state.beaten = now
        moved = beat.progress != state.beat.progress or beat.closed
        revived = beat.number != state.beat.number and state.told is not None
        if state.told is not None and (moved or (revived and not self.found[state.told].alive)):
            ended = self.found[state.told]
            self.found[state.told] = replace(ended, seconds=now - state.moved, over=True)
            state.told = None
            moved = True
        if moved:
            state.moved, state.behind = now, None
        state.beat = beat

    def _still(self, alive: Mapping[int, _State], now: float) -> list[int]:
        """Return the ranks that live and stand still, and for which others may wait."""
        furthest = max((state.beat.progress for state in alive.values()), default=(0, 0))
        for state in alive.values():
            is_behind = state.beat.progress < furthest
            state.behind = (now if state.behind is None else state.behind) if is_behind else None
        still = {rank: state for rank, state in alive.items() if state.beat.idle >= self.limit}
        behind = [rank for rank, state in still.items() if state.behind is not None]
        if behind or len(still) < len(alive):
            # When all go on after a standstill, signs of life of some arrive before those of others.
            return [rank for rank in behind if now - (alive[rank].behind or now) >= self.limit / 2]
        busy = [rank for rank, state in still.items() if not state.beat.waits]
        return busy if 2 * len(busy) < len(still) else []

    def _silence(self, rank: int, alive: bool, now: float) -> RankSilence:
        state = self._states[rank]
        others = max((each.beat.step for other, each in self._states.items() if other != rank), default=0)
        since = state.moved if alive else state.beaten
        return RankSilence(
            rank, alive, now - since, state.beat.step, others, state.beat.where, limit=self.limit
        )
