"""A study's runs on its page: values are those of the records, and the page stays bounded and says how."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import gradscape as gs
import sweeps
import synthetic
from gradscape.errors import StoreError
from gradscape.records.gradients import slice_rows
from gradscape.records.role import Role
from gradscape.records.run import RunRecord, StudyRecord
from gradscape.report.interactive.brief import POINTS
from gradscape.report.interactive.cells import as_codes, rounding
from gradscape.report.interactive.page import runs_page
from gradscape.report.interactive.study import CELLS, LEAST, LISTED, OPENED, study_values
from gradscape.report.pages.study import study_page
from html_pages import Reader

HOSTILE = "</script><script>alert(1)</script>"


def decoded(written: Mapping[str, Any]) -> np.ndarray:
    """What `cells` in charts.js makes of codes."""
    codes = np.frombuffer(base64.b64decode(written["values"]), "<u2").astype(float)
    sizes = np.exp(np.log(written["low"]) + written["step"] * (codes - 3))
    return np.select([codes == 0, codes == 1, codes == 2], [np.nan, 0.0, np.inf], sizes)


def table(document: Mapping[str, Any], key: str) -> np.ndarray:
    """A map's values (L, T)."""
    written = next(each for each in document["maps"] if each["key"] == key)
    return decoded(written).reshape(-1, len(document["steps"]))


def with_last_flow(study: StudyRecord) -> StudyRecord:
    """The study as it is read where only the last epoch's gradients are."""
    last = slice(-1, None)
    runs = {
        name: replace(run, flow=slice_rows(run.flow, last))
        for name, run in study.runs.items()
        if run.flow is not None
    }
    return replace(study, runs=runs)


def of_one(run: RunRecord, count: int) -> StudyRecord:
    """A study of one run, again and again."""
    runs = {f"run-{place}": replace(run, identity=f"run-{place}") for place in range(count)}
    role = Role("all", runs=tuple(runs))
    return StudyRecord("batchnorm", "paper", {"title": "?", "data": "cifar100"}, {"all": role}, runs)


def of_many(count: int) -> StudyRecord:
    """A sweep of many runs, in several states."""
    made = sweeps.sweep({"net.depth": (8, 20), "net.norm": ("none", "batch")}, seeds=2)
    models = list(made.runs.values())
    models += [sweeps.ended(run, state) for run in models[:2] for state in ("diverged", "failed")]
    runs = {
        f"run-{place}": replace(models[place % len(models)], identity=f"run-{place}")
        for place in range(count)
    }
    roles = {f"role {place}": Role(f"role {place}", runs=(f"run-{place}",)) for place in range(count)}
    return replace(made, runs=runs, roles=roles)


# Decoded, the last numbers below infinity are infinite: no gradient is of their size.
FINITE_OR_NOT = st.floats(0, 1e300) | st.sampled_from([np.nan, np.inf])


@given(arrays(np.float64, st.integers(1, 40), elements=FINITE_OR_NOT))
def test_codes_are_no_further_from_the_numbers_than_they_say(values: np.ndarray) -> None:
    written = as_codes(values)
    found = decoded(written)
    odd = ~np.isfinite(values) | (values == 0)
    np.testing.assert_array_equal(found[odd], values[odd])
    error = rounding(written) * (1 + 1e-6) + 1e-9
    assert error < 0.02
    with np.errstate(over="ignore"):
        assert (np.abs(np.log(found[~odd]) - np.log(values[~odd])) <= np.log1p(error)).all()


