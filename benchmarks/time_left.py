"""How far the time left that a study tells is from the truth: `python benchmarks/time_left.py [STUDY]`.

Runs `gradscape reproduce STUDY` (quick) into a pipe, notes when each line with a time left arrives, and
compares it with the time that was left. Writes `results/time_left.json`: for each tenth of the whole from
20 % on the ratio of the told to the true one, and the share of lines within a quarter.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from measure import write

TOLD = re.compile(r"\(about ([\d.]+) (s|min|h) left\)")
UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}
FROM, QUARTER = 0.2, 0.25


def heard(study: str, out: Path) -> tuple[list[tuple[float, float]], float]:
    """Seconds since the start and the seconds told, per line that tells them; and the seconds it took."""
    command = [sys.executable, "-m", "gradscape", "reproduce", study, "--out", str(out)]
    start, lines = time.perf_counter(), []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if found := TOLD.search(line):
                told = float(found.group(1)) * UNITS[found.group(2)]
                lines.append((time.perf_counter() - start, told))
    if running.returncode:
        raise SystemExit(f"gradscape reproduce {study} ended with {running.returncode}")
    return lines, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", nargs="?", default="batchnorm")
    study = parser.parse_args().study
    os.environ["PYTHONUNBUFFERED"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        lines, total = heard(study, Path(folder) / "study")
    ratios = [(at / total, told / (total - at)) for at, told in lines if FROM <= at / total < 0.98]
    tenths: dict[str, list[float]] = {}
    for share, ratio in ratios:
        tenths.setdefault(f"{10 * int(10 * share)} %", []).append(ratio)
    result = {
        "study": study,
        "seconds": total,
        "lines": len(ratios),
        "within_a_quarter": sum(abs(ratio - 1) <= QUARTER for _, ratio in ratios) / len(ratios),
        "told_over_true": {tenth: median(values) for tenth, values in tenths.items()},
    }
    print(result)
    write("time_left", result)


if __name__ == "__main__":
    main()
