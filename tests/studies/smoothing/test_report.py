"""Figures, tables and answer of the smoothing study, from runs that were never run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import pytest
from matplotlib.axes import Axes

from drawings import assert_nothing_is_cut, texts
from gradscape.records.encoding import Values
from gradscape.records.run import RunRecord, StudyRecord
from gradscape.report.figures.base import Figure
from gradscape.report.figures.spectrum import spectrum_figure
from gradscape.report.tables import to_csv, to_latex, to_markdown
from gradscape.studies.smoothing.measures import MEANING
from gradscape.studies.smoothing.panels import BY_LOSS, BY_STEP, Across, pair_figure
from gradscape.studies.smoothing.report import PARTS, figures, overview, own_rates, same_rate, tables
from gradscape.studies.smoothing.roles import PAIRS
from smoothed import GUESS, NORMED, PLAIN, diverged, run, study

BN, NONE = PAIRS[0]


def named(found: StudyRecord) -> Mapping[str, Figure]:
    return {figure.name: figure for figure in figures(found)}


def points(axes: Axes, line: int) -> Values:
    """(T, 2) places and values of a line."""
    return np.array(axes.lines[line].get_data()).T


@pytest.fixture(scope="module")
def whole() -> Mapping[str, Figure]:
    return named(study())


@pytest.fixture(scope="module")
def learned() -> Mapping[str, Figure]:
    return named(study(replaced=learning(BN) | learning(NONE)))


def learning(role: str) -> dict[str, RunRecord]:
    """Three epochs: at guessing, between, and again between in another bin."""
    shape = NORMED if "-bn" in role else PLAIN
    made = [run(role, seed, shape, (GUESS, 2.0, 1.0)) for seed in range(3)]
    return {each.identity: each for each in made}


ONE_OF_EACH_KIND = ("figure-1", "figure-2a", "figure-2c", "figure-2d", "figure-3a", "figure-4b", "figure-6b")


def test_figures_are_drawn_and_nothing_is_cut(whole: Mapping[str, Figure]) -> None:
    assert list(whole) == [
        "figure-1", "figure-2a", "figure-2b", "figure-2c", "figure-2d",
        *(f"figure-{number}{letter}" for number in (3, 4, 5) for letter in "abc"),
        "figure-6a", "figure-6b",
    ]  # fmt: skip
    for name in ONE_OF_EACH_KIND:
        assert_nothing_is_cut(whole[name].drawing)
    assert all(whole[f"figure-{number}a"].wide for number in (3, 4, 5))


@pytest.mark.slow
def test_nothing_of_any_figure_is_cut(whole: Mapping[str, Figure]) -> None:
    for figure in (*whole.values(), *named(study(replaced=LOST)).values()):
        assert_nothing_is_cut(figure.drawing)


def test_figure_1_has_every_ratio_on_one_scale(whole: Mapping[str, Figure]) -> None:
    axes = whole["figure-1"].drawing.axes
    assert [each.get_xlabel() for each in axes] == [
        "β relative to size", "λmax times ‖w‖²", "Lipschitz estimate", "effective β", "λmax",
    ]  # fmt: skip
    assert len({each.get_xlim() for each in axes}) == 1
    assert [label.get_text() for label in axes[0].get_yticklabels()] == [
        "VGG08, default weights", "VGG08", "VGG14", "VGG20",
    ]  # fmt: skip
    seeds, means, own_seeds, _ = (np.asarray(dots.get_offsets()) for dots in axes[3].collections[:4])
    assert seeds[:, 0] == pytest.approx([0.01 * 10 ** (0.01 * seed) for seed in range(3)] * 4)
    assert means[:, 0] == pytest.approx([0.01 * 10**0.01] * 4)
    assert len(own_seeds) == 9  # PyTorch's weights are at one rate
    assert [each.get_legend() is not None for each in axes] == [True, False, False, False, False]


def test_panels_over_the_loss_have_one_scale_and_fall(learned: Mapping[str, Figure]) -> None:
    panels = learned["figure-3c"].drawing.axes
    assert [axes.get_title() for axes in panels] == ["VGG08, default weights", "VGG08", "VGG14", "VGG20"]
    assert len({axes.get_ylim() for axes in panels}) == len({axes.get_xlim() for axes in panels}) == 1
    left, right = panels[0].get_xlim()
    assert left > right == 0
    share = [loss / math.log(100) for loss in (1.0, 2.0, GUESS)]
    bins = [math.floor(10 * each) / 10 + 0.05 for each in share]
    assert points(panels[1], 0) == pytest.approx(np.array([(x, 10**0.01) for x in bins]))
    assert points(panels[1], 1) == pytest.approx(np.array([(x, 100.0) for x in bins]))
    band = panels[1].collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((1.0, 10**0.02))
    assert panels[0].get_yscale() == "log"


def test_panels_over_steps_are_along_the_real_step(learned: Mapping[str, Figure]) -> None:
    panels = learned["figure-4c"].drawing.axes
    assert points(panels[1], 1) == pytest.approx(np.array([(3.0, 100.0), (12.0, 100.0), (21.0, 100.0)]))
    assert "along the optimizer's real step" in learned["figure-4c"].caption


def test_figure_5_is_at_the_best_rates_and_names_them() -> None:
    better = {f"{BN}@0.01": NORMED._replace(accuracy=0.9, relative=0.5)}
    found = study(better)
    assert next(iter(own_rates(found))) == "VGG08, lr 0.01 and 0.001"
    assert own_rates(found)["VGG08, lr 0.01 and 0.001"] == (f"{BN}@0.01", NONE)
    panels = named(found)["figure-5a"].drawing.axes
    assert points(panels[0], 0)[0][1] == pytest.approx(0.5 * 10**0.01)
    assert list(same_rate(found)) == ["VGG08, default weights", "VGG08", "VGG14", "VGG20"]


@pytest.mark.parametrize("across", [BY_LOSS, BY_STEP], ids=["loss", "step"])
def test_measures_that_are_not_there_are_said(across: Across) -> None:
    bare = {}
    for role in PAIRS[0]:
        for seed in range(3):
            made = run(role, seed, PLAIN)
            epochs = tuple(dataclasses.replace(each, smoothness=()) for each in made.epochs)
            bare[made.identity] = dataclasses.replace(made, epochs=epochs)
    found = study(replaced=bare)
    two = {"a": PAIRS[0], "b": PAIRS[1]}
    drawn = pair_figure(found, "figure-9", "t", "g", two, "beta", "gradient", across).drawing
    assert texts(drawn) == ["not measured"]
    assert len(drawn.axes[1].lines) == 2
    drawn = pair_figure(found, "figure-9", "t", "g", {"a": PAIRS[0]}, "beta", "gradient", across).drawing
    assert texts(drawn) == ["not measured"]
    assert_nothing_is_cut(drawn)


def test_values_that_no_log_axis_has_are_left_out() -> None:
    flat = {}
    for seed in range(3):
        made = run(BN, seed, NORMED)
        still = run(BN, seed, NORMED._replace(beta=0.0))
        flat[made.identity] = dataclasses.replace(made, epochs=(still.epochs[0], *made.epochs[1:]))
    panels = named(study(replaced=flat))["figure-4c"].drawing.axes
    assert points(panels[1], 0)[:, 0].tolist() == [12.0, 21.0]


def test_tables_have_rates_ratios_and_both_formats() -> None:
    rates, ratios, ends, test = tables(study({f"{BN}@0.003": NORMED._replace(accuracy=0.9)}))
    assert rates.columns == ("network", "lr 0.001", "lr 0.003", "lr 0.01", "best lr")
    label, first, *others = rates.rows[0]
    assert (label, others) == ("VGG08 + BatchNorm, default weights", ["–"] * 3)
    assert (first, rates.rows[2][2]) == ("0.600 (all 3 equal)", "0.900 (all 3 equal)")
    assert [row[-1] for row in rates.rows] == ["–", "–", "0.003", *["0.001"] * 5]
    assert [row[:2] for row in ratios.rows] == [
        ("same learning rate", "VGG08, default weights"),
        ("same learning rate", "VGG08"),
        ("same learning rate", "VGG14"),
        ("same learning rate", "VGG20"),
        ("best rate of each", "VGG08, lr 0.003 and 0.001"),
        ("best rate of each", "VGG14, lr 0.001 and 0.001"),
        ("best rate of each", "VGG20, lr 0.001 and 0.001"),
    ]
    half = 4.302653 * 0.01 / math.sqrt(3)  # Student's t of two degrees of freedom
    assert ratios.rows[1][2] == f"-0.99 ± {half:.2g}"
    assert ratios.rows[1][5] == f"-1.99 ± {half:.2g}"
    assert "VGG08 + BatchNorm, lr 0.003" in [row[0] for row in ends.rows]
    assert [row[0] for row in ends.rows] == [row[0] for row in test.rows]
    for table in (rates, ratios, ends, test):
        assert to_csv(table).count("\n") >= len(table.rows)
        assert to_markdown(table)
        assert to_latex(table).isascii()


def test_the_page_begins_with_the_leads_and_says_what_smoother_means() -> None:
    assert PARTS.answer is not None
    first, *_, last = PARTS.answer(study({role: NORMED._replace(norm=3.0) for role, _ in PAIRS}))
    assert first == (
        "BatchNorm smooths the loss at the same learning rate and equal loss, on average over pairs, by "
        "every measure. "
        "BatchNorm smooths the loss at the same learning rate and equal step, by every measure. "
        "BatchNorm smooths the loss where each network has its best learning rate, on average over pairs, by "
        "every measure. "
        "BatchNorm smooths the loss where training ends, on average over pairs, by every measure."
    )
    assert last == MEANING
    assert PARTS.overview is not None
    assert PARTS.overview.roles == tuple(role for pair in PAIRS for role in pair)


LOST = {f"{NONE}-s0": diverged(NONE, 0), **{f"{BN}-s{seed}": None for seed in range(3)}}


@pytest.mark.slow
def test_missing_and_diverged_runs_are_named() -> None:
    drawn = named(study(replaced=LOST))
    for name in ("figure-1", "figure-2a", "figure-3a", "figure-4b"):
        assert "VGG08 + BatchNorm: not run yet" in drawn[name].caption
        assert "VGG08: seed 0 diverged in epoch 2, step 17" in drawn[name].caption
    for name in ONE_OF_EACH_KIND:
        assert_nothing_is_cut(drawn[name].drawing)


def test_nothing_run_is_drawn_too() -> None:
    whole = study(seeds=1)
    nothing = study(seeds=1, replaced=dict.fromkeys(whole.runs))
    for figure in figures(nothing):
        assert_nothing_is_cut(figure.drawing)
    assert tables(nothing)[1].rows[0][2] == "not run yet"


def test_means_of_ended_runs_are_over_as_many_seeds_as_have_ended() -> None:
    begun = [dataclasses.replace(each, state="running") for each in study().runs.values() if each.seed == 2]
    found = study(replaced={each.identity: each for each in begun})
    spectra = spectrum_figure(found, "figure-6b", "", found.labels(*PAIRS[0]), "end", 1)
    assert "Means over 2 seeds, " in overview(found).caption
    assert "mean over 2 seeds." in spectra.caption
