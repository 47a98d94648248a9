"""The paper's study with a preset of seconds: `python small_study.py DIR`, as the command line runs it."""

from __future__ import annotations

import sys
from dataclasses import replace

from gradscape.cli import main
from gradscape.study import batchnorm

if __name__ == "__main__":
    batchnorm.PRESETS["quick"] = replace(
        batchnorm.PRESETS["quick"], epochs=3, train=80, baseline_seeds=1, shrink=10
    )
    sys.exit(main(["reproduce", "--out", sys.argv[1], "--workers", "2"]))
