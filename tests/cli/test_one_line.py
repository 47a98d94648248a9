"""What cannot be done is said in one line, before anything is computed; never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from cases import TINY, digits
from gradscape.cli.main import main
from gradscape.errors import StoreError
from gradscape.storage.run_folder import RunFolder
from gradscape.train.loop import train_run

NETWORK = "from torch import nn\n\n\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(12, 4))\n"


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(each) for each in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gradscape: ")
    return line


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("run") / "run")
    train_run(TINY, folder, digits())
    return folder


@pytest.mark.parametrize("command", ["landscape", "curvature", "smoothness"])
def test_a_figure_that_cannot_be_written_is_refused_before_anything_is_computed(
    run: RunFolder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    monkeypatch.setattr("gradscape.cli.target._target_of", lambda *_: pytest.fail("it was computed"))
    (tmp_path / "fig.png").mkdir()
    line = refused(capsys, command, run.path, "--figure", tmp_path / "fig.png")
    assert line.endswith("fig.png, which is a folder")


def test_a_name_that_is_too_long_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="File name too long"):
        gs.load(tmp_path / ("x" * 300))
    with pytest.raises(StoreError, match="File name too long"):
        RunFolder(tmp_path / ("x" * 300)).create(TINY)


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="becomes another user")
def test_a_folder_that_must_not_be_read_is_said(tmp_path: Path) -> None:
    """By a user who is nobody; root may read anything."""
    folder = RunFolder(tmp_path / "study" / "runs" / TINY.identity)
    folder.create(TINY)
    (tmp_path / "study").chmod(0o700)
    program = (
        "import os, sys; from gradscape.errors import StoreError; from gradscape import load\n"
        "os.setuid(65534)\n"
        "try: load(sys.argv[1])\n"
        "except StoreError as error: print(error)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "study"], capture_output=True, text=True, check=True
    )
    assert found.stdout.endswith("study.json: Permission denied\n")


@pytest.mark.slow
def test_a_backend_of_a_typo_stops_no_figure(run: RunFolder, tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "gradscape", "smoothness", run.path, "--images", "10", "--figure", "f.png"],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "ag"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "f.png").exists()


@pytest.mark.slow
def test_a_file_with_the_name_of_a_library_does_not_take_its_place(tmp_path: Path) -> None:
    (tmp_path / "random.py").write_text(NETWORK)
    command = [sys.executable, "-m", "gradscape", "check", tmp_path / "random.py:make", "--input", "3,2,2"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in found.stderr
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("text", ["import sys; sys.exit(7)", "raise SystemExit('done')"])
def test_a_file_that_ends_the_program_is_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str
) -> None:
    (tmp_path / "ends.py").write_text(text + "\n")
    assert "ends.py cannot be read: SystemExit" in refused(capsys, "check", tmp_path / "ends.py:make")


def test_a_layers_name_is_no_formula(tmp_path: Path) -> None:
    model = nn.Sequential()
    for number in range(3):
        model.add_module(rf"$\frac{{${number}", nn.Linear(4, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gs.watch(model, optimizer) as flow:
        for _ in range(2):
            optimizer.zero_grad()
            cross_entropy(model(torch.randn(4, 4)), torch.tensor([0, 1, 0, 1])).backward()
            optimizer.step()
    path = gs.save_html(flow, tmp_path / "page.html")
    assert r"$\frac{$0" in path.read_text()
