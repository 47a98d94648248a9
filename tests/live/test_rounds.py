"""Of many runs, those at work are heard at once, and none is forgotten."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from cases import tiny
from gradscape.errors import StoreError
from gradscape.live.discovery import places
from gradscape.live.hub import Hub, News, StillReadingError
from gradscape.live.rounds import PART, SOON, Rounds
from gradscape.storage.run_summary import RunSummary, StudyWatcher
from gradscape.storage.study_folder import StudyFolder
from made_studies import add, ask, epoch, put

RUNS = [tiny(seed=seed) for seed in range(2 * SOON)]


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    """A study whose first runs are done; the others have not begun."""
    for config in RUNS[:6]:
        put(tmp_path, config, "done", [epoch(number) for number in range(1, config.epochs + 1)])
    ask(tmp_path, RUNS)
    return StudyFolder(tmp_path)


def looked(rounds: Rounds, until: float = float("inf")) -> dict[str, RunSummary]:
    return {run.identity: run for run in rounds.poll(until)}


def test_all_are_seen_once_and_then_only_what_may_have_changed(study: StudyFolder) -> None:
    rounds = Rounds(StudyWatcher(study))
    assert list(looked(rounds)) == [config.identity for config in RUNS]
    done = {config.identity for config in RUNS[:6]}
    seen = [set(looked(rounds)) & done for _ in range(PART)]
    assert sum(map(len, seen)) == len(done)
    assert set.union(*seen) == done


def test_a_run_at_work_is_looked_at_however_short_the_time_is(study: StudyFolder) -> None:
    rounds = Rounds(StudyWatcher(study))
    folder = put(study.path, RUNS[-1], "running")
    looked(rounds)
    with folder.locked():
        while RUNS[-1].identity not in rounds.at_work:
            looked(rounds)
        for number in (1, 2):
            add(folder, epoch(number))
            found = looked(rounds, time.monotonic())
            assert found[RUNS[-1].identity].epoch == number
    assert looked(rounds, time.monotonic())[RUNS[-1].identity].state != "running"


def test_the_time_left_is_that_of_all_runs_that_are_trained_together(study: StudyFolder) -> None:
    rounds, together = Rounds(StudyWatcher(study)), RUNS[6:9]
    for config in together:
        put(study.path, config, "running", [epoch(1)], packed=True, pid=7)
    with ExitStack() as held:
        for config in together:
            held.enter_context(study.run(config.identity).locked())
        looked(rounds)
        found = looked(rounds)
        assert {found[config.identity].beside for config in together} == {3}
        assert found == {run.identity: run for run in StudyWatcher(study).poll() if run.identity in found}
        study.run(together[0].identity).set_status("done")
        found = looked(rounds)
        assert [found[config.identity].beside for config in together] == [1, 2, 2]


@pytest.mark.parametrize("seed", [0, 6, len(RUNS) - 1])
def test_a_run_that_begins_is_heard_whichever_it_is(study: StudyFolder, seed: int) -> None:
    """One that was over, the next in order, and the last."""
    rounds = Rounds(StudyWatcher(study))
    looked(rounds)
    folder = put(study.path, RUNS[seed], "running")
    with folder.locked():
        assert looked(rounds)[RUNS[seed].identity].state == "running"


def test_with_little_time_everyone_has_a_turn(study: StudyFolder) -> None:
    rounds, seen, turns = Rounds(StudyWatcher(study)), set[str](), 0
    while not turns or rounds.is_behind:
        seen |= set(looked(rounds, time.monotonic() + 1e-3))
        turns += 1
    assert turns > 1
    assert seen == {config.identity for config in RUNS}


def test_runs_that_are_not_planned_any_more_are_gone(study: StudyFolder) -> None:
    told: list[dict[str, object]] = []
    hub = Hub(study.path, told.append)
    hub.poll()
    ask(study.path, RUNS[:3])
    hub.poll()
    assert set(hub.rows) == {f"./{config.identity}" for config in RUNS[:3]}
    assert told[-1]["gone"] == [f"./{config.identity}" for config in RUNS[3:]]


def test_runs_that_a_plan_lost_while_it_was_damaged_are_gone(study: StudyFolder) -> None:
    told: list[News] = []
    hub = Hub(study.path, told.append)
    hub.poll()
    plan = study.path / "study.json"
    plan.write_text("{")
    hub.poll()
    assert f"./{RUNS[0].identity}" in hub.rows  # it may be whole again in a moment
    plan.unlink()
    ask(study.path, RUNS[:3])
    hub.poll()
    assert set(hub.rows) == {f"./{config.identity}" for config in RUNS[:3]}
    assert set(told[-1]["gone"]) == {".", *(f"./{config.identity}" for config in RUNS[3:])}


def test_a_damaged_plan_is_a_row_until_it_is_whole_again(study: StudyFolder) -> None:
    hub = Hub(study.path, lambda news: None)
    hub.poll()
    plan = study.path / "study.json"
    whole = plan.read_bytes()
    plan.write_bytes(whole[:100])
    hub.poll()
    assert hub.rows["."]["state"] == "damaged"
    assert "study.json is damaged" in hub.rows["."]["reason"]
    with pytest.raises(StoreError):
        StudyWatcher(study).asked()
    plan.write_bytes(whole)
    hub.poll()
    assert set(hub.rows) == {f"./{config.identity}" for config in RUNS}


def test_claims_are_judged_when_runs_have_changed_and_told_when_they_differ(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, object]] = []
    hub, judged = Hub(study.path, told.append), list[StudyFolder]()
    monkeypatch.setattr("gradscape.live.hub.CLAIMS", 0.0)
    monkeypatch.setattr("gradscape.live.hub.judged_claims", lambda one: judged.append(one) or [{"id": "C1"}])
    hub.poll()
    hub.judge()
    hub.judge()
    assert (len(judged), told[-1]) == (1, {"claims": [{"id": "C1"}]})
    put(study.path, RUNS[0], "failed", error="no")
    hub.poll()
    hub.judge_at = 0.0
    hub.judge()
    assert len(judged) == 2
    assert "claims" not in told[-1]


def test_until_all_have_been_read_it_is_said_how_many_are_left(study: StudyFolder) -> None:
    told: list[News] = []
    hub = Hub(study.path, told.append)
    identity = f"./{RUNS[-1].identity}"
    assert hub.unread == 1  # nothing is known yet
    with pytest.raises(StillReadingError, match="the folder is still being read"):
        hub.document(identity)
    hub.poll(0.0)
    assert hub.unread == told[-1]["unread"] == len(RUNS) - PART > 0
    assert not hub.knows_all
    hub.poll()
    assert (hub.unread, told[-1]["unread"], len(hub.rows)) == (0, 0, len(RUNS))
    for name, message in ((identity, "has not been begun"), ("none", "there is no such training here")):
        with pytest.raises(StoreError, match=message):
            hub.document(name)


def test_an_empty_folder_is_read_at_once_and_folders_left_out_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[News] = []
    hub = Hub(tmp_path, told.append)
    hub.poll()
    assert (told[-1]["unread"], told[-1]["notes"]) == (0, [])
    for name in "abc":
        (tmp_path / name).mkdir()
    assert places(tmp_path, 4) == ([], True)
    assert places(tmp_path, 3) == ([], False)
    monkeypatch.setattr("gradscape.live.hub.places", lambda root: ([], False))
    hub = Hub(tmp_path, told.append)
    hub.poll()
    assert "more than 5,000 folders" in told[-1]["notes"][0]
