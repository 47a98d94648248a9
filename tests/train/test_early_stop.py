"""Runs that guess and cannot learn, and none else, are called hopeless."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cases import TINY, digits
from gradscape.config.network import NetConfig
from gradscape.config.run import RunConfig
from gradscape.records.gradients import FlowHistory
from gradscape.records.run import EpochRecord
from gradscape.storage.run_folder import RunFolder
from gradscape.train.early_stop import hopeless
from gradscape.train.loop import train_run
from made_records import ONE

DEAD = replace(TINY, net=NetConfig(depth=38, filters=4, norm="none", activation="tanh"), epochs=5)


Seen = tuple[EpochRecord, FlowHistory]  # an epoch, and its gradients in one row


def altered(seen: Seen, accuracy: float, statistic: str, first: float) -> Seen:
    """The same with another accuracy, and another value of the first layer's."""
    epoch, flow = seen
    row = getattr(flow, statistic).copy()
    row[0, 0] = first
    return replace(epoch, train_accuracy=accuracy), replace(flow, **{statistic: row})


def judged(config: RunConfig, seen: Sequence[Seen]) -> str:
    """What is said of these epochs."""
    _, flow = seen[0] if seen else (None, ONE)
    tables = {
        name: np.concatenate([getattr(each, name) for _, each in seen]) if seen else getattr(ONE, name)
        for name in ("mean_abs", "relative")
    }
    return hopeless(config, [epoch for epoch, _ in seen], replace(flow, **tables))


def test_it_takes_both_signs_in_two_epochs_on_end(tmp_path: Path) -> None:
    record = train_run(replace(TINY, epochs=2), RunFolder(tmp_path), digits())
    one, other = ((epoch, RunFolder(tmp_path).flow(1)) for epoch in record.epochs)
    chance = 0.1 + 3 * (0.1 * 0.9 / 60) ** 0.5
    assert record.flow.kinds[0] == "conv"
    lost, luck = (altered(one, chance + by, "mean_abs", 1e-12) for by in (-1e-9, 1e-9))
    flowing = altered(one, 0.1, "mean_abs", 1.1e-8)
    name = record.flow.layers[0]
    guesses = f"guesses (accuracy {lost[0].train_accuracy:.3f})"
    why = f"{guesses}, and the gradient of {name} is 1e-12, below Adam's 1e-08"
    assert judged(TINY, [other, lost, lost]) == why
    for hopeful in ([], [lost], [lost, luck], [luck, lost], [lost, flowing], [lost, lost, other]):
        assert judged(TINY, hopeful) == ""


def test_of_sgd_it_is_the_step_beside_the_weights(tmp_path: Path) -> None:
    config = replace(TINY, optim=replace(TINY.optim, name="sgd", weight_decay=0.1))
    record = train_run(replace(config, epochs=2), RunFolder(tmp_path), digits())
    last = record.epochs[-1], RunFolder(tmp_path).flow(1)
    assert judged(config, [last, last]) == ""

    def moving(step: float) -> Seen:
        """Guessing, and the gradient moves the first convolution by so much of it in a step."""
        return altered(last, 0.1, "relative", step * (1 - 0.9) / last[0].lr)

    lost = moving(0.99 * 2.0**-24)
    why = "SGD's steps for entry.conv.weight are 6e-08 of it, below float32's resolution 6e-08"
    assert judged(config, [lost, lost]) == f"guesses (accuracy 0.100), and {why}"
    assert judged(config, [moving(1.01 * 2.0**-24)] * 2) == ""
    assert (
        judged(config, [altered(last, 0.1, "mean_abs", 1e-12)] * 2) == ""
    )  # Adam's epsilon is none of SGD's


@pytest.mark.parametrize("config", [TINY, DEAD], ids=["learns", "dead"])
def test_a_deep_net_without_normalisation_is_stopped_and_one_that_learns_is_not(
    tmp_path: Path, config: object
) -> None:
    assert isinstance(config, type(TINY))
    record = train_run(config, RunFolder(tmp_path), digits(), stop_hopeless=True)
    if config is TINY:
        assert record.state == "done"
    else:
        assert (record.state, len(record.epochs)) == ("stopped", 2)
        assert "below Adam's" in record.status["reason"]
