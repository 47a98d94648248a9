"""A run at a glance says what its whole record says, of any file that a training can leave."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import tiny
from gradscape.errors import StoreError
from gradscape.storage.run_folder import RunFolder
from gradscape.storage.run_summary import GONE, RunSummary, StudyWatcher, _summarize
from gradscape.storage.study_folder import StudyFolder
from made_studies import ask, epoch, every_state, flow, put, results, spoil


def seen(folder: RunFolder) -> RunSummary:
    return _summarize(StudyFolder(folder.path.parents[1]), folder.path.name, ())


def of(folder: RunFolder) -> dict[str, object]:
    """What a `RunSummary` is to say, from the whole record."""
    record = folder.record()
    accuracy = record.curve("valid_accuracy")
    best = max(accuracy, default=None)
    return {
        "state": record.state,
        "epoch": len(record.epochs),
        "best_valid_accuracy": best,
        "best_epoch": None if best is None else accuracy.index(best) + 1,
        "train_accuracy": record.curve("train_accuracy")[-1] if accuracy else None,
    }


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(0, 9),
    accuracies=st.lists(st.sampled_from((0.1, 0.25, 0.5)), min_size=9, max_size=9),
    torn=st.integers(0, 400),
    done=st.booleans(),
)
def test_it_says_what_the_record_says(
    tmp_path_factory: pytest.TempPathFactory,
    count: int,
    accuracies: list[float],
    torn: int,
    done: bool,
) -> None:
    """A torn last line; ties."""
    study = tmp_path_factory.mktemp("study")
    epochs = [epoch(i + 1, valid_accuracy=accuracies[i]) for i in range(count)]
    config = tiny(epochs=len(epochs) if done and epochs else 9)
    folder = put(study, config, "pending", epochs)
    if done and epochs:
        folder.set_status("done", test=results(len(epochs), int(of(folder)["best_epoch"])))  # type: ignore[call-overload]
    if epochs and torn:
        line = folder.metrics.read_bytes().splitlines()[-1]
        with open(folder.metrics, "ab") as file:
            file.write(line[:torn])
    found = seen(folder)
    assert {name: getattr(found, name) for name in of(folder)} == of(folder)
    assert found.epochs == config.epochs
    assert not found.reason


def test_gradients_are_not_read(tmp_path: Path) -> None:
    folder = put(tmp_path, tiny(epochs=4), "pending", [epoch(n) for n in (1, 2, 3, 4)])
    (folder.path / "gradients.jsonl").unlink()
    assert seen(folder).epoch == 4


def test_a_run_in_each_state(tmp_path: Path) -> None:
    runs = every_state(tmp_path)
    found = dict(zip(runs, StudyWatcher(StudyFolder(tmp_path)).poll(), strict=True))
    assert [run.identity for run in found.values()] == [config.identity for config in runs.values()]
    assert {word: (run.state, run.epoch, run.reason) for word, run in found.items()} == {
        "done": ("done", 4, "bf16 is slower here: fp32"),
        "diverged": ("diverged", 2, "the loss was not finite in epoch 3, step 17"),
        "failed": ("failed", 2, "ValueError: no [1]"),
        "stopped": ("stopped", 2, "worse than the median at epoch 2"),
        "killed": ("interrupted", 2, GONE),
        "new": ("pending", 0, ""),
        "absent": ("pending", 0, ""),
    }
    done = found["done"]
    assert (done.best_valid_accuracy, done.best_epoch, done.train_accuracy) == (0.5, 3, 0.004)
    assert found["failed"].epoch_seconds == 3.5
    assert (done.host, done.device, done.attempts) == ("node1", "x86_64", 1)
    assert found["absent"].epochs is found["absent"].last_update is None
    written = (tmp_path / "runs" / done.identity).glob("*.json*")
    assert done.last_update == pytest.approx(max(os.stat(path).st_mtime for path in written), abs=1e-6)


def test_a_run_that_is_worked_on_is_running(tmp_path: Path) -> None:
    folder = put(tmp_path, tiny(), "running", [epoch(1)])
    ask(tmp_path, [tiny()])
    watcher = StudyWatcher(StudyFolder(tmp_path))
    with folder.locked():
        assert watcher.poll()[0].state == "running"
    assert watcher.poll()[0].state == "interrupted"  # no file has changed


def test_a_run_that_ends_while_it_is_looked_at_is_not_taken_for_a_killed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put(tmp_path, tiny(epochs=1), "running", [epoch(1)])
    ask(tmp_path, [tiny(epochs=1)])

    def held(self: RunFolder) -> bool:
        self.set_status("done", test=results(1, 1))
        return False

    monkeypatch.setattr(RunFolder, "held", held)
    assert StudyWatcher(StudyFolder(tmp_path)).look(folder.path.name).state == "done"


def test_only_what_has_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = every_state(tmp_path)
    watcher = StudyWatcher(StudyFolder(tmp_path))
    before = watcher.poll()
    read: list[str] = []
    summary = lambda study, name, stamp: read.append(name) or before[0]  # noqa: E731
    monkeypatch.setattr("gradscape.storage.run_summary._summarize", summary)
    assert watcher.poll()[:6] == before[:6]
    assert read == [runs["absent"].identity]
    read.clear()
    StudyFolder(tmp_path).run(runs["killed"].identity).append(epoch(3), flow(3))
    watcher.poll()
    assert read == [runs[word].identity for word in ("killed", "absent")]


def test_the_plan_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(tmp_path, [tiny()])
    watcher = StudyWatcher(StudyFolder(tmp_path))
    read: list[StudyFolder] = []
    whole = StudyFolder.asked
    monkeypatch.setattr(StudyFolder, "asked", lambda folder: read.append(folder) or whole(folder))
    assert [len(watcher.poll()), len(watcher.poll())] == [1, 1]
    assert watcher.asked()["study"] == "batchnorm"
    assert len(read) == 1
    ask(tmp_path, [tiny(), tiny(seed=2)])
    assert len(watcher.poll()) == 2


@pytest.mark.parametrize(
    ("line", "place", "which"),
    [
        (0, 3, "line 1"),
        (1, 4, "line 2"),
        (1, 11, "line 2"),
        (3, 20, "line 4"),
    ],
)
def test_a_damaged_line_is_said(tmp_path: Path, line: int, place: int, which: str) -> None:
    folder = put(tmp_path, tiny(epochs=4), "pending", [epoch(n) for n in (1, 2, 3, 4)])
    spoil(folder.metrics, line, place)
    found = seen(folder)
    assert found.state == "pending"
    assert found.epoch == 0
    assert found.reason == (
        f"{folder.metrics}: {which} is damaged; delete the folder {folder.path} "
        "and give the same command again to repeat this run"
    )


def test_what_a_run_is_for_is_said_and_changes_with_the_plan(tmp_path: Path) -> None:
    first, second = tiny(seed=0), tiny(seed=1)
    put(tmp_path, first, "done", [epoch(1)])
    ask(tmp_path, [second, first])
    watcher = StudyWatcher(StudyFolder(tmp_path))
    assert [run.roles for run in watcher.poll()] == [("all", "again"), ("all",)]
    ask(tmp_path, [first, second])
    assert [run.roles for run in watcher.poll()] == [("all", "again"), ("all",)]
    assert watcher.look(first.identity).roles == ("all", "again")


def test_a_missing_line_is_said(tmp_path: Path) -> None:
    folder = put(tmp_path, tiny(epochs=4), "pending", [epoch(n) for n in (1, 2, 4)])
    assert f"{folder.metrics}: line 3 is damaged" in seen(folder).reason


@pytest.mark.parametrize("name", ["config.json", "status.json"])
def test_a_damaged_file_is_said(tmp_path: Path, name: str) -> None:
    folder = put(tmp_path, tiny(), "done")
    (folder.path / name).write_text("{")
    found = seen(folder)
    assert found.state == "failed"
    assert found.reason.startswith(f"{folder.path / name} is damaged (JSONDecodeError: ")


def test_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"holds no study and no run .*; give the folder named by --out"):
        StudyWatcher(StudyFolder(tmp_path)).poll()
