"""What `--dry-run` says of the studies on CIFAR-100: `python benchmarks/dry_runs.py`.

Writes the runs, and the time with two of them side by side, of each study's preset `small` to
`results/dry_runs.json`: how long they took is in `results/*/provenance.json`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from typing import Any

from measure import machine, write

STUDIES = ("batchnorm", "remedies", "smoothing")
TOLD = re.compile(r"(\d+) runs, about ([\d.]+) (min|h) with 2 at once")
HOURS = {"min": 1 / 60, "h": 1.0}


def told(study: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "gradscape", "reproduce", study, "--preset", "small", "--out", folder,
            "--workers", "2", "--dry-run",
        ]  # fmt: skip
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = TOLD.search(out)
    assert found, out
    return {"runs": int(found[1]), "hours": float(found[2]) * HOURS[found[3]]}


if __name__ == "__main__":
    write("dry_runs", {"machine": machine(), "studies": {study: told(study) for study in STUDIES}})
