"""The folder that `gradscape train` made, given to the commands and functions that read folders."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

import gradscape as gs
from cases import tiny
from gradscape.cli.main import main
from gradscape.storage.run_folder import RunFolder
from gradscape.storage.study_folder import StudyFolder
from gradscape.studies.batchnorm.study import BATCHNORM
from libraries import skip_without
from made_studies import add, ask, epoch, put, results

CONFIG = tiny(epochs=4)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "mine")
    folder.create(CONFIG)
    add(folder, *(epoch(number) for number in range(1, 5)))
    folder.set_status("done", test=results(4, 3))
    return folder


def test_report_prints_the_diagnosis_and_writes_the_page(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(run.path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "test accuracy 0.250, loss 1.500 (last weights)",
        "test accuracy 0.375, loss 1.250 (best weights)",
    ]
    page = run.path / "report" / "index.html"
    assert lines[2] == f"page: {page}"
    assert "\n".join(lines[3:]) == gs.diagnose(run.record()).verdict_last()
    first = page.read_bytes()
    assert main(["report", str(run.path)]) == 0
    assert page.read_bytes() == first


@pytest.mark.slow
def test_a_report_goes_elsewhere_but_not_over_anything_else(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert main(["report", str(run.path), "--out", str(tmp_path / "new")]) == 0
    assert not (run.path / "report").exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "index.html").write_text("<title>mine</title>")
    capsys.readouterr()
    assert main(["report", str(run.path), "--out", str(other)]) == 2
    assert "is not empty and holds no report of gradscape's" in capsys.readouterr().err
    assert (other / "index.html").read_text() == "<title>mine</title>"


def test_a_run_is_of_no_study(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run.path), "--study", "mine.py:STUDY"]) == 2
    assert f"--study: expected a study's folder; got {run.path}, a run's" in capsys.readouterr().err
    assert not (run.path / "report").exists()


def test_a_study_s_report_goes_elsewhere_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    StudyFolder(tmp_path / "study").ask(BATCHNORM.plan("quick", seeds=1).merged(None, tmp_path))
    for path in (tmp_path, tmp_path / "study"):  # not into a folder with something else in it
        assert main(["report", str(tmp_path / "study"), "--out", str(path)]) == 2
    assert "holds no report of gradscape's" in capsys.readouterr().err
    assert not (tmp_path / "index.html").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_of_a_folder_that_cannot_be_written_the_report_goes_where_its_error_says(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run.path.chmod(0o500)
    assert main(["report", str(run.path)]) == 2
    assert "give another folder with --out" in capsys.readouterr().err
    assert main(["report", str(run.path), "--out", str(tmp_path / "new")]) == 0
    run.path.chmod(0o700)


def test_runs_shows_its_row(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(run.path)]) == 0
    head, _, row = capsys.readouterr().out.splitlines()
    assert head == "run mine: 1 done"
    assert row.split()[:6] == [CONFIG.identity, "done", "4/4", "100%", "0.500", "@"]
    assert main(["runs", str(run.path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["study"], shown["preset"], shown["counts"]) == ("run", "mine", {"done": 1})
    assert main(["runs", str(run.path), "--watch", "--every", "0.01"]) == 0


def test_load_reads_it(run: RunFolder, tmp_path: Path) -> None:
    assert gs.load(run.path) == run.record()
    inside = put(tmp_path / "study", CONFIG, "done", [epoch(number) for number in range(1, 5)])
    assert gs.load(inside.path) == inside.record()  # one of a study's, too


def test_diagnose_says_what_gs_diagnose_says_and_ends_in_1_on_a_fault(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    diagnosis = gs.diagnose(run.record())
    code = main(["diagnose", str(run.path)])
    assert capsys.readouterr().out == f"{diagnosis.verdict_last()}\n"
    assert code == int(diagnosis.grade == "fail")
    assert main(["diagnose", str(run.path), "--json"]) == code
    assert capsys.readouterr().out == f"{diagnosis.to_json()}\n"
    assert main(["diagnose", str(run.path), "--markdown"]) == code
    assert capsys.readouterr().out == gs.to_markdown(run.record())


def test_diagnose_has_a_line_for_each_run_of_a_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new, absent, broken = tiny(seed=1), tiny(seed=2), tiny(seed=3)
    ask(tmp_path, [new, absent])
    put(tmp_path, new, "pending")
    assert main(["diagnose", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        *(f"{config.identity}: no epoch yet" for config in (new, absent)),
        "0 of 2 runs have a fault",
    ]
    ask(tmp_path, [new, broken])
    put(tmp_path, broken, "diverged", epoch=1, step=2)
    assert main(["diagnose", str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"{broken.identity}: non-finite",
        "1 of 2 runs have a fault: 1 × non-finite",
    ]
    assert main(["diagnose", str(tmp_path), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "gradscape.diagnoses/1"
    assert found["runs"][new.identity] is None
    assert found["runs"][broken.identity]["verdict"] == "non-finite"
    assert main(["diagnose", str(tmp_path), "--markdown"]) == 1
    text = capsys.readouterr().out
    assert text.startswith("# Study batchnorm (quick)\n\n2 runs: 1 fail, 1 without an epoch.\n")
    assert f"| {broken.identity} | **fail** | non-finite |" in text


def test_a_run_without_an_epoch_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RunFolder(tmp_path / "new").create(CONFIG)
    for command in ("diagnose", "report"):
        assert main([command, str(tmp_path / "new")]) == 2
        assert "run new has no epoch yet: train one, then diagnose" in capsys.readouterr().err
    assert not (tmp_path / "new" / "report").exists()


def test_tensorboard_gets_it(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    skip_without("tensorboard")
    board = tmp_path / "board"
    for now in (1, 0):
        assert main(["export", str(run.path), "--to", "tensorboard", "--into", str(board)]) == 0
        assert f"1 of 1 runs exported, {now} of them now" in capsys.readouterr().out
    assert list(board.rglob("events.*"))
    shutil.rmtree(board)


def test_a_run_that_diverged_at_once_has_a_page_without_curves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path / "wild")
    folder.create(CONFIG)
    folder.set_status("diverged", epoch=1, step=2)
    assert main(["report", str(folder.path)]) == 0
    assert "\nnon-finite\n  cause: the loss became infinite or NaN in epoch 1" in capsys.readouterr().out
    assert main(["diagnose", str(folder.path), "--markdown"]) == 1
    assert "### Non-finite: fail" in capsys.readouterr().out
    text = (folder.path / "report" / "index.html").read_text()
    assert "<h1>Non-finite</h1>" in text
    assert "<figure" not in text


def test_its_page_names_what_guessing_reaches_and_the_test(run: RunFolder) -> None:
    assert main(["report", str(run.path)]) == 0
    text = (run.path / "report" / "index.html").read_text()
    data = json.loads(text.split('type="application/json">')[1].split("</script>")[0])
    (found,) = data["trainings"].values()
    assert (found["name"], found["state"], found["at"], found["planned"]) == ("mine", "done", 4, 4)
    assert found["words"][0] == "test accuracy 0.250 (last weights)"
    assert [curve["title"] for curve in found["curves"]] == ["loss", "accuracy"]
    assert found["curves"][1]["reference"] == {"label": "guessing", "value": 0.1}
    assert [each["key"] for each in found["maps"]] == ["mean_abs", "relative_update", "weight"]


def test_a_link_in_place_of_the_report_is_not_written_through(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (run.path / "report").symlink_to(tmp_path / "elsewhere")
    assert main(["report", str(run.path)]) == 2
    assert "report is a link; expected a folder" in capsys.readouterr().err
    assert not list((tmp_path / "elsewhere").iterdir())
