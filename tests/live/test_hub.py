"""The page's state: everything within a folder is found, followed and told, and nothing outside is."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.cli.main import main
from gradscape.config.run import RunConfig
from gradscape.errors import StoreError
from gradscape.live.discovery import places
from gradscape.live.hub import Hub, News
from gradscape.records.diagnosis import Diagnosis, Finding
from gradscape.records.gradients import slice_rows
from gradscape.storage.json_files import read_json, write_json
from gradscape.storage.run_folder import RunFolder
from gradscape.storage.watch_folder import WatchReader, WatchWriter
from live.watching import watch_in


@pytest.fixture(scope="module")
def trainings(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A run and two watches in folders of folders."""

    def make(folder: Path) -> None:
        watch_in(folder / "watches" / "well")
        watch_in(folder / "watches" / "ill", deep=True)
        flags = ["--net.depth=8", "--net.filters=4", "--data.train=60", "--data.valid=20", "--batch-size=20"]
        main(["train", *flags, "--epochs=2", "--threads=1", "--out", str(folder / "runs" / "first")])

    return once("live", make)


def polled(root: Path) -> tuple[Hub, list[News]]:
    told: list[News] = []
    hub = Hub(root, told.append)
    hub.poll()
    return hub, told


def test_everything_is_found_and_shown(trainings: Path) -> None:
    hub, told = polled(trainings)
    rows = {row["id"]: row for row in told[0]["runs"]}
    assert set(rows) == {"runs/first", "watches/ill", "watches/well"}
    assert (rows["runs/first"]["state"], rows["runs/first"]["progress"]) == ("done", "epoch 2/2")
    assert rows["runs/first"]["verdict"] == gs.diagnose(gs.load(trainings / "runs" / "first")).verdict
    assert (rows["watches/ill"]["state"], rows["watches/ill"]["grade"]) == ("ended", "fail")
    assert [event["run"] for event in hub.events if event["grade"] == "fail"] == ["watches/ill"]
    assert len(rows["watches/well"]["spark"]) == 6


def test_documents_have_the_values_of_the_files(trainings: Path) -> None:
    hub, _ = polled(trainings)
    run = gs.load(trainings / "runs" / "first")
    found = hub.document("runs/first")
    losses = next(curve for curve in found["curves"] if curve["title"] == "loss")
    assert losses["series"][0]["y"] == list(run.curve("train_loss"))
    assert found["diagnosis"]["verdict"] == gs.diagnose(run).verdict
    assert hub.document("watches/ill")["findings"][0]["verdict"] == "vanishing"
    json.dumps(found, allow_nan=False)


def test_what_is_unchanged_is_not_told_again(trainings: Path) -> None:
    hub, told = polled(trainings)
    count = len(told)
    hub.poll()
    assert len(told) == count


def test_a_watch_is_followed_while_it_is_written(tmp_path: Path) -> None:
    hub, told = polled(tmp_path)
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gs.watch(model, optimizer) as flow:
        writer, written = WatchWriter(tmp_path / "w", "Net", 1.0), 0
        for step in range(1, 5):
            optimizer.zero_grad()
            cross_entropy(model(torch.randn(8, 3)), torch.arange(8) % 2).backward()
            optimizer.step()
            writer.write(flow.history(written), flow.history, step=step, written=float(step))
            written = flow.rows
            hub.search_at = 0.0
            hub.poll()
            assert told[-1]["runs"][0]["progress"] == f"step {step}"
            assert hub.document("w")["steps"] == list(range(step))


def test_a_fault_that_comes_up_is_one_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch_in(tmp_path / "other", 8)
    reader = WatchReader(tmp_path / "other")
    reader.poll()
    whole, found = reader.history, list[dict[str, Any]]()
    verdicts = iter(["healthy", "vanishing", "vanishing", "dead units"])

    def judged(thing: object) -> Diagnosis:
        return Diagnosis((Finding(next(verdicts), "", "cause", "remedy", ()),), "in a test", ())

    monkeypatch.setattr("gradscape.live.sources.diagnose", judged)
    (tmp_path / "live").mkdir()
    hub = Hub(tmp_path / "live", lambda news: None, lambda row, before, source: found.append(row))
    writer = WatchWriter(tmp_path / "live" / "w", "Net", 1.0)
    for last in (2, 4, 6, 8):
        writer.write(slice_rows(whole, slice(last - 2, last)), lambda: whole, step=last)
        hub.search_at = 0.0
        hub.poll()
    assert [(row["verdict"], row["progress"]) for row in found] == [
        ("vanishing", "step 4"),
        ("vanishing", "step 6"),
        ("dead units", "step 8"),
    ]
    assert [event["what"] for event in hub.events] == ["dead units", "vanishing"]


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs links")
def test_links_lead_nowhere(trainings: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(trainings)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "watch.json").symlink_to(trainings / "watches" / "ill" / "watch.json")
    assert places(tmp_path) == ([], True)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "runs/first/../../x", "", ".", "nothing"])
