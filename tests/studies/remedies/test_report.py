"""The figures, tables and page of the study of remedies, from runs that were never run."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

import synthetic
from drawings import assert_nothing_is_cut
from gradscape.analysis.claims import answer
from gradscape.records.run import StudyRecord
from gradscape.report.build import build
from gradscape.report.figures.base import Figure
from gradscape.report.tables import to_csv, to_latex, to_markdown
from gradscape.studies.remedies.claims import claims
from gradscape.studies.remedies.metrics import all_train
from gradscape.studies.remedies.report import PARTS, QUESTION, figures, overview, tables
from gradscape.studies.remedies.roles import REMEDIES
from html_pages import Reader
from remedied import RATES, SIGNAL, STORY, WHOLE, Shape, diverged, filled, nothing_run, run, study, trained


def cells(found: StudyRecord, place: int, role: str) -> dict[str, str]:
    """Column → cell of a role's row in one of the tables."""
    table = tables(found)[place]
    (row,) = [row for row in table.rows if row[0] == REMEDIES[role].label]
    return dict(zip(table.columns, row, strict=True))


def drawn(found: StudyRecord) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures(found)}


def test_tables_have_every_remedy_and_all_formats() -> None:
    every, predicts, rates, test = found = tables(study(WHOLE, rates=RATES))
    for table in (every, rates, test):
        assert [row[0] for row in table.rows] == [remedy.label for remedy in REMEDIES.values()]
    assert len(every.columns) == 16
    assert [row[:2] for row in predicts.rows] == [
        ("signal", "mean |∂L/∂W| of the first layer"),
        ("signal", "|slope| of the gradient over layers"),
        ("signal", "correlation of two images"),
        ("smoothness", "effective β"),
        ("smoothness", "Lipschitz estimate of the loss"),
        ("smoothness", "effective β, scale-free"),
        ("smoothness", "largest eigenvalue of the Hessian"),
        ("smoothness", "width of the basin at + 1 nat"),
    ]
    words = {name for t in found for name, side in zip(t.columns, t.alignment, strict=True) if side == "left"}
    assert words == {"remedy", "trains", "diagnosis", "kind", "number"}
    for table in found:
        assert to_csv(table).count("\n") == len(table.rows) + 1
        assert to_markdown(table).count("\n| ") == len(table.rows) + 2
        assert to_latex(table).isascii()


def test_a_remedys_row() -> None:
    found = cells(study(STORY, rates=RATES), 0, "bn+he")
    # An ellipse of semi-axes 1/√20 and 1/√40, between points of a grid.
    assert float(found.pop("width at +1").split(" ")[0]) == pytest.approx(800**-0.25, rel=0.05)
    assert found == {
        "remedy": "BatchNorm + He",
        "acc train": "0.530 ± 0.006",
        "acc valid": "0.500 ± 0.006",
        "trains": "2 of 2 (95 % 16 … 100 %)",
        "highest lr": "≥ 0.01",
        "gradient at init": "0.001 (all 2 equal)",
        "slope at init": "0.143 (all 2 equal)",
        "slope": "0.143 (all 2 equal)",
        "correlation at init": "0.3 ± 0.0038",
        "effective β": "20 ± 0.25",
        "β, scale-free": "180 ± 2.3",
        "λmax": "20 ± 0.25",
        "s/epoch": "12.5 (all 2 equal)",
        "diagnosis": "healthy",
        "seeds": "2 of 2",
    }


def test_a_basin_that_goes_on_beyond_its_plane_is_a_lower_bound() -> None:
    flat = synthetic.landscape(synthetic.bowl(0.1, 5))
    wide = dataclasses.replace(run("bn", 0, STORY["bn"]), landscape=flat)
    assert cells(study(STORY, replaced={"bn-s0": wide}), 0, "bn")["width at +1"].startswith("≥ ")


def test_diagnoses_are_told_together() -> None:
    assert cells(study(STORY), 0, "plain")["diagnosis"] == "vanishing"
    other = dataclasses.replace(run("plain", 0, STORY["plain"]), status={"diagnosis": {"verdict": "healthy"}})
    words = cells(study(STORY, replaced={"plain-s0": other}), 0, "plain")["diagnosis"]
    assert words == "1 of 2 does not learn, 1 of 2 vanishing"  # what ends at guessing is not healthy
    bare = {f"plain-s{seed}": trained("plain", seed, STORY["plain"]) for seed in range(2)}
    assert cells(study(STORY, replaced=bare), 0, "plain")["diagnosis"] == "–"


def test_learning_rates_have_a_cell_for_each_that_was_asked_for() -> None:
    lost = dict.fromkeys(("skip@0.01-s0", "skip@0.01-s1", "bn@0.01-s1"))
    found = study(STORY, rates=RATES, replaced=lost)
    assert cells(found, 2, "bn") == {
        "remedy": "BatchNorm",
        "lr 0.0001": "0.431 ± 0.006",
        "lr 0.001": "0.480 ± 0.006",
        "lr 0.01": "0.430",
        "highest that trains": "≥ 0.001",
    }
    row = cells(found, 2, "skip")
    assert (row["lr 0.0001"], row["lr 0.01"]) == ("–", "not run yet")


def test_what_predicts_accuracy_says_so_in_numbers() -> None:
    rows = {row[1]: row[2:] for row in tables(study(SIGNAL))[1].rows}
    gradient, alike = rows["mean |∂L/∂W| of the first layer"], rows["correlation of two images"]
    # All train, so that nothing tells whether one does. Two seeds of a remedy share a gradient.
    assert gradient[:2] == ("ρ = nan, n = 64 of 32 configurations",) * 2
    assert gradient[2].startswith("ρ = 1, 95 % interval 0.99")
    assert alike[2].startswith("ρ = -0.99")
    assert (alike[1], alike[3]) == ("–", "–")
    _, _, before, after = rows["width of the basin at + 1 nat"]
    assert before == "–"
    assert after.endswith("n = 4 of 2 configurations, 60 left out")


