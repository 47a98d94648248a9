"""`gradscape export`: each tracker, read back by its own library, holds the study once and nothing else."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cases import tiny
from exported import Found, assert_holds
from gradscape.cli.main import main
from gradscape.integrations.export import (
    Export,
    Exporter,
    epoch_rows,
    epoch_values,
    gradient_values,
    parameters,
    result_rows,
)
from gradscape.integrations.export_targets import MLflowExport, TensorBoardExport, WandBExport
from gradscape.storage.run_folder import RunFolder
from gradscape.storage.run_summary import RunSummary, StudyWatcher
from gradscape.storage.study_folder import StudyFolder
from libraries import needs
from made_studies import add, ask, epoch, every_state, flow, measure, put, results, spoil
from wandb_files import wandb_records

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own


@pytest.fixture(autouse=True)
def nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


def from_tensorboard(place: Path) -> dict[str, Found]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    found = {}
    for folder in filter(Path.is_dir, place.iterdir()):
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
        run = found[folder.name] = Found(group="batchnorm")
        for name in events.Tags()["scalars"]:
            run.values += [(name, event.step, event.value) for event in events.Scalars(name)]
        begin = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
        for name, value in HParamsPluginData.FromString(begin).session_start_info.hparams.items():
            run.parameters[name] = getattr(value, value.WhichOneof("kind"))
        for event in events.Tensors("state/text_summary") if events.Tags()["tensors"] else ():
            run.state = event.tensor_proto.string_val[0].decode().split(":")[0]
    return found


def from_wandb(place: Path) -> dict[str, Found]:
    found: dict[str, Found] = {}
    for path in place.glob("wandb/offline-run-*/*.wandb"):
        run = Found()
        for record in wandb_records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                name = record.run.display_name
                assert found.setdefault(name, run) is run  # not another file's
                assert record.run.run_id == f"gradscape-{name.rpartition('-')[2]}"
                run.group = record.run.run_group
                run.state = (list(record.run.tags) or [""])[0]
                run.parameters |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            elif kind == "history":
                row = {
                    "/".join(item.nested_key) or item.key: json.loads(item.value_json)
                    for item in record.history.item
                }
                run.values += [(n, row["epoch"], v) for n, v in row.items() if "/" in n or n in PLAIN]
    return found


def plain(value: Any) -> Any:
    """A parameter as each tracker keeps it: a number is one in text, too."""
    try:
        return float({"True": 1, "False": 0}.get(str(value), value))
    except ValueError:
        return value


PLAIN = ("lr", "seconds", "images_per_second")


def from_mlflow(place: Path) -> dict[str, Found]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{place}/mlflow.db")
    found = {}
    for run in client.search_runs([client.get_experiment_by_name("batchnorm").experiment_id]):
        one = Found(parameters=dict(run.data.params), state=run.data.tags["gradscape.state"])
        one.group = "batchnorm"
        for name in run.data.metrics:
            one.values += [(m.key, m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
        assert run.data.tags["gradscape.identity"] == run.info.run_name
        assert run.info.run_name not in found
        assert run.info.status == {"done": "FINISHED", "diverged": "FINISHED", "failed": "FAILED",
                                   "stopped": "KILLED", "interrupted": "SCHEDULED", "pending": "SCHEDULED",
                                   "running": "RUNNING"}[one.state]  # fmt: skip
        found[run.info.run_name] = one
    return found


READERS = {"tensorboard": from_tensorboard, "wandb": from_wandb, "mlflow": from_mlflow}
EXPORTERS: dict[str, Any] = {
    "tensorboard": TensorBoardExport,
    "wandb": WandBExport,
    "mlflow": lambda place, study: MLflowExport(str(place), study),
}
Read = Callable[[Path], dict[str, Found]]


def cases(*names: str) -> list[Any]:
    return [
        pytest.param(
            name,
            READERS[name],
            id=name,
            marks=[
                needs(name),
                *([pytest.mark.slow] if name != "tensorboard" else []),
            ],
        )
        for name in names
    ]


every_tracker = pytest.mark.parametrize(("to", "read"), cases(*READERS))


def export(study: Path, to: str, place: Path, *flags: str) -> int:
    return main(["export", str(study), "--to", to, "--into", str(place), *flags])


@every_tracker
def test_a_tracker_holds_the_study_once_however_often_it_is_exported(
    to: str, read: Read, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, place = tmp_path / "study", tmp_path / "place"
    runs = every_state(study)
    assert export(study, to, place) == 0
    assert "5 of 7 runs exported, 5 of them now; type: " in capsys.readouterr().out
    found = read(place)
    assert_holds(found, study, runs)
    states = {word: found[runs[word].identity].state for word in runs if runs[word].identity in found}
    assert states == {
        "done": "done", "diverged": "diverged", "failed": "failed", "stopped": "stopped",
        "killed": "interrupted",
    }  # fmt: skip
    done = found[runs["done"].identity]
    config = RunFolder(study / "runs" / runs["done"].identity).record().config
    known = {name: plain(value) for name, value in parameters(config).items()}
    assert {n: plain(v) for n, v in done.parameters.items() if not n.startswith("_")} == known
    assert known["optim.lr"] == 0.01

    assert export(study, to, place) == 0
    assert "5 of 7 runs exported, 0 of them now" in capsys.readouterr().out
    assert_holds(read(place), study, runs)

    killed = StudyFolder(study).run(runs["killed"].identity)
    add(killed, epoch(3), epoch(4))
    killed.set_status("done", test=results(4, 3))
    add(StudyFolder(study).run(runs["new"].identity), epoch(1))
    assert export(study, to, place) == 0
    assert "6 of 7 runs exported, 2 of them now" in capsys.readouterr().out
    found = read(place)
    assert_holds(found, study, runs | {"new": runs["killed"], "new again": runs["new"]})
    assert found[killed.path.name].state == "done"


@every_tracker
def test_what_was_exported_is_not_trusted_where_it_is_gone_or_half_there(
    to: str, read: Read, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed on its way: the memory of what is there is older than what is there."""
    study, place = tmp_path / "study", tmp_path / "place"
    runs = every_state(study)
    assert export(study, to, place) == 0
    if to == "mlflow":
        from mlflow.tracking import MlflowClient

        client = MlflowClient(f"sqlite:///{place}/mlflow.db")
        for run in client.search_runs(["1"]):
            client.delete_tag(run.info.run_id, "gradscape.exported")
    elif to == "tensorboard":
        shutil.rmtree(place / runs["done"].identity)
        (place / "exported.json").unlink()
    else:
        (place / "exported.json").unlink()
    assert export(study, to, place) == 0
    assert_holds(read(place), study, runs)


