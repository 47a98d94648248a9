"""What every benchmark shares: the machine it ran on, and where its result is written."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import subprocess
from pathlib import Path
from statistics import median
from typing import Any

from gradscape._machine import cores, processor

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """Processor, cores, versions, commit and date: what a number is worth nothing without."""
    import numpy
    import torch

    return {
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "commit": commit(),
        "date": datetime.date.today().isoformat(),
    }


def commit() -> str:
    """The commit measured, with `+` if files changed since; COMMIT names it where there is no history."""
    if "COMMIT" in os.environ:
        return os.environ["COMMIT"]
    here = Path(__file__).parent
    git = ["git", "-C", str(here)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--", "../src"], capture_output=True, text=True, check=True
    )
    return head.stdout.strip() + ("+" if changed.stdout else "")


def peak_bytes() -> int:
    """The most memory that this process has held; Linux only.

    Not `ru_maxrss`: a process starts with that of the process it was forked from.
    """
    held = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert held
    return 1024 * int(held[1])


def spread(values: list[float]) -> dict[str, Any]:
    """Median, least and most of repeated measurements."""
    return {"median": median(values), "min": min(values), "max": max(values), "n": len(values)}


def write(name: str, values: dict[str, Any]) -> None:
    """`results/NAME.json`, with the machine."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"machine": machine(), **values}, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(f"written: {RESULTS / name}.json")
