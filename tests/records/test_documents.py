"""Documents for programs: every kind of finding conforms to the schema, and no field is ever renamed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

import gradscape as gs
from gradscape._codec import finite_or_not, json_text
from gradscape.cli.main import main
from gradscape.records.check import CheckRecord, Fit, Trial
from gradscape.records.diagnosis import VERDICTS, Diagnosis, Finding, Symptom
from gradscape.records.document_schemas import SCHEMAS, diagnosis_schema
from gradscape.records.documents import check_document, diagnoses_document, diagnosis_document
from gradscape.records.gradients import OptimizerFacts
from made_records import made_signal

KEPT = Path(__file__).with_name("documents_1.json")
PAGE = Path(__file__).parents[2] / "docs" / "programs.md"
HOSTILE = 'a\x00\x1b[31m\x9b\u202e\ud800<b>|`\n"\\'


def finding(verdict: str, **changes: Any) -> Finding:
    evidence = (
        Symptom("share of units", 0.75, 0.5, "a source"),
        Symptom("steps", math.inf, math.nan, "another", below=True),
    )
    made = Finding(verdict, "1.weight", "a cause", "one; another", evidence, "weight layer 1 of 2")
    return replace(made, **changes)


def diagnosis(verdict: str = "dead units", **changes: Any) -> Diagnosis:
    made = Diagnosis((finding(verdict), finding("overshooting")), "now", ("odd",), ("the loss",))
    return replace(made, **changes)


def check_record() -> CheckRecord:
    as_is = Trial("", "as it is", diagnosis("healthy"), 1.5, (2.0, 1.0))
    norm = Trial("norm", "a norm", diagnosis("vanishing"), -0.5, (2.0, 0.5), "lowers")
    skip = Trial("skip", "why not", None, math.nan, ())
    other = Trial("another loss", "it", diagnosis("healthy"), 0.0, (2.0, 1.0), "predicts", (0.25, 0.5))
    return CheckRecord(
        made_signal([0.25, 0.5]), diagnosis(), as_is, (norm, other, skip), 0.125,
        Fit((2.0, 0.0625), constant=1.5, evaluated=0.5, size=8), ("a fact",),
        (OptimizerFacts("Adam", 0.001, 1e-8, None, ()),), 12, ("float32",),
    )  # fmt: skip


def documents() -> dict[str, Any]:
    """A document of each schema."""
    runs = {"first": diagnosis("non-finite"), "second": None}
    return {
        "diagnosis": diagnosis_document(diagnosis()),
        "diagnoses": diagnoses_document("batchnorm", "quick", runs),
        "check": check_document(check_record()),
    }


def validator(name: str) -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name]())
    return jsonschema.Draft202012Validator(SCHEMAS[name]())


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_document_of_every_verdict_conforms(verdict: str) -> None:
    for made in (diagnosis(verdict), diagnosis(verdict, findings=(finding(verdict, mild=True),))):
        read = json.loads(made.to_json())
        validator("diagnosis").validate(read)
        assert (read["verdict"], read["grade"], read["heading"]) == (verdict, made.grade, made.heading)
        first = read["findings"][0]["evidence"]
        assert first[0] == {"what": "share of units", "value": 0.75, "limit": 0.5, "below": False,
                            "source": "a source"}  # fmt: skip
        assert (first[1]["value"], first[1]["limit"]) == ("Infinity", "NaN")


def net(*layers: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Linear(4, 4), *layers, nn.Linear(4, 2))


def dead() -> nn.Module:
    model = net(nn.ReLU())()
    nn.init.constant_(model[0].bias, -100.0)  # type: ignore[index]
    return model


X, Y = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 2
CHECKS: dict[str, tuple[Callable[[], nn.Module], Any, Any]] = {
    "dead units": (dead, Y, cross_entropy),
    "unusable labels": (net(), torch.full((8,), -100), cross_entropy),
    "shapes broadcast": (lambda: nn.Linear(4, 1), Y.float(), mse_loss),
    "non-finite": (net(nn.ReLU()), Y, lambda out, y: cross_entropy(out, y) * math.nan),
    "healthy": (net(nn.ReLU()), Y, cross_entropy),
}


@pytest.mark.parametrize("verdict", CHECKS)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_real_checks_conform_and_are_read_as_diagnoses(verdict: str) -> None:
    make, y, loss = CHECKS[verdict]
    record = gs.check(make, (X, y), loss, seeds=1, fit=3, remedies=verdict == "dead units")
    read = json.loads(record.to_json())
    assert verdict in [each["verdict"] for each in read["findings"]]
    validator("check").validate(read)
    validator("diagnosis").validate({**read, "schema": "gradscape.diagnosis/1"})
    assert read["optimizers"] == [{"name": "Adam", "lr": 0.001, "eps": 1e-8, "momentum": None}]
    assert finite_or_not(read["as_is"]["losses"]) == pytest.approx(record.as_is.losses, nan_ok=True)
    assert [each["name"] for each in read["signal"]["layers"]] == list(record.signal.layers)


def kept(before: Any, now: Any, place: str) -> Iterator[str]:
    """Places where a value is no longer what it was; a field more is none."""
    if isinstance(before, dict):
        for name, value in before.items():
            if not isinstance(now, dict) or name not in now:
                yield f"{place}.{name} is gone"
            else:
                yield from kept(value, now[name], f"{place}.{name}")
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for number, (old, new) in enumerate(zip(before, now, strict=True)):
            yield from kept(old, new, f"{place}[{number}]")
    elif before != now:
        yield f"{place}: {before!r} has become {now!r}"


def test_no_field_has_been_renamed_or_has_another_meaning() -> None:
    """A field more is added to the file too; whatever else differs is another schema, of another number."""
    now = documents()
    assert list(kept(json.loads(KEPT.read_text()), now, "")) == []
    assert list(kept(now, json.loads(KEPT.read_text()), "")) == [], f"add the new fields to {KEPT.name}"


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_document_without_a_field_does_not_conform(name: str) -> None:
    check, document = validator(name), documents()[name]
    check.validate(document)
    check.validate({**document, "new": 1})
    for field in document:
        assert not check.is_valid({key: value for key, value in document.items() if key != field}), field
    assert not check.is_valid({**document, "schema": "gradscape.other/1"})


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_command_prints_the_schema(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", name]) == 0
    assert json.loads(capsys.readouterr().out) == SCHEMAS[name]()


def test_the_page_names_every_field_with_what_the_schema_says() -> None:
    text = PAGE.read_text()
    for schema in [make() for make in SCHEMAS.values()]:
        for part in (schema, *schema["$defs"].values()):
            for field, described in part.get("properties", {}).items():
                assert f"| `{field}` | {described['description']} |" in text, field


def test_any_text_is_valid_json_that_no_terminal_obeys() -> None:
    text = diagnosis(findings=(finding("vanishing", layer=HOSTILE, cause=HOSTILE),)).to_json()
    text.encode()
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    assert json.loads(text)["findings"][0]["layer"] == HOSTILE.replace("\ud800", "\ufffd")


@given(st.dictionaries(st.text(), st.text() | st.floats(allow_nan=False, allow_infinity=False), max_size=4))
def test_json_text_is_read_back(values: dict[str, Any]) -> None:
    assert json.loads(json_text(values)) == values


def test_verdicts_are_open_and_grades_are_not() -> None:
    document = diagnosis_document(diagnosis())
    check = validator("diagnosis")
    assert check.is_valid({**document, "verdict": "a verdict of a later version"})
    assert not check.is_valid({**document, "grade": "bad"})
    assert diagnosis_schema()["properties"]["verdict"]["examples"] == list(VERDICTS)
