"""Blocks of code of the site's pages run, and print what the pages show below them."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest
from tests.docs.tools import ROOT

DOCS = ROOT / "docs"
BLOCK = re.compile(r"```python\n(.*?)```\n+(?:```text\n(.*?)```)?", re.DOTALL)
NUMBER = re.compile(r"-?\d[\d.e+-]*")
MEASURES = sorted(each for each in (DOCS / "measures").glob("*.md") if "```python" in each.read_text())


def printed(page: Path) -> list[tuple[list[str], list[str]]]:
    """Lines that each block of a page prints, one after the other, and those that are shown below it."""
    space: dict[str, object] = {"__name__": "__main__"}
    found = []
    for code, shown in BLOCK.findall(page.read_text()):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(code, space)
        found.append((out.getvalue().splitlines(), shown.splitlines()))
    return found


@pytest.mark.slow
def test_ten_minutes_go_as_they_are_told() -> None:
    """Line by line, but for numbers, which are the processor's, and for the order of remedies."""
    blocks = printed(DOCS / "start" / "ten-minutes.md")
    assert len(blocks) == 6
    for lines, shown in blocks:
        plain = {NUMBER.sub("#", line) for line in lines}
        assert all(NUMBER.sub("#", line) in plain or line.startswith("activation ") for line in shown)
    before, after = blocks[0][0][0], blocks[4][0][0]
    assert float(before.split()[1]) < 0.2 < 0.9 < float(after.split()[1])


@pytest.mark.slow
@pytest.mark.parametrize("page", MEASURES, ids=lambda page: page.stem)
def test_a_measure_s_example_runs(page: Path) -> None:
    ((lines, _),) = printed(page)
    assert len(lines) >= 3
