"""The examples in docstrings run.

They are short: `gs`, a small `model` with its `optimizer`, `loss` and batches `(x, y)`, a watch `flow` of it
and a `study` are there already. What an example prints is compared where the docstring says what it is. One
that names a folder of runs is passed over.
"""

from __future__ import annotations

import doctest
import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradscape as gs
import synthetic
from gradscape.records.run import StudyRecord

PACKAGE = Path(gs.__file__).parent
# Their examples need a tracker, a folder of runs, or a study other than the one here.
LEFT_OUT = (
    "analysis.comparisons", "analysis.outcomes", "analysis.sweep_points", "integrations.export",
    "integrations.folder", "integrations.jsonl", "integrations.lightning", "integrations.sink",
    "integrations.trackers", "integrations.transformers", "live.start", "report.build",
    "report.figures.base", "report.figures.by_axis", "report.figures.heatmap",
    "report.figures.sweep_curves", "stats.rank_correlation", "storage.run_summary", "storage.watch_folder",
    "studies.batchnorm.claims", "studies.batchnorm.report", "studies.controls.claims",
    "studies.controls.report", "studies.remedies.claims", "studies.remedies.report",
    "studies.smoothing.claims", "studies.smoothing.report", "study.reproduction", "study.sweep.report",
    "train.early_stop",
)  # fmt: skip
MODULES = [
    ".".join(("gradscape", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for path in sorted(PACKAGE.rglob("*.py"))
    if re.search(r"^ *>>> ", path.read_text(encoding="utf-8"), re.MULTILINE)
]


class Said(doctest.OutputChecker):
    """Compare what is printed with what the docstring says, where it says something."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return not want or super().check_output(want, got, optionflags)


@cache
def study() -> StudyRecord:
    return synthetic.study(seeds=1)


def names() -> dict[str, Any]:
    def make_model() -> nn.Module:
        return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))

    torch.manual_seed(0)
    x, y, model = torch.randn(12, 8), torch.arange(12) % 2, make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flow = gs.watch(model, optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    return {
        "gs": gs, "gradscape": gs, "torch": torch, "nn": nn, "Path": Path, "x": x, "y": y, "batch": (x, y),
        "batches": list(zip(x.split(4), y.split(4), strict=True)), "make_model": make_model, "model": model,
        "optimizer": optimizer, "loss": cross_entropy, "flow": flow, "study": study(),
        "run": synthetic.run("vgg38", 0),
    }  # fmt: skip


# Seconds each: they train, or draw.
HEAVY = (
    "measure.check.check", "measure.curvature.curvature", "measure.landscape.landscape",
    "measure.coordinates.coordinate_check", "measure.lr_range.lr_range", "report.pages.save", "testing",
)  # fmt: skip


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name[10:] in HEAVY else [])
        for name in MODULES
        if name[10:] not in LEFT_OUT
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_the_examples_run(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(Said(), verbose=False, optionflags=doctest.ELLIPSIS)
    told: list[str] = []
    for example in doctest.DocTestFinder(exclude_empty=True).find(import_module(module)):
        example.examples = [each for each in example.examples if "runs/" not in each.source]  # of minutes
        if example.examples:
            example.globs |= {name: value for name, value in names().items() if name not in example.globs}
            runner.run(example, out=told.append)
    assert not told, "".join(told)
