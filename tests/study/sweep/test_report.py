import csv
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

import sweeps
from cases import tiny
from gradscape.analysis.comparisons import comparisons, undecided
from gradscape.analysis.outcomes import describe_status
from gradscape.analysis.sweep_points import points
from gradscape.errors import ConfigError
from gradscape.records.run import StudyRecord
from gradscape.report.build import build
from gradscape.report.pages.study import ROWS
from gradscape.stats.paired import compare, holm, look_level
from gradscape.storage.study_folder import StudyFolder
from gradscape.studies.catalogue import rebuild
from gradscape.study.sweep.report import PARTS, answer, claims, tables
from html_pages import Reader, contents

AXES: dict[str, Any] = {"net.depth": (8, 14, 38), "optim.lr": (0.0001, 0.001, 0.05)}
LOST = {
    "net.depth=38 optim.lr=0.05-s0": "diverged",
    "net.depth=38 optim.lr=0.05-s1": "stopped",
    "net.depth=38 optim.lr=0.001-s2": "failed",
    "net.depth=14 optim.lr=0.05-s2": "missing",
}


def words(study: StudyRecord) -> str:
    return " ".join(answer(study))


def rows(study: StudyRecord, place: int) -> list[dict[str, str]]:
    table = tables(study)[place]
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


@pytest.mark.slow
def test_building_again_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("here", "there"):
        build(sweeps.sweep(AXES, 2), PARTS, tmp_path / name)
    assert contents(tmp_path / "here") == contents(tmp_path / "there")
    html = (tmp_path / "here" / "index.html").read_text()
    read = Reader(html)
    assert "Which depth trains at which learning rate?" in read.text
    assert "sweep depths" in read.text
    assert "paper" not in re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL).lower()


@pytest.mark.parametrize(
    ("axes", "panels"),
    [
        ({"optim.lr": (0.001, 0.01)}, ["1", "3a", "3b"]),
        (AXES, ["1a", "1b", "2", "3a", "3b"]),
        ({**AXES, "net.norm": ("batch", "none")}, ["1a", "1b", "1c", "2a", "2b", "2c", "3a", "3b"]),
        (dict.fromkeys("abcd", (1, 2)), ["1a", "1b", "1c", "1d", "2a", "2b", "2c", "3a", "3b"]),
    ],
    ids=["one axis", "two", "three", "four"],
)
def test_panels_follow_the_axes(axes: dict[str, Any], panels: list[str]) -> None:
    made = PARTS.figures(sweeps.sweep(axes, 1))
    assert [figure.name for figure in made] == [f"figure-{name}" for name in panels]
    assert all(figure.caption.endswith(".") for figure in made)


@pytest.mark.usefixtures("undrawn")
def test_what_is_missing_is_named(tmp_path: Path) -> None:
    study = sweeps.sweep(AXES, 3, LOST)
    html = build(study, PARTS, tmp_path).page.read_text()
    for text in (
        "23 of 27 runs done",
        "Of 27 runs: 23 done, 1 not run yet, 1 failed, 1 diverged, 1 stopped.",
        "diverged in epoch 3, step 17",
        "stopped after 2 of 6 epochs",
        "failed after 2 of 6 epochs",
        "depth 14, lr 0.05 (1 of 3 not run yet)",
        "depth 38, lr 0.05 (1 of 3 diverged, 1 of 3 stopped)",
    ):
        assert text in html
    state = {(row["net.depth"], row["optim.lr"]): row for row in rows(study, 0)}
    assert state["38", "0.05"]["seeds done"] == "1 of 3"
    assert state["38", "0.05"]["not done"] == "1 of 3 diverged, 1 of 3 stopped"
    assert "±" not in state["38", "0.05"]["acc valid"]
    assert state["8", "0.001"]["not done"] == ""
    (row,) = (r for r in rows(study, 1) if (r["axis"], r["value"], r["at"]) == ("net.depth", "38", "lr 0.05"))
    assert (row["n"], row["verdict"], row["p"]) == ("1", "undecided", "–")
    assert row["why"] == "value: 1 of 3 diverged, 1 of 3 stopped"


