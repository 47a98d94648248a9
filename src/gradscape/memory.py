"""How much memory is free."""

from __future__ import annotations

import math
from pathlib import Path


def memory_free() -> float:
    """Bytes that new processes can have of the main memory; infinite where it is not known."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return math.inf
    kilobytes = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines)}
    return kilobytes.get("MemAvailable", math.inf) * 1024
