"""What happens to trainings is told once, to a real receiver, and only while the page looks on."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cases import tiny
from gradscape.cli.live import _delivery
from gradscape.integrations import Command, Webhook
from gradscape.live.alarms import MOST_ALIKE, Alarms
from gradscape.live.hub import Hub
from gradscape.measure.watch.alert_delivery import Delivery
from gradscape.storage.json_files import read_json, write_json
from gradscape.storage.run_folder import RunFolder
from gradscape.storage.study_folder import StudyFolder
from integrations.test_alerts import Server
from integrations.test_alerts import server as server
from live.watching import watch_in
from made_studies import add, ask, epoch, put

RUNS = [tiny(seed=seed, epochs=4) for seed in range(MOST_ALIKE + 3)]


class Looking:
    """A page that looks on, with a receiver of its alerts."""

    def __init__(self, folder: Path, server: Server, clock: Callable[[], float] = time.monotonic) -> None:
        self.server, self.delivery = server, Delivery([Webhook(server.url)])
        self.hub = Hub(folder, lambda news: None, Alarms(self.delivery, clock=clock).hear)
        self.hub.poll()

    def told(self) -> list[tuple[str, str]]:
        """Look again, and return run and verdict of all that was told."""
        self.hub.search_at = 0.0
        self.hub.poll()
        assert self.delivery.finish(30)
        return [(each["run"], each["verdict"]) for each in self.alerts]

    @property
    def alerts(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, _, body in self.server.posted]


@pytest.fixture
def study(tmp_path: Path) -> list[RunFolder]:
    """Runs that are at work."""
    folders = [put(tmp_path, config, "running", [epoch(1)]) for config in RUNS]
    ask(tmp_path, RUNS)
    return folders


def test_runs_that_fail_diverge_or_are_killed_are_told_once(
    tmp_path: Path, study: list[RunFolder], server: Server
) -> None:
    failing, diverging, killed = study[:3]
    with failing.locked(), diverging.locked():
        with killed.locked():
            page = Looking(tmp_path, server)
            assert page.told() == []
            failing.set_status("failed", error="Traceback\nValueError: no disk")
            assert page.told() == [(failing.path.name, "training failed")]
        diverging.set_status("diverged", epoch=2, step=9)
        names = {(diverging.path.name, "training diverged"), (killed.path.name, "training interrupted")}
        assert set(page.told()[1:]) == names
        assert len(page.told()) == 3
    first = page.alerts[0]
    assert (first["grade"], first["step"], first["layer"]) == ("fail", 1, "")
    assert first["text"].startswith("cause: ValueError: no disk\nwhat would help: mend what the error names")
    assert "killed, or the machine was switched off" in json.dumps(page.alerts)


def test_a_run_that_is_interrupted_on_purpose_is_not_told(
    tmp_path: Path, study: list[RunFolder], server: Server
) -> None:
    with study[0].locked():
        page = Looking(tmp_path, server)
        page.told()
        study[0].set_status("interrupted")
        assert page.told() == []
        study[0].set_status("interrupted", reason="told to end by SIGTERM")
        page.told()
        study[0].set_status("running")
        page.told()
        study[0].set_status("interrupted", reason="told to end by SIGTERM")
        assert page.told() == [(study[0].path.name, "training interrupted")]


def test_what_happened_before_the_page_looked_on_is_old_news(
    tmp_path: Path, study: list[RunFolder], server: Server
) -> None:
    study[0].set_status("failed", error="ValueError: before")
    with study[1].locked():
        assert Looking(tmp_path, server).told() == []
        study[1].set_status("failed", error="ValueError: between two servers")
        page = Looking(tmp_path, server)
        assert page.told() == []
        add(study[1], epoch(2))
        assert page.told() == []


def test_a_fault_of_a_run_comes_with_its_place_and_what_would_help(
    tmp_path: Path, study: list[RunFolder], server: Server
) -> None:
    finding = {
        "verdict": "vanishing", "layer": "entry.conv.weight", "cause": "a cause", "remedy": "a remedy",
        "evidence": [], "place": "weight layer 1 of 8", "mild": False,
    }  # fmt: skip
    with study[0].locked():
        page = Looking(tmp_path, server)
        diagnosis = {"verdict": "vanishing", "grade": "fail", "findings": [finding]}
        study[0].set_status("diverged", diagnosis=diagnosis)
        assert page.told() == [(study[0].path.name, "vanishing")]
    assert page.alerts[0]["heading"] == "vanishing, beginning at entry.conv.weight (weight layer 1 of 8)"


def test_the_same_again_waits_for_the_cool_down_and_of_many_alike_a_few_are_told(
    tmp_path: Path, study: list[RunFolder], server: Server
) -> None:
    now = [0.0]
    page = Looking(tmp_path, server, lambda: now[0])
    for folder in study:
        folder.set_status("failed", error="OSError: disk full")
    assert len(page.told()) == MOST_ALIKE
    assert "is not told for 30 min" in page.alerts[-1]["text"]
    for moment, count in ((10.0, MOST_ALIKE), (2_000.0, MOST_ALIKE + 1)):
        with study[0].locked():
            study[0].set_status("running", attempts=2)
            page.told()
            now[0] = moment
            study[0].set_status("failed", error="OSError: disk full")
            assert len(page.told()) == count


def test_a_watch_is_told_when_it_is_killed_and_a_new_one_with_its_fault(
    tmp_path: Path, server: Server
) -> None:
    watch_in(tmp_path / "w")
    head = tmp_path / "w" / "watch.json"
    page = Looking(tmp_path, server)
    values = read_json(head)
    values["info"] |= {"state": "running", "process": 2**22 + 1}
    write_json(head, values)
    assert page.told() == [("w", "training interrupted")]
    watch_in(tmp_path / "ill", 30, deep=True)
    assert page.told()[1:] == [("ill", "vanishing")]
    assert Looking(tmp_path, server).told()[2:] == []


def test_a_receiver_that_fails_stops_nothing(
    tmp_path: Path, study: list[RunFolder], server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.codes = [500, 500, 500]
    with study[0].locked(), study[1].locked():
        page = Looking(tmp_path, server)
        study[0].set_status("failed", error="ValueError: first")
        page.told()
        assert "answered 500" in caplog.text
        study[1].set_status("failed", error="ValueError: second")
        assert page.told()[-1] == (study[1].path.name, "training failed")
    states = {row["state"] for row in page.hub.rows.values()}
    assert states == {"failed", "interrupted"}
    assert StudyFolder(tmp_path).run(study[0].path.name).status()["state"] == "failed"


def test_a_command_may_name_an_address() -> None:
    """`curl` is how alerts come to services that are none of the webhook's kinds."""
    curl = f"{sys.executable} -c pass https://example.org/topic"
    hook, command, plain = (
        line.receiver for line in _delivery(["HTTPS://example.org/hook", curl, sys.executable])._lines
    )
    assert isinstance(hook, Webhook)
    assert isinstance(command, Command)
    assert command.arguments[-1] == "https://example.org/topic"
    assert isinstance(plain, Command)