def test_one_seed_claims_nothing() -> None:
    study = sweeps.sweep(AXES, 1)
    text = words(study)
    assert "n = 1, which claims nothing" in text
    assert "Nothing is decided: one seed claims nothing" in text
    assert "±" not in text
    assert {claim.verdict for claim in claims(study)} == {"undecided"}
    assert {claim.reason for claim in claims(study)} == {"n = 1: one seed claims nothing"}
    assert {row["verdict"] for row in rows(study, 1)} == {"undecided"}
    assert {row["why"] for row in rows(study, 1)} == {"n is too small"}
    assert not any("±" in cell for row in tables(study)[0].rows for cell in row)


@pytest.mark.usefixtures("undrawn")
def test_nothing_run_yet_has_a_report(tmp_path: Path) -> None:
    whole = sweeps.sweep(AXES, 2)
    study = dataclasses.replace(whole, runs={})
    html = build(study, PARTS, tmp_path).page.read_text()
    assert "No run is done yet." in html
    assert "Of 18 runs: 18 not run yet." in html
    assert {claim.verdict for claim in claims(study)} == {"not measured"}


def test_the_best_point_and_the_table_of_points_are_the_records_numbers() -> None:
    study = sweeps.sweep(AXES, 4)
    found = {(p.values["net.depth"], p.values["optim.lr"]): p for p in points(study)}
    best = max(found.values(), key=lambda p: p.accuracy.mean if p.accuracy else 0)
    assert best.accuracy is not None
    assert best.accuracy.half is not None
    cell = f"{best.accuracy.mean:.3f} ± {best.accuracy.half:.3f}"
    assert words(study).startswith(
        f"Highest validation accuracy: {cell} with depth {best.values['net.depth']}, "
        f"lr {best.values['optim.lr']} (mean over seeds and half its 95 % interval, n = 4)."
    )
    made = rows(study, 0)
    assert [(row["net.depth"], row["optim.lr"]) for row in made] == [
        (depth, rate) for depth in ("8", "14", "38") for rate in ("0.0001", "0.001", "0.05")
    ]
    run = study.runs["net.depth=8 optim.lr=0.001-s0"]
    assert best.accuracies[0] == pytest.approx(sum(run.curve("valid_accuracy")[-2:]) / 2)
    assert cell in {row["acc valid"] for row in made}


def test_a_best_point_of_which_a_run_diverged_is_said_to_be_lucky() -> None:
    axis = {"optim.lr": (1e-3, 1e-2, 0.1)}
    study = sweeps.sweep(axis, 3, {"optim.lr=0.001-s1": "diverged"})
    first, *_ = answer(study)
    assert "with lr 0.001" in first
    assert first.endswith(
        "Not all of its runs are done (1 of 3 diverged): those that are may be the lucky ones."
    )
    assert "Not all" not in answer(sweeps.sweep(axis, 3))[0]
    (claim,) = claims(study)
    assert claim.reason == "0 of 2 decided: reference: 1 of 3 diverged"


def test_comparisons_pair_every_value_with_the_first() -> None:
    study = sweeps.sweep(AXES, 5)
    made = comparisons(study)
    assert len(made) == 3 * 2 + 3 * 2
    assert {each.reference.values[each.axis] for each in made} == {8, 0.0001}
    for each in made:
        assert each.difference == compare(each.reference.accuracies, each.other.accuracies)
        assert each.reference.others(each.axis) == each.other.others(each.axis)
    ps = [each.difference.p or 0.0 for each in made]
    assert [each.adjusted for each in made] == holm(ps)
    assert [row["after Holm"] for row in rows(study, 1)] == [each.holm for each in made]
    assert str(made[0]).startswith("net.depth 14 against 8 at lr 0.0001: ")
    decided, kept = sum(each.decided for each in made), sum(each.holm != "undecided" for each in made)
    assert 0 < kept <= decided
    text = words(study)
    assert f"{decided} of 12 comparisons are decided and {12 - decided} undecided; {kept} are" in text
    assert "These are 12 comparisons: if nothing mattered at all, 1 in 20 would be decided by chance" in text
    assert claims(study)[1].verdict == "holds"