def test_no_other_name_is_a_training(trainings: Path, name: str) -> None:
    hub, _ = polled(trainings)
    with pytest.raises(StoreError, match="there is no such training here"):
        hub.document(name)


def test_damaged_and_half_written_folders_are_shown_as_such_and_the_rest_goes_on(tmp_path: Path) -> None:
    watch_in(tmp_path / "good")
    for name in ("broken", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "watch.json").write_text("{")
    (tmp_path / "empty" / "study.json").write_text("")
    run = tmp_path / "run"
    RunFolder(run).create(RunConfig())
    (run / "status.json").write_text("not JSON")
    hub, _ = polled(tmp_path)
    states = {row["id"]: row["state"] for row in hub.rows.values()}
    assert states["good"] == "ended"
    assert states["broken"] == "damaged"
    assert states["run"] == "damaged"
    for name, file in (("broken", "watch.json"), ("empty", "study.json"), ("run", "status.json")):
        assert hub.rows[name]["reason"].startswith(f"{file} is damaged")
        with pytest.raises(StoreError, match=f"^{file} is damaged"):  # the training's own page
            hub.document(name)


def test_a_configuration_of_another_program_hides_nothing(tmp_path: Path) -> None:
    """As of a project with a `config.json` of its own, and of a model beside its training's folder."""
    for folder in (tmp_path, tmp_path / "model"):
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"]}')
    watch_in(tmp_path / "watches" / "first")
    RunFolder(tmp_path / "run").create(RunConfig())
    (tmp_path / "run" / "status.json").unlink()
    assert {(place.kind, place.name) for place in places(tmp_path)[0]} == {
        ("watch", "watches/first"),
        ("run", "run"),
    }


def test_names_and_texts_of_any_bytes_reach_the_browser(tmp_path: Path) -> None:
    """The bytes of a name need not be UTF-8; a line end or a turned direction is no part of a row."""
    for name in (b"\xff\xfe", "a\nb\u202ec".encode()):
        watch_in(tmp_path / os.fsdecode(name))
    hub, told = polled(tmp_path)
    assert {row["id"]: row["name"] for row in hub.rows.values()} == {
        "\\xff\\xfe": "\\xff\\xfe",
        "a\nb\u202ec": "a b\ufffdc",
    }
    for identity in hub.rows:
        json.dumps(hub.document(identity), ensure_ascii=False).encode()
    json.dumps(told, ensure_ascii=False).encode()


def test_a_folder_that_may_be_listed_but_not_entered_is_damaged_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch_in(tmp_path / "well")
    RunFolder(tmp_path / "shut").create(RunConfig())
    status = Path.stat

    def refused(path: Path, **options: Any) -> os.stat_result:
        if path.parent.name == "shut":  # as of a folder of mode 744 that is somebody else's
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return status(path, **options)

    monkeypatch.setattr(Path, "stat", refused)
    monkeypatch.setattr(Path, "exists", lambda path: refused(path) is not None)
    rows = polled(tmp_path)[0].rows
    assert rows["well"]["state"] == "ended"
    assert rows["shut"]["state"] == "damaged"
    assert rows["shut"]["reason"].endswith("config.json: Permission denied")


def test_a_watch_whose_rows_are_missing_is_damaged_and_says_so(tmp_path: Path) -> None:
    watch_in(tmp_path / "w")
    (tmp_path / "w" / "rows-1.jsonl").unlink()
    hub, _ = polled(tmp_path)
    assert hub.rows == {}  # the next files may have begun just now
    hub.poll()
    assert hub.rows["w"]["state"] == "damaged"
    assert "rows-1.jsonl is missing; delete the folder" in hub.rows["w"]["reason"]


def test_a_folder_that_goes_away_is_told(tmp_path: Path) -> None:
    watch_in(tmp_path / "w")
    hub, told = polled(tmp_path)
    for path in (tmp_path / "w").iterdir():
        path.unlink()
    hub.search_at = 0.0
    hub.poll()
    assert told[-1]["gone"] == ["w"]
    assert hub.rows == {}


def test_a_killed_training_is_told(tmp_path: Path) -> None:
    watch_in(tmp_path / "w")
    head = tmp_path / "w" / "watch.json"
    values = read_json(head)
    values["info"] |= {"state": "running", "process": 2**22 + 1}
    write_json(head, values)
    hub, _ = polled(tmp_path)
    assert hub.rows["w"]["state"] == "interrupted"
    assert "its process has ended without a word" in hub.rows["w"]["reason"]


def test_a_source_that_fails_in_an_unforeseen_way_is_damaged_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        watch_in(tmp_path / name)

    def judged(thing: object) -> Diagnosis:
        raise IndexError("tuple index out of range")

    monkeypatch.setattr("gradscape.live.sources.diagnose", judged)
    hub, _ = polled(tmp_path)
    assert {row["state"] for row in hub.rows.values()} == {"damaged"}
    assert "tuple index out of range" in hub.rows["a"]["reason"]
    monkeypatch.undo()
    hub.search_at = 0.0
    watch_in(tmp_path / "c")
    hub.poll()
    assert hub.rows["c"]["state"] == "ended"
