"""Workers that die, fail and are told to stop; each a real process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gradscape.errors import ConfigError
from gradscape.study.executors import ATTEMPTS, Event, run_inline, run_processes, run_threads

HERE = Path(__file__).parent


def double(job: int, report: Any) -> int:
    report(f"doubling {job}")
    return 2 * job


def fail(job: str, report: Any) -> None:
    if job == "user":
        raise ConfigError("depth: 37 is not possible")
    raise ValueError("two\nlines")


def die_at_first(job: Path, report: Any) -> str:
    """Killed on the first attempt, as by the kernel when memory runs out."""
    if not job.exists():
        job.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


def always_die(job: Any, report: Any) -> None:
    os._exit(3)


def sleep_long(job: Path, report: Any) -> None:
    (job / str(os.getpid())).touch()
    report("asleep")
    time.sleep(60)


EXECUTORS = [
    run_inline,
    lambda work, jobs: run_processes(work, jobs, 2),
    lambda work, jobs: run_threads(work, jobs, 2),
]


def kinds(events: list[Event], job: str) -> list[str]:
    return [event.kind for event in events if event.job == job]


@pytest.mark.parametrize("run", EXECUTORS)
def test_every_job_is_done_and_results_come_home(run: Any) -> None:
    events = list(run(double, {str(n): n for n in range(5)}))
    finished = {event.job: event.payload for event in events if event.kind == "finished"}
    assert finished == {str(n): 2 * n for n in range(5)}
    assert all(kinds(events, str(n))[0] == "started" for n in range(5))


@pytest.mark.parametrize("run", EXECUTORS)
def test_failures_are_one_line_and_others_go_on(run: Any) -> None:
    failed = {e.job: e.payload for e in run(fail, {"a": "user", "b": "ours"}) if e.kind == "failed"}
    assert failed["a"] == "depth: 37 is not possible"
    assert failed["b"].startswith("ValueError: two lines (test_executors.py:")


@pytest.mark.parametrize("run", EXECUTORS[1:])
def test_progress_is_passed_on(run: Any) -> None:
    events = list(run(double, {"x": 21}))
    assert [(e.kind, e.payload) for e in events] == [
        ("started", None),
        ("progress", "doubling 21"),
        ("finished", 42),
    ]


def test_a_killed_worker_costs_its_job_one_attempt(tmp_path: Path) -> None:
    events = list(run_processes(die_at_first, {"a": tmp_path / "a", "b": tmp_path / "b"}, 2))
    for job in ("a", "b"):
        assert kinds(events, job) == ["started", "died", "started", "finished"]
    died = next(event for event in events if event.kind == "died")
    assert died.payload == "its worker died (SIGKILL; out of memory?)"


def test_a_job_that_always_dies_fails_and_others_are_untouched() -> None:
    events = list(run_processes(always_die, {"a": None}, 1))
    assert kinds(events, "a") == ["started", "died"] * (ATTEMPTS - 1) + ["started", "failed"]
    assert events[-1].payload == "its worker died (exit code 3), 3 times"


@pytest.mark.parametrize("run", EXECUTORS[1:])
def test_never_more_workers_than_asked_for(run: Any) -> None:
    running = most = 0
    for event in run(double, {str(n): n for n in range(6)}):
        running += {"started": 1, "finished": -1}.get(event.kind, 0)
        most = max(most, running)
    assert most == 2


def report_until_stopped(job: list[str], report: Any) -> None:
    try:
        while True:
            report("on")
            time.sleep(0.01)
    finally:
        job.append("stopped")


def test_closing_the_iterator_stops_the_threads() -> None:
    jobs: dict[str, list[str]] = {"a": [], "b": [], "waiting": []}
    with closing(run_threads(report_until_stopped, jobs, 2)) as events:
        seen = {event.job for event, _ in zip(events, range(10), strict=False)}
    assert seen == {"a", "b"}
    assert jobs == {"a": ["stopped"], "b": ["stopped"], "waiting": []}


def test_ctrl_c_while_workers_start_leaves_the_fork_server_quiet() -> None:
    """Workers start and end all the time; interrupted again and again, no process says anything."""
    program = textwrap.dedent(f"""
        import sys; sys.path.insert(0, {str(HERE)!r})
        from test_executors import double
        from gradscape.study.executors import run_processes
        if __name__ == "__main__":
            print("begun", flush=True)
            try:
                for _ in run_processes(double, {{str(n): n for n in range(10_000)}}, 8): pass
            except KeyboardInterrupt:
                sys.exit(130)
    """)
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(1)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (130, "")


def gone(pid: int, patience: float = 10.0) -> bool:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")


@needs_proc
def test_closing_the_iterator_stops_the_workers(tmp_path: Path) -> None:
    with closing(run_processes(sleep_long, {"a": tmp_path, "b": tmp_path}, 2)) as events:
        reported = 0
        while reported < 2:
            reported += next(events).kind == "progress"
    pids = [int(path.name) for path in tmp_path.iterdir()]
    assert len(pids) == 2
    assert all(gone(pid) for pid in pids)


@needs_proc
def test_workers_die_with_a_killed_driver(tmp_path: Path) -> None:
    program = """
        import sys
        from pathlib import Path
        from test_executors import sleep_long
        from gradscape.study.executors import run_processes
        if __name__ == "__main__":
            for event in run_processes(sleep_long, {"a": Path(sys.argv[1]), "b": Path(sys.argv[1])}, 2):
                print(event.kind, flush=True)
    """
    script = tmp_path / "driver.py"
    script.write_text(textwrap.dedent(program))
    pids = tmp_path / "pids"
    pids.mkdir()
    driver = subprocess.Popen(
        [sys.executable, str(script), str(pids)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(HERE)},
    )
    assert driver.stdout is not None
    seen = 0
    while seen < 2:
        line = driver.stdout.readline()
        assert line, "the driver ended early"
        seen += line == b"progress\n"
    driver.kill()
    driver.wait()
    driver.stdout.close()
    assert all(gone(int(path.name)) for path in pids.iterdir())
