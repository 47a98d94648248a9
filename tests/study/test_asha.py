"""Runs that fall behind are asked to stop, at rungs, by Optuna; those in front are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cases import TINY
from gradscape.config.network import NetConfig
from gradscape.config.run import DataConfig, OptimConfig, RunConfig
from gradscape.executors.base import EventSink, Executor
from gradscape.executors.processes import Processes
from gradscape.records.run import EpochRecord, Progress
from gradscape.storage.study_folder import StudyFolder
from gradscape.study.asha import Halving
from gradscape.study.progress import ProgressView
from gradscape.study.train_job import PRELOAD, TrainJob, train_job
from gradscape.study.train_runs import missing, train_runs
from libraries import skip_without
from made_records import ONE

skip_without("optuna")
RUNS = [replace(TINY, epochs=18, seed=seed) for seed in range(9)]


def train(folder: StudyFolder, config: RunConfig, halving: Halving, accuracy: float) -> str:
    """A run's epochs until it is asked to stop; returns why."""
    run = folder.run(config.identity)
    run.create(config)
    for epoch in range(1, config.epochs + 1):
        halving.update(config.identity, Progress(epoch, config.epochs, 0.5, 1.0, 0.5, 1.0))
        if why := run.stop_reason():
            return why
        run.append(EpochRecord(epoch, 0.1, 1.0, 0.5, 1.0, accuracy, 1.0, 1.0), ONE)
    return ""


def test_one_in_three_passes_a_rung(tmp_path: Path) -> None:
    """From worst to best every run leads when it comes to a rung; from best to worst only few go on."""
    rising, falling = StudyFolder(tmp_path / "rising"), StudyFolder(tmp_path / "falling")
    configs = {config.identity: config for config in RUNS}
    halving = Halving(configs, rising)
    assert [train(rising, config, halving, n / 10) for n, config in enumerate(RUNS)] == [""] * 9
    halving = Halving(configs, falling)
    whys = [train(falling, config, halving, (9 - n) / 10) for n, config in enumerate(RUNS)]
    assert whys[0] == ""
    assert all(whys[3:])
    assert whys[-1] == "ASHA: accuracy 0.100 after 2 epochs is not among the best in 3 so far"


@pytest.mark.slow
def test_a_run_that_learns_nothing_is_stopped_beside_others_that_learn(tmp_path: Path) -> None:
    """Real runs: two that learn, then one whose rate is too small to."""
    base = RunConfig(
        net=NetConfig(depth=8, filters=16),
        data=DataConfig(name="digits", train=500, valid=75, crop_pad=0),
        optim=OptimConfig(lr=0.005),
        batch_size=25,
        epochs=4,
    )
    learning = [replace(base, seed=seed) for seed in range(2)]
    stuck = replace(learning[0], optim=OptimConfig(lr=1e-9, min_lr=0.0))
    runs = {config.identity: config for config in (*learning, stuck)}
    folder = StudyFolder(tmp_path)
    jobs = {name: TrainJob(config, folder.run(name).path) for name, config in missing(runs, folder).items()}

    def executor(sink: EventSink) -> Executor:
        return Processes(train_job, 1, sink, PRELOAD)

    with ProgressView(runs, 0) as view:
        assert train_runs(runs, jobs, folder, view, executor, Halving(runs, folder).update) == []
    states = {name: folder.run(name).status()["state"] for name in runs}
    assert not missing(runs, folder, leave_stopped=True)
    assert states[learning[0].identity] == "done"  # nobody was before it
    assert states[stuck.identity] == "stopped"
    assert len(folder.run(stuck.identity).epochs()) < base.epochs
