"""A sweep under faults: workers and commands killed, hung, out of memory, a full disk, two commands at once.

`python benchmarks/faults.py` runs a sweep of 50 small networks undisturbed, then again under each fault, all
of them real, and compares: all runs finished, none that had finished was trained again, at most one epoch
trained twice for a kill, and every weight the same to the bit. Linux alone. It takes a quarter of an hour
and writes `results/faults.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gradscape.storage.run_folder import RunFolder
from gradscape.storage.study_folder import StudyFolder
from gradscape.study.execute import execute
from gradscape.study.execution_options import Execution
from gradscape.study.sweep.report import PARTS
from gradscape.study.sweep.sweep import Sweep
from measure import RESULTS, write

UNDRAWN = replace(PARTS, figures=lambda study: ())  # runs are what is looked at
HANG = 12.0  # seconds after which a worker that says nothing counts as hung; it begins by importing torch


def study(runs: int) -> Sweep:
    """So many runs of a second or so, an even number, at two seeds; each needs more memory than the last."""
    points = runs // 2
    return Sweep(
        "faults",
        {
            "net": {"depth": 8, "filters": 32},
            "data": {"train": 400, "valid": 50},
            "epochs": 6,
        },
        [
            {
                "optim.lr": {"log": [1e-4, 1e-1], "points": points},
                "batch_size": [20 + 180 * n // points for n in range(points)],
            }
        ],
        seeds=2,
    )


@dataclass
class Found:
    """What a sweep came to.

    Attributes:
        runs, finished: there are, and that ended well.
        repeated: finished ones that were trained again.
        faults: done to it.
        epochs_twice: the most epochs that one fault made to be trained again.
        different: runs whose weights are not those of the undisturbed sweep, to the bit.
        commands: it took.
        seconds: in all.
        causes: of workers' deaths, as the runs' statuses have them → how often.
    """

    runs: int
    finished: int = 0
    repeated: int = 0
    faults: int = 0
    epochs_twice: int = 0
    different: int = 0
    commands: int = 0
    seconds: float = 0.0
    causes: dict[str, int] = field(default_factory=dict)


@dataclass
class SweepUnderFaults:
    """A sweep being done by commands of its own, and looked at from outside."""

    folder: StudyFolder
    runs: int
    done: dict[str, int] = field(default_factory=dict)  # identity → when its status was written
    commands: int = 0

    def begin(self, before: Callable[[], None] | None = None, on: str = "local") -> subprocess.Popen[bytes]:
        self.commands += 1
        what = ["--drive", str(self.folder.path), "--runs", str(self.runs), "--on", on]
        arguments = [sys.executable, __file__, *what]
        with open(self.said, "wb") as said:
            return subprocess.Popen(
                arguments, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True, preexec_fn=before
            )

    @property
    def said(self) -> Path:
        """What the last command said."""
        return self.folder.path.with_name(f"{self.folder.path.name}.txt")

    def look(self) -> dict[str, dict[str, Any]]:
        """Identity → status of every run, noting those that have just finished."""
        found = {}
        for path in self.folder.path.glob("runs/*/status.json"):
            found[path.parent.name] = status = json.loads(path.read_text())
            if status["state"] == "done":
                self.done.setdefault(path.parent.name, path.stat().st_mtime_ns)
        return found

    def at_work(self) -> list[tuple[RunFolder, int]]:
        """Runs that are being trained, and the process of each."""
        return [
            (self.folder.run(name), status["pid"])
            for name, status in self.look().items()
            if status["state"] == "running" and alive(status["pid"])
        ]

    def pauses(self, command: subprocess.Popen[bytes], generator: random.Random) -> Iterator[None]:
        """Moments at random, while the command is at work."""
        while command.poll() is None:
            end = time.monotonic() + generator.uniform(0.3, 1.5)
            while time.monotonic() < end and command.poll() is None:
                self.look()
                time.sleep(0.05)
            if command.poll() is None:
                yield


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def behind(run: RunFolder) -> int:
    """Epochs that are recorded, or were begun, and have no checkpoint: they are trained again."""
    checkpoints = run.checkpoint_files()
    last = int(checkpoints[0].name[len("epoch-") :].split(".")[0]) if checkpoints else 0
    return max(1, len(run.intact()) - last)


def undisturbed(sweep: SweepUnderFaults, generator: random.Random, found: Found) -> None:
    wait(sweep, sweep.begin())


def wait(sweep: SweepUnderFaults, command: subprocess.Popen[bytes]) -> int:
    while command.poll() is None:
        sweep.look()
        time.sleep(0.05)
    sweep.look()
    return command.returncode


def to_workers(act: Callable[[int], None]) -> Callable[[SweepUnderFaults, random.Random, Found], None]:
    """A fault done to processes at work, to each and each run once: three in a row without an epoch between
    them are a run's end, by design. What counts is which processes died of it.
    """

    def disturb(sweep: SweepUnderFaults, generator: random.Random, found: Found) -> None:
        command, hit, runs = sweep.begin(), set[int](), set[Path]()
        for _ in sweep.pauses(command, generator):
            at_work = [(r, pid) for r, pid in sweep.at_work() if pid not in hit and r.path not in runs]
            if at_work and len(hit) < sweep.runs // 2:
                run, pid = generator.choice(at_work)
                act(pid)
                hit.add(pid)
                runs.add(run.path)
                found.epochs_twice = max(found.epochs_twice, behind(run))
        wait(sweep, command)
        found.faults = sum(len(status.get("deaths", ())) for status in sweep.look().values())

    return disturb


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


def starve(pid: int) -> None:
    """No more memory for the process from now on; what it has freed of its own it can take again."""
    resource.prlimit(pid, resource.RLIMIT_AS, (2**20, 2**20))


def commands_killed(sweep: SweepUnderFaults, generator: random.Random, found: Found) -> None:
    """Command, fork server and workers alike, all at once."""
    command = sweep.begin()
    for _ in range(min(8, sweep.runs // 2)):
        time.sleep(generator.uniform(3.0, 6.0))
        if command.poll() is not None:
            break
        at_work = sweep.at_work()
        os.killpg(command.pid, signal.SIGKILL)
        command.wait()
        found.faults += 1
        found.epochs_twice = max([found.epochs_twice, *(behind(run) for run, _ in at_work)])
        command = sweep.begin()
    wait(sweep, command)


def disk_full(sweep: SweepUnderFaults, generator: random.Random, found: Found) -> None:
    """No file may be larger than 60 kB, less than a checkpoint takes: as on a disk that is full."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))

    assert wait(sweep, sweep.begin(limit)) == 2
    said = sweep.said.read_text().splitlines()[-1]
    assert "free space or give another folder" in said, said
    found.faults += 1
    wait(sweep, sweep.begin())


