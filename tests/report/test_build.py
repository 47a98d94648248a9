import dataclasses
import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from string import ascii_letters, digits

import pytest

import synthetic
from gradscape.analysis.claims import Claim, above
from gradscape.errors import ConfigError, StoreError
from gradscape.records.run import StudyRecord
from gradscape.report.build import ReportParts, build, require_own
from gradscape.report.figures.base import Figure, render
from gradscape.report.figures.gradient_flow import flow_figure
from gradscape.report.pages.overview import Overview
from gradscape.report.pages.study import study_page
from gradscape.report.tables import Table
from gradscape.studies.batchnorm.report import PARTS
from html_pages import Reader, contents
from undrawn import PICTURES

Once = Callable[[str, Callable[[Path], object]], Path]


def first_panels(study: StudyRecord) -> list[Figure]:
    return [figure for figure in PARTS.figures(study) if figure.name[-1] in "12a"]


FIRST_PANELS = dataclasses.replace(PARTS, figures=first_panels)


def build_with_svgs(study: StudyRecord, folder: Path, parts: ReportParts = PARTS, drawn: str = "12a") -> None:
    """Build with the drawings that the page shows, of figures whose names end so; other files are empty."""

    @contextmanager
    def svg_alone(figures: Sequence[Figure]) -> Iterator[Callable[[Figure], dict[str, bytes]]]:
        yield lambda figure: {**PICTURES, **(render(figure, ["svg"]) if figure.name[-1] in drawn else {})}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gradscape.report.build.rendering", svg_alone)
        build(study, parts, folder)


@pytest.fixture(scope="module")
def whole(once: Once) -> Path:
    return once("whole", lambda folder: build_with_svgs(synthetic.study(2), folder))


@pytest.fixture(scope="module")
def drawn(once: Once) -> Path:
    """`whole` with every figure's picture."""
    return once(
        "drawn", lambda folder: build_with_svgs(synthetic.study(2), folder, drawn=ascii_letters + digits)
    )


@pytest.fixture(scope="module")
def broken(once: Once) -> Path:
    return once("broken", lambda folder: build_with_svgs(synthetic.broken_study(), folder, FIRST_PANELS))


