"""Links between pages lead somewhere, on the forge and, rewritten, on the documentation's site."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.tools import ROOT, TOOLS, tool

import gradscape

PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), ROOT / "llms.txt"])
FENCED = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Anchors that a forge gives to the headings of a page."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    return {f"{slug}-{n}" if n else slug for slug, most in found.items() for n in range(most + 1)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere_on_the_forge(page: Path) -> None:
    text = FENCED.sub("", page.read_text())
    for target in re.findall(r"\]\((?![a-z]+:)([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), target


CODE = [
    (page, code)
    for page in PAGES
    for code in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
]


def test_blocks_of_python_are_python_and_know_the_names_they_use() -> None:
    """So do those that tests/docs/test_code_blocks.py does not run."""
    assert len(CODE) > 20
    for page, code in CODE:
        names = {
            node.attr
            for node in ast.walk(ast.parse(code, str(page)))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "gs"
        }
        assert names <= set(gradscape.__all__), page


def test_links_are_rewritten_for_the_site(tmp_path: Path) -> None:
    written = (
        "[a](../README.md#x) [b](sweeps.md) [c](../benchmarks/keep.py) [benchmarks](../benchmarks)\n"
        "[d](../benchmarks) ![e](../benchmarks/results/widths.png) [f](https://a.org) [g](#h)\n"
        '<img src="../benchmarks/results/widths.png">\n```\n[a](../README.md)\n```\n'
    )
    with tool("staging") as staging:
        staging.STAGE, staging.FILES = tmp_path / "stage", tmp_path / "files"
        places = dict(staging.pages())
        read = staging.rewritten(written, ROOT / "docs" / "widths.md", Path("measures/widths.md"), places)
    assert read == (
        "[a](../project/readme.md#x) [b](../sweeps.md) [c](site:../files/benchmarks/keep.py.txt) benchmarks\n"
        "d (`../benchmarks`) ![e](../pictures/benchmarks/results/widths.png) [f](https://a.org) [g](#h)\n"
        '<img src="../files/benchmarks/results/widths.png">\n```\n[a](../README.md)\n```\n'
    )
    assert (tmp_path / "files/files/benchmarks/keep.py.txt").read_bytes() == (
        ROOT / "benchmarks/keep.py"
    ).read_bytes()


def test_the_meanings_of_verdicts_are_pages_on_the_site() -> None:
    with tool("staging") as staging:
        written = "[what each means](../tools/documentation/verdict_meanings.yaml)"
        places = staging.destinations()
        read = staging.rewritten(written, ROOT / "docs" / "watching.md", Path("watching.md"), places)
    assert read == "[what each means](verdicts/index.md)"


def test_the_list_for_language_models_leads_to_pages_of_the_site(tmp_path: Path) -> None:
    with tool("staging") as staging:
        staging.FILES = tmp_path
        staging.stage_llms()
        pages = {str(place.with_suffix(".html")) for place in staging.destinations().values()}
    targets = re.findall(r"\]\((?![a-z]+:)([^)\s]+)\)", (tmp_path / "llms.txt").read_text())
    assert len(targets) > 20
    assert set(targets) <= pages


def test_a_picture_is_shown_in_light_and_dark(tmp_path: Path) -> None:
    figure = "results/batchnorm-quick-digits/figures/figure-2b.svg"
    with tool("staging") as staging:
        staging.STAGE = tmp_path
        page = ROOT / "docs" / "studies.md"
        read = staging.rewritten(f"![a b](../{figure})", page, Path("studies.md"), {})
        (light, dark) = re.findall(r"!\[a b\]\((\S+?)\)\{\.only-(?:light|dark)\}", read)
        ink, ground = staging.dark_twin.__globals__["INK"], staging.dark_twin.__globals__["GROUND"]
    assert (tmp_path / light).read_bytes() == (ROOT / figure).read_bytes()
    assert ink in (tmp_path / light).read_text()
    assert ink not in (tmp_path / dark).read_text()
    assert ground not in (tmp_path / dark).read_text()


def test_results_hold_what_pages_show_and_no_more() -> None:
    kept = [path for path in (ROOT / "results").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in kept) < 5_000_000
    text = "".join(page.read_text() for page in [*PAGES, *(ROOT / "examples").rglob("*.ipynb")])
    for path in kept:
        assert path.parent.name == "figures" or path.suffix in (".json", ".csv", ".md"), path
        assert path.parent.name != "figures" or path.relative_to(ROOT).as_posix() in text, path


def test_a_site_with_broken_links_or_foreign_scripts_is_complained_about(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<a href="b.html#there">1</a><a href="b.html#gone">2</a><a href="c.html">3</a>'
        '<script src="https://cdn.org/x.js"></script><a href="https://a.org">4</a>'
    )
    (tmp_path / "b.html").write_text('<h1 id="there">b</h1>')
    (tmp_path / "s.css").write_text("@import url(https://fonts.org/x.css)")
    with tool("site_check") as site_check:
        found = sorted(site_check.complaints(tmp_path))
    assert found == [
        "a.html: loads https://cdn.org/x.js from elsewhere",
        "a.html: nothing is at b.html#gone",
        "a.html: nothing is at c.html",
        "s.css: loads something from elsewhere",
    ]


def test_docstrings_are_escaped_outside_code_and_examples() -> None:
    lines = ["max |ΔL| of `a_` and *b_", "(L) one", ">>> x_ * y", "", "c_ \\"]
    with tool("docstring_text") as docstring_text:
        docstring_text.escape(None, "", "", None, None, lines)
    assert lines == [r"max \|ΔL\| of ``a_`` and \*b\_", r"\(L) one", ">>> x_ * y", "", r"c\_ \\"]


def test_without_its_packages_the_build_says_what_to_type() -> None:
    hide = "import sys, runpy; sys.modules['furo'] = None; import importlib.util as u; f = u.find_spec; "
    hide += "u.find_spec = lambda n, p=None: None if n == 'furo' else f(n, p); "
    run = f"runpy.run_path({str(TOOLS / 'build.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", hide + run], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "furo" in done.stderr
    assert "pip install -c constraints.txt '.[docs]'" in done.stderr
