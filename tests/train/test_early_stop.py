"""Runs that guess and cannot learn, and none else, are called hopeless."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cases import TINY, digits
from gradscape.config.network import NetConfig
from gradscape.records.run import EpochRecord
from gradscape.storage.store import RunFolder
from gradscape.train.early_stop import hopeless
from gradscape.train.loop import train_run

DEAD = replace(TINY, net=NetConfig(depth=140, filters=4, norm="none", activation="tanh"), epochs=5)


def epochs(folder: Path, count: int = 2) -> list[EpochRecord]:
    train_run(replace(TINY, epochs=count), RunFolder(folder), digits())
    return RunFolder(folder).epochs()


def altered(epoch: EpochRecord, accuracy: float, gradient: float) -> EpochRecord:
    flow = replace(epoch.flow, mean_abs=(gradient, *epoch.flow.mean_abs[1:]))
    return replace(epoch, train_accuracy=accuracy, flow=flow)


def test_it_takes_both_signs_in_two_epochs_on_end(tmp_path: Path) -> None:
    one, other = epochs(tmp_path)
    chance = 0.1 + 3 * (0.1 * 0.9 / 60) ** 0.5
    assert other.flow.kinds[0] == "conv"
    lost, luck = altered(one, chance - 1e-9, 1e-12), altered(one, chance + 1e-9, 1e-12)
    flowing = altered(one, 0.1, 1.1e-8)
    name = one.flow.layers[0]
    guesses = f"guesses (accuracy {lost.train_accuracy:.3f})"
    why = f"{guesses}, and the gradient of {name} is 1e-12, below Adam's 1e-08"
    assert hopeless(TINY, [other, lost, lost]) == why
    for hopeful in ([], [lost], [lost, luck], [luck, lost], [lost, flowing], [lost, lost, other]):
        assert hopeless(TINY, hopeful) == ""


def test_of_sgd_it_is_the_step_beside_the_weights(tmp_path: Path) -> None:
    config = replace(TINY, optim=replace(TINY.optim, name="sgd", weight_decay=0.1))
    train_run(replace(config, epochs=2), RunFolder(tmp_path), digits())
    *_, last = RunFolder(tmp_path).epochs()
    assert hopeless(config, [last, last]) == ""

    def moving(step: float) -> EpochRecord:
        """Guessing, and the gradient moves the first convolution by so much of it in a step."""
        relative = step * (1 - 0.9) / last.lr
        flow = replace(last.flow, relative=(relative, *last.flow.relative[1:]))
        return replace(last, train_accuracy=0.1, flow=flow)

    lost = moving(0.99 * 2.0**-24)
    why = "SGD's steps for entry.conv.weight are 6e-08 of it, below float32's resolution 6e-08"
    assert hopeless(config, [lost, lost]) == f"guesses (accuracy 0.100), and {why}"
    assert hopeless(config, [moving(1.01 * 2.0**-24)] * 2) == ""
    assert hopeless(config, [altered(last, 0.1, 1e-12)] * 2) == ""  # Adam's epsilon is none of SGD's


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
