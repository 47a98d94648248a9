"""JUnit and SARIF of a check: as their schemas ask, for any text, with what was found."""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gradscape.records.check import CheckRecord, Fit, Trial
from gradscape.records.diagnosis import GRADES, VERDICTS, Diagnosis, Finding, Symptom
from gradscape.report.junit import NOT_LOOKED, THINGS, junit_xml
from gradscape.report.sarif import rule_id, sarif_json
from made_records import made_signal

texts = st.text(st.characters(), max_size=40)
# Of jenkins-junit.xsd: the attributes that each element may have, those that it must, and its children.
ELEMENTS: dict[str, tuple[set[str], set[str], tuple[str, ...]]] = {
    "testsuites": ({"name", "time", "tests", "failures", "disabled", "errors"}, set(), ("testsuite",)),
    "testsuite": (
        {"name", "tests", "failures", "errors", "time", "disabled", "skipped", "timestamp", "hostname", "id",
         "package"},
        {"name", "tests", "failures", "errors"},
        ("properties", "testcase", "system-out", "system-err"),
    ),
    "testcase": (
        {"name", "assertions", "time", "classname", "status"},
        {"name"},
        ("skipped", "error", "failure", "system-out", "system-err"),
    ),
    "failure": ({"type", "message"}, set(), ()),
    "skipped": ({"type", "message"}, set(), ()),
    "system-out": (set(), set(), ()),
}  # fmt: skip


def record(*verdicts: str, text: str = "1.weight", notes: tuple[str, ...] = (), **more: Any) -> CheckRecord:
    evidence = (Symptom(text, 1.0, math.nan, text),)
    findings = tuple(Finding(verdict, text, text, text, evidence) for verdict in verdicts)
    diagnosis = Diagnosis(findings, "now", notes)
    as_is = Trial("", text, diagnosis, 1.0, (2.0, 1.0))
    made = CheckRecord(made_signal([0.5, 0.5]), diagnosis, as_is, (), fit=Fit((2.0, 0.1)))
    return replace(made, **more)


def suite(made: CheckRecord, name: str = "net.py:make") -> ElementTree.Element:
    """The test suite, once its text has been found to be as the schema asks."""
    text = junit_xml(made, name, 1.5)
    text.encode("ascii")
    root = ElementTree.fromstring(text)
    for element in root.iter():
        known, needed, children = ELEMENTS[element.tag]
        assert needed <= set(element.attrib) <= known
        order = [children.index(child.tag) for child in element]
        assert order == sorted(order)
        for number in {"tests", "failures", "errors", "skipped"} & set(element.attrib):
            assert re.fullmatch(r"\d+", element.attrib[number])
    (found,) = root
    cases = found.findall("testcase")
    counted = {tag: sum(case.find(tag) is not None for case in cases) for tag in ("failure", "skipped")}
    assert found.attrib["tests"] == str(len(cases)) == str(len(THINGS))
    assert found.attrib["failures"] == str(counted["failure"])
    assert found.attrib["skipped"] == str(counted["skipped"])
    return found


def case_of(found: ElementTree.Element, verdict: str) -> ElementTree.Element:
    (thing,) = (name for name, verdicts in THINGS.items() if verdict in verdicts)
    (case,) = (each for each in found.findall("testcase") if each.attrib["name"] == thing)
    return case


def test_every_verdict_is_on_one_thing() -> None:
    assert sorted(verdict for verdicts in THINGS.values() for verdict in verdicts) == sorted(VERDICTS)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_each_verdict_fails_its_case_or_stands_in_its_output(verdict: str) -> None:
    made = record(verdict)
    found = suite(made)
    case = case_of(found, verdict)
    failure, out = case.find("failure"), case.find("system-out")
    assert (failure is not None) == (GRADES[verdict] == "fail")
    assert (out is not None) == (GRADES[verdict] == "warn")
    if failure is not None:
        assert failure.attrib == {"message": made.diagnosis.heading, "type": verdict}
        assert failure.text == str(made.diagnosis.findings[0])
    others = [each for each in found.findall("testcase") if each is not case]
    assert not any(each.find("failure") is not None for each in others)
    assert found.findtext("system-out") == str(made)


def test_a_mild_fault_fails_nothing() -> None:
    mild = replace(record("exploding").diagnosis.findings[0], mild=True)
    made = record("exploding")
    found = suite(replace(made, diagnosis=replace(made.diagnosis, findings=(mild,))))
    assert found.attrib["failures"] == "0"
    assert case_of(found, "exploding").find("system-out") is not None


