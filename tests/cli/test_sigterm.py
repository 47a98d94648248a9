"""SIGTERM, as batch systems send it: one line, a status that says so, and the same command goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gradscape.cli.main import main
from gradscape.storage.json_files import read_json

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
SMALL = ["--net.depth=8", "--net.filters=4", "--data.train=100", "--data.valid=20", "--batch-size=10"]
TRAIN = ["train", *SMALL, "--epochs=40", "--threads=1", "--out"]
SWEEP = ["sweep", "--axis", "net.norm=none,batch", "--seeds=1", *SMALL, "--epochs=40", "--workers=2", "--out"]
WHY = "told to end by SIGTERM"


def ended(words: list[str], out: Path, pattern: str) -> tuple[int, list[str]]:
    """Exit code and last lines of a command that is told to end when a file is there."""
    command = [sys.executable, "-m", "gradscape", *words, str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not list(out.glob(pattern)):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    return process.returncode, [line for line in err.splitlines() if "gradscape:" in line or "Trace" in line]


@pytest.mark.slow
def test_a_training_says_one_line_and_goes_on_with_the_same_command(tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, lines = ended(TRAIN, out, "checkpoint/*")
    again = "every finished epoch is kept: give the same command again to go on"
    assert (code, lines) == (143, [f"gradscape: {WHY}; {again}"])
    status = read_json(out / "status.json")
    assert (status["state"], status["reason"]) == ("interrupted", WHY)
    assert main([*TRAIN, str(out)]) == 0
    assert read_json(out / "status.json")["state"] == "done"
    assert read_json(out / "status.json")["attempts"] == 2


@pytest.mark.slow
def test_the_runs_of_a_study_say_that_it_was_no_sudden_death(tmp_path: Path) -> None:
    code, lines = ended(SWEEP, tmp_path / "study", "runs/*/checkpoint/*")
    assert (code, len(lines)) == (143, 1)
    states = [read_json(path) for path in tmp_path.glob("study/runs/*/status.json")]
    assert {each["state"] for each in states} <= {"interrupted", "pending", "done"}
    assert WHY in {each.get("reason") for each in states}
