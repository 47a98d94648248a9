"""Nothing is deleted or overwritten that gradscape did not write, and what it writes stays in its folder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cases import TINY, digits, tiny
from gradscape.cli.main import main
from gradscape.errors import StoreError
from gradscape.records.noise import RunNoise
from gradscape.records.signal import RunStart
from gradscape.storage.checkpoint import Checkpoint
from gradscape.storage.json_files import read_json, write_json
from gradscape.storage.lock import locked
from gradscape.storage.run_folder import RunFolder
from gradscape.storage.study_folder import StudyFolder, load
from gradscape.study.train_runs import missing
from gradscape.train.loop import train_run
from made_records import made_curvature, made_flow, made_noise, made_signal
from made_studies import add, ask, epoch, put

TRAIN = ["train", "--net.depth=8", "--net.filters=4", "--data.train=50", "--batch-size=25", "--epochs=1"]
SWEEP = ["sweep", "--axis", "net.norm=none,batch", *TRAIN[1:]]


def tree(folder: Path) -> dict[str, bytes | str]:
    """Everything in a folder, links not followed."""
    return {
        path.relative_to(folder).as_posix(): os.readlink(path)
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else "folder"
        for path in folder.rglob("*")
    }


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(each) for each in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gradscape: ")
    return line


def strangers(folder: Path) -> None:
    """What a person may keep in folders of names that are ours too."""
    for inner in ("checkpoint", "weights", "report", "runs"):
        (folder / inner).mkdir(parents=True)
    (folder / "checkpoint" / "model.pt").write_text("precious")
    (folder / "weights" / "epoch-0001.mine.pt").write_text("mine")
    (folder / "metrics.jsonl").write_text('{"loss": 1}\n')
    (folder / "report" / "index.html").write_text("thesis")
    (folder / ".lock").write_text("held by another program")


@pytest.mark.parametrize("command", [TRAIN, SWEEP])
def test_a_folder_that_is_not_ours_is_refused_and_left_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: list[str]
) -> None:
    strangers(tmp_path / "proj")
    before = tree(tmp_path)
    line = refused(capsys, *command, "--out", tmp_path / "proj")
    assert f"{tmp_path / 'proj'} is not empty and holds no " in line
    assert line.endswith("give a new or an empty folder with --out")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("command", [TRAIN, SWEEP])
def test_an_empty_name_is_not_the_current_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refused(capsys, *command, "--out", "")
    assert "--out: expected a file or folder; got ''" in line
    assert list(tmp_path.iterdir()) == []


def test_the_home_folder_has_its_short_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["sweep", *SWEEP[1:], "--save=~/study.yaml"]) == 0
    assert (tmp_path / "study.yaml").exists()
    assert f"study file: {tmp_path}/study.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["checkpoint", "weights", "metrics.jsonl"])
def test_a_link_out_of_a_runs_folder_is_refused(tmp_path: Path, name: str) -> None:
    folder, target = RunFolder(tmp_path / "run"), tmp_path / "docs"
    folder.create(TINY)
    target.mkdir()
    (target / "epoch-0001.thesis.tex").write_text("thesis")
    (folder.path / name).symlink_to(target)
    before = tree(target)
    with pytest.raises(StoreError, match=f"{name} is a link; expected a folder or file of gradscape's own"):
        train_run(TINY, folder, digits())
    assert tree(target) == before


@pytest.mark.parametrize("name", ["runs", "report"])
def test_a_link_out_of_a_studys_folder_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    study, target = tmp_path / "study", tmp_path / "docs"
    ask(study, [TINY])
    target.mkdir()
    (target / "index.html").write_text("thesis")
    (study / name).symlink_to(target)
    assert f"{name} is a link" in refused(capsys, *SWEEP, "--out", study)
    assert tree(target) == {"index.html": b"thesis"}


def test_a_persons_own_files_in_our_folder_stay(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(tiny(keep_every=1))
    for inner in (folder.checkpoints, folder.weights):
        (inner / "sub").mkdir(parents=True)
        (inner / "model.pt").write_text("precious")
        (inner / "epoch-0001.mine.pt").write_text("mine")
        (inner / "epoch-0001.safetensors").write_text("mine")
    before = tree(folder.path)
    assert train_run(tiny(keep_every=1), folder, digits()).state == "done"
    after = tree(folder.path)
    assert {name: after[name] for name in before if name not in ("config.json", "status.json")} == {
        name: data for name, data in before.items() if name not in ("config.json", "status.json")
    }
    assert sorted(folder.kept_weights()) == [0, 1, 2, 3]


def test_what_killed_commands_left_half_written_is_swept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(TINY)
    folder.checkpoints.mkdir()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    here, elsewhere = (f"{zlib.crc32(name.encode()):08x}" for name in (socket.gethostname(), "node7"))
    stale = [folder.path / f".config.json.{here}.{dead.pid}.part"]
    stale.append(folder.checkpoints / f".epoch-0001.{'0' * 64}.safetensors.{here}.{dead.pid}.part")
    kept = [
        folder.path / f".status.json.{here}.{os.getpid()}.part",  # at work
        folder.path / f".status.json.{elsewhere}.{dead.pid}.part",  # of another machine: nobody knows
        folder.path / ".thesis.part",
    ]
    for path in (*stale, *kept):
        path.write_text("half")
    with folder.locked():
        assert [path.exists() for path in stale] == [False, False]
        assert all(path.exists() for path in kept)


def test_a_folder_with_nothing_but_what_a_killed_command_left_is_as_good_as_empty(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    (folder.path / ".lock").touch()
    (folder.path / f".config.json.{0:08x}.{1}.part").write_text("half")
    folder.create(TINY)
    assert folder.config() == TINY


@pytest.mark.slow
def test_a_run_whose_configuration_is_lost_is_pending_and_gets_it_back(tmp_path: Path) -> None:
    study = StudyFolder(tmp_path)
    runs = {config.identity: config for config in (TINY, tiny(seed=9))}
    for config in runs.values():
        train_run(config, study.run(config.identity), digits())
    ask(tmp_path, runs)
    folder = study.run(TINY.identity)
    whole = tree(folder.path)
    (folder.path / "config.json").unlink()
    assert list(missing(runs, study)) == [TINY.identity]
    assert list(load(tmp_path).runs) == [tiny(seed=9).identity]
    assert train_run(TINY, folder, digits()).state == "done"
    assert tree(folder.path) == whole
    assert missing(runs, study) == {}


def measured(folder: RunFolder, number: float) -> RunFolder:
    """A run with one of every file."""
    add(folder, epoch(1))
    folder.save(Checkpoint(1, {"w": np.full(3, number)}, {}))
    folder.save_weights(1, {"w": np.full(3, number)})
    folder.add_start(RunStart(made_signal([0.5]), made_flow([[number]], first=0)))
    folder.add_curvature("start", made_curvature((0.0, 1.0), (0.5, 0.5), number))
    folder.add_noise(RunNoise(made_noise(20, number, 0.25), ()))
    return folder


READS = {
    "config.json": lambda study, folder: missing({folder.path.name: TINY}, study),
    "status.json": lambda study, folder: folder.status(),
    "start.json": lambda study, folder: folder.start(),
    "curvature.json": lambda study, folder: folder.curvature(),
    "noise.json": lambda study, folder: folder.noise(),
    "metrics.jsonl": lambda study, folder: folder.epochs(),
    "gradients.jsonl": lambda study, folder: folder.flow(),
    "checkpoint": lambda study, folder: folder.load(),
    "weights": lambda study, folder: folder.kept_weights(),
}


@pytest.mark.parametrize("name", READS)
def test_a_file_of_another_run_is_noticed(tmp_path: Path, name: str) -> None:
    ours, other = (measured(put(tmp_path, tiny(seed=seed), "done"), seed) for seed in (1, 2))
    study = StudyFolder(tmp_path)
    READS[name](study, ours)
    if (other.path / name).is_dir():
        (path,) = (other.path / name).iterdir()
        for old in (ours.path / name).iterdir():
            old.unlink()
        name = f"{name}/{path.name}"
    (ours.path / name).write_bytes((other.path / name).read_bytes())
    with pytest.raises(
        StoreError, match=f"is of another run, {other.path.name}; expected {ours.path.name}; "
    ):
        READS[name.split("/")[0]](study, ours)


def test_a_landscape_of_another_run_is_noticed(tmp_path: Path) -> None:
    folder = put(tmp_path, TINY, "done")
    write_json(folder.path / "landscape.json", {"run": tiny(seed=9).identity, "loss": []})
    with pytest.raises(StoreError, match=r"landscape\.json is of another run"):
        folder.landscape()


def test_another_runs_metrics_are_never_trained_on(tmp_path: Path) -> None:
    ours, other = RunFolder(tmp_path / "a"), RunFolder(tmp_path / "b")
    ours.create(TINY)
    other.create(tiny(seed=9))
    add(other, epoch(1))
    ours.metrics.write_bytes(other.metrics.read_bytes())
    with pytest.raises(StoreError, match=r"metrics\.jsonl is of another run"):
        train_run(TINY, ours, digits())
    assert ours.metrics.read_bytes() == other.metrics.read_bytes()


@pytest.mark.parametrize("identity", ["..", "x-*", "/etc", "a/b", "", ".hidden", "a\x1b[2Jb", "x" * 201, "ü"])
def test_a_study_that_names_what_is_no_run_is_refused(tmp_path: Path, identity: str) -> None:
    ask(tmp_path, [TINY])
    asked = read_json(tmp_path / "study.json")
    write_json(tmp_path / "study.json", asked | {"roles": {"a": {"name": "a", "runs": [identity]}}})
    with pytest.raises(
        StoreError, match=r"study\.json is damaged \(ValueError: '.*' names no run\)"
    ) as caught:
        load(tmp_path)
    assert "\x1b" not in str(caught.value)


def test_every_identity_of_a_configuration_is_a_name_of_a_run(tmp_path: Path) -> None:
    configs = [replace(TINY, optim=replace(TINY.optim, lr=lr, min_lr=0.0)) for lr in (1e-30, 1e30, 0.1)]
    ask(tmp_path, configs)
    assert load(tmp_path).runs == {}


def test_a_lock_that_is_a_link_is_refused_and_what_it_points_at_stays(tmp_path: Path) -> None:
    target, folder = tmp_path / "letter.txt", tmp_path / "runs"
    target.write_text("dear")
    folder.mkdir()
    (folder / ".lock").symlink_to(target)
    with pytest.raises(StoreError, match=r"\.lock is a link"), locked(folder, "this study", 1):
        pass
    assert target.read_text() == "dear"
