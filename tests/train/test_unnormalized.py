"""A norm that normalizes nothing is said: by the command, in Python, and once for a sweep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cases import TINY, digits
from gradscape.cli.main import main
from gradscape.config.network import NetConfig
from gradscape.storage.run_folder import RunFolder
from gradscape.train.loop import train_run

FLAGS = ["--net.depth=8", "--net.filters=4", "--data.train=60", "--data.valid=20", "--batch-size=30"]
SAID = "net.norm: batch normalizes nothing: a VGG of depth 8 has no blocks"
IDLE = replace(TINY, net=NetConfig(depth=8, filters=4), epochs=1)


@pytest.mark.slow
def test_the_command_says_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train", *FLAGS, "--epochs=1", "--threads=1", "--out", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().err.count(SAID) == 1


def test_python_warns_and_a_reporter_hears_it(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=SAID):
        train_run(IDLE, RunFolder(tmp_path / "a"), digits())
    heard: list[object] = []
    train_run(IDLE, RunFolder(tmp_path / "b"), digits(), report=heard.append)
    assert sum(str(each).startswith(SAID) for each in heard) == 1


@pytest.mark.slow
def test_a_sweep_says_it_once_and_goes_on(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    axes = ["--axis", "net.norm=none,batch", "--axis", "optim.lr=0.01,0.001"]
    assert main(["sweep", *axes, *FLAGS, "--epochs=1", "--workers=1", "--out", str(tmp_path / "s")]) == 0
    assert capsys.readouterr().err.count(SAID) == 1