def test_where_nothing_matters_no_claim_holds() -> None:
    study, held = sweeps.sweep({"dummy": range(8)}, 4), 0
    for start in range(20):
        runs = {
            f"{label}-s{seed}": sweeps.run(role.parameters, 100 * start + seed)
            for label, role in study.roles.items()
            for seed in range(4)
        }
        held += claims(dataclasses.replace(study, runs=runs))[0].verdict == "holds"
    assert held <= 4  # of 20 at 5 %: more happen with a chance of 0.3 %


def test_nothing_is_decided_between_two_points_that_both_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deep nets without a norm end near 0.07 in training at any rate: below what a constant reaches."""
    monkeypatch.setattr(sweeps, "accuracy", lambda setting: 0.05 if setting["net.norm"] == "none" else 0.5)
    study = sweeps.sweep({"net.depth": (38,), "net.norm": ("none", "batch"), "optim.lr": (0.001, 0.01)}, 5)
    by_axis = {(each.axis, each.setting): each.difference for each in comparisons(study)}
    idle = by_axis["optim.lr", "depth 38, norm none"]
    assert (idle.verdict, idle.p, idle.reason) == ("undecided", None, "both end at guessing")
    assert by_axis["net.norm", "depth 38, lr 0.001"].verdict == "higher"  # one of them trains


def test_points_that_share_their_runs_are_not_compared() -> None:
    study = sweeps.sweep({"net.norm": ("none", "batch"), "norm_where": ("blocks", "everywhere")}, 2)
    first, second, *_ = study.roles
    same = dataclasses.replace(study.roles[second], runs=study.roles[first].runs)
    shared = dataclasses.replace(study, roles={**study.roles, second: same})
    assert [str(each).split(":")[0] for each in comparisons(shared) if each.axis == "norm_where"] == [
        "norm_where everywhere against blocks at norm batch"
    ]
    assert [claim.verdict for claim in claims(sweeps.sweep({"a": (1,)}, 2))] == ["not measured"]


def test_nor_are_those_of_which_one_alone_was_given_further_seeds() -> None:
    study = sweeps.sweep({"net.norm": ("none", "batch"), "norm_where": ("blocks", "everywhere")}, 3)
    first, second, *_ = study.roles
    fewer = dataclasses.replace(study.roles[second], runs=study.roles[first].runs[:2])
    shared = dataclasses.replace(study, roles={**study.roles, second: fewer})
    same = {first, second}
    assert {each.reference.label for each in undecided(shared, 2, 6)} & same
    for found in (comparisons(shared), undecided(shared, 2, 6)):
        assert not [each for each in found if {each.reference.label, each.other.label} == same]


def test_seeds_are_asked_for_until_all_is_decided_or_they_are_used_up() -> None:
    def at(seeds: int) -> list[str]:
        return [each.other.label for each in undecided(sweeps.sweep(AXES, seeds), 3, 6)]

    labels = {seeds: at(seeds) for seeds in (1, 2, 3, 5, 6)}
    assert len(labels[1]) == len(labels[2]) == 12  # before the first look
    assert 12 > len(labels[3]) >= len(labels[5]) > 0
    assert labels[6] == []  # after the last one
    level = look_level(4)
    study = sweeps.sweep(AXES, 3)
    for each in undecided(study, 3, 6):
        assert compare(each.reference.accuracies, each.other.accuracies, level).verdict == "undecided"
        assert each.difference.level == level


def test_no_seed_is_asked_for_where_a_run_is_lost() -> None:
    for state in ("diverged", "stopped", "failed"):
        study = sweeps.sweep({"optim.lr": (0.001, 0.01)}, 2, {"optim.lr=0.01-s1": state})
        assert undecided(study, 3, 6) == []
    study = sweeps.sweep({"optim.lr": (0.001, 0.01)}, 3, {"optim.lr=0.01-s1": "missing"})
    assert [each.difference.reason for each in undecided(study, 2, 6)] == ["value: 1 of 3 not run yet"]
    with pytest.raises(ConfigError, match=r"fewest seeds: expected 2 or more"):
        undecided(study, 1, 6)


def test_where_earlier_plans_looked_too_a_comparison_is_decided_at_their_level() -> None:
    once = sweeps.sweep(AXES, 3)
    often = dataclasses.replace(once, asked={**once.asked, "looks": 40})
    (first, *_), (again, *_) = undecided(once, 3, 6), undecided(often, 3, 6)
    assert (first.difference.level, again.difference.level) == (look_level(4), look_level(40))


def test_planned_looks_widen_the_intervals_of_the_report() -> None:
    once, often = (sweeps.sweep(AXES, 4, looks=looks) for looks in (1, 5))
    assert "95 % interval" in tables(once)[1].columns
    assert "99 % interval" in tables(often)[1].columns
    for one, more in zip(comparisons(once), comparisons(often), strict=True):
        assert more.difference.level == pytest.approx(0.99)
        assert one.adjusted <= more.adjusted <= 1
        assert one.decided >= more.decided


@pytest.mark.usefixtures("undrawn")
def test_long_tables_are_cut_on_the_page_and_whole_in_their_files(tmp_path: Path) -> None:
    study = sweeps.sweep({"net.depth": range(8, 108)}, 1, {"net.depth=100-s0": "failed"})
    html = build(study, PARTS, tmp_path).page.read_text()
    assert f"The first {ROWS} of 100 rows; the" in html
    assert f"{ROWS} of 100 runs, those that are not done first" in html
    assert "failed after 2 of 6 epochs" in html
    with open(tmp_path / "tables" / "table-1.csv", newline="") as file:
        assert len(list(csv.reader(file))) == 101
    assert len(re.findall(r"<tr>", html)) < 4 * ROWS


@pytest.mark.usefixtures("undrawn")
def test_claims_json_has_what_decided(tmp_path: Path) -> None:
    build(sweeps.sweep(AXES, 3), PARTS, tmp_path)
    found = json.loads((tmp_path / "claims.json").read_text())
    assert (found["study"], [claim["id"] for claim in found["claims"]]) == ("sweep", ["C1", "C2"])
    (part,) = found["claims"][1]["parts"]
    assert [each["seed"] for each in part["numbers"]] == [0, 1, 2]
    assert part["rule"] == "a comparison is decided after Holm's correction for all 12 (p ≤ 0.05)"


@pytest.mark.usefixtures("undrawn")
def test_a_page_says_how_many_comparisons_its_claims_rest_on(tmp_path: Path) -> None:
    study = sweeps.sweep(AXES, 3)
    page, many = build(study, PARTS, tmp_path).page.read_text(), len(comparisons(study))
    detail = page.partition('<section id="claims">')[2]
    assert f"These are {many} comparisons" in detail
    assert "put to a test" not in detail
    told = json.loads((tmp_path / "claims.json").read_text())["claims"]
    assert [claim["tests"] for claim in told] == [1, 1]
    assert [claim["parts"][0]["p"] for claim in told] == [
        min(each.adjusted for each in comparisons(study) if each.axis == axis) for axis in AXES
    ]


@pytest.mark.usefixtures("undrawn")
def test_a_sweeps_folder_is_reported_from_its_files_alone(tmp_path: Path) -> None:
    folder, config = StudyFolder(tmp_path), tiny(epochs=6)
    made = sweeps.sweep({"optim.lr": (config.optim.lr,)}, 1)
    (record,), (role,) = made.runs.values(), made.roles.values()
    roles = {role.name: dataclasses.replace(role, runs=(config.identity,))}
    run = folder.run(config.identity)
    run.create(config)
    for epoch in record.epochs:
        run.append(epoch, record.flow)
    run.set_status("done", test=record.test)
    folder.ask({"study": "sweep", "preset": "one", **made.asked, "roles": roles})
    page = rebuild(folder).page
    assert page == tmp_path / "report" / "index.html"
    assert "1 of 1 runs done" in page.read_text()


def test_an_unknown_study_is_refused(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    folder.ask({"study": "tides", "preset": "x", "title": "?", "roles": {}})
    with pytest.raises(
        ConfigError, match=r"holds study 'tides'; known here: batchnorm, remedies, controls, smoothing, sweep"
    ):
        rebuild(folder)


def test_how_runs_stand() -> None:
    made = sweeps.run({"optim.lr": 0.001}, 0)
    assert describe_status(sweeps.ended(made, "stopped")) == "stopped after 2 of 6 epochs"
    assert describe_status(sweeps.ended(made, "pending")) == "interrupted after 2 of 6 epochs"