def test_a_remedy_not_run_has_reasons_in_its_cells() -> None:
    found = cells(nothing_run(study(STORY)), 0, "bn")
    assert found["acc valid"] == found["gradient at init"] == found["width at +1"] == "not run yet"
    assert (found["trains"], found["highest lr"], found["diagnosis"]) == ("–", "?", "–")
    assert found["seeds"] == "0 of 2"


@pytest.mark.slow
def test_figures_are_there_whole_and_one_is_wide() -> None:
    found = drawn(study(WHOLE, rates=RATES))
    letters = "abcdef"
    assert list(found) == [
        "figure-1", "figure-2a", "figure-2b", "figure-3a", "figure-3b", *(f"figure-4{x}" for x in letters),
        "figure-5a", "figure-5b", *(f"figure-6{x}" for x in letters),
    ]  # fmt: skip
    assert [name for name, figure in found.items() if figure.wide] == ["figure-1"]
    assert found["figure-4a"].title == "Figure 4a. Gradient flow of VGG38"
    assert found["figure-4d"].title == "Figure 4d. Gradient flow of VGG38 with BatchNorm + He"
    for figure in found.values():
        assert_nothing_is_cut(figure.drawing)


def test_the_overview_has_a_row_for_each_remedy_and_a_panel_for_each_number() -> None:
    accuracy, gradient, alike, rate, beta, sharpest = panels = overview(
        study(WHOLE, rates=RATES)
    ).drawing.axes
    assert [text.get_text() for text in accuracy.get_yticklabels()] == [r.label for r in REMEDIES.values()]
    assert accuracy.get_ylim() == (31.5, -0.5)  # the first on top
    means = [np.asarray(axes.collections[1].get_offsets()) for axes in panels]
    assert means[0][:, 1].tolist() == list(range(32))
    assert means[0][3, 0] == pytest.approx(WHOLE["glorot"].accuracy + 0.03 + 0.0005)
    (reference,) = accuracy.lines
    assert np.asarray(reference.get_xdata()).tolist() == [0.02, 0.02]
    assert [axes.get_xscale() for axes in panels] == ["linear", "log", "linear", "log", "log", "log"]
    assert {0, 2}.isdisjoint(means[3][:, 1])  # no rate trains the plain network and He's
    assert list(rate.get_xticks()) == [0.0001, 0.001, 0.01]
    assert means[4][0, 0] == pytest.approx(200 * 1.001**0.5)  # geometric
    assert [axes.get_xlabel() for axes in (gradient, alike, beta, sharpest)] == [
        "mean |∂L/∂W|, first layer", "correlation of two images", "effective β", "λmax after training",
    ]  # fmt: skip
    assert len(accuracy.patches) == 3  # every other group of six is shaded


@pytest.mark.slow
def test_missing_runs_are_in_captions_and_legends() -> None:
    lost = {"he-s0": None, "he-s1": None, "bn-s0": diverged(run("bn", 0, STORY["bn"]))}
    found = drawn(study(STORY, replaced=lost))
    for name in ("figure-1", "figure-2a", "figure-3a", "figure-5a"):
        assert "He: not run yet; BatchNorm: seed 0 diverged in epoch 2, step 17." in found[name].caption
    legend = found["figure-2a"].drawing.legends[0]
    assert [text.get_text() for text in legend.get_texts()][:2] == ["VGG38", "He (not run yet)"]
    for figure in found.values():
        assert_nothing_is_cut(figure.drawing)


@pytest.mark.parametrize("value", [0.0, pytest.param(math.nan, marks=pytest.mark.slow)])
def test_a_study_of_nothing_but_0_or_nan_is_drawn(value: float) -> None:
    shapes = dict.fromkeys(("plain", "he", "bn", "bn+he"), Shape(0.01, 1e-3, 1.0, 0.5))
    made = [filled(run(role, seed, shape), value) for role, shape in shapes.items() for seed in range(2)]
    found = study(shapes, replaced={each.identity: each for each in made})
    for figure in figures(found):
        assert_nothing_is_cut(figure.drawing)
    assert [len(table.rows) for table in tables(found)] == [4, 8, 4, 4]
    assert "Not testable here: BatchNorm smooths networks" in " ".join(answer(claims(found)))
    assert all_train(found, "plain") is False


@pytest.mark.usefixtures("undrawn")
def test_a_study_with_nothing_run_still_has_a_report(tmp_path: Path) -> None:
    html = build(nothing_run(study(STORY)), PARTS, tmp_path).page.read_text()
    assert QUESTION in html
    assert "0 of 10 runs done" in html
    assert "runs or measures are missing." in html


@pytest.mark.slow
def test_the_whole_page(tmp_path: Path) -> None:
    page = build(study(WHOLE, rates=RATES), PARTS, tmp_path).page
    text = re.sub(r"\s+", " ", " ".join(Reader(page.read_text()).text))
    places = [
        text.index(words)
        for words in (
            QUESTION,
            "R3 ? undecided",
            "R7 ✓ holds",
            "Figure 1. Every remedy",
            "Table 1. Every remedy",
        )
    ]
    assert places == sorted(places)
    found = json.loads((tmp_path / "claims.json").read_text())
    assert [claim["id"] for claim in found["claims"]] == [f"R{number}" for number in range(1, 11)]
    assert found["claims"][5]["parts"][0]["numbers"] == []
