"""The run folder under real faults: kills, full disks, flipped bits, newer versions, two at once."""

from __future__ import annotations

import fcntl
import io
import json
import math
import os
import random
import resource
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from matplotlib.figure import Figure

from cases import TINY, tiny
from gradscape.errors import Busy, StoreError
from gradscape.records.gradients import FlowHistory
from gradscape.records.noise import RunNoise
from gradscape.records.run import EpochRecord
from gradscape.storage.checkpoint import Checkpoint
from gradscape.storage.json_files import write_json
from gradscape.storage.run_folder import RunFolder
from gradscape.storage.run_summary import StudyWatcher
from gradscape.storage.study_folder import StudyFolder, folder_at, load
from made_records import made_flow, made_noise


def epoch(number: int) -> EpochRecord:
    return EpochRecord(number, 0.1, 2.0, 0.3, 2.1, 0.25, 1.5, 99.0)


def flow(*numbers: int) -> FlowHistory:
    return made_flow([[float(number)] for number in numbers], ("w",), ("conv",), numbers[0])


def add(folder: RunFolder, *numbers: int) -> None:
    for number in numbers:
        folder.append(epoch(number), flow(number))


def checkpoint(number: int) -> Checkpoint:
    arrays = {
        "model.w": np.full((3, 4), number, np.float32),
        "model.n": np.array(number),
        "empty": np.zeros(0),
    }
    return Checkpoint(number, arrays, {"best_accuracy": 0.1 + 0.2})


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.create(TINY)
    return folder


def test_a_run_reads_back_as_written(folder: RunFolder) -> None:
    add(folder, 1, 2, 3)
    folder.set_status("done", attempts=2, test={"last": {"loss": 1.0, "accuracy": 0.5}})
    record = folder.record()
    assert record.epochs == (epoch(1), epoch(2), epoch(3))
    assert record.flow.to_dict() == flow(1, 2, 3).to_dict()
    assert (record.state, record.status, record.seed) == ("done", {"attempts": 2}, TINY.seed)
    assert record.test["last"]["accuracy"] == 0.5
    assert folder.config() == TINY


def test_a_test_loss_that_is_not_finite_reads_back(folder: RunFolder) -> None:
    folder.set_status("pending", test={"last": {"loss": math.inf, "accuracy": 0.1}})
    assert folder.record().test["last"]["loss"] == math.inf
    assert '"loss": "Infinity"' in (folder.path / "status.json").read_text()


def test_a_finished_run_that_was_cut_between_two_lines_is_damaged(folder: RunFolder) -> None:
    add(folder, 1, 2)
    folder.set_status("done")
    with pytest.raises(StoreError, match="it holds 2 of 3 epochs; delete the folder"):
        folder.record()


def test_deaths_and_attempts_stay_in_the_status(folder: RunFolder) -> None:
    folder.set_status("running", attempts=1, host="here")
    folder.add_death("SIGKILL")
    first = {"attempts": 1, "host": "here", "deaths": ["SIGKILL"]}
    assert folder.status() == {"state": "interrupted", **first}
    folder.set_status("running", attempts=2)
    folder.add_death("hung")
    folder.set_status("done")
    assert folder.status() == {"state": "done", "attempts": 2, "deaths": ["SIGKILL", "hung"]}


def test_checkpoints_read_back_bit_for_bit_and_two_are_kept(folder: RunFolder) -> None:
    for number in (1, 2, 3):
        folder.save(checkpoint(number))
    found = folder.load()
    assert found is not None
    assert (found.epoch, found.values) == (3, {"best_accuracy": 0.1 + 0.2})
    for name, array in checkpoint(3).arrays.items():
        assert found.arrays[name].shape == array.shape
        assert found.arrays[name].tobytes() == array.tobytes()
    assert [p.name[:10] for p in folder.checkpoint_files()] == ["epoch-0003", "epoch-0002"]


def test_any_damage_to_a_checkpoint_is_noticed_and_the_previous_one_used(folder: RunFolder) -> None:
    folder.save(checkpoint(1))
    path = folder.save(checkpoint(2))
    whole, generator = path.read_bytes(), random.Random(0)
    for _ in range(200):
        damaged = bytearray(whole)
        if generator.random() < 0.5:
            damaged[generator.randrange(len(whole))] ^= 1 << generator.randrange(8)
        else:
            del damaged[generator.randrange(len(whole)) :]
        path.write_bytes(damaged)
        found = folder.load()
        assert found is not None
        assert found.epoch == 1


def test_gradients_are_read_of_the_last_epoch_alone_where_that_is_enough(folder: RunFolder) -> None:
    assert folder.flow() is None
    add(folder, 1, 2, 3)
    record = folder.record("last")
    assert record.epochs == (epoch(1), epoch(2), epoch(3))
    assert record.flow.to_dict() == flow(3).to_dict() == folder.flow(2).to_dict()
    assert folder.flow(3) is None