def test_every_value_is_that_of_the_record() -> None:
    study = synthetic.study(2)
    found = json.loads(json.dumps(study_values(study), allow_nan=False))
    assert [row["id"] for row in found["runs"]] == list(study.runs) == list(found["trainings"])
    for row in found["runs"]:
        run, document = study.runs[row["id"]], found["trainings"][row["id"]]
        assert run.flow is not None
        assert document["steps"] == list(run.curve("epoch"))
        layout = found["layouts"][document["layout"]]
        assert tuple(layout["layers"]) == run.flow.layers
        assert layout["weights"] == run.flow.weights.tolist()
        for key in ("mean_abs", "relative_update", "weight"):
            values = getattr(run.flow, key)[:, run.flow.weights].T
            error = max(rounding(each) for each in document["maps"])
            np.testing.assert_allclose(table(document, key), values, rtol=1.01 * error)
        for key, written in document["last"].items():
            np.testing.assert_allclose(decoded(written), getattr(run.flow, key)[-1], rtol=1e-3)
        for curve in document["curves"]:
            for series, split in zip(curve["series"], ("train", "valid"), strict=True):
                np.testing.assert_allclose(series["y"], run.curve(f"{split}_{curve['title']}"), rtol=5e-5)
        assert row["best"] == pytest.approx(max(run.curve("valid_accuracy")), rel=5e-5)
        assert row["minutes"] == pytest.approx(sum(run.curve("seconds")) / 60, abs=0.051)
        labels = [role.label for role in study.roles.values() if row["id"] in role.runs]
        assert row["roles"] == ", ".join(labels)
    assert len(found["layouts"]) == 2  # of networks of 8 and of 38 layers
    assert re.fullmatch(r"Numbers are rounded: in maps by 0\.0\d %.*", found["notes"][0])
    assert len(found["notes"]) == 1


def test_of_few_runs_every_pair_is_compared_as_gs_compare_does() -> None:
    study = sweeps.sweep({"net.depth": (8, 20)}, seeds=2)
    found = json.loads(json.dumps(study_values(study), allow_nan=False))["comparisons"]
    assert len(found) == 6
    for pair, said in found.items():
        result = gs.compare(*(study.runs[name] for name in pair.split()))
        assert (said["verdict"], said["basis"]) == (result.verdict, result.basis)
        assert [each["name"] for each in said["settings"]] == [each.name for each in result.settings]
        assert len(said["differences"]) + said["more"] == len(result.differences)
    assert study_values(sweeps.sweep({"net.depth": (8, 20)}, seeds=4))["comparisons"] == {}


def test_the_verdict_is_the_one_that_was_stored() -> None:
    study = synthetic.study(1)
    name = next(name for name in study.runs if name.startswith("vgg38-s"))
    run = study.runs[name]
    judged = replace(run, status={**run.status, "diagnosis": gs.diagnose(run).to_dict()})
    found = study_values(replace(study, runs={**study.runs, name: judged}))
    rows = {row["id"]: row for row in found["runs"]}
    assert (rows[name]["verdict"], rows[name]["grade"]) == ("vanishing", "fail")
    assert found["trainings"][name]["findings"][0]["heading"].startswith("vanishing, beginning at")
    assert rows["vgg08-s0"]["verdict"] is None
    assert found["trainings"]["vgg08-s0"]["findings"] == []
    other = replace(run, status={**run.status, "diagnosis": {"verdict": "of another version"}})
    assert study_values(replace(study, runs={name: other}))["trainings"][name]["diagnosis"] is None


def test_the_paper_preset_is_whole_and_small() -> None:
    found = study_values(of_one(synthetic.run("vgg38-bn", 0, epochs=100), 45))
    assert len(found["trainings"]) == 45
    assert all(len(document["steps"]) == 100 for document in found["trainings"].values())
    assert len(json.dumps(found)) < 2_100_000  # beside 2.2 MB of figures


def test_of_ten_thousand_runs_the_telling_ones_can_be_opened() -> None:
    study = of_many(10_000)
    found = study_values(study)
    assert len(json.dumps(found)) < 1_000_000
    assert (len(found["runs"]), len(found["trainings"])) == (LISTED, OPENED)
    listed = [row["id"] for row in found["runs"]]
    assert set(found["trainings"]) <= set(listed)
    assert {row["id"] for row in found["runs"] if row["has"]} == set(found["trainings"])
    assert listed == sorted(listed, key=list(study.runs).index)
    states = Counter(study.runs[name].state for name in found["trainings"])
    assert sorted(states.values()) == [33, 33, 34]
    best = {state: [max(run.curve("valid_accuracy")) for run in study.runs.values() if run.state == state]
            for state in states}  # fmt: skip
    for state, values in best.items():
        opened = [max(study.runs[name].curve("valid_accuracy"))
                  for name in found["trainings"] if study.runs[name].state == state]  # fmt: skip
        assert (min(opened), max(opened)) == (min(values), max(values))
    text = " ".join(found["notes"])
    assert "1,000 of 10,000 runs" in text
    assert "100 of 10,000 runs can be opened" in text