def poisoned(sweep: SweepUnderFaults, generator: random.Random, found: Found) -> None:
    """One run cannot be written: it fails, the others do not; then the cause is put right."""
    config = next(iter(study(sweep.runs).runs().values()))
    victim = sweep.folder.run(config.identity)
    victim.create(config)
    victim.checkpoints.write_text("a file where a folder must be")
    assert wait(sweep, sweep.begin()) == 1
    states = [status["state"] for status in sweep.look().values()]
    assert (states.count("done"), states.count("failed")) == (sweep.runs - 1, 1)
    found.faults += 1
    victim.checkpoints.unlink()
    wait(sweep, sweep.begin())


def two_commands(sweep: SweepUnderFaults, generator: random.Random, found: Found) -> None:
    """Both at once on the same folder; the one is killed half-way."""
    first, second = sweep.begin(), sweep.begin()
    while len(sweep.done) < sweep.runs // 2 and (first.poll(), second.poll()) == (None, None):
        sweep.look()
        time.sleep(0.05)
    at_work = sweep.at_work()
    if first.poll() is None:
        os.killpg(first.pid, signal.SIGKILL)
        found.faults += 1
    first.wait()
    found.epochs_twice = max([found.epochs_twice, *(behind(run) for run, _ in at_work)])
    wait(sweep, second)


