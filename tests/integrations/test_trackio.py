"""The sink and the export of Trackio: against the library where it is, else against a stand-in of its calls.

Trackio 0.43 asks for Pillow below 13, so that it is not in the pinned environment; its tests run wherever it
is installed, in processes of their own, since it reads its folder when it is imported.
"""

from __future__ import annotations

import enum
import json
import os
import subprocess
import sys
import threading
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gradscape as gs
from exported import Found, assert_holds
from gradscape.errors import NotDelivered
from gradscape.integrations import Trackio
from gradscape.measure.watch import moments
from gradscape.records.alert import Alert
from gradscape.records.diagnosis import Finding
from gradscape.storage.study_folder import StudyFolder
from libraries import needs
from made_studies import add, epoch, every_state, results
from small_nets import mlp, train

# The sink ------------------------------------------------------------------------------------------------


class AlertLevel(str, enum.Enum):  # noqa: UP042  # as in trackio
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class Run:
    """Stand-in of `trackio.Run`, with the signatures of 0.43."""

    def __init__(self) -> None:
        self.rows: list[tuple[int | None, dict[str, float]]] = []
        self.alerts: list[tuple[str, str | None, AlertLevel, int | None]] = []
        self.finished = 0

    def log(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, metrics))

    def alert(
        self, title: str, text: str | None = None, level: AlertLevel = AlertLevel.WARN,
        step: int | None = None, webhook_url: str | None = None,
    ) -> None:  # fmt: skip
        self.alerts.append((title, text, level, step))

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Stand-in of the module; `made` has what `init` was called with."""
    library = types.SimpleNamespace(AlertLevel=AlertLevel, made=[], run=Run(), __spec__=object())

    def init(
        project: str, name: str | None = None, *, embed: bool = True, auto_log_gpu: bool | None = None,
        auto_log_cpu: bool | None = None,
    ) -> Run:  # fmt: skip
        library.made.append((project, name, embed, auto_log_gpu, auto_log_cpu))
        return library.run  # type: ignore[no-any-return]

    library.init = init
    monkeypatch.setitem(sys.modules, "trackio", library)  # type: ignore[arg-type]
    monkeypatch.setattr(moments, "ALLOWANCE", 1_000.0)
    return library


def watched(sink: Trackio, lr: float, rounds: int = 8) -> gs.FlowHistory:  # type: ignore[name-defined]
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with gs.watch(model, optimizer) as flow, sink.follow(flow, every=3):
        for _ in range(rounds):
            train(model, optimizer)
    return flow.history()


def test_rows_and_findings_go_to_a_run_of_the_sink_s_own(library: Any) -> None:
    history = watched(Trackio(project="digits", name="first"), lr=0.0)
    assert library.made == [("digits", "first", False, False, False)]
    assert [step for step, _ in library.run.rows] == list(range(64))
    assert library.run.rows[5][1]["gradient/0.weight/rms"] == history.rms[5, 0]
    ((title, text, level, step),) = library.run.alerts
    assert (title, level, step) == ("learning rate is 0", AlertLevel.ERROR, 50)
    assert text.startswith("cause: the learning rate is 0 at every step\nwhat would help: ")
    assert library.run.finished == 1


class Late(Trackio):
    """A sink to which alerts come late, as where Trackio is only then imported."""

    def __call__(self, alert: Alert) -> None:
        time.sleep(0.5)
        super().__call__(alert)


def test_an_alert_that_is_on_its_way_comes_before_the_run_is_finished(library: Any) -> None:
    """The gravest ends the training: it would stand in a second run, which nobody finishes."""
    sink = Late()
    watched(sink, lr=0.0)
    assert [alert[0] for alert in library.run.alerts] == ["learning rate is 0"]
    assert (len(library.made), library.run.finished) == (1, 1)
    with pytest.raises(NotDelivered, match="the run has been finished"):
        sink(Alert(Finding("vanishing", "", "", "", ()), 1, 0.0))
    assert (len(library.made), library.run.finished) == (1, 1)


def test_a_run_of_the_training_s_is_shared_and_left_open(library: Any) -> None:
    run = Run()
    watched(Trackio(run), lr=0.1, rounds=1)
    assert library.made == []
    assert (len(run.rows), run.alerts, run.finished) == (8, [], 0)


def test_without_alerts_nothing_is_diagnosed(library: Any) -> None:
    watched(Trackio(alerts=False), lr=0.0)
    assert library.run.alerts == []
    assert len(library.run.rows) == 64


def test_it_is_a_receiver_too_from_any_thread(library: Any) -> None:
    sink, model = Trackio(), mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    gs.watch(model, optimizer, on_finding=sink)
    for _ in range(8):
        train(model, optimizer)
    end = threading.Event()
    for _ in range(1_000):
        if library.run.alerts or end.wait(0.01):
            break
    assert [alert[0] for alert in library.run.alerts] == ["learning rate is 0"]
    sink.close()
    assert library.run.finished == 1


SINK = """
import sys, torch, trackio
import gradscape as gs
from gradscape.integrations import Trackio
from gradscape.measure.watch import moments
from small_nets import mlp, train

