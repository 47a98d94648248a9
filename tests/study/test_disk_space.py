"""Disk space told before a study begins, held to what runs write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from cases import digits, tiny
from gradscape.config.network import NetConfig
from gradscape.errors import StoreError
from gradscape.storage.study_folder import StudyFolder
from gradscape.studies.batchnorm.report import PARTS
from gradscape.studies.batchnorm.study import BATCHNORM
from gradscape.study.disk_space import COPIES, require_space, run_disk_bytes
from gradscape.study.execute import execute
from gradscape.study.execution_options import Execution
from gradscape.train.loop import train_run


@pytest.mark.parametrize("net", [NetConfig(depth=14, filters=24), NetConfig(family="resnet", depth=8)])
def test_a_run_takes_what_was_said(tmp_path: Path, net: NetConfig) -> None:
    config = tiny(net=net, keep_every=1, epochs=4)
    train_run(config, tmp_path / "run", digits())
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    written = sum(path.stat().st_size for path in files)
    checkpoint = max(path.stat().st_size for path in files if "checkpoint" in str(path))
    assert written + checkpoint == pytest.approx(run_disk_bytes(config), rel=0.25)
    assert written + checkpoint < run_disk_bytes(config)
    assert COPIES == 3 * 4


def test_a_study_that_the_disk_does_not_hold_is_refused_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10**6))
    plan = BATCHNORM.plan("quick")
    out = tmp_path / "new" / "study"
    with pytest.raises(StoreError, match=r"the runs need about .* GB of disk; 0\.001 GB is free; make room"):
        execute(plan, StudyFolder(out), Execution(), PARTS)
    assert not (tmp_path / "new").exists()


def test_what_has_ended_needs_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=0))
    require_space([], tmp_path)
    with pytest.raises(StoreError):
        require_space([replace(tiny(), seed=3)], tmp_path)