@pytest.mark.parametrize("flows", ["all", "last"])
def test_an_epoch_that_ends_while_a_run_is_read_is_in_none_of_its_numbers(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, flows: Literal["all", "last"]
) -> None:
    add(folder, 1, 2)
    read = RunFolder.epochs

    def meanwhile(run: RunFolder, after: int = 0) -> list[EpochRecord]:
        found = read(run, after)
        add(folder, len(found) + 1)
        return found

    monkeypatch.setattr(RunFolder, "epochs", meanwhile)
    record = folder.record(flows)
    assert record.epochs == (epoch(1), epoch(2))
    assert record.flow is not None
    assert list(record.flow.steps) == ([1, 2] if flows == "all" else [2])


def test_any_number_of_a_gradient_reads_back_bit_for_bit(folder: RunFolder) -> None:
    odd = [[5e-324, math.inf, -math.inf, math.nan, 0.1 + 0.2, -0.0]]
    folder.append(epoch(1), made_flow(odd))
    assert folder.record().flow.mean_abs.tobytes() == np.array(odd).tobytes()


@pytest.mark.parametrize("square", [0.5, -0.1, math.nan])
def test_noise_reads_back_as_written(folder: RunFolder, square: float) -> None:
    assert folder.noise() is None
    assert folder.record().noise is None
    noise = RunNoise(made_noise(20, square, 0.25), ((20, 0.25), (10, 0.5)))
    folder.add_noise(noise)
    assert folder.noise().to_dict() == noise.to_dict()


@pytest.mark.parametrize("name", ["metrics.jsonl", "gradients.jsonl"])
def test_any_damage_to_an_epochs_line_is_noticed(folder: RunFolder, name: str) -> None:
    add(folder, 1, 2, 3)
    path = folder.path / name
    whole, generator = path.read_bytes(), random.Random(0)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[generator.randrange(len(whole))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        intact = folder.intact()
        assert intact == [epoch(n) for n in (1, 2, 3)][: len(intact)]
        assert len(intact) < 3
        if name == "metrics.jsonl" and damaged[-1:] != b"\n":  # the line is torn and does not count
            record = folder.record()
            assert record.epochs == (epoch(1), epoch(2))
            assert record.flow.to_dict() == flow(1, 2).to_dict()
        else:
            with pytest.raises(StoreError, match="is damaged; delete the folder"):
                folder.record()


def test_an_epoch_counts_once_both_its_lines_are_there(folder: RunFolder) -> None:
    """Gradients come first: what a kill leaves behind them is no epoch, and is cut off."""
    add(folder, 1)
    before = (folder.path / "gradients.jsonl").read_bytes()
    numbers = folder.metrics.read_bytes()
    add(folder, 2)
    whole = (folder.path / "gradients.jsonl").read_bytes()
    folder.metrics.write_bytes(numbers)
    assert folder.record().flow.to_dict() == flow(1).to_dict()
    folder.keep(len(folder.intact()))
    assert (folder.path / "gradients.jsonl").read_bytes() == before
    add(folder, 2)
    assert (folder.path / "gradients.jsonl").read_bytes() == whole
    (folder.path / "gradients.jsonl").write_bytes(before)
    assert folder.intact() == [epoch(1)]
    with pytest.raises(
        StoreError, match=r"gradients\.jsonl: the line of epoch 2 is damaged; delete the folder"
    ):
        folder.record()
    folder.keep(0)
    add(folder, 1)
    assert folder.record().flow.to_dict() == flow(1).to_dict()


def test_gradients_that_cannot_be_followed_by_numbers_are_taken_back(folder: RunFolder) -> None:
    add(folder, 1)
    before = (folder.path / "gradients.jsonl").read_bytes()
    folder.metrics.rename(folder.path / "aside")
    folder.metrics.mkdir()
    with pytest.raises(StoreError, match=r"cannot write .*metrics\.jsonl: Is a directory"):
        add(folder, 2)
    assert (folder.path / "gradients.jsonl").read_bytes() == before


def test_a_torn_last_line_does_not_count_and_is_cut_off(folder: RunFolder) -> None:
    add(folder, 1, 2)
    whole = folder.metrics.read_bytes()
    folder.metrics.write_bytes(whole[:-20])
    assert folder.epochs() == [epoch(1)]
    folder.keep(1)
    add(folder, 2)
    assert folder.metrics.read_bytes() == whole


def test_a_full_disk_leaves_what_was_there(folder: RunFolder, tmp_path: Path) -> None:
    """A limit on file size, set in a process of its own, makes write() itself fail part-way."""
    add(folder, 1)
    folder.save(checkpoint(1))
    before = {p: p.read_bytes() for p in folder.path.rglob("*") if p.is_file()}
    program = """
        import resource, signal, sys
        from pathlib import Path
        import numpy as np
        from storage.test_run_folder import add, checkpoint
        from gradscape.errors import Busy, StoreError
        from gradscape.storage.run_folder import RunFolder
        from gradscape.storage.study_folder import StudyFolder
        from gradscape.storage.checkpoint import Checkpoint
        folder = RunFolder(Path(sys.argv[1]))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limit = folder.metrics.stat().st_size + 100
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        big = Checkpoint(2, {"w": np.zeros(10_000)}, {})
        study = StudyFolder(folder.path)
        for act in (lambda: add(folder, 2), lambda: folder.save(big), study.check_space):
            try:
                act()
            except StoreError as error:
                print(error)
    """
    out = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(folder.path)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert out.stdout.count("free space or give another folder with --out") == 3, out
    assert {p: p.read_bytes() for p in folder.path.rglob("*") if p.is_file()} == before
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


@pytest.mark.slow
def test_killed_while_saving_nothing_is_half_written(folder: RunFolder) -> None:
    program = """
        import itertools, sys
        from pathlib import Path
        from storage.test_run_folder import checkpoint
        from gradscape.storage.run_folder import RunFolder
        folder = RunFolder(Path(sys.argv[1]))
        print("ready", flush=True)
        for number in itertools.count(1):
            folder.save(checkpoint(number))
    """
    newest = 0
    for pause in (0.0, 0.01, 0.02, 0.03, 0.05):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), str(folder.path)],
            stdout=subprocess.PIPE, cwd=Path(__file__).parents[1],
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.wait(pause)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        found = folder.load()
        if found is not None:
            assert found.arrays["model.w"][0, 0] == found.epoch
            newest = max(newest, found.epoch)
    assert newest > 0, "no pause was long enough to save anything"