def skipped(found: ElementTree.Element, verdict: str) -> str | None:
    element = case_of(found, verdict).find("skipped")
    return None if element is None else element.attrib["message"]


def test_what_was_not_looked_at_or_cannot_be_told_is_skipped() -> None:
    healthy = suite(record("healthy"))
    assert healthy.attrib["skipped"] == "0"
    unfitted = suite(record("healthy", fit=None))
    assert skipped(unfitted, "does not fit one batch") == "no steps to fit the batch were asked for"
    assert skipped(unfitted, "train and eval differ") == "no steps to fit the batch were asked for"
    few = Fit((2.0, 2.0))
    assert skipped(suite(record("healthy", fit=few)), "does not fit one batch") == str(few)
    note = f"{NOT_LOOKED}: it fails"
    assert skipped(suite(record("healthy", notes=(note,))), "samples are mixed") == note
    labels = suite(record("unusable labels"))
    assert "may follow from this: unusable labels" in str(skipped(labels, "vanishing"))
    assert skipped(labels, "samples are mixed") is None


@settings(deadline=None)
@given(texts, texts)
@example("\x00\x0b\x1f\ud800\ufffe]]><&\"'\n", "a\x85\u202eb")
def test_any_text_is_well_formed_xml(text: str, name: str) -> None:
    found = suite(record("vanishing", "overshooting", text=text), name)
    assert len(found.attrib["name"]) == len(name)


def log(made: CheckRecord, place: tuple[Path, int] | None = None) -> dict[str, Any]:
    """The log's run, once it has been found to have what sarif-schema-2.1.0.json requires."""
    read = json.loads(sarif_json(made, place))
    assert (read["version"], set(read)) == ("2.1.0", {"$schema", "version", "runs"})
    (run,) = read["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "gradscape"
    assert all(call["executionSuccessful"] is True for call in run["invocations"])
    rules = [rule["id"] for rule in driver["rules"]]
    assert len(rules) == len(set(rules))
    assert all(rule["shortDescription"]["text"] for rule in driver["rules"])
    for result in run["results"]:
        assert result["level"] in ("error", "warning", "note")
        assert rules[result["ruleIndex"]] == result["ruleId"]
        assert result["message"]["text"]
        assert all(isinstance(each, str) for each in result["partialFingerprints"].values())
        for location in result.get("locations", ()):
            assert set(location) <= {"physicalLocation", "logicalLocations"}
            if physical := location.get("physicalLocation"):
                assert re.fullmatch(r"[\w.~%/:-]+", physical["artifactLocation"]["uri"], re.ASCII)
                assert physical["region"]["startLine"] >= 1
    return dict(run)


@pytest.mark.parametrize("verdict", [verdict for verdict in VERDICTS if verdict != "healthy"])
def test_each_verdict_is_a_rule_and_a_result(verdict: str) -> None:
    run = log(record(verdict))
    (result,) = run["results"]
    assert result["level"] == {"fail": "error", "warn": "warning", "info": "note"}[GRADES[verdict]]
    assert result["ruleId"] == rule_id(verdict)
    assert result["locations"] == [{"logicalLocations": [{"name": "1.weight", "kind": "object"}]}]


def test_rules_have_names_of_their_own() -> None:
    names = [rule_id(verdict) for verdict in VERDICTS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in names)


def test_health_is_no_result() -> None:
    assert log(record("healthy"))["results"] == []


def test_a_place_below_the_working_folder_is_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("net.py", "a:b #?%/net 1.py", "ü/ネット.py", "\udcff.py"):
        run = log(record("vanishing"), (Path(name), 7))
        place = run["results"][0]["locations"][0]["physicalLocation"]
        assert unquote(place["artifactLocation"]["uri"], errors="surrogateescape") == name
        assert ":" not in place["artifactLocation"]["uri"]
        assert place["region"] == {"startLine": 7}
    outside = log(record("vanishing"), (Path("/else/net.py"), 1))["results"][0]["locations"][0]
    assert outside["physicalLocation"]["artifactLocation"]["uri"] == "file:///else/net.py"


@settings(deadline=None)
@given(texts)
def test_any_text_is_a_valid_log(text: str) -> None:
    log(record("vanishing", "overshooting", text=text), (Path(os.devnull), 1))
    sarif_json(record("vanishing", text=text), None).encode()
