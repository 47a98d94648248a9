"""Runs trained on a cluster: their folders travel, come home whole, and a lost node changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cases import TINY
from clusters import ray_cluster
from gradscape.executors.base import Event
from gradscape.storage.checkpoint import Checkpoint
from gradscape.storage.run_folder import RunFolder
from gradscape.storage.study_folder import StudyFolder
from gradscape.study.execute import execute
from gradscape.study.execution_options import Execution
from gradscape.study.remote import FileDelta, RemoteRuns, pack_folder, remote_job, stamps, unpack_folder
from gradscape.study.sweep.report import PARTS
from gradscape.study.sweep.sweep import Sweep
from gradscape.study.train_job import TrainJob
from libraries import skip_without


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in stamps(folder)}


def weights(folder: StudyFolder) -> dict[str, dict[str, bytes]]:
    found = {}
    for path in (folder.path / "runs").iterdir():
        checkpoint = RunFolder(path).load()
        assert checkpoint is not None
        found[path.name] = {name: array.tobytes() for name, array in checkpoint.arrays.items()}
    return found


def test_a_folder_is_the_same_elsewhere_and_what_is_gone_goes(tmp_path: Path) -> None:
    here, there = RunFolder(tmp_path / "here"), RunFolder(tmp_path / "there")
    here.create(TINY)
    for epoch in (1, 2, 3):
        here.save(Checkpoint(epoch, {}, {}))
        unpack_folder(there.path, pack_folder(here.path))
        assert contents(there.path) == contents(here.path)
    assert [path.name[:10] for path in there.checkpoint_files()] == ["epoch-0003", "epoch-0002"]
    (here.path / ".lock").write_text("")
    (here.checkpoints / ".aside.part").write_text("half")
    assert pack_folder(here.path).present == pack_folder(there.path).present


def test_every_epoch_comes_home_before_it_is_told_of(tmp_path: Path) -> None:
    """The run is trained elsewhere; after each report the folder at home could go on from there."""
    home = RunFolder(tmp_path / "home" / TINY.identity)
    seen: list[tuple[int, int]] = []

    def sink(event: Event) -> None:
        checkpoint = home.load()
        seen.append((event.payload.epoch, 0 if checkpoint is None else checkpoint.epoch))

    desk = RemoteRuns(sink)
    remote = desk.begin("a", TrainJob(TINY, home.path))
    assert remote is not None
    assert home.held()
    assert RemoteRuns(sink).begin("a", TrainJob(TINY, home.path)) is None
    record = remote_job(remote, lambda payload: desk.receive(Event("a", "progress", payload)))
    desk.end("a")
    assert not home.held()
    assert record is not None
    assert record.identity == TINY.identity
    assert {(epoch, kept) for epoch, kept in seen if kept < epoch - 1} == set()
    assert home.record().state == "done"
    assert len(home.epochs()) == TINY.epochs


def test_a_run_that_cannot_be_sent_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(folder: Path) -> FileDelta:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("gradscape.study.remote.pack_folder", fails)
    home, desk = RunFolder(tmp_path / TINY.identity), RemoteRuns(lambda event: None)
    with pytest.raises(PermissionError):
        desk.begin("a", TrainJob(TINY, home.path))
    assert not home.held()


def test_a_failure_comes_home_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("gradscape.train.attempt.evaluate", fails)
    home = RunFolder(tmp_path / TINY.identity)
    desk = RemoteRuns(lambda event: None)
    remote = desk.begin("a", TrainJob(TINY, home.path))
    assert remote is not None
    with pytest.raises(ZeroDivisionError):
        remote_job(remote, lambda payload: desk.receive(Event("a", "progress", payload)))
    desk.end("a")
    assert "ZeroDivisionError" in home.record().status["error"]


def test_only_what_changed_travels(tmp_path: Path) -> None:
    parcels: list[FileDelta] = []

    def report(payload: Any) -> None:
        if isinstance(payload, FileDelta):
            parcels.append(payload)

    home = RunFolder(tmp_path / TINY.identity)
    desk = RemoteRuns(lambda event: None)
    remote = desk.begin("a", TrainJob(TINY, home.path))
    assert remote is not None
    remote_job(remote, report)
    desk.end("a")
    assert not any("config.json" in parcel.files for parcel in parcels)  # it is at home already
    assert sum("start.json" in parcel.files for parcel in parcels) == 1
    checkpoints = [name for parcel in parcels for name in parcel.files if name.startswith("checkpoint/")]
    assert len(checkpoints) == len(set(checkpoints)) == TINY.epochs


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    skip_without("ray")
    with ray_cluster() as cluster:
        yield cluster


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("undrawn")
def test_a_sweep_on_a_cluster_that_loses_a_node_is_the_local_one(cluster: Any, tmp_path: Path) -> None:
    base = {
        "net": {"depth": 8, "filters": 8},
        "data": {"train": 400, "valid": 50},
        "batch_size": 20,
        "epochs": 6,
    }
    study = Sweep("s", base, [{"optim.lr": [0.001, 0.01]}], seeds=2)
    local, away = StudyFolder(tmp_path / "local"), StudyFolder(tmp_path / "away")
    execute(study, local, Execution(workers=2), PARTS)
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()

    def lose() -> None:
        end = threading.Event()
        while len(list(away.path.glob("runs/*/checkpoint/epoch-*"))) < 3:
            end.wait(0.05)
        cluster.remove_node(second, allow_graceful=False)

    loser = threading.Thread(target=lose)
    loser.start()
    execute(study, away, Execution(on="ray", epoch_limit=300), PARTS)
    loser.join()
    assert weights(away) == weights(local)
    record = away.record()
    assert {run.state for run in record.runs.values()} == {"done"}
    deaths = [why for run in record.runs.values() for why in run.status.get("deaths", ())]
    assert len(deaths) >= 1
    assert all("lost" in why for why in deaths)
