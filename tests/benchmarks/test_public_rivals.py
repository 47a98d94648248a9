"""Marks of living tools on the public failures: names, marks and the cache, without the tools themselves."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def importable() -> Iterator[None]:
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


def case(number: str = "1", build: Any = None, steps: int = 1) -> Any:
    from public_failures.case import Case

    return Case(number, ("output", "loss"), "softmax", "softmax on one unit", "sigmoid", steps, build)


def training(seed: int = 0, batch: bool = True) -> Any:
    from public_failures.case import Training

    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    x, y = torch.randn(8, 3), torch.randn(8, 1)

    def step(number: int) -> float:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    given = {"batch": (x, y), "loss": nn.functional.mse_loss} if batch else {}
    return Training(model, optimizer, step, lambda: 0.0, **given)


def test_every_name_names_known_kinds() -> None:
    from public_failures.case import KINDS
    from public_failures.rivals import RIVALS

    assert {kind for rival in RIVALS.values() for kinds in rival.names.values() for kind in kinds} <= set(
        KINDS
    )


def test_a_tool_is_marked_by_its_own_names() -> None:
    from public_failures.score import marks

    row = {"findings": [["loss", "warning", "", "no scalar"], ["overfit", "fail", "", "the softmax"]]}
    found = marks(case(), row, {"loss": ("loss",)})
    assert found == {"told": True, "fail": True, "first": True, "kind": True, "place": True}
    assert not marks(case(), row, {"overfit": ("rate",)})["kind"]
    assert not any(marks(case(), {"findings": []}, {"loss": ("loss",)}).values())


def test_what_could_not_run_is_not_detected_and_counted_apart() -> None:
    from public_failures.rivals import table_of

    silent = {"findings": [], "failed": "TypeError: no", "seconds": 1.0, "version": "0.1"}
    told = {"findings": [["loss", "fail", "", ""]], "seconds": 2.0, "version": "0.1"}
    cases = [case("1"), case("2"), case("3"), case("4")]
    rows = {(each.id, fixed, 0): silent if fixed else told for each in cases for fixed in (False, True)}
    rows["1", False, 0] = silent
    table = table_of("torchtest2", cases, rows)
    first, second = table["halves"].values()
    assert table["version"] == "0.1"
    assert first["cases"] + second["cases"] == 4
    half = "held out" if cases[0].held_out else "looked at"
    counts = {name: each["could not run, cases"] for name, each in table["halves"].items()}
    assert counts == {"looked at": 0, "held out": 0} | {half: 1}
    assert sum(each["could not run, twins"] for each in (first, second)) == 4
    assert sum(each["detected"] * each["judged"] for each in (first, second)) == pytest.approx(3)
    assert first["twins told of anything"] == second["twins told of anything"] == 0


def test_a_tools_own_rows_are_read_and_a_line_cut_short_is_not(tmp_path: Path) -> None:
    from public_failures.rivals import read_of

    rows = [{"tool": tool, "case": "1", "fixed": False, "seed": 0} for tool in ("guardtower", "trainpulse")]
    cache = tmp_path / "rows.jsonl"
    cache.write_text("\n".join([*map(json.dumps, rows), '{"tool": "guard']))
    assert read_of("guardtower", cache) == {("1", False, 0): rows[0]}


def judged_rows(cases: list[Any]) -> dict[Any, dict[str, Any]]:
    row = {"findings": [], "seconds": 1.0, "version": "0.1"}
    return {(each.id, fixed, 0): row for each in cases for fixed in (False, True)}


def test_a_half_enters_the_table_once_it_is_judged_to_the_end() -> None:
    from public_failures.rivals import table_of

    cases = [case(str(number)) for number in range(8)]
    held_out = [each for each in cases if each.held_out]
    assert 0 < len(held_out) < len(cases)
    rows = judged_rows(held_out)
    assert list(table_of("traintools", cases, rows)["halves"]) == ["held out"]
    rows.popitem()
    assert table_of("traintools", cases, rows)["halves"] == {}


def test_tools_judged_elsewhere_stay_in_the_table_as_they_were() -> None:
    from public_failures.rivals import joined

    halves = {"held out": {"cases": 1}}
    standing = {"machine": {"commit": "old"}, "tools": {"guardtower": {"version": "1", "halves": halves}}}
    here = {"commit": "new"}
    told = {"version": "2", "halves": halves}
    table = joined(standing, {"traintools": told, "guardtower": {"version": "2", "halves": {}}}, here)
    assert table["machine"] == standing["machine"]
    assert table["tools"] == standing["tools"] | {"traintools": {**told, "machine": here}}
    assert joined(table, {"guardtower": told}, here)["tools"]["guardtower"]["machine"] == here
    alone = joined({}, {"traintools": told}, here)
    assert (alone["machine"], alone["tools"]) == (here, {"traintools": told})


@pytest.mark.parametrize(
    ("half", "asked"), [("looked", {False}), ("held-out", {True}), ("both", {False, True})]
)
def test_one_half_can_be_judged_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, half: str, asked: set[bool]
) -> None:
    from public_failures import rivals

    cases = [case(str(number)) for number in range(8)]
    standing = {"machine": {"commit": "old"}, "tools": {"guardtower": {"version": "1"}}}
    (tmp_path / "public_rivals.json").write_text(json.dumps(standing))
    judged, written = [], {}
    monkeypatch.setattr(rivals, "RESULTS", tmp_path)
    monkeypatch.setattr(rivals, "all_cases", lambda: (*cases, case("lost"), case("forum/fresh")))
    monkeypatch.setattr(rivals, "surviving", lambda: {each.id for each in cases} | {"forum/fresh"})
    monkeypatch.setattr(rivals, "judge_missing", lambda tools, some, *_: judged.extend(some))
    monkeypatch.setattr(rivals, "write", lambda _, values: written.update(values))
    monkeypatch.setattr(sys, "argv", ["rivals", "--half", half, "--cache", str(tmp_path / "none")])
    rivals.main()
    assert judged == [each for each in cases if each.held_out in asked]
    assert written["tools"] == standing["tools"]


def test_below_the_table_stands_where_each_tool_was_judged() -> None:
    from public_tables import judged_on
    from tables import machine_line

    old = {"processor": "A", "cores": 2, "python": "3", "torch": "2", "commit": "a", "date": "then"}
    new = old | {"commit": "b"}
    tools = {"one": {}, "two": {"machine": new}, "three": {"machine": new}}
    own, others = judged_on({"machine": old, "tools": tools})
    assert own == f"{machine_line(old)}."
    assert others == f"two and three: {machine_line(new)}."


def test_what_breaks_down_or_takes_too_long_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    from public_failures import rivals

    def broken(*_: Any) -> list[Any]:
        raise TypeError("no such model")

    monkeypatch.setattr(rivals.metadata, "version", lambda _: "0.1")
    monkeypatch.setitem(rivals.RIVALS, "guardtower", rivals.Rival("guardtower", broken, {}))
    row = rivals.judged("guardtower", case(), True, 60)
    assert (row["failed"], row["findings"], row["case"]) == ("TypeError: no such model", [], "1")
    for sent, why in ((signal.SIGXCPU, "no answer in 60 s"), (signal.SIGKILL, "the process died: -9")):
        monkeypatch.setitem(
            rivals.RIVALS,
            "guardtower",
            rivals.Rival("guardtower", lambda *_, sent=sent: os.kill(os.getpid(), sent) or [], {}),
        )
        assert rivals.judged("guardtower", case(), True, 60)["failed"] == why


def test_a_library_that_is_missing_is_no_fault_of_the_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    from public_failures import rivals

    def bare(*_: Any) -> list[Any]:
        raise ModuleNotFoundError("No module named 'transformers'")

    monkeypatch.setitem(rivals.RIVALS, "guardtower", rivals.Rival("guardtower", bare, {}))
    with pytest.raises(SystemExit, match="transformers"):
        rivals.judged("guardtower", case(), True, 60)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("0.bias update/weight ratio is high (5e-1)", "update/weight ratio is high"),
        ("inputs.0 is nearly constant (std=0)", "inputs: is nearly constant"),
        ("targets has non-finite values (nan=1, inf=0)", "targets: has non-finite values"),
        ("0.weight has non-finite gradients (nan=1, inf=0)", "has non-finite gradients"),
        ("inputs is empty", "inputs is empty"),
    ],
)
def test_warnings_of_traintools_are_known_by_their_phrases(words: str, name: str) -> None:
    from public_failures.rival_watches import of_warning

    assert of_warning(words) == name


def test_messages_under_one_name_are_told_apart() -> None:
    from public_failures.rival_checks import named, of_audit
    from public_failures.rival_watches import of_alert

    assert named(SimpleNamespace(name="loss", message="")) == "loss"
    overfit = "the loss decreased but did not reach 10%"
    assert named(SimpleNamespace(name="overfit_batch", message=overfit)) == "overfit_batch: not far enough"
    zero = SimpleNamespace(
        check="grad_connectivity", message="2 trainable parameter(s) had an all-zero gradient"
    )
    assert of_audit(zero) == "grad_connectivity: zero"
    assert (
        of_alert(SimpleNamespace(detector="gradient", message="Vanishing gradient")) == "gradient: vanishing"
    )


def test_of_each_name_the_gravest_message_is_kept() -> None:
    from public_failures.rival_checks import Said
    from public_failures.rival_watches import gravest

    said = [Said("b", "warning", "", "1"), Said("a", "warning", "", "2"), Said("a", "fail", "", "3"),
            Said("b", "warning", "", "4")]  # fmt: skip
    assert [each.words for each in gravest(said)] == ["3", "1"]


def test_the_loss_of_a_step_is_that_of_its_backward_pass() -> None:
    from public_failures.rival_checks import first_inputs, loss_and_inputs

    plain, bare = training(), training(batch=False)
    (loss, inputs), (step_loss, nothing) = loss_and_inputs(plain), loss_and_inputs(bare)
    assert inputs[0] is plain.batch[0]
    assert nothing is None
    assert torch.equal(loss(), step_loss())
    step_loss().backward()  # restored: a backward pass runs again
    assert bare.model[0].weight.grad is not None
    assert torch.equal(first_inputs(training(batch=False))[0], plain.batch[0])


def test_the_checklist_trains_each_model_by_the_optimizer_made_with_it() -> None:
    from public_failures.rival_checks import Factory

    tool = SimpleNamespace(train_batch=lambda model, _, optimizer: (model, optimizer))
    factory = Factory(tool, case(build=lambda fixed, seed: training(seed)), False, 3)
    first, second = factory(), factory()
    assert first is not second
    for made in (first, second):
        model, optimizer = factory.train(made, None)
        assert model is made
        assert optimizer.param_groups[0]["params"][0] is made[0].weight


def test_published_marks_agree_with_those_of_the_cases() -> None:
    from public_failures.catalogue import all_cases
    from public_failures.rivals import published_of

    published = published_of(all_cases(["deepmufl"]))["deepmufl"]
    assert published["count here"] == published["cases"] == 109
    for each in published["tools"].values():
        assert each["of those that count here"] == each["detected"]
