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
@pytest.mark.parametrize("page", MEASURES, ids=lambda page: page.stem)
def test_a_measure_s_example_runs(page: Path) -> None:
    ((lines, _),) = printed(page)
    assert len(lines) >= 3