@pytest.mark.slow
@pytest.mark.long  # with those of its parts
def test_building_again_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("here", "there"):
        build(synthetic.study(2), FIRST_PANELS, tmp_path / name)
    files = contents(tmp_path / "here")
    assert files == contents(tmp_path / "there")
    assert sum(name.endswith(".pdf") for name in files) == 8
    assert not any(str(tmp_path).encode() in data for data in files.values())


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("figures_too", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_what_stands_beside_the_figures_has_the_same_bytes_again(tmp_path: Path, figures_too: bool) -> None:
    figures = PARTS.figures(synthetic.study(2))
    parts = PARTS if figures_too else dataclasses.replace(PARTS, figures=lambda study: figures)
    for name in ("here", "there"):
        report = build(synthetic.study(2), parts, tmp_path / name)
        assert report.page == tmp_path / name / "index.html"
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def test_what_is_written(whole: Path) -> None:
    panels = ["1a", "1b", "1c", "1d", "2", "2b", "3a", "3b", "3c", "3d", "4a", "4b", "4c", "4d", "5a", "5b"]
    panels += [
        "6a",
        "6b",
        "6c",
        "6d",
        *(f"7{letter}" for letter in "abcde"),
        *(f"8{letter}" for letter in "abcdef"),
    ]
    assert set(contents(whole)) == {
        "index.html",
        "surfaces.html",
        "claims.json",
        *(f"figures/figure-{name}.{ending}" for name in panels for ending in ("svg", "png", "pdf")),
        *(f"tables/table-{name}.{ending}" for name in range(1, 7) for ending in ("csv", "md", "tex")),
    }


def test_nothing_tells_where_or_when(whole: Path) -> None:
    for data in contents(whole).values():
        assert str(whole).encode() not in data
        assert str(Path.home()).encode() + b"/" not in data


@pytest.mark.parametrize("which", ["whole", "broken", pytest.param("drawn", marks=pytest.mark.slow)])
def test_page_is_whole_and_self_contained(which: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(which)
    html = (folder / "index.html").read_text()
    read = Reader(html)
    assert not {tag for tag, _, _ in read.attributes} & {"iframe", "img"}
    assert html.count("<script") == 2  # the runs' data, and the page's own
    assert '"live":false' in html, "no server is asked"
    assert not re.search(r"(?:url\(|@import)\s*['\"]?(?!#)", html), "nothing is fetched by the styles"
    ids = Counter(read.values("id"))
    for value in read.values("href") + read.values("src"):
        if value.startswith("#") and "=" in value:
            assert value == "#runs="  # a view of the page's script
        elif value.startswith("#"):
            assert value[1:] in ids
        else:
            assert value == "data:," or (folder / value).is_file(), value
    assert [name for name, n in ids.items() if n > 1] == []
    assert set(read.values("aria-labelledby")) <= set(ids)


@pytest.mark.parametrize(
    ("which", "count"), [("whole", 31), ("broken", 8), pytest.param("drawn", 31, marks=pytest.mark.slow)]
)
def test_every_svg_is_well_formed(which: str, count: int, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(which)
    for path in (folder / "figures").glob("*.svg"):
        ET.parse(path)
    shown = re.findall(r"<svg\b.*?</svg>", (folder / "index.html").read_text(), re.DOTALL)
    for svg in shown:
        ET.fromstring(svg)
    assert len(shown) == 4 + count  # beside the four of the first figure


def test_first_screen_comes_first_and_verdicts_are_words(whole: Path) -> None:
    text = re.sub(r"\s+", " ", " ".join(Reader((whole / "index.html").read_text()).text))
    places = [
        text.index(words)
        for words in (
            "How does BatchNorm solve the vanishing gradients problem?",
            "Without BatchNorm VGG08 trains and VGG38 does not.",
            "Depth, gradients and accuracy",
            "C1 ✓ holds Depth fails",
            "C8 ✓ holds Larger batches",
            "These runs depart from the paper (Investigating the Optimization of Convolutional Networks",
            "), and verdicts are about these: 8 epochs",
            "Figures Tables Claims Runs",
            "Figure 1a. Gradient flow of VGG38",
            "Table 1. Learning rates",
            "Claims in detail",
        )
    ]
    assert places == sorted(places)
    assert "versions torch 2.13.0 device cpu threads 1" in text


def test_a_study_of_one_s_own_departs_from_no_paper(tmp_path: Path) -> None:
    nothing = ReportParts(figures=lambda study: (), tables=lambda study: (), claims=lambda study: ())
    text = build(synthetic.study(1), nothing, tmp_path).page.read_text()
    assert "8 epochs" in text
    assert "depart from" not in text


def test_nothing_in_a_study_of_one_s_own_is_said_to_be_a_papers(tmp_path: Path) -> None:
    study, band = synthetic.study(1, epochs=2), (1e-6, 1e-2)
    found = [
        Claim(f"A{place}", "Depth", "It matters.", where, ())
        for place, where in enumerate(("of our own", "§5"))
    ]
    own = ReportParts(
        figures=lambda study: [flow_figure(study, "figure-1", "Flow", "Flows", "vgg38", band)],
        tables=lambda study: (),
        claims=lambda study: found,
        overview=Overview("Depth", ("vgg38",), band),
    )
    build_with_svgs(study, tmp_path, own)
    text = (tmp_path / "index.html").read_text()
    assert "shaded the range from 1e-06 to 0.01." in text
    assert "Shaded: 1e-06 to 0.01." in text
    assert "paper finds" not in text
    assert "Of our own.</span>" in text
    assert "Paper: §5.</span>" in text


def test_text_is_escaped(whole: Path) -> None:
    html = (whole / "index.html").read_text()
    assert "Images are &lt;em&gt;small&lt;/em&gt; &amp; few." in html
    study = synthetic.study(1)
    hostile = dataclasses.replace(study, preset="<script>alert(1)</script>")
    page = study_page(hostile, "<b>?", ["a < b"], [], {}, [], [])
    assert page.count("<script") == 2
    assert "&lt;script&gt;alert(1)" in page


def test_a_part_s_interval_is_told_once_beside_its_limit() -> None:
    part = above("log10 of a gradient", {0: -3.75, 1: -3.71, 2: -3.88}, -4)
    claim = Claim("C3", "In range", "It stays in range.", "Fig. 2", (part,))
    page = study_page(synthetic.study(1), "?", ["."], [], {}, [], [claim])
    cell = page.split("<br>-3.78, ")[1].split("</td>")[0]
    assert cell == "95 % interval -4.001 … -3.56, n = 3"


def test_the_page_names_what_is_missing(broken: Path) -> None:
    html = (broken / "index.html").read_text()
    for words in (
        "20 of 30 runs done",
        "diverged in epoch 5, step 3",
        "running, 3 of 8 epochs done",
        "failed after 0 of 8 epochs",
        "batch-800-s0",
    ):
        assert words in html


def test_claims_json(whole: Path) -> None:
    found = json.loads((whole / "claims.json").read_text())
    assert (found["study"], found["preset"]) == ("batchnorm", "quick")
    assert [claim["id"] for claim in found["claims"]] == [f"C{i}" for i in range(1, 10)]
    part = found["claims"][0]["parts"][0]
    assert set(part) == {
        "measured", "rule", "n", "numbers", "interval", "verdict", "reason", "p", "p_against_after_holm",
    }  # fmt: skip
    assert (part["n"], len(part["numbers"]), part["interval"]["n"]) == (2, 2, 2)


@pytest.mark.usefixtures("undrawn")
def test_a_study_with_nothing_run_still_has_a_report(tmp_path: Path) -> None:
    roles = {role: synthetic.study(1).roles[role] for role in synthetic.ACCURACY}
    asked = {"title": "Why?", "data": "cifar100", "seeds": [0], "notes": []}
    empty = StudyRecord("batchnorm", "paper", asked, roles, {})
    html = build(empty, PARTS, tmp_path).page.read_text()
    assert "0 of 15 runs done" in html
    assert "runs or measures are missing." in html


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write .*file"):
        build(synthetic.study(1), PARTS, tmp_path / "file" / "report")


@pytest.mark.parametrize("what", ["figures", "tables", "claims"])
def test_two_of_one_name_are_refused(tmp_path: Path, what: str) -> None:
    nothing = dict.fromkeys(("figures", "tables", "claims", "pages"), lambda study: [])
    twice = ReportParts(**{**nothing, what: lambda study: 2 * [getattr(PARTS, what)(study)[0]]})  # type: ignore[arg-type]
    name = {"figures": "figure-1a", "tables": "table-1", "claims": "C1"}[what]
    with pytest.raises(ConfigError, match=f"{what}: two are named '{name}'; give each a name of its own"):
        build(synthetic.study(1, epochs=1), twice, tmp_path / "report")
    assert not (tmp_path / "report" / "index.html").exists()


def test_a_report_that_was_interrupted_is_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder is not taken for somebody else's: the command says to be given again."""

    def interrupt(study: StudyRecord, claims: Sequence[Claim]) -> bytes:
        raise KeyboardInterrupt

    own = dataclasses.replace(PARTS, figures=lambda study: [], overview=None)
    with monkeypatch.context() as patch:
        patch.setattr("gradscape.report.build._claims_json", interrupt)
        with pytest.raises(KeyboardInterrupt):
            build(synthetic.study(1, epochs=1), own, tmp_path / "report")
    assert any((tmp_path / "report" / "tables").iterdir())
    assert "give the same command again" in (tmp_path / "report" / "index.html").read_text()
    require_own(tmp_path / "report")
    page = build(synthetic.study(1, epochs=1), own, tmp_path / "report").page.read_text()
    assert "give the same command again" not in page


@pytest.mark.parametrize("name", ["../evil", "rate 1/8", "", "x" * 101])
def test_a_name_that_is_no_files_is_refused(tmp_path: Path, name: str) -> None:
    table = Table(name, "", "", ("a",), (("1",),))
    own = ReportParts(figures=lambda study: (), tables=lambda study: [table], claims=lambda study: ())
    with pytest.raises(ConfigError, match=r"tables: .* names files; expected up to 100 letters, digits"):
        build(synthetic.study(1, epochs=1), own, tmp_path / "report")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []
