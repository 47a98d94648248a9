"""Who differs: majorities, ties, shards and their copies, numbers, first and last steps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gradscape.measure.diagnose.rank_rules import rank_findings
from gradscape.measure.watch.ranks.comparison import Comparison, Head, Row, minority
from gradscape.measure.watch.ranks.replicas import Ranks
from gradscape.records.ranks import RankDifference, RankHistory, RankSilence

KEYS = ("p a.weight 3x4 0-3", "p a.bias 3 0-3", "b n.running_mean 3 0-3")


def row(
    step: int = 10,
    sums: tuple[int, ...] = (1, 2, 3),
    gradients: tuple[int, ...] = (4, 5, 6),
    keys: tuple[str, ...] = KEYS,
    rate: float = 0.1,
    passes: int = 0,
    skipped: int = 0,
    model: str = "m",
) -> Row:
    table = np.array([sums, gradients], dtype=np.int64)
    return Row(step, passes or step, skipped, (rate,), model, keys, table)


def compared(rows: Mapping[int, Row], comparison: Comparison | None = None) -> tuple[RankDifference, ...]:
    found = comparison or Comparison()
    alike: dict[tuple[str, str], list[int]] = {}
    heads = {rank: Head.of(each.head()) for rank, each in rows.items()}
    for rank, head in heads.items():
        alike.setdefault((head.keys, head.sums), []).append(rank)
    tensors = {tuple(ranks): (rows[ranks[0]].keys, rows[ranks[0]].sums) for ranks in alike.values()}
    found.add(next(iter(rows.values())).step, heads, tensors)
    return found.differences


def test_a_majority_decides_and_a_tie_names_all() -> None:
    assert minority([((0, 1, 2), "x")]) is None
    assert minority([((0, 3), "x"), ((1,), "y"), ((2,), "x")]) == ((1,), (0, 2, 3))
    assert minority([((0,), "x"), ((1,), "y"), ((2, 3), "z")]) == ((0, 1), (2, 3))
    assert minority([((0, 1), "x"), ((2, 3), "y")]) == ((0, 1, 2, 3), ())


def test_ranks_that_agree_have_no_difference() -> None:
    comparison = Comparison()
    assert compared(dict.fromkeys(range(4), row()), comparison) == ()
    assert (comparison.count, comparison.step, comparison.tensors) == (1, 10, 3)


def test_rank_tensor_and_steps_are_named() -> None:
    comparison = Comparison()
    compared(dict.fromkeys(range(4), row(10)), comparison)
    for step in (20, 30):
        rows = dict.fromkeys(range(4), row(step)) | {2: row(step, sums=(1, 7, 3))}
        found = compared(rows, comparison)
    assert found == (
        RankDifference("parameter", (2,), (0, 1, 3), ("a.bias",), 1, 2, step=20, agreed=10, last=30),
    )


def test_gradients_buffers_and_numbers_are_compared_too() -> None:
    rows = dict.fromkeys(range(4), row(skipped=1)) | {
        0: row(gradients=(9, 5, 6), sums=(1, 2, 8), rate=0.2, passes=11)
    }
    found = {each.quantity: each for each in compared(rows)}
    assert {name: each.ranks for name, each in found.items()} == dict.fromkeys(
        ("learning rate", "skipped steps", "backward passes", "gradient", "buffer"), (0,)
    )
    assert found["gradient"].names == ("a.weight",)
    assert found["buffer"].names == ("n.running_mean",)
    assert (found["learning rate"].value, found["learning rate"].usual) == (0.2, 0.1)
    assert (found["skipped steps"].value, found["skipped steps"].usual) == (0.0, 1.0)


def test_shards_are_compared_with_their_copies_alone() -> None:
    first, second = ("p a.weight 3x2 0,2",), ("p a.weight 3x2 1,3",)
    rows = {rank: row(keys=(first, second)[rank % 2], sums=(rank % 2,), gradients=(0,)) for rank in range(4)}
    assert compared(rows) == ()
    (found,) = compared(rows | {3: row(keys=second, sums=(7,), gradients=(0,))})
    assert (found.ranks, found.others, found.total) == ((1, 3), (), 2)


def test_parts_of_a_model_have_learning_rates_of_their_own() -> None:
    assert compared({0: row(rate=0.1, model="m"), 1: row(rate=0.2, model="n")}) == ()


def history(*differences: RankDifference, silences: tuple[RankSilence, ...] = ()) -> RankHistory:
    return RankHistory(4, 10, 3, 30, 3, differences, silences)


def test_the_finding_tells_the_cause_before_what_follows() -> None:
    ranks: tuple[Ranks, Ranks] = ((2,), (0, 1, 3))
    rate = RankDifference("learning rate", *ranks, (), 1, 1, 20, 10, 30, value=0.2, usual=0.1)
    tensors = RankDifference("parameter", *ranks, ("a.bias",), 1, 2, 20, 10, 30)
    (found,) = rank_findings(history(tensors, rate))
    assert (found.verdict, found.grade, found.layer) == ("ranks differ", "fail", "a.bias")
    assert found.cause == (
        "rank 2 differs from ranks 0, 1, 3, since step 20 (they agreed after step 10); "
        "learning rate 0.2, elsewhere 0.1, after step 20; other bits in 1 of 2 parameter tensors: a.bias"
    )
    assert found.remedy == "the same schedule, stepped on every rank"
    assert all(each.counts for each in found.evidence)


def test_uneven_accumulation_alone_is_no_fault() -> None:
    passes = RankDifference("backward passes", (2,), (0, 1, 3), (), 1, 1, 20, 10, 30, value=60.0, usual=40.0)
    assert rank_findings(history(passes)) == []
    assert rank_findings(None) == []


def test_a_silence_that_is_over_is_a_warning() -> None:
    silence = RankSilence(3, True, 62.0, 1190, 1200, "train.py:40 in load", limit=60.0)
    (found,) = rank_findings(history(silences=(silence,)))
    assert (found.verdict, found.grade) == ("rank is silent", "fail")
    assert found.cause == (
        "rank 3 has made no progress for 62 s, since step 1190, at train.py:40 in load; "
        "the others are at step 1200"
    )
    over = RankSilence(3, False, 62.0, 1190, 1200, over=True, limit=60.0)
    (found,) = rank_findings(history(silences=(over,)))
    assert found.grade == "warn"