@every_tracker
def test_a_run_that_ends_while_it_is_exported_has_its_test_results_once(
    to: str, read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its state was read while it ran, its files after it had ended: the results are a later row's."""
    study, place = tmp_path / "study", tmp_path / "place"
    config = tiny(epochs=2)
    ask(study, [config])
    put(study, config, "running", [epoch(1), epoch(2)])
    folder = StudyFolder(study).run(config.identity)
    poll = StudyWatcher.poll

    def ended_since(watcher: StudyWatcher) -> list[RunSummary]:
        with folder.locked():
            runs = poll(watcher)
        os.utime(folder.path / "status.json", (1, 1))  # of another second than the end
        folder.set_status("done", test=results(2, 2))
        return runs

    with Export(StudyFolder(study), EXPORTERS[to](place, "batchnorm")) as exported:
        with monkeypatch.context() as patched:
            patched.setattr(StudyWatcher, "poll", ended_since)
            assert [run.state for run in exported.advance(stay=True)] == ["running"]
        assert [run.state for run in exported.advance(stay=True)] == ["done"]
    assert_holds(read(place), study, {"done": config})


@pytest.mark.slow
@every_tracker
def test_it_is_followed_live(to: str, read: Read, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study, place = tmp_path / "study", tmp_path / "place"
    configs = [tiny(seed=seed, epochs=3) for seed in (1, 2)]
    ask(study, configs)
    for config in configs:
        put(study, config, "pending")

    def work() -> None:
        for config in configs:
            folder = StudyFolder(study).run(config.identity)
            with folder.locked():
                folder.set_status("running")
                for number in (1, 2, 3):
                    time.sleep(0.3)
                    add(folder, epoch(number))
                folder.set_status("done", test=results(3, 3))

    worker = threading.Thread(target=work)
    worker.start()
    assert export(study, to, place, "--follow", "--every", "0.05") == 0
    worker.join()
    assert "2 of 2 runs exported, 2 of them now" in capsys.readouterr().out
    assert_holds(read(place), study, {str(config.seed): config for config in configs})
    assert {run.state for run in read(place).values()} == {"done"}


def follower(study: Path, to: str, place: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gradscape", "export", str(study), "--to", to, "--into", str(place)]
    # Else it shares the service of this process, which outlives it.
    env = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    return subprocess.Popen(
        [*command, "--follow", "--every", "0.05"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=env,
    )


def last_epoch(read: Read, place: Path) -> int:
    """Of what is there to be read by now."""
    if read is from_mlflow:  # whose library, looking too early, would make tables
        try:
            with closing(sqlite3.connect(f"file:{place}/mlflow.db?mode=ro", uri=True)) as store:
                return store.execute("select max(step) from metrics").fetchone()[0] or 0
        except sqlite3.Error:
            return 0
    try:
        (run,) = read(place).values()
    except Exception:  # half-written
        return 0
    return max((step for _, step, _ in run.values), default=0)


@pytest.mark.slow
@pytest.mark.parametrize("sign", [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGKILL])
@every_tracker
def test_one_that_was_left_or_killed_is_gone_on_with(
    to: str, read: Read, sign: signal.Signals, tmp_path: Path
) -> None:
    """The whole group gets the signal, as a terminal sends it."""
    study, place = tmp_path / "study", tmp_path / "place"
    config = tiny(epochs=1_000)
    folder = put(study, config, "running", [epoch(1)])
    ask(study, [config])
    process = follower(study, to, place)
    with folder.locked():
        end = time.monotonic() + 60
        most = 1_000  # epochs that were there when it looked the first time; one beyond: it follows
        while (seen := last_epoch(read, place)) <= most:
            assert time.monotonic() < end
            if seen:
                most = min(most, len(folder.epochs()))
            time.sleep(0.1)
            for _ in range(8):
                add(folder, epoch(len(folder.epochs()) + 1))
        os.killpg(process.pid, sign)
        output, _ = process.communicate(timeout=30)
        folder.set_status("stopped", reason="enough")
    if sign == signal.SIGINT:
        assert process.returncode == 0
        assert "1 of 1 runs exported, 1 of them now" in output
    assert export(study, to, place) == 0
    assert_holds(read(place), study, {"": config})


def test_an_epoch_s_values_are_named() -> None:
    measures = (measure("gradient", 1.0), measure("step", 3.0), measure("gradient", float("nan")))
    found = epoch_values(epoch(2, smoothness=measures)) | gradient_values(flow(2), 2)
    weights = [1e-2 * part / 7 for part in (1, 4, 5, 6)]  # the bias and the norm are no weights
    assert found == {
        "train/loss": 1.0,
        "train/accuracy": 0.002,
        "valid/loss": 1.5,
        "valid/accuracy": 0.495,
        "lr": 0.005,
        "seconds": 4.0,
        "images_per_second": 102.0,
        "gradient/first_layer": pytest.approx(weights[0]),
        "gradient/last_layer": pytest.approx(weights[-1]),
        "gradient/smallest": pytest.approx(weights[0]),
        "smoothness/gradient/beta": 2.0,  # a change of 1 over ½
        "smoothness/gradient/lipschitz": 1.0,
        "smoothness/step/beta": 6.0,
        "smoothness/step/lipschitz": 1.0,
    }


def test_rows_end_when_their_epochs_did() -> None:
    rows = epoch_rows([epoch(3), epoch(4), epoch(5)], None, 1_000.0)
    assert [(row.epoch, row.time) for row in rows] == [(3, 987.0), (4, 993.0), (5, 1_000.0)]
    found = result_rows(results(4, 3), 1_000.0)
    assert [(row.epoch, dict(row.values)) for row in found] == [
        (3, {"test/best/loss": 1.25, "test/best/accuracy": 0.375}),
        (4, {"test/last/loss": 1.5, "test/last/accuracy": 0.25}),
    ]


@needs("tensorboard")
def test_a_damaged_run_is_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study, place = tmp_path / "study", tmp_path / "place"
    runs = every_state(study)
    folder = StudyFolder(study).run(runs["diverged"].identity)
    spoil(folder.metrics, 0, 100)
    assert export(study, "tensorboard", place) == 1
    said = capsys.readouterr()
    assert "4 of 7 runs exported, 4 of them now" in said.out
    assert said.err.count("\n") == 1
    assert f"1 of 7 runs were left out ({folder.path.name}): {folder.metrics}: line 1 is damaged" in said.err
    assert folder.path.name not in from_tensorboard(place)


@pytest.mark.parametrize("to", READERS)
def test_a_library_that_is_missing_is_named(
    to: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    every_state(tmp_path / "study")
    monkeypatch.setattr("gradscape.integrations.sink.importlib.util.find_spec", lambda _: None)
    assert export(tmp_path / "study", to, tmp_path / "place") == 2
    assert f"{to} is not installed; type: pip install {to}\n" in capsys.readouterr().err
    assert not (tmp_path / "place").exists()


@every_tracker
def test_a_place_that_cannot_be_written_is_said(
    to: str, read: Read, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every_state(tmp_path / "study")
    (tmp_path / "file").touch()
    assert export(tmp_path / "study", to, tmp_path / "file") == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert line.startswith(f"gradscape: --into: cannot write {tmp_path / 'file'}: ")
    assert line.endswith("; give another folder\n")


@pytest.mark.slow
@needs("mlflow")
def test_a_store_that_refuses_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    every_state(tmp_path / "study")
    assert main(["export", str(tmp_path / "study"), "--to", "mlflow", "--into", "nowhere://x"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert line.startswith("gradscape: --into: cannot write: ")


@pytest.mark.parametrize(
    ("make", "inner"),
    [
        pytest.param(lambda place: TensorBoardExport(place, "s"), "", marks=needs("tensorboard")),
        pytest.param(lambda place: WandBExport(place, "s"), "/wandb", marks=needs("wandb")),
        pytest.param(lambda place: MLflowExport(str(place), "s"), "/mlflow.db", marks=needs("mlflow")),
    ],
)
def test_what_is_to_be_typed_names_the_place_whatever_it_is_called(
    make: Callable[[Path], Exporter], inner: str, tmp_path: Path
) -> None:
    place = tmp_path / "a b; rm 'x' $HOME"
    exporter = make(place)
    exporter.close()
    assert shlex.split(exporter.hint)[-1].removeprefix("sqlite:///") == f"{place}{inner}"


@needs("mlflow")
def test_a_folder_that_no_uri_can_name_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    every_state(tmp_path / "study")
    (tmp_path / "a").touch()
    assert export(tmp_path / "study", "mlflow", tmp_path / "a?mode=x") == 2
    place = tmp_path / "a?mode=x"
    wanted = f"gradscape: --into: expected a folder without ? in its path for mlflow; got {place}\n"
    assert capsys.readouterr().err == wanted
    assert (tmp_path / "a").read_bytes() == b""
    assert not place.exists()


@pytest.mark.parametrize("to", [pytest.param(each, marks=needs(each)) for each in ("tensorboard", "mlflow")])
def test_two_exports_into_one_folder_are_refused(
    to: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from filelock import FileLock

    every_state(tmp_path / "study")
    (tmp_path / "place").mkdir()
    with FileLock(tmp_path / "place" / ".lock"):
        assert export(tmp_path / "study", to, tmp_path / "place") == 2
    assert "--into: another export is writing to" in capsys.readouterr().err


def test_wrong_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flags, message in (
        (["--to", "tensorbord", "--into", "x"], "did you mean 'tensorboard'?"),
        (["--to", "wandb"], "--into: expected a value; got none"),
        (["--to", "tensorboard", "--into", "x"], "holds no study"),
    ):
        assert main(["export", str(tmp_path), *flags]) == 2
        assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
