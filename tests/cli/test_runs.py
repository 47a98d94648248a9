"""`gradscape runs` as a table, as JSON, and watched: in any terminal, and without one."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from cases import tiny
from gradscape.cli.main import main
from gradscape.cli.run_table import run_table
from gradscape.records.role import Role
from gradscape.storage.run_folder import RunFolder
from gradscape.storage.run_summary import GONE, RunSummary, StudyWatcher
from gradscape.storage.study_folder import StudyFolder
from made_studies import add, ask, epoch, every_state, put, results, spoil

EVERY = "0.05"
ORDER = ("run", "state", "epochs", "best valid", "train", "updated", "attempts", "device", "host")


def table(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    assert main(["runs", *map(str, arguments)]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_study_in_every_state(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    runs = every_state(tmp_path)
    head, titles, *lines = table(capsys, tmp_path)
    assert (
        head == "study batchnorm (quick): 2 pending, 1 interrupted, 1 done, 1 diverged, 1 failed, 1 stopped"
    )
    assert titles.split() == [
        "run",
        "state",
        "epochs",
        "best",
        "valid",
        "train",
        "updated",
        "attempts",
        "device",
        "host",
    ]
    rows, notes = lines[: len(runs)], lines[len(runs) :]
    assert [row.split()[0] for row in rows] == [config.identity for config in runs.values()]
    done = re.sub(r"\d+ s ago", "now", rows[0]).split()
    assert done[1:] == ["done", "4/4", "100%", "0.500", "@", "3", "0.004", "now", "x86_64", "node1"]
    assert rows[2].split()[-3:] == ["3", "x86_64", "node1"]  # attempts, where there were several
    assert rows[5].split()[1:4] == ["pending", "0/4", "0%"]
    assert rows[6].split()[1:] == ["pending", "0"]
    assert notes == [
        f"{runs['done'].identity}: bf16 is slower here: fp32",
        f"{runs['diverged'].identity}: the loss was not finite in epoch 3, step 17",
        f"{runs['failed'].identity}: ValueError: no [1]",
        f"{runs['stopped'].identity}: worse than the median at epoch 2",
        f"{runs['killed'].identity}: {GONE}",
    ]


def test_one_reason_of_many_runs_is_said_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    configs = [tiny(seed=seed) for seed in range(3)]
    for config in configs:
        epochs = [epoch(n) for n in (1, 2, 3)]
        put(tmp_path, config, "done", epochs, fallback="bf16 is slower here: fp32")
    ask(tmp_path, configs)
    assert table(capsys, tmp_path)[-1] == f"3 runs, {configs[0].identity} first: bf16 is slower here: fp32"


@pytest.mark.parametrize("width", range(34, 150, 7))
def test_columns_are_left_out_rather_than_wrapped(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """In a pipe too narrow for a name and a state lines are longer, and names whole."""
    monkeypatch.setenv("COLUMNS", str(width))
    runs = every_state(tmp_path)
    _, titles, *lines = table(capsys, tmp_path)
    names = [config.identity for config in runs.values()]
    assert [line.split()[0] for line in lines[: len(runs)]] == names
    assert all(len(line) <= max(width, len(names[0]) + 2 + len("interrupted")) for line in lines[: len(runs)])
    assert "…" not in "".join(lines[: len(runs)])
    shown = re.split(r"  +", titles.strip())
    assert shown == list(ORDER[: len(shown)])
    assert width < 60 or len(shown) >= 3
    assert width < 130 or shown == list(ORDER)


def test_what_a_run_is_for_is_said_where_names_of_other_roles_are_alike(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    plain = tiny(epochs=4)
    normal = replace(plain, net=replace(plain.net, init="he"))
    assert plain.identity.rpartition("-")[0] == normal.identity.rpartition("-")[0]
    ask(tmp_path, [plain])
    assert "for" not in table(capsys, tmp_path)[1].split()
    asked = StudyFolder(tmp_path).asked()
    assert asked is not None
    asked["roles"] = {"all": Role("all", runs=(plain.identity,)), "he": Role("he", runs=(normal.identity,))}
    StudyFolder(tmp_path).ask(asked)
    _, titles, *rows = table(capsys, tmp_path)
    assert titles.split()[:3] == ["run", "state", "for"]
    assert [row.split()[1:3] for row in rows] == [["pending", "all"], ["pending", "he"]]
    (_, second) = json.loads("\n".join(table(capsys, tmp_path, "--json")))["runs"]
    assert second["roles"] == ["he"]


def test_a_name_is_folded_where_it_has_no_room_and_stays_whole(tmp_path: Path) -> None:
    runs = every_state(tmp_path)
    console = Console(width=24, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(run_table(StudyWatcher(StudyFolder(tmp_path)).poll(), console.width, time.time()))
    lines = captured.get().splitlines()
    assert all(len(line) <= 24 for line in lines)
    folded = "".join(line[: 24 - 2 - len("interrupted")].strip() for line in lines[1:])
    assert folded == "".join(config.identity for config in runs.values())


def test_only_some_states_and_another_order(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    runs = every_state(tmp_path)
    head, _, first, second, *notes = table(capsys, tmp_path, "--state", "failed,done", "--sort", "state")
    assert "2 pending, 1 interrupted" in head  # how the whole study stands
    assert first.startswith(runs["failed"].identity)
    assert second.startswith(runs["done"].identity)
    assert len(notes) == 2
    assert table(capsys, tmp_path, "--state", "running") == [head]


def test_json_is_one_document(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    runs = every_state(tmp_path)
    found = json.loads("\n".join(table(capsys, tmp_path, "--json", "--sort", "best")))
    assert list(found) == ["study", "preset", "counts", "seconds_left", "runs"]
    assert found["counts"] == {
        "pending": 2,
        "interrupted": 1,
        "done": 1,
        "diverged": 1,
        "failed": 1,
        "stopped": 1,
    }
    assert found["seconds_left"] is None
    assert len(found["runs"]) == len(runs)
    assert found["runs"][0]["identity"] == runs["done"].identity
    assert found["runs"][0]["best_valid_accuracy"] == 0.5


def test_what_is_left_is_said_while_a_run_is_at_work(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = tiny(epochs=4)
    folder = put(tmp_path, config, "running", [epoch(1, seconds=2.0), epoch(2, seconds=4.0)])
    ask(tmp_path, [config])
    with folder.locked():
        head, titles, row = table(capsys, tmp_path)
        found = json.loads("\n".join(table(capsys, tmp_path, "--json")))
    assert head == "study batchnorm (quick): 1 running; about 6 s left"
    assert titles.split()[:6] == ["run", "state", "epochs", "best", "valid", "train"]
    assert "6 s" in row
    assert found["seconds_left"] == found["runs"][0]["seconds_left"] == 6.0


def test_a_damaged_run_does_not_break_the_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    runs = every_state(tmp_path)
    folder = StudyFolder(tmp_path).run(runs["diverged"].identity)
    spoil(folder.metrics, 0, 3)
    lines = table(capsys, tmp_path)
    assert len(lines) == 2 + len(runs) + 5
    assert f"{folder.path.name}: {folder.metrics}: line 1 is damaged; delete the folder" in "\n".join(lines)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--state", "faild"],
            "--state: expected one of pending, running, interrupted, done, diverged, failed",
        ),
        (["--state", ""], "--state: expected one of pending"),
        (
            ["--sort", "bets"],
            "--sort: expected one of best, progress, name, state; got 'bets'; did",
        ),
        (["--watch", "--every", "0"], "--every: expected seconds above 0; got 0"),
        (["--watch", "--every", "nan"], "--every: expected seconds above 0; got nan"),
        (["--watch", "--json"], "--json: one document cannot be watched; leave out --watch"),
    ],
)
def test_wrong_flags_are_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: list[str], message: str
) -> None:
    every_state(tmp_path)
    assert main(["runs", str(tmp_path), *flags]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert message in line


@pytest.mark.slow
def test_watched_without_a_terminal_it_says_each_change(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tiny(seed=1, epochs=2), tiny(seed=2, epochs=2)
    put(tmp_path, first, "pending")
    ask(tmp_path, [first, second])
    looked, poll = threading.Event(), StudyWatcher.poll

    def once(self: StudyWatcher) -> list[RunSummary]:
        found = poll(self)
        looked.set()
        return found

    monkeypatch.setattr(StudyWatcher, "poll", once)

    def work() -> None:
        assert looked.wait(60)
        for config in (first, second):
            folder = put(tmp_path, config, "pending")
            with folder.locked():
                folder.set_status("running")
                for number in (1, 2):
                    time.sleep(0.5)
                    add(folder, epoch(number))
                folder.set_status("done", test=results(2, 2))

    worker = threading.Thread(target=work)
    worker.start()
    lines = table(capsys, tmp_path, "--watch", "--every", EVERY)
    worker.join()
    assert lines == [
        "study batchnorm (quick): 2 pending",
        *(
            line
            for config in (first, second)
            for line in (
                f"{config.identity}: pending → running",
                f"{config.identity}: running → done, epoch 2/2, best valid 0.495 in epoch 2",
            )
        ),
        "study batchnorm (quick): 2 done",
    ]


def test_a_study_that_has_ended_is_not_waited_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = tiny()
    put(tmp_path, config, "failed", error="ValueError: no")
    ask(tmp_path, [config])
    assert table(capsys, tmp_path, "--watch", "--every", "1000") == 2 * ["study batchnorm (quick): 1 failed"]


class Terminal:
    """A command in a real terminal of that size."""

    def __init__(self, rows: int, columns: int, *arguments: object) -> None:
        import fcntl
        import struct
        import termios

        self.screen, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        hidden = ("COLUMNS", "LINES", "NO_COLOR")
        env = {name: value for name, value in os.environ.items() if name not in hidden} | {"TERM": "xterm"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gradscape", *map(str, arguments)],
            stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self.text = ""

    def until(self, pattern: str, patience: float = 30.0) -> str:
        """All that was shown, once it holds the pattern."""
        end = time.monotonic() + patience
        while not re.search(pattern, self.text):
            assert time.monotonic() < end, self.text
            if select.select([self.screen], [], [], 0.1)[0]:
                try:
                    self.text += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", os.read(self.screen, 65_536).decode())
                except OSError:  # it has ended
                    break
        return self.text

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.screen)


@pytest.fixture
def running(tmp_path: Path) -> tuple[RunFolder, Path]:
    configs = [tiny(seed=seed, epochs=3) for seed in range(30)]
    for config in configs[:20]:
        put(tmp_path, config, "done", [epoch(n) for n in (1, 2, 3)], test=results(3, 1))
    ask(tmp_path, configs)
    return put(tmp_path, configs[25], "running", [epoch(1)]), tmp_path


def test_watched_in_a_terminal_it_shows_what_matters_until_ctrl_c(running: tuple[RunFolder, Path]) -> None:
    folder, study = running
    with folder.locked(), Terminal(12, 60, "runs", study, "--watch", "--every", EVERY) as terminal:
        shown = terminal.until("and 22 more")
        assert "20 done" in shown
        assert re.search(rf"{folder.path.name} +running +1/3  33%", shown)
        assert shown.index(folder.path.name) < shown.index("pending  ")
        add(folder, epoch(2))
        terminal.until(r"running +2/3  67%")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(timeout=30) == 0
    assert "Traceback" not in terminal.text


def test_watched_in_a_terminal_it_ends_with_the_study(tmp_path: Path) -> None:
    config = tiny(epochs=2)
    folder = put(tmp_path, config, "running", [epoch(1)])
    ask(tmp_path, [config])
    with Terminal(24, 100, "runs", tmp_path, "--watch", "--every", EVERY) as terminal:
        with folder.locked():
            terminal.until("1 running")
            folder.set_status("stopped", reason="enough")
        shown = terminal.until(rf"{config.identity}: enough")
        assert terminal.process.wait(timeout=30) == 0
    assert re.search(rf"{config.identity} +stopped +1/2  50% +0\.490 @ 1  0\.001", shown)
