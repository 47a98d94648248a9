"""Every example runs as a user would run it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from gradscape.study.sweep import Study

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
NEEDS = {"watch_lightning": "pytorch_lightning", "watch_transformers": "transformers"}
LAUNCH = {"watch_ddp": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]}


def run(path: Path, folder: Path) -> str:
    if (library := NEEDS.get(path.stem)) and find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, *LAUNCH.get(path.stem, []), str(path)]
    done = subprocess.run(command, cwd=folder, env=offline, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=[pytest.mark.slow] * (p.stem in NEEDS | LAUNCH), id=p.stem) for p in EXAMPLES],
)
def test_the_example_runs(path: Path, tmp_path: Path) -> None:
    printed = run(path, tmp_path)
    if not path.stem.startswith("watch_"):
        assert "gradient flow over" in printed
        return
    rows = int(re.search(r"watched \d+ parameter tensors over (\d+) rows", printed).group(1))  # type: ignore[union-attr]
    written = [json.loads(line) for line in (tmp_path / "gradients.jsonl").read_text().splitlines()]
    assert [row["step"] for row in written] == list(range(rows))


def test_the_study_file_is_a_study() -> None:
    study = Study.read(Path(__file__).parents[1] / "examples" / "depth_and_norm.yaml")
    assert len(study.runs()) == 24
    assert next(iter(study.points())) == "net.depth=8 net.norm=none"