def test_deep_and_long_runs_have_fewer_rows_and_points_and_it_is_said() -> None:
    run = synthetic.run("vgg38-bn", 0, epochs=POINTS + 1)
    found = study_values(of_one(run, 60))
    cells = sum(
        len(document["steps"]) * len(document["maps"]) * 38 for document in found["trainings"].values()
    )
    assert cells <= CELLS + 60 * 3 * 38
    document = found["trainings"]["run-0"]
    assert LEAST < len(document["steps"]) < POINTS
    assert document["steps"][-1] == POINTS + 1
    shown = np.array(document["steps"]) - 1
    assert run.flow is not None
    values = run.flow.mean_abs[shown].T
    np.testing.assert_allclose(table(document, "mean_abs"), values, rtol=1e-3)
    assert len(document["curves"][0]["series"][0]["x"]) == POINTS
    text = " ".join(found["notes"])
    assert "Maps show every k-th epoch" in text
    assert f"Curves of more than {POINTS} epochs are joined" in text


def test_gradients_of_every_epoch_are_read_for_the_runs_that_can_be_opened() -> None:
    whole = sweeps.sweep({"net.depth": (8, 20)}, seeds=2)
    last, asked = with_last_flow(whole), list[str]()

    def reader(name: str) -> RunRecord:
        asked.append(name)
        if name == asked[0]:
            raise StoreError("a line is damaged")
        return whole.runs[name]

    found = study_values(last, reader)
    assert asked == list(whole.runs)
    damaged, *others = found["trainings"].values()
    assert (damaged["maps"], damaged["steps"], damaged["rows"]) == ([], [], 6)
    assert all(len(document["steps"]) == 6 and len(document["maps"]) == 3 for document in others)
    assert study_values(whole, reader) == study_values(whole)
    assert all(not document["maps"] for document in study_values(last)["trainings"].values())


def test_runs_that_are_missing_have_rows_and_cannot_be_opened() -> None:
    study = synthetic.broken_study()
    rows = {row["id"]: row for row in study_values(study)["runs"]}
    assert len(rows) == 30
    assert not rows["batch-800-s0"]["has"]
    assert rows["batch-800-s0"]["reason"] == "not run yet"
    assert not rows["lr-0.005-s0"]["has"]
    assert rows["lr-0.0001-s1"]["reason"] == "running, 3 of 8 epochs done"
    assert rows["lr-0.0001-s1"]["has"]


def test_no_name_ends_the_script_or_becomes_markup() -> None:
    made = synthetic.study(1)
    run = made.runs["vgg08-s0"]
    assert run.flow is not None
    flow = replace(run.flow, layers=(HOSTILE, *run.flow.layers[1:]))
    study = replace(
        made,
        runs={**made.runs, "vgg08-s0": replace(run, flow=flow, status={"diagnosis": HOSTILE})},
        roles={**made.roles, HOSTILE: Role(HOSTILE, runs=("vgg08-s0", "\udc80"))},
    )
    for text in (study_page(study, HOSTILE, [], [], {}, [], []), runs_page(HOSTILE, study_values(study))):
        assert text.count("<script") == 2
        assert "<script>alert(1)" not in text
        assert text.encode()
        data = json.loads(text.split('type="application/json">')[1].split("</script>")[0])
        assert data["layouts"][0]["layers"][0] == HOSTILE
        assert HOSTILE in {row["roles"].split(", ")[-1] for row in data["runs"]}
        Reader(text)


def test_a_study_in_the_hand_has_a_page_of_its_runs(tmp_path: Any) -> None:
    study = synthetic.study(1)
    text = gs.save_html(study, tmp_path / "a.html").read_text()
    table_ = text.split("<noscript>")[1].split("</noscript>")[0]
    assert all(f">{name}</th>" in table_ for name in study.runs)
    assert text == gs.save_html(study, tmp_path / "b.html").read_text()
    assert study.asked["title"] in text
