"""Estimate of the time that a study's runs still take, from their costs and the pace up to now."""

from __future__ import annotations

import heapq
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from gradscape.config.run import RunConfig
from gradscape.records.run import Phase, Progress
from gradscape.study.network_cost import phase_macs
from gradscape.study.packs import Pack


class TimeLeft:
    """Costs of runs, what is done of them, and the pace of a worker, which has one pack of runs at a time.

    A run with another seed of one that this command has done whole is expected to take as long in each phase:
    how far a landscape is refined depends on what training makes of the loss. Runs of a pack wait for one
    another, so that how long each was in a phase says nothing of it. What a run has not done that ends before
    its last phase, as one that diverges, is no work of this command's.

    Args:
        runs: Configuration per identity of the runs to be executed.
        packs: Runs that are trained together; any that is in none of them is trained alone.
    """

    def __init__(self, runs: Mapping[str, RunConfig], packs: Iterable[Pack] = ()) -> None:
        alone = {name: Pack((name,)) for name in runs}
        self.pack = alone | {name: pack for pack in packs for name in pack.names}
        self.phases = {name: phase_macs(config, self.pack[name].rows) for name, config in runs.items()}
        self.cost = {name: sum(phases.values()) for name, phases in self.phases.items()}
        self.kin = {name: replace(config, seed=0).identity for name, config in runs.items()}
        self.done: dict[str, float] = {}  # multiply-adds of each begun run that are done
        self.first: dict[str, float] = {}  # those of them before this command: a resumed run's are not 0
        self.spent: dict[str, dict[Phase, float]] = {}  # seconds per phase, of runs from their beginning on
        self.at: dict[str, tuple[Phase, float]] = {}  # phase of each running run, and since when it is known
        self.running: dict[str, None] = {}
        self.workers = 1  # most at work at once so far
        self.busy = 0.0  # seconds that workers have been at runs, beginning with the first report of any
        self.trained = False  # whether any has trained: the measures before that say too little of the pace
        self.until: float | None = None  # time up to which they are counted

    def begin(self, name: str) -> None:
        """Count a run's worker as busy.

        Args:
            name: Identity of the run.
        """
        self._count()
        self.running[name] = None
        self.workers = max(self.workers, self._at_work())

    def advance(self, name: str, progress: Progress) -> None:
        """Take a run's report.

        Args:
            name: Identity of the run.
            progress: Its report.
        """
        now = time.monotonic()
        self.until = now if self.until is None else self.until
        self._count()
        self.done[name] = _macs_done(self.phases[name], progress, progress.share)
        begun = _macs_done(self.phases[name], progress, 0.0)
        if self.first.setdefault(name, begun) == begun == 0 and not self.pack[name].packed:
            self.spent.setdefault(name, defaultdict(float))
        on_the_way = progress.phase == "training" and (progress.epoch > 1 or progress.share > 0)
        self.trained |= on_the_way and self.done[name] > self.first[name]
        self._spend(name, now)
        self.at[name] = progress.phase, now

    def leave(self, name: str, ended: bool) -> None:
        """Count a run's worker as free.

        Args:
            name: Identity of the run.
            ended: Whether the run has ended; otherwise its worker has died, and it goes on with another.
        """
        self._count()
        self.running.pop(name, None)
        self._spend(name, time.monotonic())
        last, _ = self.at.pop(name, (None, 0.0))
        spent = self.spent.pop(name, None)
        if not ended:
            return
        asked = [phase for phase, cost in self.phases[name].items() if cost]
        early = last is not None and last != asked[-1]
        self.trained |= not early
        self.first.setdefault(name, 0.0)
        if early:
            self.first[name] += self.cost[name] - self.done[name]
        self.done[name] = self.cost[name]
        if spent is None or set(spent) != set(asked) or not self.busy:
            return
        pace = self._worked() / self.busy
        for other, kin in self.kin.items():
            if kin == self.kin[name] and other not in self.done:
                self.phases[other] = {phase: spent.get(phase, 0.0) * pace for phase in self.phases[other]}
                self.cost[other] = sum(self.phases[other].values())

    def seconds(self) -> float | None:
        """Return the seconds until all runs have ended; None if not known yet."""
        self._count()
        left: dict[Pack, float] = defaultdict(float)
        for name in dict.fromkeys([*self.running, *self.phases]):
            left[self.pack[name]] += self.cost[name] - self.done.get(name, 0.0)
        if not any(left.values()):
            return 0.0
        worked = self._worked()
        known = self.trained and worked > 0
        return _length(left.values(), self.workers) * self.busy / worked if known else None

    def _worked(self) -> float:
        """Return the multiply-adds that this command has done."""
        return sum(done - self.first[name] for name, done in self.done.items())

    def _at_work(self) -> int:
        """Return the number of workers that are at runs."""
        return len({self.pack[name] for name in self.running})

    def _count(self) -> None:
        """Count the seconds of busy workers up to now."""
        if self.until is not None:
            now = time.monotonic()
            self.busy += (now - self.until) * self._at_work()
            self.until = now

    def _spend(self, name: str, now: float) -> None:
        """Add the seconds since a run's last report to its phase then."""
        if name in self.at and name in self.spent:
            phase, since = self.at[name]
            self.spent[name][phase] += now - since


def _length(costs: Iterable[float], workers: int) -> float:
    """Return the length of jobs done in order by whoever is free: no run is shared among workers."""
    ends = [0.0] * workers
    for cost in costs:
        heapq.heapreplace(ends, ends[0] + cost)
    return max(ends)


def _macs_done(phases: Mapping[Phase, float], progress: Progress, share: float) -> float:
    """Return the multiply-adds of a run up to a share of its present epoch."""
    order = list(phases)
    before = sum(phases[phase] for phase in order[: order.index(progress.phase)])
    if progress.phase != "training":
        return before
    return before + phases["training"] * (progress.epoch - 1 + share) / progress.epochs
