"""Assertions for a test suite: silent on health, a fault's own words otherwise, and no noise around them."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradscape as gs
import gradscape.testing
from gradscape.errors import ConfigError
from gradscape.records.check import CheckRecord
from gradscape.records.diagnosis import Diagnosis
from gradscape.testing import assert_healthy, assert_trains

X, Y = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 2


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def dead() -> nn.Module:
    model = net()
    nn.init.constant_(model[0].bias, -100.0)  # type: ignore[index]
    return model


def test_it_passes_silently_on_a_network_that_trains(capfd: pytest.CaptureFixture[str]) -> None:
    record = assert_trains(net, (X, Y), cross_entropy, torch.optim.AdamW, seeds=1, fit=5)
    assert isinstance(record, CheckRecord)
    assert record.remedies == ()
    assert [each.name for each in record.optimizers] == ["AdamW"]
    assert capfd.readouterr() == ("", "")


def test_a_fault_is_told_in_its_own_words_and_nothing_of_ours_in_the_traceback() -> None:
    with pytest.raises(AssertionError) as caught:
        assert_trains(dead, (X, Y), cross_entropy, seeds=1, fit=0)
    faults = [
        each
        for each in gs.check(dead, (X, Y), cross_entropy, seeds=1, fit=0, remedies=False).diagnosis.findings
        if each.grade == "fail"
    ]
    names = ", ".join(f'"{each.verdict}"' for each in faults)
    assert str(caught.value) == "\n".join([*map(str, faults), f"to tolerate: allow=[{names}]"])
    heading, cause, remedy, *_ = str(caught.value).splitlines()
    assert heading.startswith("dead units, beginning at 1")
    assert cause.startswith("  cause: ")
    assert remedy.startswith("  what would help: ")
    shown = caught.traceback.filter(caught)
    assert [Path(str(entry.path)).name for entry in shown] == ["test_testing.py"]


@pytest.mark.slow
def test_what_is_allowed_is_tolerated() -> None:
    record = gs.check(dead, (X, Y), cross_entropy, seeds=1, fit=0, remedies=False)
    every = [each.verdict for each in record.diagnosis.findings]
    assert assert_trains(dead, (X, Y), cross_entropy, allow=every, seeds=1, fit=0).verdict == "dead units"
    if len(every) > 1:
        with pytest.raises(AssertionError, match=every[1]):
            assert_trains(dead, (X, Y), cross_entropy, allow=["dead units"], seeds=1, fit=0)


@pytest.mark.parametrize(
    ("allow", "message"),
    [
        (["dead unit"], r"^allow: expected verdicts; got 'dead unit'; did you mean 'dead units'\?$"),
        (["xyzzy"], r"^allow: expected verdicts; got 'xyzzy'; type: allow=\[\"dead units\"\]$"),
        ("dead units", r"^allow: expected a list; got 'dead units'; type: allow="),
        ([3], "^allow: expected verdicts; got 3"),
        (None, "^allow: expected a list; got None"),
    ],
)
def test_a_verdict_that_is_none_is_refused_before_anything_is_checked(allow: Any, message: str) -> None:
    def never() -> nn.Module:
        raise RuntimeError

    for call in (lambda: assert_trains(never, (X, Y), allow=allow), lambda: assert_healthy(None, allow)):  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=message):
            call()


def test_what_check_does_not_take_is_refused_as_there() -> None:
    with pytest.raises(ConfigError, match="unexpected keyword argument 'sedes'"):
        assert_trains(net, (X, Y), cross_entropy, sedes=1)


def watched(lr: float, make: Callable[[], nn.Module] = net, steps: int = 5) -> Any:
    torch.manual_seed(0)
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with gs.watch(model, optimizer) as flow:
        for _ in range(steps):
            optimizer.zero_grad()
            cross_entropy(model(X), Y).backward()
            optimizer.step()
    return flow


def test_a_training_with_warnings_alone_passes() -> None:
    flow = watched(0.1)
    diagnosis = gs.diagnose(flow)
    assert diagnosis.grade != "fail"
    for thing in (flow, flow.history(), diagnosis):
        assert assert_healthy(thing) == diagnosis


def test_a_fault_of_a_training_is_told_for_a_watch_its_history_and_its_diagnosis() -> None:
    flow = watched(1e30)
    diagnosis = gs.diagnose(flow)
    for thing in (flow, flow.history(), diagnosis):
        with pytest.raises(AssertionError, match=f"^{diagnosis.heading}") as caught:
            assert_healthy(thing)
        shown = caught.traceback.filter(caught)
        assert [Path(str(entry.path)).name for entry in shown] == ["test_testing.py"]
    assert assert_healthy(flow, allow=[each.verdict for each in diagnosis.findings]) == diagnosis


def test_limits_are_those_of_diagnose() -> None:
    with pytest.raises(AssertionError, match=r"^learning rate too large"):
        assert_healthy(watched(0.1), limits=gs.Limits(large=1e-9))


def test_a_fault_that_is_mild_passes() -> None:
    found = gs.diagnose(watched(1e30))
    mild = replace(found, findings=tuple(replace(each, mild=True) for each in found.findings))
    assert isinstance(assert_healthy(mild), Diagnosis)


def test_nothing_to_judge_is_an_error_and_no_pass() -> None:
    with pytest.raises(ConfigError, match="no step has been watched yet"):
        assert_healthy(watched(0.1, steps=0))


def test_pytest_is_not_imported() -> None:
    tree = ast.parse(Path(str(gradscape.testing.__file__)).read_text())
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert not any("pytest" in name for name in imported)