def node_lost(sweep: SweepUnderFaults, generator: random.Random, found: Found) -> None:
    """A Ray cluster of two nodes of one CPU each, of which one is lost half-way."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        node = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        command = sweep.begin(on="ray")
        running: list[str] = []
        while (len(sweep.done) < sweep.runs // 2 or not running) and command.poll() is None:
            running = [name for name, status in sweep.look().items() if status["state"] == "running"]
            time.sleep(0.05)
        cluster.remove_node(node, allow_graceful=False)
        found.faults += 1
        found.epochs_twice = max((behind(sweep.folder.run(name)) for name in running), default=0)
        wait(sweep, command)
    finally:
        del os.environ["RAY_ADDRESS"]
        cluster.shutdown()


FAULTS: dict[str, Callable[[SweepUnderFaults, random.Random, Found], None]] = {
    "none": undisturbed,
    "worker killed": to_workers(kill),
    "worker hung": to_workers(stop),
    "worker out of memory": to_workers(starve),
    "command killed": commands_killed,
    "disk full": disk_full,
    "a run that cannot be": poisoned,
    "two commands, one killed": two_commands,
    "a node of a Ray cluster lost": node_lost,
}


def weights(folder: StudyFolder, name: str) -> dict[str, bytes]:
    checkpoint = folder.run(name).load()
    assert checkpoint is not None
    return {key: array.tobytes() for key, array in checkpoint.arrays.items()}


def measured(fault: str, place: Path, runs: int, whole: Path) -> Found:
    begun, sweep = time.monotonic(), SweepUnderFaults(StudyFolder(place), runs)
    found = Found(runs)
    FAULTS[fault](sweep, random.Random(fault), found)
    record = sweep.folder.record()
    found.finished = sum(run.state == "done" for run in record.runs.values())
    found.commands, found.seconds = sweep.commands, time.monotonic() - begun
    reference = StudyFolder(whole)
    for name, run in record.runs.items():
        if run.state != "done":
            found.causes[f"{run.state}: {run.status.get('error', '')[-200:]}"] = 1
            continue
        path = sweep.folder.run(name).path / "status.json"
        found.repeated += path.stat().st_mtime_ns != sweep.done.get(name)
        found.different += weights(sweep.folder, name) != weights(reference, name)
        for cause in run.status.get("deaths", ()):
            found.causes[cause] = found.causes.get(cause, 0) + 1
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument(
        "--only", nargs="*", default=list(FAULTS), choices=FAULTS, help="the others' results stay"
    )
    parser.add_argument("--drive", type=Path, help="the command that is disturbed")
    parser.add_argument("--on", default="local")
    given = parser.parse_args()
    if given.drive:
        drive(given.drive, given.runs, given.on)
    with tempfile.TemporaryDirectory() as place:
        whole = Path(place) / "none"
        found = (
            {} if given.only == list(FAULTS) else json.loads((RESULTS / "faults.json").read_text())["faults"]
        )
        for fault in dict.fromkeys(["none", *given.only]):
            found[fault] = vars(measured(fault, Path(place) / fault.replace(" ", "-"), given.runs, whole))
            print(fault, found[fault], flush=True)
    write("faults", {"faults": found})


def drive(folder: Path, runs: int, on: str) -> None:
    """`gradscape sweep`, with little patience for workers that hang."""
    from gradscape.errors import GradscapeError

    try:
        workers = 2 if on == "local" else None  # a cluster has as many as it has room for
        execute(
            study(runs), StudyFolder(folder), Execution(workers=workers, epoch_limit=HANG, on=on), UNDRAWN
        )
    except GradscapeError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    sys.exit(0)


if __name__ == "__main__":
    main()
