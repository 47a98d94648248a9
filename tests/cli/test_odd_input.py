"""What somebody gives though nobody means it: pipes, absurd names and numbers, readers that are gone."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from cases import TINY, digits
from gradscape.cli.export import silent_threads
from gradscape.cli.import_object import load_factory
from gradscape.cli.main import main
from gradscape.config.plain_yaml import read_as
from gradscape.config.text import path
from gradscape.errors import ConfigError
from gradscape.records.role import Role
from gradscape.storage.run_folder import RunFolder
from gradscape.storage.study_folder import StudyFolder
from gradscape.train.loop import train_run
from libraries import skip_without

NETWORK = "from torch import nn\n\n\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(12, 4))\n"
POSIX = pytest.mark.skipif(os.name != "posix", reason="pipes in the file system")


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(each) for each in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gradscape: ")
    assert len(line) < 700
    return line


def ask_for(run: RunFolder, folder: Path) -> None:
    """Make a folder that of a study of one run."""
    roles = {"a": Role("a", runs=(run.identity(),))}
    StudyFolder(folder).ask({"study": "x", "preset": "x", "seeds": [0], "notes": [], "roles": roles})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("run") / "run")
    train_run(TINY, folder, digits())
    return folder


@POSIX
def test_a_pipe_that_nobody_writes_to_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    found: list[str] = []

    def read() -> None:
        try:
            read_as(tmp_path / "pipe.yaml", "configuration", lambda found: found)
        except ConfigError as error:
            found.append(str(error))

    reader = threading.Thread(target=read, daemon=True)  # or a fault would hang the suite
    reader.start()
    reader.join(20)
    assert found == [
        f"configuration {tmp_path / 'pipe.yaml'} gives nothing; expected a file with keys and values"
    ]


@POSIX
def test_a_pipe_that_a_shell_made_is_read_to_its_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    there = os.open(tmp_path / "pipe.yaml", os.O_RDWR)  # as `<(command)` has its writer from the beginning

    def write() -> None:
        time.sleep(0.1)
        os.write(there, b"epochs: 3\n")
        time.sleep(0.1)
        os.write(there, b"seed: 1\n")
        os.close(there)

    writer = threading.Thread(target=write)
    writer.start()
    assert read_as(tmp_path / "pipe.yaml", "configuration", lambda found: found) == {"epochs": 3, "seed": 1}
    writer.join()


@pytest.mark.parametrize("name", ["my.net.py", "__main__.py", "random.py", "ünï x.py", "gradscape.py"])
def test_a_file_of_any_name_can_hold_a_factory(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(NETWORK)
    before = set(sys.modules)
    known = {each: sys.modules[each] for each in ("__main__", "random", "gradscape") if each in sys.modules}
    try:
        assert isinstance(load_factory(f"{tmp_path / name}:make")(), nn.Sequential)
        assert {each: sys.modules[each] for each in known} == known
    finally:
        for each in set(sys.modules) - before:
            del sys.modules[each]


@pytest.mark.parametrize("name", ["x" * 5000 + ":make", "x" * 5000, "nosuch.module:make", "..a:make"])
def test_a_factory_that_is_none_is_said_shortly_and_without_a_place_in_python_itself(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    line = refused(capsys, "check", name)
    assert "__init__.py" not in line
    assert "cannot be read" in line or "FACTORY: expected FILE.py:FACTORY" in line


@pytest.mark.parametrize("shape", ["9" * 4000 + "," + "9" * 4000, "9" * 400, "3," * 2000 + "3"])
def test_a_shape_of_thousands_of_digits_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, shape: str
) -> None:
    (tmp_path / "net.py").write_text(NETWORK)
    line = refused(capsys, "check", tmp_path / "net.py:make", "--input", shape)
    assert "expected at most 1,000,000,000 numbers in all" in line


@pytest.mark.parametrize("text", ["1e300", "1e10", "nan", "inf", "0", "-1", "x"])
def test_what_no_clock_waits_for_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str
) -> None:
    assert "--every: " in refused(capsys, "runs", tmp_path, "--watch", f"--every={text}")


def test_a_path_may_be_the_home_folder_and_not_longer_than_systems_take(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert path("~") == tmp_path  # a folder of that name would one day be removed with `rm -r ~`
    assert "expected 3,500 bytes at most; got 6,001" in refused(capsys, "train", "--out", "a/" * 3000 + "b")


def test_what_a_name_holds_does_not_reach_the_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradscape.data.load_images", lambda *_, **__: digits())
    monkeypatch.setattr("gradscape.cli.train.train_config", lambda *_: TINY)
    assert main(["train", "--threads", "1", "--out", str(tmp_path / "a\x1b]0;title\x07")]) == 0
    shown = capsys.readouterr()
    assert "run: " in shown.out
    assert "\x1b" not in shown.out + shown.err


def test_a_figure_on_a_full_disk_leaves_what_was_there(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = tmp_path / "figure.png"
    figure.write_bytes(b"an older one")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("gradscape.storage.files.os.fsync", full)
    flags = ["--images", "10", "--points", "2", "--figure", str(figure)]
    assert main(["smoothness", str(run.path), *flags]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"gradscape: --figure: cannot write {figure}: No space left on device; give another place"
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [
        ("figure.png", b"an older one")
    ]


@pytest.mark.parametrize("flags", [["--dims", "1"], ["--through"]])
def test_a_line_is_not_computed_to_be_turned(
    run: RunFolder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
) -> None:
    monkeypatch.setattr("gradscape.cli.landscape._evaluate", lambda *_, **__: pytest.fail("it was computed"))
    turn = ["--images", "10", "--turn", tmp_path / "page.html"]
    line = refused(capsys, "landscape", run.path, run.path, *flags, *turn)
    assert "for a line has no surface to turn" in line


def test_a_landscape_of_no_points_is_told_without_a_warning() -> None:
    model = nn.Linear(2, 2)
    record = gs.landscape(
        model, cross_entropy, (torch.randn(8, 2), torch.arange(8) % 2), points=5, time_limit=1e-9
    )
    assert not np.isfinite(record.loss).any()
    assert "no point is known" in str(record)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="dead pipes of Linux")
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_runs_into_a_pipe_whose_reader_has_gone_end_well(
    run: RunFolder, tmp_path: Path, flags: list[str]
) -> None:
    ask_for(run, tmp_path)
    ours, theirs = os.pipe()
    os.close(ours)
    command = [sys.executable, "-m", "gradscape", "runs", str(tmp_path), *flags]
    with open(theirs, "w") as gone:
        found = subprocess.run(command, stdout=gone, stderr=subprocess.PIPE, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.parametrize(
    ("command", "inner", "kept"),
    [
        ("train", "cli.train.train_config", True),
        ("report", "studies.catalogue.rebuild", False),
        ("check", "cli.own_batch.load_functions", False),
    ],
)
def test_a_command_that_is_stopped_promises_what_it_keeps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str, inner: str, kept: bool
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"gradscape.{inner}", stopped)
    assert main([command] if command == "train" else [command, "x"]) == 130
    said = capsys.readouterr().err
    assert ("every finished epoch is kept" in said) == kept
    assert re.search("give the same command again( to go on)?$", said.strip())


def test_a_thread_of_a_tracker_leaves_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = threading.excepthook
    with silent_threads():
        thread = threading.Thread(target=fails)
        thread.start()
        thread.join()
    assert threading.excepthook is before
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_a_server_that_is_not_there_is_said_within_a_minute(
    run: RunFolder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    skip_without("mlflow")
    monkeypatch.setenv("MPLBACKEND", "agg")  # what `main` sets for figures
    ask_for(run, tmp_path)
    began, variables = time.monotonic(), dict(os.environ)
    assert main(["export", str(tmp_path), "--to", "mlflow", "--into", "http://127.0.0.1:9"]) == 2
    assert "--into: cannot write" in capsys.readouterr().err.splitlines()[-1]
    assert time.monotonic() - began < 60
    assert dict(os.environ) == variables
