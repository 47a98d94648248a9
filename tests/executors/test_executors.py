"""Workers that die, hang, fail and are told to stop; each a real process."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from pickle import UnpicklingError
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

from gradscape.errors import ConfigError, JobFailed
from gradscape.executors import base as face
from gradscape.executors.base import ATTEMPTS, Event, EventSink, Executor, Work, out_of_memory, pause
from gradscape.executors.processes import Processes
from gradscape.executors.retry import Supervised
from gradscape.executors.threads import Threads
from gradscape.executors.worker import Worker

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face, "BACKOFF", 0.01)


def double(job: int, report: Any) -> int:
    report(f"doubling {job}")
    return 2 * job


def fail(job: str, report: Any) -> None:
    if job == "user":
        raise ConfigError("depth: expected 38; got 37")
    raise ValueError("two\nlines")


def die_at_first(job: Path, report: Any) -> str:
    """Killed on the first attempt, as by the kernel when memory runs out."""
    if not job.exists():
        job.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


def always_die(job: Any, report: Any) -> None:
    os._exit(3)


def die_ever_further(job: Path, report: Any) -> int:
    """Five parts, killed in each, and each but the first begins where the last one was killed."""
    job.mkdir(exist_ok=True)
    done = len(list(job.iterdir()))
    report(done)
    if done < 5:
        (job / str(done)).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return done


def hang_at_first(job: Path, report: Any) -> str:
    """Stopped as by a debugger on the first attempt: it would not hear SIGTERM."""
    first = not job.exists()
    job.touch()
    report(os.getpid() if first else None)
    if first:
        os.kill(os.getpid(), signal.SIGSTOP)
    return "survived"


def say_twice(job: Path, report: Any) -> str:
    """It goes on when the second is heard."""
    report(1)
    report(2)
    (job / "said").touch()
    until((job / "heard").exists)
    return "done"


def lack_memory_at_first(job: Path, report: Any) -> str:
    if not job.exists():
        job.touch()
        raise MemoryError("cannot have 3 GiB")
    return "survived"


def own_pid(job: int, report: Any) -> int:
    return os.getpid()


def sleep_long(job: Path, report: Any) -> None:
    (job / str(os.getpid())).touch()
    report("asleep")
    time.sleep(60)


def until(happened: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)


def state(pid: int) -> str:
    """What /proc says of a process: T while it is stopped, Z when it has ended, nothing once it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return ""


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")


