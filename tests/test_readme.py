"""README and docs keep their word: the example runs, numbers are the committed ones, flags exist."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest

from gradscape.cli.app import parse
from gradscape.cli.main import app

ROOT = Path(__file__).parents[1]
MOST_LINES = 130  # of the README
FILLED = (  # with measured numbers
    "README.md", "docs/accuracy.md", "docs/distributed.md", "docs/distributions.md", "docs/failures.md",
    "docs/howto/techniques.md", "docs/measures.md", "docs/networks.md", "docs/performance.md",
    "docs/seeing.md", "docs/statistics.md", "docs/studies.md", "docs/sweeps.md", "docs/transformers.md",
    "docs/watching.md", "docs/widths.md",
)  # fmt: skip
PAGES = (*FILLED, "docs/checking.md", "docs/commands.md", "docs/programs.md")


def programs(page: str) -> list[str]:
    """The blocks of Python of a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= MOST_LINES


def printed(code: str, folder: Path) -> str:
    """What a program prints that is run in a folder."""
    out = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out):
        exec(code, {"__name__": "__main__"})
    return out.getvalue()


@pytest.mark.slow
def test_the_example_runs_as_printed(tmp_path: Path) -> None:
    """The same runs, and what they show; the digits are the processor's."""
    (code,) = programs("docs/commands.md")
    assert len(code.splitlines()) <= 15
    lines, shown = (
        text.strip().splitlines()
        for text in (printed(code, tmp_path), printed_below("docs/commands.md", code))
    )
    assert [line.split(":")[0] for line in lines] == [line.split(":")[0] for line in shown]
    plain, bn = ([float(n) for n in re.findall(r"([\d.]+) (?:train|valid)", line)] for line in lines[::2])
    first = [float(line.split(": ")[1].split(" … ")[0]) for line in lines[1::2]]
    assert max(plain) < 0.2 < 0.4 < min(bn)
    assert first[0] < 1e-8 < 1e-4 < first[1]


def printed_below(page: str, code: str) -> str:
    """What a page shows below a block of code."""
    return (ROOT / page).read_text().split(code)[1].split("```")[2].strip()


@pytest.mark.parametrize("page", ["README.md", "docs/watching.md"])
def test_the_watched_training_is_diagnosed_as_printed(page: str, tmp_path: Path) -> None:
    """Up to the last digits of its numbers, which are the processor's."""
    (code,) = programs(page)
    shown = printed_below(page, code)
    number = re.compile(r": [\d.e+-]+ \(")
    assert number.sub(": (", printed(code, tmp_path).strip()) == number.sub(": (", shown)


@pytest.mark.slow
def test_the_measures_run_as_printed(tmp_path: Path) -> None:
    text = printed(programs("docs/measures.md")[0], tmp_path)
    assert "along SGD's step: loss" in text
    assert "largest eigenvalues" in text
    assert "edge of stability at 2" in text
    assert "noise scale" in text
    assert re.search(r"^steepest .*; take ", text, re.MULTILINE)


@pytest.mark.slow
def test_the_landscape_is_drawn_as_printed(tmp_path: Path) -> None:
    text = printed(programs("docs/measures.md")[1], tmp_path)
    assert "loss over 17 × 17 points (filter-normalized direction 1, filter-normalized direction 2)" in text
    assert "between the points interpolation is off by" in text
    assert "Plotly" in (tmp_path / "plane.html").read_text()


def script(name: str) -> ModuleType:
    """A script of `benchmarks/`."""
    path = ROOT / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


def test_every_page_with_measured_numbers_is_looked_at() -> None:
    assert sorted(script("readme").PAGES) == sorted(FILLED)


@pytest.mark.parametrize("page", FILLED)
def test_its_numbers_are_the_committed_ones(page: str) -> None:
    assert script("readme").filled(page) == (ROOT / page).read_text(), "type: python benchmarks/readme.py"


TABLES = sorted((ROOT / "benchmarks" / "results").glob("training-*.md"))


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_tables_beside_the_results_say_the_same(path: Path) -> None:
    assert path.read_text() == script("tables").training(path.stem.removeprefix("training-")) + "\n"


@pytest.mark.parametrize("page", PAGES)
def test_its_links_and_pictures_are_there(page: str) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / target).exists(), target


COMMANDS = [
    line.split("#")[0].strip()
    for page in PAGES
    for line in (ROOT / page).read_text().splitlines()
    if line.startswith("gradscape ")
]


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_are_understood(command: str) -> None:
    assert parse(app, shlex.split(command)[1:]).func


@pytest.mark.parametrize("page", PAGES)
def test_make_has_the_targets_it_names(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:`|^)make (\w+)", (ROOT / page).read_text(), re.MULTILINE):
        assert f"\n{target}:" in makefile
