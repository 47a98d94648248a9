"""Blocks of Python of the pages run, each page's one after the other; the others say in its source why not.

A block may use what stands before it on its page, and the names that `GIVEN` has: a model, its optimizer,
batches, a loop. A line that is `...` alone stands for that loop. Before a block that is not run stands
`<!-- not run: … -->`.
"""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest
from tests.docs.tools import ROOT

from gradscape.measure.watch.watch import Watch
from libraries import skip_without

DOCS = ROOT / "docs"
BLOCK = re.compile(r"^(?:<!-- not run: (.*?) -->\n)?```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
LOOP = re.compile(r"^( *)\.\.\.(?=\s*(?:#.*)?$)", re.MULTILINE)
PRINTED = ("watching.md", "measures.md", "commands.md")  # tests/test_readme.py holds what they print
MEASURES = sorted(each for each in (DOCS / "measures").glob("*.md") if "```python" in each.read_text())
PAGES = {
    str(path.relative_to(DOCS)): BLOCK.findall(path.read_text())
    for path in sorted(DOCS.rglob("*.md"))
    if str(path.relative_to(DOCS)) not in PRINTED and path not in MEASURES
}
NOT_RUN = {
    "compared.md": ["another tool's"] * 3 + ["needs a run of wandb", "another tool's", "other tools'"],
    "howto/clusters.md": ["needs a folder that nodes share"],
    "howto/techniques.md": ["needs a GPU", "needs several processes; tests/measure/watch have them"],
    "seeing.md": [
        "needs a notebook; tests/test_notebooks.py has one",
        "needs notify-send; tests/integrations have other programs",
        "serves a page until the process ends; tests/live do so",
    ],
    "statistics.md": ["needs the folder of a finished sweep"],
}
NEEDS = {"howto/trackers.md": "tensorboard", "howto/trainers.md": "accelerate"}
GIVEN = """
import torch
from torch import nn
import gradscape as gs

torch.manual_seed(0)

def make_net():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))

loss = loss_fn = nn.functional.cross_entropy
loader = batches = [(each, (each[:, 0] > 0).long()) for each in torch.randn(8, 32, 8)]
x, y = inputs, targets = batches[0]
model = make_net()
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

def train(model=model, optimizer=optimizer, steps=30):
    for x, y in (batches * steps)[:steps]:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()

def watched(seed=0):
    torch.manual_seed(seed)
    copy = make_net()
    optimizer = torch.optim.AdamW(copy.parameters(), lr=0.01)
    with gs.watch(copy, optimizer) as seen:
        train(copy, optimizer)
    return seen

flow = watched()
"""
MORE = {
    "seeing.md": "other, second, third = map(watched, (1, 2, 3))\n"
    "loader = [(place, *batch) for place, batch in enumerate(batches)]",
    "transformers.md": "layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)\n"
    "model = nn.TransformerEncoder(layer, 2)\n"
    "optimizer = torch.optim.AdamW(model.parameters())\n"
    "def train():\n    for x, _ in batches:\n        optimizer.zero_grad()\n"
    "        model(x.view(4, 8, 8)).square().mean().backward()\n        optimizer.step()",
}


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's, where it first loads inductor
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] * (page == "compared.md"))
        for page, blocks in PAGES.items()
        if any(not reason for reason, _ in blocks)
    ],
)
def test_the_blocks_of_a_page_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if library := NEEDS.get(page):
        skip_without(library)
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {"__name__": "page"}
    exec(GIVEN + MORE.get(page, ""), space)
    with contextlib.redirect_stdout(io.StringIO()):
        for reason, code in PAGES[page]:
            if not reason:
                exec(compile(LOOP.sub(r"\1train()", code), page, "exec"), space)
        for name, each in list(space.items()):
            if name.startswith("test_") and callable(each):
                each()
    for each in list(space.values()):
        if isinstance(each, Watch):
            each.close()


def test_blocks_that_are_not_run_are_these() -> None:
    marked = {page: sorted(reason for reason, _ in blocks if reason) for page, blocks in PAGES.items()}
    assert {page: reasons for page, reasons in marked.items() if reasons} == {
        page: sorted(reasons) for page, reasons in NOT_RUN.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("page", MEASURES, ids=lambda page: page.stem)
def test_a_measure_s_example_runs(page: Path) -> None:
    (code,) = (code for _, code in BLOCK.findall(page.read_text()))
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {"__name__": "__main__"})
    assert len(out.getvalue().splitlines()) >= 3
