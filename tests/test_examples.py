"""Every example runs as a user would run it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from gradscape.cli.main import main
from gradscape.study.sweep.sweep import Sweep
from libraries import skip_without

FOLDER = Path(__file__).parents[1] / "examples"
OWN, RESCUES = (FOLDER / f"{name}.py" for name in ("own_study", "rescues"))
EXAMPLES = sorted(set(FOLDER.glob("*.py")) - {OWN, RESCUES})
NEEDS = {"watch_lightning": "pytorch_lightning", "watch_transformers": "transformers"}
LAUNCH = {"watch_ddp": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]}


QUICK = ("watch_plain_loop", "record_your_own_loop")


def run(path: Path, folder: Path) -> str:
    """What an example prints: a quick one in this process, another in its own."""
    if library := NEEDS.get(path.stem):
        skip_without(library)
    if path.stem in QUICK:
        out = io.StringIO()
        with contextlib.chdir(folder), contextlib.redirect_stdout(out):
            runpy.run_path(str(path), run_name="__main__")
        return out.getvalue()
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, *LAUNCH.get(path.stem, []), str(path)]
    done = subprocess.run(command, cwd=folder, env=offline, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=[pytest.mark.slow] * (p.stem not in QUICK), id=p.stem) for p in EXAMPLES],
)
def test_the_example_runs(path: Path, tmp_path: Path) -> None:
    printed = run(path, tmp_path)
    if not path.stem.startswith("watch_"):
        assert "mean |∂L/∂W| of the last" in printed
        return
    rows = int(re.search(r"watched \d+ parameter tensors over (\d+) rows", printed).group(1))  # type: ignore[union-attr]
    written = [json.loads(line) for line in (tmp_path / "gradients.jsonl").read_text().splitlines()]
    assert [row["step"] for row in written] == list(range(rows))


@pytest.mark.slow
def test_a_study_of_ones_own_is_run_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "own"
    assert main(["reproduce", f"{OWN}:STUDY", "--out", str(folder)]) == 0
    first = (folder / "report" / "index.html").read_bytes()
    assert re.search(r"^A1  (holds|does not hold|undecided) +ReLU is better$", capsys.readouterr().out, re.M)
    assert main(["report", str(folder), "--study", f"{OWN}:STUDY"]) == 0
    assert (folder / "report" / "index.html").read_bytes() == first
    assert main(["report", str(folder)]) == 2
    assert "give one of your own with --study FILE.py:STUDY" in capsys.readouterr().err


@pytest.mark.slow
def test_the_study_at_full_size_is_three_networks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", f"{RESCUES}:STUDY", "--preset", "paper", "--seeds", "2", "--dry-run"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert sum("100 epochs" in line for line in said) == 3 * 2


def test_no_claim_of_an_example_has_the_name_of_one_of_the_papers() -> None:
    """F1 and F2 are the paper's future work; C3 is its own claim, told again."""
    for path in (OWN, RESCUES):
        assert set(re.findall(r'"([A-Z]\d+)"', path.read_text())) <= {"A1", "B1"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{own}:STUDI", "has no study 'STUDI' .*did you mean 'STUDY'"),
        ("{own}:roles", "has no study 'roles'"),
        ("{own}:", "STUDY: expected FILE.py:STUDY or package.module:STUDY; got "),
        ("nowhere.py:STUDY", "expected a Python file; got nowhere.py"),
        (
            "gradscape.studies.batchnorm.study:BATCHNORM",
            "a name that no published study has; got 'batchnorm'",
        ),
        (
            "batchnrm",
            "STUDY: expected one of batchnorm.*, or FILE.py:STUDY; got 'batchnrm'; did you mean 'batchnorm'",
        ),
    ],
)
def test_what_is_no_study_is_said_in_one_line(
    text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", text.format(own=OWN)]) == 2
    said = capsys.readouterr().err
    assert re.search(message, said)
    assert said.count("\n") == 1


def test_the_study_file_is_a_study() -> None:
    study = Sweep.read(FOLDER / "depth_and_norm.yaml")
    assert len(study.runs()) == 24
    assert next(iter(study.points())) == "net.depth=8 net.norm=none"