def test_a_newer_format_is_refused_and_nothing_touched(folder: RunFolder, tmp_path: Path) -> None:
    for path in (folder.path / "config.json", folder.path / "status.json"):
        values = json.loads(path.read_bytes())
        path.write_text(json.dumps(values | {"format": 99}))
        with pytest.raises(StoreError, match=r"written by a newer gradscape \(format 99, this one reads 4\)"):
            folder.record()
        path.write_text(json.dumps(values))
    (tmp_path / "study.json").write_text('{"format": 5, "study": "x"}')
    with pytest.raises(StoreError, match="newer gradscape"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is damaged"), ("[]", "not gradscape's"), ("{}", "no format")]
)
def test_files_that_are_not_ours_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(StoreError, match=message) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_study_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no study"):
        load(tmp_path)


def test_a_folder_that_is_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write .*file.*: "):
        RunFolder(tmp_path / "file" / "run").create(TINY)


def test_another_runs_folder_is_refused(folder: RunFolder) -> None:
    folder.create(TINY)
    with pytest.raises(StoreError, match="holds another run's configuration"):
        folder.create(tiny(seed=9))


def test_a_killed_run_is_not_said_to_be_running(folder: RunFolder) -> None:
    folder.set_status("running")
    assert folder.record().state == "interrupted"
    with folder.locked():
        assert folder.record().state == "running"
    assert folder.record().state == "interrupted"


def test_readers_do_not_take_each_other_for_the_holder_and_need_no_right_to_write(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with folder.locked():
        os.chmod(folder.path / ".lock", 0o444)
        assert folder.held()
    with open(folder.path / ".lock", "rb") as other:
        fcntl.flock(other, fcntl.LOCK_SH)  # as another reader does
        assert not folder.held()


def test_one_command_at_a_time(tmp_path: Path) -> None:
    with (
        StudyFolder(tmp_path).locked(),
        pytest.raises(Busy, match="another gradscape command is at work on study"),
        StudyFolder(tmp_path).locked(patience=0),
    ):
        pass
    with StudyFolder(tmp_path).locked():
        pass


def test_infinite_values_are_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("inf")})
    assert not list(tmp_path.iterdir())


def test_a_run_s_folder_is_read_where_a_study_s_is_expected(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "t1")
    folder.create(TINY)
    assert load(tmp_path / "t1") == folder.record()
    assert [run.identity for run in StudyWatcher(folder_at(tmp_path / "t1")).poll()] == [TINY.identity]
    with pytest.raises(
        StoreError, match=r"holds no study and no run \(no study.json, no config.json\); give"
    ):
        load(tmp_path)


def test_a_run_has_its_folders_name_wherever_one_stands(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.path)
    (folder.path / "report").mkdir()
    (folder.path.parent / "link").symlink_to("run")
    assert load(".").identity == load(folder.path).identity == "run"
    assert load("../link").identity == "link"
    monkeypatch.chdir("report")
    assert load("..").identity == "run"


@pytest.mark.parametrize("name", [r"$\frac$", "a$b$c"])
def test_the_title_of_a_runs_curves_is_its_name_as_it_is(name: str, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / name)
    run.create(TINY)
    add(run, 1, 2)
    axes = run.record().plot(Figure().add_subplot())
    axes.figure.savefig(io.BytesIO())
    assert axes.get_title().replace("\\", "") == name.replace("\\", "")