moments.ALLOWANCE = 1000.0
own = trackio.init(project="mine", name="training", embed=False, auto_log_cpu=False, auto_log_gpu=False)
trackio.log({"loss": 1.0})
model = mlp()
optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
state = torch.get_rng_state()
sink = Trackio(project="watched", name="first")
with gs.watch(model, optimizer, distributions=True) as flow, sink.follow(flow, every=20):
    for _ in range(8):
        train(model, optimizer)
trackio.log({"loss": 2.0})  # the training's own run is current, and open, still
trackio.finish()
history = flow.history()
import numpy
numpy.save("rms.npy", history.rms)
last = flow.histograms()
numpy.save("counts.npy", last.layers["weights"]["0.weight"].counts)
assert last.step == 60
"""
READ = """
import json, sys, trackio
from trackio.sqlite_storage import SQLiteStorage
found = {}
for run in trackio.Api().runs(sys.argv[1]):
    found.setdefault(run.name, []).append({"logs": SQLiteStorage.get_logs(sys.argv[1], run.name),
        "alerts": run.alerts(), "config": SQLiteStorage.get_run_config(sys.argv[1], run.name)})
print("\\n" + json.dumps(found, default=str))
"""


def python(folder: Path, code: str, *arguments: str) -> str:
    """Run code with Trackio's folder in a folder; return what it prints."""
    places = [
        *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)),
        str(Path(__file__).parents[1]),
    ]
    elsewhere = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_WEBHOOK_URL")
    environment = {name: value for name, value in os.environ.items() if name not in elsewhere}
    environment |= {
        "TRACKIO_DIR": str(folder),
        "PYTHONPATH": os.pathsep.join(filter(None, places)),
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments], cwd=folder, env=environment, text=True,
        capture_output=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def runs_of(folder: Path, project: str) -> dict[str, Any]:
    """What the library gives back of a project: each name stands for one run."""
    found = json.loads(python(folder, READ, project).splitlines()[-1])
    assert all(len(runs) == 1 for runs in found.values())
    return {name: runs[0] for name, runs in found.items()}


@pytest.mark.slow
@needs("trackio")
def test_the_library_gives_back_rows_and_alerts_and_keeps_the_training_s_run(tmp_path: Path) -> None:
    python(tmp_path, SINK)
    run = runs_of(tmp_path, "watched")["first"]
    rms = np.load(tmp_path / "rms.npy")
    by_step: dict[int, dict[str, Any]] = {}
    for row in run["logs"]:
        by_step.setdefault(row["step"], {}).update(row)
    assert sorted(by_step) == list(range(64))
    assert all(np.isclose(by_step[t]["gradient/0.weight/rms"], rms[t, 0]) for t in range(64))
    drawn = by_step[60]["distribution/weights/0.weight"]
    assert drawn["_type"] == "trackio.histogram"
    assert drawn["values"] == np.load(tmp_path / "counts.npy").tolist()
    ((title, level, step),) = [(each["title"], each["level"], each["step"]) for each in run["alerts"]]
    assert (title, level, step) == ("learning rate is 0", "error", 50)
    own = runs_of(tmp_path, "mine")["training"]
    assert [row["loss"] for row in own["logs"]] == [1.0, 2.0]


# The export ----------------------------------------------------------------------------------------------

EXPORT = "import sys; from gradscape.cli.main import main; sys.exit(main(sys.argv[1:]))"


def export(study: Path, place: Path) -> str:
    place.mkdir(exist_ok=True)
    return python(place, EXPORT, "export", str(study), "--to", "trackio", "--into", str(place))


def exported(place: Path) -> tuple[dict[str, Found], dict[str, dict[str, Any]]]:
    found, configs = {}, {}
    for name, run in runs_of(place, "batchnorm").items():
        own = ("step", "timestamp")
        values = [(k, row["step"], v) for row in run["logs"] for k, v in row.items() if k not in own]
        found[name] = Found(values=values, state=run["alerts"][0]["title"], group="batchnorm")
        configs[name] = run["config"]
    return found, configs


@pytest.mark.slow
@needs("trackio")
def test_a_study_is_there_once_however_often_it_is_exported(tmp_path: Path) -> None:
    study, place = tmp_path / "study", tmp_path / "place"
    runs = every_state(study)
    said = export(study, place)
    assert "5 of 7 runs exported, 5 of them now; type: TRACKIO_DIR=" in said
    found, configs = exported(place)
    assert_holds(found, study, runs)
    assert configs[runs["done"].identity]["optim.lr"] == 0.01
    assert found[runs["diverged"].identity].state == "diverged"
    assert "5 of 7 runs exported, 0 of them now" in export(study, place)
    assert_holds(exported(place)[0], study, runs)

    killed = StudyFolder(study).run(runs["killed"].identity)
    add(killed, epoch(3), epoch(4))
    killed.set_status("done", test=results(4, 3))
    assert "5 of 7 runs exported, 1 of them now" in export(study, place)
    found, _ = exported(place)
    assert_holds(found, study, runs)
    assert found[killed.path.name].state == "done"
