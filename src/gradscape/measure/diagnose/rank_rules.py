"""Rules on the ranks of a distributed training: whether they agree, and whether each goes on."""

from __future__ import annotations

from collections.abc import Sequence

from gradscape._text import count_noun, join_names
from gradscape.measure.diagnose.advice import options
from gradscape.records.diagnosis import Finding, Symptom
from gradscape.records.ranks import RankDifference, RankHistory

COPIES = "copies are meant to have the same bits"
# Quantities that tell the cause rather than what follows, the first of them first.
CAUSES = ("learning rate", "skipped steps", "backward passes")
TENSORS = ("parameter", "gradient", "buffer")
NUMBERS = {
    "learning rate": "learning rate {value:.6g}, elsewhere {usual:.6g}",
    "skipped steps": "{value:.0f} steps skipped, elsewhere {usual:.0f}",
    "backward passes": "{value:.0f} backward passes, elsewhere {usual:.0f}",
}
REMEDIES = {
    "learning rate": "the same schedule, stepped on every rank",
    "skipped steps": "decide on all ranks together whether a step is skipped, as by all_reduce",
    "backward passes": "decide on all ranks together whether a step is skipped, as by all_reduce",
    "gradient": "look for a last backward pass under no_sync(), gradients changed on one rank, and calls of "
    "the module inside DDP",
    "parameter": "look for weights that one rank alone loads or changes; a test of that machine's memory",
    "buffer": "SyncBatchNorm, or broadcast_buffers=True",
}


def rank_findings(ranks: RankHistory | None) -> list[Finding]:
    """Return the faults of the ranks.

    Args:
        ranks: What a comparison of ranks has found; None without one.
    """
    if ranks is None:
        return []
    standing = [each for each in ranks.silences if not each.over] or list(ranks.silences)
    silent = [each.finding() for each in standing[:1]]
    # The number of backward passes alone may differ on purpose, with uneven accumulation.
    faults = [each for each in ranks.differences if each.quantity != "backward passes"]
    return ([_differ(ranks, faults[0])] if faults else []) + silent


def _differ(ranks: RankHistory, first: RankDifference) -> Finding:
    """Report the ranks that differ first, in all quantities in which they do."""
    theirs = [each for each in ranks.differences if each.ranks == first.ranks]
    of_tensors = [each for name in TENSORS for each in theirs if each.quantity == name]
    causes = [each for name in CAUSES for each in theirs if each.quantity == name]
    named = [each for each in of_tensors if each.names]
    alone = [each for each in of_tensors if not causes]
    advice = [REMEDIES[each.quantity] for each in (causes or alone[-1:])]
    return Finding(
        verdict="ranks differ",
        layer=named[0].names[0] if named else "",
        cause="; ".join(
            [f"{_parties(first)}, since {_since(first)}", *map(_number, causes), *map(_tensors, of_tensors)]
        ),
        remedy=options(*dict.fromkeys(advice)),
        evidence=tuple(_symptom(each) for each in (*of_tensors, *causes)),
    )


def _parties(difference: RankDifference) -> str:
    if not difference.others:
        return f"ranks {_list(difference.ranks)} differ from each other, without a majority"
    verb = "differs" if len(difference.ranks) == 1 else "differ"
    return f"{_ranks(difference.ranks)} {verb} from {_ranks(difference.others)}"


def _ranks(ranks: Sequence[int]) -> str:
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {_list(ranks)}"


def _list(ranks: Sequence[int]) -> str:
    return join_names([str(rank) for rank in ranks])


def _since(difference: RankDifference) -> str:
    before = f" (they agreed after step {difference.agreed})" if difference.agreed else ""
    return f"step {difference.step}{before}"


def _number(difference: RankDifference) -> str:
    text = NUMBERS[difference.quantity].format(value=difference.value, usual=difference.usual)
    left_out = difference.quantity == "backward passes" and (difference.value or 0) > (difference.usual or 0)
    return f"{text}, after step {difference.step}{': it has left out a step' * left_out}"


def _tensors(difference: RankDifference) -> str:
    tensors = count_noun(difference.total, f"{difference.quantity} tensor")
    return f"other bits in {difference.count} of {tensors}: {join_names(difference.names)}"


def _symptom(difference: RankDifference) -> Symptom:
    if difference.quantity in TENSORS:
        what = f"{difference.quantity} tensors that differ, of {difference.total}"
        return Symptom(what, float(difference.count), 0.0, COPIES)
    what = f"difference in {difference.quantity} of {_ranks(difference.ranks[:1])}"
    return Symptom(what, difference.distance, 0.0, "ranks are meant to agree")
