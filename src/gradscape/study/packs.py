"""Division of a study's runs into packs, each of which is trained as one network."""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

from gradscape.config.run import RunConfig
from gradscape.study.network_cost import run_macs

FEWEST = 2  # rows of a pack, one of them a copy if need be


@dataclass(frozen=True)
class Pack:
    """Runs of one job.

    Attributes:
        names: Identities of the runs, one or more.
        packed: Whether they are computed as one network; a run that is packed and has no other beside it is
            computed with a copy of itself.
    """

    names: tuple[str, ...]
    packed: bool = False

    @property
    def rows(self) -> int:
        """Number of runs that are computed as one network; a copy counts."""
        return max(FEWEST, len(self.names)) if self.packed else 1


def divide(
    runs: Mapping[str, RunConfig], left: Mapping[str, RunConfig], together: int, workers: int
) -> list[Pack]:
    """Return the jobs of a study.

    A run is packed if it can be and has a partner in the study, trained already or not: whether it is, and so
    the last bits of its numbers, depends on the plan alone, not on workers or interruptions.

    Packs are as large as they may be unless smaller ones end sooner, because a worker would be idle; the
    longest job comes first.

    Args:
        runs: Configuration per identity of the whole study.
        left: Configuration per identity of the runs to train.
        together: Number of runs in a pack, at most; with 1, none is packed and the order is that of `left`.
        workers: Number of jobs that are done at once.
    """
    if together == 1:
        return [Pack((name,)) for name in left]
    kinds = _kinds(runs)
    alike: dict[Hashable, list[str]] = defaultdict(list)
    for name in left:
        alike[kinds.get(name, name)].append(name)
    packed = {kind: kind in kinds.values() for kind in alike}

    macs = cache(lambda name, rows: run_macs(left[name], rows))

    def jobs(counts: Mapping[Hashable, int]) -> list[tuple[float, Pack]]:
        """Return the jobs with their times, longest first: Graham (1969) bounds what this order loses."""
        packs = [
            Pack(each, packed[kind]) for kind, names in alike.items() for each in _even(names, counts[kind])
        ]
        return sorted(((pack_macs(pack, macs), pack) for pack in packs), key=lambda job: -job[0])

    counts = {kind: math.ceil(len(names) / together) for kind, names in alike.items()}
    best = _last_end(jobs(counts), workers)
    while finer := [
        (end, count, kind)
        for kind, names in alike.items()
        for count in range(counts[kind] + 1, min(counts[kind] + workers, len(names)) + 1)
        if (end := _last_end(jobs(counts | {kind: count}), workers)) < best
    ]:
        best, count, kind = min(finer, key=lambda each: each[:2])
        counts[kind] = count
    return [pack for _, pack in jobs(counts)]


def _kinds(runs: Mapping[str, RunConfig]) -> dict[str, Hashable]:
    """Return what the runs of a pack have in common, for those that have a partner."""
    from gradscape.train.packed import packable

    kinds = {name: _kind(config) for name, config in runs.items() if packable(config)}
    partners = Counter(kinds.values())
    return {name: kind for name, kind in kinds.items() if partners[kind] > 1}


def _kind(config: RunConfig) -> Hashable:
    """Return what decides the shape of a run's network, its mini-batches, and the groups of its optimizer."""
    net, optim = replace(config.net, init="default"), config.optim
    return net, config.data, config.batch_size, config.epochs, optim.name, optim.decayed


def _even(names: Sequence[str], count: int) -> list[tuple[str, ...]]:
    """Divide names into a number of parts whose sizes differ by one at most."""
    size, more = divmod(len(names), count)
    ends = [size * index + min(index, more) for index in range(count + 1)]
    return [tuple(names[start:end]) for start, end in pairwise(ends)]


def pack_macs(pack: Pack, macs: Callable[[str, int], float]) -> float:
    """Return the multiply-adds of a job.

    Args:
        pack: The job.
        macs: Function from a run's identity and the rows of its pack to its multiply-adds, see `run_macs`.
    """
    copies = pack.rows / len(pack.names)
    return copies * sum(macs(name, pack.rows) for name in pack.names)


def _last_end(jobs: Sequence[tuple[float, Pack]], workers: int) -> float:
    """Return when the last job ends, if the first worker that is free begins the next one."""
    ends = [0.0] * workers
    for time, _ in jobs:
        heapq.heapreplace(ends, ends[0] + time)
    return max(ends)
