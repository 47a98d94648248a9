"""Free memory, cores and processor of this machine."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path


def memory_free() -> float:
    """Return the bytes of main memory that new processes can have; infinite where it is not known."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return math.inf
    kilobytes = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines)}
    return kilobytes.get("MemAvailable", math.inf) * 1024


def processor() -> str:
    """Return the model of the processor, on which the last bits of a training depend, or its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
