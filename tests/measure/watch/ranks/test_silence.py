"""Silence: a rank behind is told, one that waits is not, nor an evaluation on all; on a clock of its own."""

from __future__ import annotations

import threading
from typing import Any

from gradscape.measure.watch.ranks.silence import Beat, Silences
from gradscape.measure.watch.ranks.standstill import standstill


class Clock:
    """Signs of life of four ranks, a second apart."""

    def __init__(self, limit: float = 10.0) -> None:
        self.now, self.silences = 0.0, Silences(4, limit, 0.0)
        self.state: dict[int, Any] = {rank: {"step": 0, "passes": 0} for rank in range(4)}
        self.number, self.moved = 0, dict.fromkeys(range(4), 0.0)

    def pass_by(self, seconds: int, *dead: int) -> list[tuple[int, bool]]:
        told = []
        for _ in range(seconds):
            self.now, self.number = self.now + 1, self.number + 1
            beats = {
                rank: Beat(self.number, idle=self.now - self.moved[rank], **state)
                for rank, state in self.state.items()
                if rank not in dead
            }
            told += [(each.rank, each.alive) for each in self.silences.update(beats, self.now)]
        return told

    def go(self, *ranks: int, passes: int = 1, steps: int = 1) -> None:
        for rank in ranks:
            self.state[rank]["passes"] += passes
            self.state[rank]["step"] += steps
            self.moved[rank] = self.now


def test_a_rank_for_which_others_wait_is_told_once_and_its_return_is_seen() -> None:
    clock = Clock()
    clock.go(0, 1, 2, 3)
    clock.pass_by(1)
    clock.go(0, 1, 2, steps=0)  # they wait within the next backward pass
    clock.state[3]["where"] = "train.py:7 in load"
    assert clock.pass_by(8) == []
    assert clock.pass_by(30) == [(3, True)]
    assert clock.silences.found[0].where == "train.py:7 in load"
    clock.go(3)
    clock.go(0, 1, 2, passes=0)
    assert clock.pass_by(2) == []
    (found,) = clock.silences.found
    assert found.over
    assert 38 <= found.seconds <= 40


def test_a_rank_without_a_sign_of_life_is_told() -> None:
    clock = Clock()
    assert clock.pass_by(20, 2) == [(2, False)]
    assert clock.silences.is_gone(2)
    assert not clock.silences.is_gone(1)


def test_a_standstill_of_all_is_told_only_if_most_wait_for_some() -> None:
    clock = Clock()
    clock.go(0, 1, 2, 3)
    assert clock.pass_by(50) == []  # an evaluation
    for rank in (1, 2, 3):
        clock.state[rank]["waits"] = True
    assert clock.pass_by(1) == [(0, True)]


def test_signs_that_arrive_one_after_another_tell_nothing() -> None:
    clock = Clock()
    clock.go(0, 1, 2, 3)
    assert clock.pass_by(50) == []
    clock.go(0, 1, 2)  # the evaluation has ended, and the sign of rank 3 comes a second later
    assert clock.pass_by(1) == []
    clock.go(3)
    assert clock.pass_by(9) == []


def test_a_rank_that_has_ended_its_watch_is_not_silent() -> None:
    clock = Clock()
    clock.state[1]["closed"] = True
    clock.pass_by(1)
    assert clock.pass_by(8, 1) == []
    clock.go(0, 2, 3)
    assert clock.pass_by(8, 1) == []
    assert clock.silences.is_gone(1)


def test_a_sign_is_read_as_it_was_written() -> None:
    beat = Beat(3, 4, 5, 6.5, "train.py:7 in load", waits=True)
    assert Beat.decode(beat.encode()) == beat


def test_the_place_is_the_users_own_line() -> None:
    entered, leave = threading.Event(), threading.Event()

    def waiting() -> None:
        entered.set()
        leave.wait(10)

    thread = threading.Thread(target=waiting)
    thread.start()
    entered.wait(10)
    assert thread.ident is not None
    place, waits = standstill(thread.ident)
    leave.set()
    thread.join()
    assert place.startswith("test_silence.py:")
    assert place.endswith("in waiting")
    assert not waits
    assert standstill(-1) == ("", False)
