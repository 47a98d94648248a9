"""Seeds are added where comparisons are undecided, and nowhere else, up to as many as were allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gradscape.config.run import RunConfig
from gradscape.errors import ConfigError
from gradscape.records.run import EpochRecord, RunRecord
from gradscape.storage.study_folder import StudyFolder
from gradscape.study import execute as run
from gradscape.study.execution_options import Execution
from gradscape.study.sweep.sequential import run_until_decided
from gradscape.study.sweep.sweep import Sweep
from made_records import ONE

# Rates by what their runs are made to reach: 0.3 is as good as 0.1 within the seeds' spread, 0.01 far worse.
REACHED = {0.1: 0.5, 0.3: 0.5, 0.01: 0.2}


def study(**changes: Any) -> Sweep:
    axes = [{"optim.lr": [0.1, 0.3, 0.01]}]
    return Sweep("s", {"epochs": 1}, axes, **{"seeds": 3, "seeds_at_most": 6, **changes})


def noise(config: RunConfig) -> float:
    """Independent of the other rate's, and never all of one sign."""
    return 0.01 * ((config.seed * 7 + int(config.optim.lr * 100)) % 5 - 2)


def stub(job: Any, report: Any) -> RunRecord:
    from gradscape.storage.run_folder import RunFolder

    folder, config = RunFolder(job.folder), job.config
    folder.create(config)
    reached = REACHED[config.optim.lr] + noise(config)
    folder.append(EpochRecord(1, 0.1, 1.0, reached, 1.0, reached, 1.0, 1.0), ONE)
    tested = {"epoch": 1, "loss": 1.0, "accuracy": reached}
    folder.set_status("done", test={"last": tested, "best": tested})
    return folder.record()


@pytest.fixture(autouse=True)
def stubbed(monkeypatch: pytest.MonkeyPatch, undrawn: None, inline: None) -> None:
    monkeypatch.setattr(run, "train_job", stub)


def decide(given: Sweep, folder: StudyFolder) -> list[str]:
    said: list[str] = []
    run_until_decided(given, folder, Execution(workers=1, device="cpu"), said.append)
    return said


def test_only_what_is_undecided_gets_further_seeds(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    said = decide(study(), folder)
    assert said == [f"1 comparisons are undecided: seed {seed} of 2 points" for seed in (3, 4, 5)]
    counts = {label: len(role.runs) for label, role in folder.record().roles.items()}
    assert counts == {"optim.lr=0.1": 6, "optim.lr=0.3": 6, "optim.lr=0.01": 3}
    asked = folder.asked()
    assert asked is not None
    assert (asked["seeds"], asked["looks"]) == ([0, 1, 2, 3, 4, 5], 4)


@pytest.mark.slow
def test_given_again_it_repeats_nothing_and_may_go_further(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    decide(study(seeds_at_most=4), folder)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/status.json")}
    decide(study(seeds_at_most=4), folder)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/status.json")} == stamps
    decide(study(seeds_at_most=5), folder)
    assert len(folder.record().roles["optim.lr=0.3"].runs) == 5
    asked = folder.asked()
    assert asked is not None
    assert asked["looks"] == 3


def test_looks_of_a_later_plan_are_further_looks(tmp_path: Path) -> None:
    """Looks at 3 to 6 seeds, then at 6 to 9, are seven; the same plan again is no further look."""
    asked = None
    for plan, looks in ((study(), 4), (study(), 4), (study(seeds=6, seeds_at_most=9), 7)):
        asked = plan.merged(asked, tmp_path)
        assert asked["looks"] == looks


def test_where_all_is_decided_no_seed_is_added(tmp_path: Path) -> None:
    far = Sweep("s", {"epochs": 1}, [{"optim.lr": [0.1, 0.01]}], seeds=3, seeds_at_most=6)
    said = decide(far, StudyFolder(tmp_path))
    assert said == ["every comparison is decided, or no further seed can decide it"]


def test_a_study_without_it_is_run_as_it_is(tmp_path: Path) -> None:
    assert decide(study(seeds_at_most=0), StudyFolder(tmp_path)) == []


@pytest.mark.parametrize(("seeds", "most"), [(1, 5), (3, 3), (3, 2)])
def test_seeds_that_allow_no_look_are_refused(seeds: int, most: int) -> None:
    with pytest.raises(
        ConfigError, match=f"seeds_at_most: expected more seeds than the {seeds} to .*; got {most}"
    ):
        study(seeds=seeds, seeds_at_most=most)


def test_it_is_kept_in_a_study_file(tmp_path: Path) -> None:
    study().save(tmp_path / "s.yaml")
    assert Sweep.read(tmp_path / "s.yaml") == study()
    assert "seeds_at_most: 6" in (tmp_path / "s.yaml").read_text()
