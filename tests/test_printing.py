"""Nobody needs to listen: a study goes on when its terminal, pipe, log or streams are gone."""

from __future__ import annotations

import errno
import io
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest

from cases import TINY, tiny
from gradscape._printing import Forgiving, print_stderr
from gradscape.cli.main import main
from gradscape.executors.base import Event
from gradscape.records.run import Progress
from gradscape.storage.json_files import read_json
from gradscape.storage.study_folder import StudyFolder
from gradscape.study.progress import ProgressView
from gradscape.study.sweep.sweep import Sweep
from made_studies import ask, epoch, put, results

GRADSCAPE = [sys.executable, "-m", "gradscape"]
UNDRAWN = [sys.executable, str(Path(__file__).with_name("undrawn.py"))]
SWEEP = [
    *UNDRAWN, "sweep", "--axis", "net.norm=none,batch", "--seeds", "1", "--net.depth=8", "--net.filters=4",
    "--data.train=60", "--data.valid=20", "--batch-size=20", "--epochs=6", "--out",
]  # fmt: skip

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="terminals and /dev/full of Linux"
)


@contextmanager
def dead(make: Callable[[], tuple[int, int]]) -> Iterator[IO[str]]:
    """A terminal or a pipe whose other end is closed."""
    ours, theirs = make()
    with open(theirs, "w") as stream:
        os.close(ours)
        yield stream


@contextmanager
def full_disk() -> Iterator[IO[str]]:
    with open("/dev/full", "w") as stream:
        yield stream


@contextmanager
def closed() -> Iterator[IO[str]]:
    with open(os.devnull, "w") as stream:
        stream.close()
        yield stream


@contextmanager
def none() -> Iterator[None]:
    yield None  # what Python makes of streams that are closed when it begins


GONE = {
    "terminal": partial(dead, os.openpty),
    "pipe": partial(dead, os.pipe),
    "full": full_disk,
    "closed": closed,
    "none": none,
}


@pytest.mark.parametrize("gone", GONE.values(), ids=GONE)
def test_progress_that_cannot_be_printed_is_none(monkeypatch: pytest.MonkeyPatch, gone: object) -> None:
    with gone() as stream:  # type: ignore[operator]
        monkeypatch.setattr(sys, "stderr", stream)
        name = TINY.identity
        with ProgressView({name: TINY}, done=0) as view:
            for _ in range(3):
                view.show(Event(name, "started"))
                view.show(Event(name, "progress", Progress(1, 3, 0.5, 2.0, 0.1, 99.0)))
                view.show(Event(name, "progress", "some news"))
                view.show(Event(name, "died", "its worker died"))
                print_stderr("and more")
            time.sleep(0.3)  # a live view refreshes itself
        monkeypatch.undo()


def test_what_can_be_printed_is(capfd: pytest.CaptureFixture[str]) -> None:
    stream = Forgiving(sys.stderr)
    assert stream.write("so\x1b") == 3
    stream.flush()
    print_stderr("and \x1b[2Jso")
    assert capfd.readouterr().err == "so\x1band �[2Jso\n"


def test_a_stream_that_can_be_written_again_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It may be of somebody's program that runs a study, and its disk be full for a while."""
    full = True

    class Disk(io.FileIO):
        def write(self, data: Any) -> int:
            if full and stat.S_ISREG(os.fstat(self.fileno()).st_mode):
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    with io.TextIOWrapper(io.BufferedWriter(Disk(tmp_path / "log", "w"))) as log:
        monkeypatch.setattr(sys, "stderr", log)
        stream = Forgiving(log)
        stream.write("lost")
        stream.flush()
        print_stderr("lost too")
        full = False
        print("the program goes on", file=log)
        monkeypatch.undo()
    assert (tmp_path / "log").read_text() == "the program goes on\n"


def test_without_stderr_nothing_is_said_to_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    print_stderr("of no program that reads the output")
    monkeypatch.undo()
    assert capsys.readouterr().out == ""


def states(study: Path) -> list[str]:
    return [read_json(path)["state"] for path in sorted(study.glob("runs/*/status.json"))]


def wait_for_a_checkpoint(study: Path, process: subprocess.Popen[bytes]) -> None:
    while not list(study.glob("runs/*/checkpoint/*")):
        assert process.poll() is None
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    "gone",
    [
        pytest.param("terminal", marks=pytest.mark.long),
        "pipe",
        pytest.param("full", marks=pytest.mark.long),
        pytest.param("closed", marks=pytest.mark.long),
    ],
)
def test_a_study_ends_well_when_nobody_listens(tmp_path: Path, gone: str) -> None:
    study, command = tmp_path / "study", [*SWEEP, str(tmp_path / "study")]
    if gone == "terminal":
        ours, theirs = os.openpty()
        process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        wait_for_a_checkpoint(study, process)
        os.close(ours)
    elif gone == "pipe":
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        wait_for_a_checkpoint(study, process)
        assert process.stdout is not None
        process.stdout.close()
    else:
        redirected = '"$@" > /dev/full 2>&1' if gone == "full" else '"$@" <&- >&- 2>&-'
        process = subprocess.Popen(["bash", "-c", redirected, "-", *command])
    assert process.wait(300) == 0
    assert states(study) == ["done", "done"]
    assert (study / "report" / "index.html").exists()


LOST = "gradscape: output: No space left on device\n"


def test_what_is_only_printed_says_that_it_cannot_be(tmp_path: Path) -> None:
    configs = [tiny(seed=seed, epochs=1) for seed in range(60)]  # more than a buffer holds
    for config in configs:
        put(tmp_path, config, "done", [epoch(1)], test=results(1, 1))
    ask(tmp_path, configs)
    command = [*GRADSCAPE, "runs", str(tmp_path)]
    with open("/dev/full", "w") as full:
        found = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (found.returncode, found.stderr) == (2, LOST)


@pytest.mark.usefixtures("undrawn")
def test_a_report_that_cannot_be_printed_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its few lines are in the buffer until the command ends."""
    StudyFolder(tmp_path).ask(Sweep("s", {}, [{"optim.lr": [0.001, 0.01]}]).merged(None, tmp_path))
    with full_disk() as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["report", str(tmp_path)]) == 2
        monkeypatch.undo()
    assert capfd.readouterr().err == LOST
    assert (tmp_path / "report" / "index.html").exists()