@pytest.fixture
def sleep(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let time pass for the supervisor at once: no limit depends on how busy the machine is."""
    slept = 0.0

    def pass_over(seconds: float) -> None:
        nonlocal slept
        slept += seconds

    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + slept)
    for module in ("retry", "processes"):
        monkeypatch.setattr(f"gradscape.executors.{module}.time", clock)
    return pass_over


Make = Callable[..., Executor]
EXECUTORS: dict[str, Make] = {
    "processes": lambda work, sink=lambda event: None: Processes(work, 2, sink),
    "threads": lambda work, sink=lambda event: None: Threads(work, 2, sink),
}
every = pytest.mark.parametrize("make", EXECUTORS.values(), ids=EXECUTORS)


def done(make: Callable[[Work, EventSink], Executor], work: Work, jobs: dict[str, Any]) -> list[Event]:
    """Every event until all jobs have ended."""
    events: SimpleQueue[Event] = SimpleQueue()
    seen = []
    with make(work, events.put) as executor:
        for name, job in jobs.items():
            executor.submit(name, job)
        while sum(event.kind in ("finished", "failed") for event in seen) < len(jobs):
            seen.append(events.get(timeout=60))
    return seen


def kinds(events: list[Event], job: str) -> list[str]:
    return [event.kind for event in events if event.job == job]


@every
def test_every_job_is_done_and_results_come_home(make: Make) -> None:
    with make(double) as executor:
        futures = [executor.submit(str(n), n) for n in range(5)]
        assert [future.result(timeout=60) for future in futures] == [0, 2, 4, 6, 8]


@every
def test_events_tell_of_each_job_in_order(make: Make) -> None:
    events = done(make, double, {"x": 21, "y": 1})
    assert [(e.kind, e.payload) for e in events if e.job == "x"] == [
        ("started", None),
        ("progress", "doubling 21"),
        ("finished", 42),
    ]


@every
def test_failures_are_one_line_and_others_go_on(make: Make) -> None:
    failed = {e.job: e.payload for e in done(make, fail, {"a": "user", "b": "ours"}) if e.kind == "failed"}
    assert failed["a"] == "depth: expected 38; got 37"
    assert failed["b"].startswith("ValueError: two lines (test_executors.py:")
    with make(fail) as executor:
        future = executor.submit("a", "user")
        with pytest.raises(JobFailed, match="a: depth: expected 38; got 37"):
            future.result(timeout=60)


def two(work: Work, sink: EventSink = lambda event: None) -> Processes:
    return Processes(work, 2, sink)


def test_a_killed_worker_costs_its_job_one_attempt(tmp_path: Path) -> None:
    events = done(two, die_at_first, {"a": tmp_path / "a", "b": tmp_path / "b"})
    for job in ("a", "b"):
        assert kinds(events, job) == ["started", "died", "started", "finished"]
    died = next(event for event in events if event.kind == "died")
    assert died.payload == "its worker died (SIGKILL; out of memory?)"


def test_a_job_that_always_dies_fails_and_others_are_untouched() -> None:
    events = done(two, always_die, {"a": None})
    assert kinds(events, "a") == ["started", "died"] * (ATTEMPTS - 1) + ["started", "failed"]
    assert events[-1].payload == "its worker died (exit code 3), 3 times"


@pytest.mark.slow
def test_a_job_that_advances_is_never_given_up(tmp_path: Path) -> None:
    events = done(two, die_ever_further, {"a": tmp_path / "a"})
    assert kinds(events, "a").count("died") == 5
    assert events[-1] == Event("a", "finished", 5)


def test_each_further_attempt_waits_longer() -> None:
    assert [pause(attempt) for attempt in (1, 2, 3)] == pytest.approx([0.01, 0.04, 0.16])


@pytest.mark.slow
@needs_proc
def test_a_hung_worker_is_killed_and_its_job_tried_again(
    tmp_path: Path, sleep: Callable[[float], None]
) -> None:
    events: list[Event] = []

    def sink(event: Event) -> None:
        events.append(event)
        if event.kind == "progress" and event.payload is not None:
            until(lambda: state(event.payload) == "T")
            sleep(2000)

    with Processes(hang_at_first, 1, sink, limit=1000) as executor:
        futures = [executor.submit(name, tmp_path / name) for name in ("a", "b")]
        assert [future.result(timeout=60) for future in futures] == ["survived"] * 2
    died = [(event.job, event.payload) for event in events if event.kind == "died"]
    assert died == [(name, "its worker hung: no progress within 1000 s") for name in ("a", "b")]


class Unattended(Supervised):
    """Nobody works on its jobs."""

    def close(self) -> None:
        pass


def test_the_limit_is_from_mark_to_mark(sleep: Callable[[float], None]) -> None:
    for mark, lasts in ((lambda payload: payload, True), (lambda payload: None, False)):
        executor = Unattended(double, lambda event: None, 1000, mark)
        executor.submit("a", 1)
        task = executor._next_ready()
        assert task is not None
        for part in (1, 2, 3):
            sleep(600)
            hung = executor._is_hung(task)
            assert hung is (not lasts and part > 1)
            executor._progress(task, part)
        sleep(600)
        executor._progress(task, 3)  # the same again is no advance
        sleep(600)
        assert executor._is_hung(task)


def test_a_supervisor_that_slept_hears_its_workers_before_it_judges_them(
    tmp_path: Path, sleep: Callable[[float], None]
) -> None:
    """As after the command was stopped and continued: what they said meanwhile is in the pipe."""
    kinds = list[str]()

    def sink(event: Event) -> None:
        kinds.append(event.kind)
        if event.payload == 1:
            until((tmp_path / "said").exists)
            sleep(2000)  # in the supervisor's thread; the limit is long over then
        elif event.payload == 2:
            (tmp_path / "heard").touch()

    with Processes(say_twice, 1, sink, limit=1000) as executor:
        assert executor.submit("a", tmp_path).result(timeout=60) == "done"
    assert kinds == ["started", "progress", "progress", "finished"]


@pytest.mark.parametrize("make", [two, EXECUTORS["threads"]], ids=["processes", "threads"])
def test_a_job_without_memory_is_tried_again(make: Make, tmp_path: Path) -> None:
    events = done(make, lack_memory_at_first, {"a": tmp_path / "a"})
    assert [k for k in kinds(events, "a") if k != "progress"] == ["started", "died", "started", "finished"]
    died = next(event for event in events if event.kind == "died")
    assert died.payload.startswith("out of memory: MemoryError: cannot have 3 GiB (test_executors.py:")


def test_lack_of_memory_is_known_by_what_torch_says() -> None:
    import torch

    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert out_of_memory(caught.value)
    assert out_of_memory(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)))
    assert out_of_memory(RuntimeError("could not create a primitive"))  # oneDNN, seen under RLIMIT_AS
    assert not out_of_memory(RuntimeError("shapes do not match"))
    assert not out_of_memory(ValueError("bad_alloc"))
    described = ConfigError("batch: layer conv was given …")  # a measure names the layer where memory ran out
    assert not out_of_memory(described)
    described.__cause__ = RuntimeError("could not create a primitive")
    assert out_of_memory(described)


@every
def test_never_more_workers_than_asked_for(make: Make) -> None:
    running = most = 0
    for event in done(make, double, {str(n): n for n in range(6)}):
        running += {"started": 1, "finished": -1}.get(event.kind, 0)
        most = max(most, running)
    assert most <= 2


def test_a_process_serves_job_after_job_until_one_fails() -> None:
    with Processes(own_pid, 1) as executor:
        pids = {executor.submit(str(n), n).result(timeout=60) for n in range(5)}
        assert len(pids) == 1
        assert pids != {os.getpid()}


def die_unless_new(job: Path, report: Any) -> str:
    """Only a process that has done nothing else does it; killed in any other."""
    if (job / str(os.getpid())).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    (job / str(os.getpid())).touch()
    return "done"


def test_what_is_tried_again_gets_a_process_of_its_own(tmp_path: Path) -> None:
    with Processes(die_unless_new, 1) as executor:
        for number in range(4):  # each but the first dies once, in the process of the one before
            assert executor.submit(str(number), tmp_path).result(timeout=60) == "done"


def report_until_stopped(job: list[str], report: Any) -> None:
    try:
        while True:
            report("on")
            time.sleep(0.01)
    finally:
        job.append("stopped")


def test_closing_stops_the_threads() -> None:
    jobs: dict[str, list[str]] = {"a": [], "b": [], "waiting": []}
    events: SimpleQueue[Event] = SimpleQueue()
    with Threads(report_until_stopped, 2, events.put) as executor:
        futures = [executor.submit(name, job) for name, job in jobs.items()]
        while {"a", "b"} - {event.job for event in (events.get(timeout=60) for _ in range(9))}:
            pass
    assert jobs == {"a": ["stopped"], "b": ["stopped"], "waiting": []}
    for future in futures:  # of those that had not begun as well: somebody may wait for them
        with pytest.raises(CancelledError):
            future.result(timeout=0)


def test_where_no_process_is_to_be_had_jobs_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor that ended unheard would leave its command waiting for ever."""

    def start(*args: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("gradscape.executors.worker.Worker.start", start)
    with Processes(double, 2) as executor:
        future = executor.submit("a", 1)
        why = r"no worker could be started \(Resource temporarily unavailable\), 3 times"
        with pytest.raises(JobFailed, match=why):
            future.result(timeout=60)


def test_a_supervisor_that_ends_says_so_to_whoever_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    def receive(self: Any) -> None:
        raise UnpicklingError("invalid load key")  # a worker's message, garbled

    monkeypatch.setattr("gradscape.executors.worker.Worker.receive", receive)
    with Processes(double, 1) as executor:
        futures = [executor.submit(str(n), n) for n in range(3)]
        for future in futures:
            with pytest.raises(JobFailed, match="the supervisor ended: UnpicklingError: invalid load key"):
                future.result(timeout=60)
        with pytest.raises(JobFailed, match="the supervisor ended"):
            executor.submit("late", 1).result(timeout=60)


@pytest.mark.slow
def test_ctrl_c_while_workers_start_leaves_the_fork_server_quiet() -> None:
    """Workers start and end all the time; interrupted again and again, no process says anything."""
    program = textwrap.dedent(f"""
        import sys; sys.path.insert(0, {str(HERE)!r})
        from test_executors import always_die
        from gradscape.executors.processes import Processes
        if __name__ == "__main__":
            print("begun", flush=True)
            try:
                with Processes(always_die, 8) as executor:
                    futures = [executor.submit(str(n), n) for n in range(10_000)]
                    futures[-1].exception()
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


@needs_proc
def test_closing_stops_the_workers(tmp_path: Path) -> None:
    asleep = threading.Semaphore(0)

    def sink(event: Event) -> None:
        if event.kind == "progress":
            asleep.release()

    with Processes(sleep_long, 2, sink) as executor:
        for name in ("a", "b", "waiting"):
            executor.submit(name, tmp_path)
        assert all(asleep.acquire(timeout=60) for _ in range(2))
    pids = [int(path.name) for path in tmp_path.iterdir()]
    assert len(pids) == 2
    for pid in pids:
        until(lambda pid=pid: state(pid) in ("", "Z"))


@needs_proc
def test_workers_die_with_a_killed_driver(tmp_path: Path) -> None:
    program = """
        import sys
        from pathlib import Path
        from test_executors import sleep_long
        from gradscape.executors.processes import Processes
        if __name__ == "__main__":
            def sink(event): print(event.kind, flush=True)
            with Processes(sleep_long, 2, sink) as executor:
                futures = [executor.submit(name, Path(sys.argv[1])) for name in "ab"]
                futures[0].result()
    """
    script = tmp_path / "driver.py"
    script.write_text(textwrap.dedent(program))
    pids = tmp_path / "pids"
    pids.mkdir()
    driver = subprocess.Popen(
        [sys.executable, str(script), str(pids)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, sys.path)])},
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
    for path in pids.iterdir():
        until(lambda pid=int(path.name): state(pid) in ("", "Z"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there is no fork server elsewhere")
def test_the_death_of_the_fork_server_while_a_worker_starts_costs_one_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is killed between the request for a worker and its answer, as for want of memory."""
    from multiprocessing import forkserver

    stopped: list[int] = []
    killed: list[int] = []
    connect, read = forkserver.connect_to_new_process, forkserver.read_signed

    def stop_and_connect(handles: Any) -> Any:
        if not stopped:
            forkserver.ensure_running()
            stopped.append(forkserver._forkserver._forkserver_pid)  # type: ignore[attr-defined]
            os.kill(stopped[0], signal.SIGSTOP)  # so that it cannot answer
        return connect(handles)

    def kill_and_read(handle: int) -> int:
        if not killed:
            killed.append(stopped[0])
            os.kill(stopped[0], signal.SIGKILL)
            os.waitid(os.P_PID, stopped[0], os.WEXITED | os.WNOWAIT)
        return read(handle)

    monkeypatch.setattr(forkserver, "connect_to_new_process", stop_and_connect)
    monkeypatch.setattr(forkserver, "read_signed", kill_and_read)
    events: list[Event] = []
    with Processes(double, 2, events.append) as executor:
        futures = [executor.submit(str(number), number) for number in range(4)]
        assert [future.result(60) for future in futures] == [0, 2, 4, 6]
    assert len(killed) == 1
    died = [(event.job, event.payload) for event in events if event.kind == "died"]
    assert died == [("0", "no worker could be started (the server that forks workers died)")]


def test_what_ends_the_supervisor_fails_the_job_in_hand_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits must hear of it, whatever it was that nobody had thought of."""

    def start(context: Any, work: Any) -> Worker:
        raise ZeroDivisionError("nobody had thought of it")

    monkeypatch.setattr(Worker, "start", start)
    with Processes(double, 1) as executor:
        futures = [executor.submit(str(number), number) for number in range(2)]
        for future in futures:
            with pytest.raises(JobFailed, match="the supervisor ended: ZeroDivisionError"):
                future.result(60)
