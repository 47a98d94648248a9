"""Which steps a watch reads: as many as its part of the time allows, on all ranks the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from gradscape.measure.watch import schedule
from gradscape.measure.watch.schedule import Schedule


@dataclass
class Ranks:
    """Shards whose other rank has a plan of its own."""

    others: int
    groups: tuple[Any, ...] = (None,)
    asked: int = 0

    def agreed(self, number: int) -> int:
        self.asked += 1
        return max(number, self.others)


class Clock:
    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(schedule, "time", made)
    monkeypatch.setattr(schedule, "SMALL", 0)
    return made


def read_steps(clock: Clock, ranks: Ranks | None, cost: float, steps: int = 1_000) -> list[int]:
    """Return the steps that are read, of a second each, where a reading takes `cost` seconds more."""
    followed, spent, found = Schedule(None), 0.0, []
    shards: Any = ranks or Ranks(0, groups=())
    followed.follow([nn.Parameter(torch.ones(1))], shards)
    for step in range(steps):
        clock.now += 1.0
        if followed.is_due(step, spent):
            found.append(step)
            clock.now, spent = clock.now + cost, spent + cost
    return found


@pytest.mark.parametrize("ranks", [None, Ranks(0)])
def test_reading_takes_its_part_of_the_time(clock: Clock, ranks: Ranks | None) -> None:
    found = read_steps(clock, ranks, cost=0.5)
    assert found[:10] == list(range(10))
    assert 0.013 <= 0.5 * len(found) / clock.now <= 0.0155


def test_a_sharded_model_is_read_when_the_slowest_rank_can(clock: Clock) -> None:
    assert read_steps(clock, Ranks(others=800), cost=0.1)[10:12] == [800, 801]


def test_ranks_are_asked_once_for_each_reading(clock: Clock) -> None:
    ranks = Ranks(0)
    found = read_steps(clock, ranks, cost=0.5)
    assert ranks.asked == len(found) - 10 + 1
