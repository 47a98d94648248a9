"""Labels over batches: all left out, of one class, imbalanced, sorted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.made_losses import made_history, made_term
from tests.measure.diagnose.loss.test_output_rules import only

from gradscape.measure.diagnose.loss.rules import loss_findings, loss_notes
from gradscape.records.loss import LossHistory

random = np.random.default_rng(4)


def labelled(*batches: Any, name: str = "cross_entropy", classes: int = 4, **more: Any) -> LossHistory:
    return made_history(
        *[
            made_term(name, output=random.normal(size=(len(batch), classes)), target=batch, **more)
            for batch in batches
        ]
    )


def yes_or_no(*batches: int) -> LossHistory:
    """Readings of 32 labels that are all no, or all yes."""
    return made_history(
        *[
            made_term(
                "binary_cross_entropy_with_logits",
                output=random.normal(size=(32, 1)),
                target=np.full((32, 1), batch),
            )
            for batch in batches
        ]
    )


def test_targets_that_are_all_left_out() -> None:
    found = only(labelled(np.zeros(64), np.zeros(64), ignored=1.0))
    assert found.verdict == "unusable labels"
    assert "leaves out every target of the 2 batches read" in found.cause
    assert not loss_findings(labelled(random.integers(0, 4, 64), ignored=0.9))


def test_labels_that_begin_at_1_are_a_note() -> None:
    (note,) = loss_notes(labelled(*[random.integers(1, 4, 64) for _ in range(8)]))
    assert note.startswith("none of 512 labels is 0, and all others up to 3 occur")


@pytest.mark.parametrize(
    "history",
    [
        labelled(*[random.integers(0, 4, 64) for _ in range(8)]),
        labelled(*[random.integers(1, 4, 64) for _ in range(4)]),  # too few
        labelled(*[random.integers(1, 3, 64) for _ in range(8)]),  # 3 is missing too
        labelled(*[random.integers(1, 4, 64) for _ in range(8)], ignored=0.1),  # 0 is padding
        labelled(*[random.integers(1, 9, 64) for _ in range(8)], classes=100),
    ],
)
def test_labels_that_begin_at_0_and_rare_ones_are_not(history: LossHistory) -> None:
    assert not loss_notes(history)


def test_labels_of_one_class() -> None:
    found = only(labelled(*[np.full(64, 2)] * 5))
    assert found.verdict == "unusable labels"
    assert "all 320 labels of the 5 batches read are of class 2, of 4" in found.cause
    assert found.evidence[0].value == 320


@pytest.mark.parametrize(
    "history",
    [
        labelled(*[np.full(60, 2)] * 5),  # 300: a rare class may not be among them
        labelled(*[np.full(500, 2)] * 2),
        labelled(*[[2] * 63 + [1]] * 5),
        made_history(*[made_term("cross_entropy", "cat", "div", output=random.normal(size=(64, 9)),
                                 target=np.zeros(64))] * 5),  # a contrastive loss: the first is the partner
        yes_or_no(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1),  # a generator's
    ],
)  # fmt: skip
def test_labels_of_one_class_that_may_be(history: LossHistory) -> None:
    assert not [str(each) for each in loss_findings(history)]


def test_imbalanced_labels_are_named_where_only_the_largest_class_is_predicted() -> None:
    batches = [[1] * 60 + [0, 2, 3, 3]] * 5
    found = only(labelled(*batches, predicted_counts=(0, 64, 0, 0)))
    assert found.verdict == "imbalanced labels"
    assert "93.8 % of the labels are of class 1, and so is every prediction" in found.cause
    assert not loss_findings(labelled(*batches, predicted_counts=(1, 63, 0, 0)))
    fewer = [[1] * 51 + [0, 2, 3, 3] + [0] * 9] * 5  # 79.7 %
    assert not loss_findings(labelled(*fewer, predicted_counts=(0, 64, 0, 0)))


def test_sorted_batches_are_named() -> None:
    found = only(labelled(*[np.full(32, label) for label in (0, 0, 1, 2, 2, 3)]))
    assert found.verdict == "batches not shuffled"
    assert "100 % of a batch's labels are of one class" in found.cause
    assert "4 of them in 6" in found.cause
    assert "shuffle=True" in found.remedy
    assert [each.limit for each in found.evidence] == [0.9, 0.6, 1e-6]


@pytest.mark.parametrize(
    "history",
    [
        labelled(*[random.integers(0, 4, 32) for _ in range(6)]),
        labelled(np.zeros(32), np.ones(32)),  # two readings
        labelled(*[np.full(4, label) for label in (0, 0, 1, 2, 2, 3)]),  # batches of four
        labelled(*[np.full(32, label) for label in (0, 0, 0, 0, 1)]),  # most are of one class anyway
        labelled(*[[label] * 28 + [3, 3, 2, 1] for label in (0, 1, 2, 0, 1, 2)]),  # 88 %
    ],
)
def test_shuffled_or_too_few_batches_are_not(history: LossHistory) -> None:
    assert "batches not shuffled" not in [each.verdict for each in loss_findings(history)]


def test_of_two_classes_only_one_change_counts_for_a_discriminator_alternates() -> None:
    assert only(yes_or_no(0, 0, 0, 0, 1, 1, 1, 1)).verdict == "batches not shuffled"
    assert not loss_findings(yes_or_no(0, 1, 0, 1, 0, 1, 0, 1))


def test_maps_of_labels_are_not_counted_as_samples() -> None:
    maps = [np.full((4, 8, 8), label) for label in (0, 1, 2, 3, 0, 1)]
    terms = [made_term("cross_entropy", output=random.normal(size=(4, 4, 8, 8)), target=m) for m in maps]
    assert not loss_findings(made_history(*terms))
