"""Free memory, cores and processor of this machine, or of the part of it that a container may use."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")  # cgroups(7): a line "0::PATH" of version 2, "N:CONTROLLERS:PATH" of 1


def memory_free() -> float:
    """Return the bytes of main memory that new processes can have; infinite where it is not known."""
    lines = (line.split(":") for line in _text(Path("/proc/meminfo")).splitlines())
    kilobytes = {name: int(rest.split()[0]) for name, rest in lines}
    machine = kilobytes.get("MemAvailable", math.inf) * 1024
    return max(0.0, min([machine, *map(_free_in, _groups("memory"))]))


def processor() -> str:
    """Return the model of the processor, on which the last bits of a training depend, or its architecture."""
    lines = _text(Path("/proc/cpuinfo")).splitlines()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def cores() -> int:
    """Return the number of cores that this process may use, by its affinity and its container's quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min([allowed, *map(_quota_of, _groups("cpu"))])))


def default_threads() -> int:
    """Return the number of threads to compute with: what OMP_NUM_THREADS asks for, or one per core."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # a list is one per nested level
    return int(asked) if asked.isdecimal() and int(asked) else cores()


def _groups(controller: str) -> Iterator[Path]:
    """Yield the folders of the control groups that limit this process, of either version, its own first."""
    for line in _text(OWN_GROUPS).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            root = CGROUPS / controller if controllers else CGROUPS
            own = root / path.lstrip("/")
            yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(root))


def _quota_of(group: Path) -> float:
    """Return how many cores' time a control group may use; infinite without a limit."""
    limit, _, period = _text(group / "cpu.max").partition(" ")
    if not limit:
        limit, period = _text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")
    return int(limit) / int(period) if limit.isdecimal() else math.inf  # without one: "max", or -1


def _free_in(group: Path) -> float:
    """Return the bytes that a control group has left, files' pages that it would give up among them."""
    for limit, used, given_up in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        if (most := _text(group / limit)).isdecimal():
            pages = dict(line.split() for line in _text(group / "memory.stat").splitlines())
            return int(most) - int(_text(group / used)) + int(pages.get(given_up, 0))
    return math.inf


def _text(path: Path) -> str:
    """Return what a file holds; nothing if it cannot be read."""
    with suppress(OSError):
        return path.read_text().strip()
    return ""
