"""Scripts of the gallery are short and known to it, notebooks hold no outputs; `make docs` runs them all."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import yaml
from matplotlib.colors import to_hex
from tests.docs.tools import ROOT, TOOLS, made, tool

import gradscape

SCRIPTS = sorted((ROOT / "examples" / "gallery").glob("*.py"))
MOST_LINES = 30  # of code


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_short_and_says_what_one_sees(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    end = tree.body[0].end_lineno
    assert len([line for line in text.splitlines()[end:] if line.strip()]) <= MOST_LINES
    title, empty, *body = (ast.get_docstring(tree) or "").split("\n")
    assert not title.endswith(".")
    assert empty == ""
    assert 2 <= len(re.findall(r"[.!?](?= [A-Z]|$)", " ".join(body))) <= 5


def test_the_gallery_has_them_all_and_verdicts_lead_to_them(tmp_path: Path) -> None:
    pages = made("verdict_pages", tmp_path)
    with tool("gallery_entries") as gallery:
        entries = gallery.entries()
    assert sorted(entry.path for entry in entries) == SCRIPTS
    assert len(entries) >= 12
    verdicts = {verdict: entry for entry in entries for verdict in entry.verdicts}
    assert {"vanishing", "dead units", "non-finite", "gradients not cleared"} <= set(verdicts)
    for verdict, entry in verdicts.items():
        page = pages[f"verdicts/{verdict.replace(' ', '-')}.md"]
        assert f"## See it happen\n\n- [{entry.title}](../gallery/{entry.slug}.md)" in page


def test_a_script_runs_in_its_own_folder_and_is_drawn_twice(tmp_path: Path) -> None:
    script = tmp_path / "drawn.py"
    script.write_text(
        "import matplotlib.pyplot as plt, pathlib\npathlib.Path('left').touch()\n"
        "print('seen:', plt.plot([1, 2], label='a')[0].get_label())\nplt.legend()\n"
    )
    before = plt.rcParams["axes.edgecolor"]
    with tool("run_script") as run_script:
        ran = run_script.run(script, tmp_path / "pictures")
    assert (ran.printed, ran.pictures) == ("seen: a", 1)
    assert plt.rcParams["axes.edgecolor"] == before
    pictures = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert pictures == ["drawn-1-dark.png", "drawn-1-light.png"]
    assert not Path("left").exists()


def test_a_dark_drawing_keeps_the_colors_of_data() -> None:
    with tool("run_script") as run_script:
        ink, dark = run_script.INK, run_script.DARK
        figure, axes = plt.subplots()
        (line,) = axes.plot([1, 2], color="#0072b2", label="a")
        title = axes.set_title("t", color=ink)
        (bar,) = axes.bar([1], [1], facecolor="none", edgecolor=ink)
        run_script.recolor(figure, dark)
    assert to_hex(title.get_color()) == to_hex(bar.get_edgecolor()) == dark[ink]
    assert bar.get_facecolor()[3] == 0
    assert line.get_color() == "#0072b2"
    plt.close(figure)


def test_a_script_that_does_not_say_what_it_must_is_named() -> None:
    with tool("gallery") as gallery:
        (entry, *_) = gallery.entries()
        assert gallery.missing(entry, "\n".join(entry.prints)) == []
        (line,) = gallery.missing(entry, "gain 1.7: healthy")
    assert line == "vanishing_mlp.py: does not print 'gain 0.5: vanishing, beginning at ':\ngain 1.7: healthy"


NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


def test_every_notebook_is_executed_for_a_page() -> None:
    expected = yaml.safe_load((TOOLS / "notebooks.yaml").read_text())
    with tool("places") as places:
        shown = {ROOT / name for name in places.ELSEWHERE if name.endswith(".ipynb")}
    assert sorted(shown) == NOTEBOOKS
    assert sorted(expected) == [path.stem for path in NOTEBOOKS]
    assert all(len(patterns) >= 5 for patterns in expected.values())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs_and_knows_its_names(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] for cell in cells if cell["cell_type"] == "code")
    names = {name for text in code for name in re.findall(r"\bgs\.(\w+)", text)}
    assert names <= set(gradscape.__all__)
    text = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    for target in re.findall(r"\]\((?![a-z]+:)([^)#\s]+)", text):
        assert (path.parent / target).exists(), target


def test_what_a_notebook_prints_is_held_against_its_patterns_in_order() -> None:
    with tool("notebooks") as notebooks:
        assert notebooks.missing("a 1\nb 2\na 3", ["^a 1", "^b", "a 3$"]) == []
        assert notebooks.missing("a 1\nb 2", ["^b", "^a", "^c"]) == ["^a", "^c"]
