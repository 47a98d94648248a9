"""The schemas take what the readers take, and refuse names, types and choices that they refuse."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from gradscape.cli.main import main
from gradscape.config.run import RunConfig
from gradscape.config.schema import run_schema, sweep_schema
from gradscape.config.serialize import to_dict
from gradscape.study.sweep.sweep import KEYS, Sweep

Validator = pytest.importorskip("jsonschema").Draft202012Validator
SWEEP = """
name: rates
base: {net: {norm: batch}, net.depth: 14, epochs: 2}
axes:
- optim.lr: {log: [1e-4, 1e-2], points: 3}
- {batch_size: [50, 100], equal_updates: [yes, no]}
- {net.slope: {range: [0.1, 0.3], step: 0.1}, where: {net.activation: leaky_relu}}
exclude:
- {optim.lr: 0.01, batch_size: [50]}
seeds: 3
"""


def test_a_configuration_with_every_default_conforms() -> None:
    schema = run_schema()
    Validator.check_schema(schema)
    Validator(schema).validate(to_dict(RunConfig()))
    assert schema["properties"]["batch_size"]["default"] == 100
    depth = schema["$defs"]["NetConfig"]["properties"]["depth"]
    assert depth["description"].startswith("layers with weights")


@pytest.mark.parametrize(
    "values",
    [{"dept": 3}, {"net": {"dept": 3}}, {"net": {"depth": "x"}}, {"net": {"norm": "bath"}}, {"net": 3}],
)
def test_a_slip_in_a_run_is_refused(values: dict[str, Any]) -> None:
    assert not Validator(run_schema()).is_valid(values)


def test_a_sweep_in_all_its_forms_conforms() -> None:
    schema, values = sweep_schema(), yaml.safe_load(SWEEP.replace("1e-4, 1e-2", "0.0001, 0.01"))
    Validator.check_schema(schema)
    Sweep.from_dict(values)
    Validator(schema).validate(values)
    assert set(schema["properties"]) == set(KEYS)


@pytest.mark.parametrize(
    "change",
    [
        {"axs": []},
        {"base": {"seed": 1}},
        {"axes": [{"net.dept": [1]}]},
        {"axes": [{"net.depth": ["deep"]}]},
        {"axes": [{"net.norm": {"log": [1, 2], "points": 2}}]},
        {"exclude": [{"optim.lr": "x"}]},
        {"seeds": 0},
        {"scale_lr": "cubic"},
    ],
)
def test_a_slip_in_a_sweep_is_refused(change: dict[str, Any]) -> None:
    assert not Validator(sweep_schema()).is_valid({"axes": [{"net.depth": [8, 14]}], **change})


@pytest.mark.parametrize(("what", "make"), [("run", run_schema), ("sweep", sweep_schema)])
def test_the_command_prints_it(what: str, make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", what]) == 0
    assert json.loads(capsys.readouterr().out) == make()
