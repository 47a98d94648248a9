"""Comparison of the ranks of a distributed training, as plain values; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gradscape._codec import Record
from gradscape.records.diagnosis import Finding, Symptom

Quantity = Literal["parameter", "buffer", "gradient", "learning rate", "skipped steps", "backward passes"]


@dataclass(frozen=True)
class RankDifference(Record):
    """Quantity in which some ranks differ from most of those that are meant to agree.

    Attributes:
        quantity: Kind of the quantity.
        ranks: Ranks that differ from the majority; where there is none, all that were compared.
        others: Ranks of the majority; empty where there is none.
        names: Names of the first tensors that differ, eight at most; empty for other quantities.
        count: Number of tensors that differ, or of learning rates.
        total: Number of tensors that were compared, or of learning rates.
        step: Step after which it was first seen, counted from 1.
        agreed: Last step before that after which there was no difference of the kind; 0 if there is none.
        last: Last step after which it was seen.
        value: Value of the first rank that differs, for what is a number.
        usual: Value of the majority, or of the last rank where there is none.
    """

    quantity: Quantity
    ranks: tuple[int, ...]
    others: tuple[int, ...]
    names: tuple[str, ...]
    count: int
    total: int
    step: int
    agreed: int
    last: int
    value: float | None = None
    usual: float | None = None

    @property
    def distance(self) -> float:
        """Difference between the value and the usual one; 0 for tensors."""
        return abs((self.value or 0.0) - (self.usual or 0.0))


@dataclass(frozen=True)
class RankSilence(Record):
    """Rank that made no progress for a while.

    Attributes:
        rank: Number of the rank.
        alive: True if its process still gave signs of life, so that it is the training that stood still.
        seconds: Number of seconds without progress.
        step: Number of steps that it had made.
        others: Number of steps of the rank that had made the most.
        where: Place in the training's code where it stood; empty if not known.
        over: True if it made progress later.
        limit: Number of seconds after which it counts.
    """

    rank: int
    alive: bool
    seconds: float
    step: int
    others: int
    where: str = ""
    over: bool = False
    limit: float = 0.0

    def __str__(self) -> str:
        if not self.alive:
            return (
                f"rank {self.rank} has given no sign of life for {self.seconds:.0f} s, since step "
                f"{self.step}; the others are at step {self.others}"
            )
        place = f", at {self.where}" if self.where else ""
        return (
            f"rank {self.rank} has made no progress for {self.seconds:.0f} s, since step {self.step}{place}; "
            f"the others are at step {self.others}"
        )

    def finding(self) -> Finding:
        """Return the finding to tell; that of a rank that went on later is mild."""
        went_on = "; it went on later" if self.over else ""
        what = "seconds without progress" if self.alive else "seconds without a sign of life"
        return Finding(
            verdict="rank is silent",
            layer="",
            cause=f"{self}{went_on}",
            remedy="a stack of that process, as by py-spy; its machine's logs, memory and disk; a larger "
            "Ranks(silence=…), if it is meant to stand still, as in an evaluation on the first rank alone",
            evidence=(Symptom(f"{what} of rank {self.rank}", self.seconds, self.limit, "Ranks(silence=…)"),),
            mild=self.over,
        )


@dataclass(frozen=True)
class RankHistory(Record):
    """Differences and silences of ranks so far; the first rank alone knows them.

    Attributes:
        world: Number of ranks.
        every: Number of steps from one comparison to the next.
        compared: Number of comparisons.
        step: Last step after which ranks were compared; 0 if none was.
        tensors: Number of parameter and buffer tensors that at least two ranks hold copies of.
        differences: Differences; of each quantity and group of ranks the first.
        silences: Ranks that were silent.
    """

    world: int
    every: int
    compared: int
    step: int
    tensors: int
    differences: tuple[RankDifference, ...] = ()
    silences: tuple[RankSilence, ...] = ()
