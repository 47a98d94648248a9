"""What is chosen, in which order, and what an estimate rests on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest

from cases import tiny
from gradscape.cli.run_progress import (
    SORTS,
    URGENT,
    chosen,
    counts,
    read_states,
    row,
    study_seconds_left,
)
from gradscape.cli.runs import RunOrder
from gradscape.config.network import NetConfig
from gradscape.config.run import RunConfig
from gradscape.config.serialize import to_dict
from gradscape.errors import ConfigError
from gradscape.storage.run_summary import STATES, RunSummary
from gradscape.study.network_cost import run_macs


def run(state: str, config: RunConfig | None = None, **changes: Any) -> RunSummary:
    config = config or tiny(epochs=10)
    return replace(RunSummary("x", state, to_dict(config), epochs=config.epochs), **changes)


def test_what_the_command_offers_is_what_there_is() -> None:
    assert set(get_args(RunOrder)) == set(SORTS)
    assert set(URGENT) == set(STATES)


def test_runs_are_filtered_and_sorted_and_ties_keep_their_order() -> None:
    made = [
        run("done", identity="c", best_valid_accuracy=0.2, epoch=10),
        run("running", identity="a", epoch=2),
        run("failed", identity="b", best_valid_accuracy=0.4, epoch=5),
        run("running", identity="d", best_valid_accuracy=0.4),
    ]

    def order(states: tuple[str, ...], sort: str | None) -> str:
        return "".join(each.identity for each in chosen(made, states, sort))

    assert order((), None) == "cabd"
    assert order(("running", "failed"), None) == "abd"
    assert order((), "best") == "bdca"
    assert order((), "progress") == "cbad"
    assert order((), "name") == "abcd"
    assert order((), "state") == "adbc"
    assert counts(made) == {"running": 2, "done": 1, "failed": 1}


def test_states_are_read_from_a_list() -> None:
    assert read_states("failed, running") == ("failed", "running")
    with pytest.raises(ConfigError, match=r"--state: expected one of .*; got 'faild'; did you mean 'failed'"):
        read_states("done,faild")


def test_a_running_run_goes_on_at_its_own_pace() -> None:
    assert run("running", epoch=4, epoch_seconds=2.5).seconds_left == 15.0
    assert run("running").seconds_left is None
    assert run("pending", epoch=4, epoch_seconds=2.5).seconds_left is None
    assert run("done", epoch=4).share == 0.4
    assert RunSummary("x").share is None


def test_a_study_takes_what_is_left_over_those_at_work() -> None:
    two = [run("running", epoch=4, epoch_seconds=2.0), run("running", epoch=9, epoch_seconds=4.0)]
    paused = run("pending", epoch=5, epoch_seconds=10.0)
    over = [run("done", epoch=10, epoch_seconds=1.0), run("failed", epoch=1, epoch_seconds=1.0)]
    assert study_seconds_left([*two, paused, *over]) == 50.0  # longer than (12 + 4 + 50) / 2
    assert study_seconds_left([*two, paused, paused, *over]) == (12 + 4 + 50 + 50) / 2
    assert study_seconds_left([paused, *over]) is None
    assert study_seconds_left([run("running"), run("pending")]) is None


def test_runs_that_are_trained_together_share_a_process() -> None:
    """Their epochs' seconds are shares: three with 10 s of work each end after 30 s, on one worker."""
    three = [replace(run("running", epoch=5, epoch_seconds=2.0), beside=3) for _ in range(3)]
    assert [each.seconds_left for each in three] == [30.0] * 3
    assert study_seconds_left(three) == pytest.approx(30.0)
    alone = run("running", epoch=5, epoch_seconds=2.0)
    assert study_seconds_left([*three, alone]) == 30.0
    waiting = [run("pending", epoch=5, epoch_seconds=2.0)] * 6
    assert study_seconds_left([*three, alone, *waiting]) == pytest.approx(100.0 / 2)


def test_a_run_that_has_not_begun_costs_what_its_network_does() -> None:
    deep = tiny(net=NetConfig(depth=20, filters=8), epochs=6)
    busy = run("running", epoch=10, epoch_seconds=3.0)
    ratio = run_macs(deep) / 6 / (run_macs(tiny(epochs=10)) / 10)
    assert study_seconds_left([busy, run("pending", deep)]) == pytest.approx(6 * 3.0 * ratio)
    # Of the pace that is running now, not of another machine's before.
    before = run("done", epoch=10, epoch_seconds=300.0)
    assert study_seconds_left([before, busy, run("pending", deep)]) == pytest.approx(6 * 3.0 * ratio)
    starting = run("running", deep)
    assert study_seconds_left([before, starting]) == pytest.approx(6 * 300.0 * ratio)


def test_a_run_without_a_folder_is_taken_for_a_mean_one_from_its_first_epoch_on() -> None:
    busy = run("running", epoch=5, epoch_seconds=2.0)
    assert study_seconds_left([busy, RunSummary("absent"), RunSummary("too")]) == 10 + 20 + 20


def test_a_configuration_of_another_version_costs_no_more_than_its_estimate() -> None:
    odd = RunSummary("x", "pending", {"net": {"family": "transformer"}}, epochs=3)
    assert study_seconds_left([run("running", epoch=5, epoch_seconds=2.0), odd]) == 10 + 20


def test_a_row_s_keys_are_stable() -> None:
    assert row(RunSummary("x")) == {
        "identity": "x",
        "roles": [],
        "state": "pending",
        "epoch": 0,
        "epochs": None,
        "share": None,
        "seconds_left": None,
        "best_valid_accuracy": None,
        "best_epoch": None,
        "train_accuracy": None,
        "attempts": 0,
        "host": None,
        "device": None,
        "last_update": None,
        "reason": "",
    }
