"""The paper's study with a preset of seconds; `python small_study.py DIR [flags]` is `reproduce`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import gradscape.report.build
from gradscape.cli.main import main
from gradscape.studies import catalogue
from gradscape.studies.batchnorm import study as batchnorm
from gradscape.studies.batchnorm.roles import NETWORKS

# Measures of smoothness: one in each direction. More, spectra or landscapes would be most of its time.
SMALL = replace(
    batchnorm.PRESETS["quick"],
    epochs=3,
    train=80,
    valid=20,
    key_seeds=1,
    shrink=10,
    measures=2,
    curvature=0,
    landscape=0,
    keep_every=0,
    together=1,
)

# Two rates and three sizes: 8 of the 15 runs, each kind among them.
AXES = {"LEARNING_RATES": (0.001, 0.05), "BATCH_SIZES": (50, 100, 800)}
STUDY = replace(batchnorm.BATCHNORM, key=tuple(NETWORKS))  # the other rates are no roles of it

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[1]))
    from undrawn import rendering

    gradscape.report.build.rendering = rendering
    batchnorm.PRESETS["quick"] = SMALL
    catalogue.STUDIES = {**catalogue.STUDIES, "batchnorm": STUDY}
    for name, values in AXES.items():
        setattr(batchnorm, name, values)
    sys.exit(main(["reproduce", "--out", *sys.argv[1:], "--workers", "2"]))
