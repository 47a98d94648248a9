"""Find the ranks that differ from most others, in rows of checksums and numbers after the same step."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gradscape.measure.watch.ranks.replicas import Ranks, digest_of
from gradscape.records.ranks import Quantity, RankDifference

NAMES = 8  # names of tensors that a difference keeps
KEPT = 64  # differences that are kept
ABSENT = 0x5EED_AB5E_17  # in place of a checksum, where there is no gradient


@dataclass(frozen=True)
class Row:
    """Numbers and checksums of a rank after a step.

    Attributes:
        step: Number of steps that it has made.
        passes: Number of backward passes.
        skipped: Number of steps that a fused optimizer left out for a GradScaler.
        rates: Learning rates of all groups of all optimizers.
        model: Digest of the names of all its parameters.
        keys: Keys of the tensors; see `Replica.key`.
        sums: (2, tensors) Checksums of the tensors and of their gradients.
    """

    step: int
    passes: int
    skipped: int
    rates: tuple[float, ...]
    model: str
    keys: tuple[str, ...]
    sums: NDArray[np.int64]

    def head(self) -> bytes:
        """Return the numbers, with digests of the keys and of the checksums, as one line of JSON."""
        return json.dumps(
            {
                "step": self.step, "passes": self.passes, "skipped": self.skipped, "rates": self.rates,
                "model": self.model, "keys": self.layout, "sums": digest_of(self.sums.tobytes().hex()),
            }
        ).encode()  # fmt: skip

    @property
    def layout(self) -> str:
        """Digest of the keys."""
        return digest_of(*self.keys)


@dataclass(frozen=True)
class Head:
    """Numbers of a row without its checksums, read from `Row.head`."""

    step: int
    passes: int
    skipped: int
    rates: tuple[float, ...]
    model: str
    keys: str
    sums: str

    @classmethod
    def of(cls, line: bytes) -> Head:
        """Read what `Row.head` returned.

        Args:
            line: The line.
        """
        found = json.loads(line)
        return cls(**{**found, "rates": tuple(found["rates"])})


Tensors = tuple[Sequence[str], NDArray[np.int64]]  # keys and checksums of a row


class Comparison:
    """Differences between ranks over the steps of a training.

    Attributes:
        count: Number of steps after which ranks were compared.
        step: The last of them; 0 without any.
        tensors: Number of tensors that were compared after it.
    """

    def __init__(self) -> None:
        self.count = self.step = self.tensors = 0
        self._agreed: dict[Quantity, int] = {}
        self._found: dict[tuple[Quantity, Ranks, Ranks], RankDifference] = {}

    @property
    def differences(self) -> tuple[RankDifference, ...]:
        """Differences, in the order in which they were first seen."""
        return tuple(self._found.values())

    def add(self, step: int, heads: Mapping[int, Head], tensors: Mapping[Ranks, Tensors]) -> None:
        """Compare ranks after a step.

        Args:
            step: The step.
            heads: Head of each rank.
            tensors: Keys and checksums, for the ranks that have the same ones.
        """
        self.count, self.step = self.count + 1, step
        differences = [*_of_numbers(step, heads), *self._of_tensors(step, tensors)]
        for each in differences:
            self._keep(each)
        for quantity in QUANTITIES:
            if all(each.quantity != quantity for each in differences):
                self._agreed[quantity] = step

    def _keep(self, new: RankDifference) -> None:
        key = (new.quantity, new.ranks, new.others)
        if earlier := self._found.get(key):
            self._found[key] = replace(earlier, last=new.step)
        elif len(self._found) < KEPT:
            self._found[key] = replace(new, agreed=self._agreed.get(new.quantity, 0))

    def _of_tensors(self, step: int, tensors: Mapping[Ranks, Tensors]) -> list[RankDifference]:
        """Return the differences in parameters, buffers and gradients."""
        votes: dict[str, list[tuple[Ranks, int, int]]] = {}
        for ranks, (keys, sums) in tensors.items():
            for key, whole, gradient in zip(keys, *sums.tolist(), strict=True):
                votes.setdefault(key, []).append((ranks, whole, gradient))
        self.tensors = len(votes)
        parameters = {key: each for key, each in votes.items() if key.startswith("p ")}
        buffers = {key: each for key, each in votes.items() if key.startswith("b ")}
        return [
            *_of_votes(step, "parameter", {key: _column(each, 1) for key, each in parameters.items()}),
            *_of_votes(step, "buffer", {key: _column(each, 1) for key, each in buffers.items()}),
            *_of_votes(step, "gradient", {key: _column(each, 2) for key, each in parameters.items()}),
        ]


QUANTITIES: tuple[Quantity, ...] = (
    "parameter", "buffer", "gradient", "learning rate", "skipped steps", "backward passes",
)  # fmt: skip
Votes = list[tuple[Ranks, Hashable]]


def _column(votes: list[tuple[Ranks, int, int]], place: int) -> Votes:
    return [(vote[0], vote[place]) for vote in votes]


def _of_votes(step: int, quantity: Quantity, votes: Mapping[str, Votes]) -> list[RankDifference]:
    """Return a difference for each group of ranks that differ in some tensor."""
    names: dict[tuple[Ranks, Ranks], list[str]] = {}
    for key, theirs in votes.items():
        if parties := minority(theirs):
            names.setdefault(parties, []).append(key.split(" ")[1])
    return [
        RankDifference(quantity, *parties, tuple(each[:NAMES]), len(each), len(votes), step, 0, step)
        for parties, each in names.items()
    ]


def minority(votes: Votes) -> tuple[Ranks, Ranks] | None:
    """Return the ranks that differ from the majority, and those of the majority; None if all agree.

    Args:
        votes: Groups of ranks, each with its value.

    Returns:
        All ranks and none, where no value has more ranks than any other.
    """
    ranks_of: dict[Hashable, list[int]] = {}
    for ranks, value in votes:
        ranks_of.setdefault(value, []).extend(ranks)
    if len(ranks_of) < 2:
        return None
    everyone = tuple(sorted(rank for ranks in ranks_of.values() for rank in ranks))
    (value, most), (_, second) = Counter({key: len(ranks) for key, ranks in ranks_of.items()}).most_common(2)
    if most == second:
        return everyone, ()
    others = tuple(sorted(ranks_of[value]))
    return tuple(rank for rank in everyone if rank not in others), others


def _of_numbers(step: int, heads: Mapping[int, Head]) -> list[RankDifference]:
    """Return the differences in learning rates, skipped steps and passes among ranks of one model."""
    found = []
    for model in dict.fromkeys(head.model for head in heads.values()):
        theirs = {rank: head for rank, head in heads.items() if head.model == model}
        groups = min(len(head.rates) for head in theirs.values())
        for place in range(groups):
            rates = {rank: head.rates[place] for rank, head in theirs.items()}
            found += _of_values(step, "learning rate", rates, groups)
        found += _of_values(step, "skipped steps", {rank: head.skipped for rank, head in theirs.items()}, 1)
        found += _of_values(step, "backward passes", {rank: head.passes for rank, head in theirs.items()}, 1)
    return found


def _of_values(
    step: int, quantity: Quantity, values: Mapping[int, float], total: int
) -> list[RankDifference]:
    # NaN is not equal to itself: a learning rate that cannot be read is None for all.
    parties = minority([((rank,), repr(value)) for rank, value in values.items()])
    if parties is None:
        return []
    ranks, others = parties
    value, usual = float(values[ranks[0]]), float(values[others[0] if others else ranks[-1]])
    return [RankDifference(quantity, ranks, others, (), 1, total, step, 0, step, value, usual)]
