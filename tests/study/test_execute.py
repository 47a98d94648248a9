"""The runs of a study that another command, which shares its folder, stops early: left so, or trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cases import TINY
from gradscape.config.network import NetConfig
from gradscape.config.run import RunConfig
from gradscape.executors.base import EventSink, Work
from gradscape.records.role import Role
from gradscape.storage.study_folder import StudyFolder
from gradscape.studies.batchnorm.report import PARTS
from gradscape.study.execute import execute
from gradscape.study.execution_options import Execution
from inline_executor import Inline
from libraries import needs
from made_studies import epoch, put

NET = NetConfig(depth=8, filters=8, norm="batch", norm_where="everywhere")
BASE = replace(TINY, net=NET, data=replace(TINY.data, size=8, crop_pad=0), epochs=2)
STOPPED, OTHER = (replace(BASE, seed=seed) for seed in range(2))


@dataclass(frozen=True)
class Pair:
    """Plan of two runs, alone or as one network."""

    together: int
    name: str = "pair"

    def runs(self) -> Mapping[str, RunConfig]:
        return {config.identity: config for config in (STOPPED, OTHER)}

    def names(self) -> Mapping[str, str]:
        return {name: config.label for name, config in self.runs().items()}

    def merged(self, asked: Mapping[str, Any] | None, folder: Path) -> dict[str, Any]:
        roles = {"all": Role("all", runs=tuple(self.runs()))}
        return {"study": "pair", "title": "?", "preset": "", "seeds": [0, 1], "notes": [], "roles": roles}


def inline(work: Work, workers: int, sink: EventSink, *_: Any) -> Inline:
    return Inline(work, sink)


@pytest.mark.parametrize("together", [1, 2])
@pytest.mark.parametrize(
    ("execution", "state"),
    [
        (Execution(device="cpu", stop_hopeless=True), "stopped"),
        pytest.param(Execution(device="cpu", asha=True), "stopped", marks=needs("optuna")),
        (Execution(device="cpu"), "done"),
    ],
    ids=["hopeless", "asha", "neither"],
)
def test_a_queued_run_that_another_command_stops_is_left_so_by_one_that_stops_runs_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int, execution: Execution, state: str
) -> None:
    def stopped_elsewhere(*_: Any) -> None:
        """Once the command has chosen the runs to train."""
        put(tmp_path, STOPPED, "stopped", [epoch(1)], reason="it is behind")

    monkeypatch.setattr("gradscape.study.execute.require_space", stopped_elsewhere)
    monkeypatch.setattr("gradscape.executors.processes.Processes", inline)
    monkeypatch.setattr("gradscape.study.execute.report", lambda folder, parts: None)
    folder = StudyFolder(tmp_path)
    execute(Pair(together), folder, execution, PARTS)
    stopped, other = (folder.run(config.identity).status() for config in (STOPPED, OTHER))
    assert (stopped["state"], other["state"]) == (state, "done")
    assert stopped["attempts"] == (state == "done")
    assert ("packed" in other) is (together == 2)
