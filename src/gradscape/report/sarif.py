"""Check of a network as SARIF 2.1.0, which code hosts show beside the line of the factory.

OASIS: Static Analysis Results Interchange Format Version 2.1.0; https://docs.oasis-open.org/sarif/sarif/v2.1.0/.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gradscape._codec import encode, json_text
from gradscape.records.check import CheckRecord
from gradscape.records.diagnosis import GRADES, VERDICTS, Diagnosis, Finding
from gradscape.version import __version__

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {"fail": "error", "warn": "warning", "info": "note"}


def sarif_json(record: CheckRecord, place: tuple[Path, int] | None) -> str:
    """Return a log of one run, with a rule for each verdict that was found and a result for each finding.

    `healthy` is no result: a log without any says that nothing is wrong.

    Args:
        record: Record of a check.
        place: File of the factory and its first line there; None if not known.
    """
    found = [each for each in record.diagnosis.findings if each.verdict != "healthy"]
    rules = sorted({each.verdict for each in found}, key=VERDICTS.index)
    driver = {"name": "gradscape", "version": __version__, "rules": [_rule(each) for each in rules]}
    run = {
        "tool": {"driver": driver},
        "invocations": [{"executionSuccessful": True}],
        "results": [_result(each, rules, place) for each in found],
        "properties": _properties(record.diagnosis),
    }
    return json_text(encode({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]})) + "\n"


def rule_id(verdict: str) -> str:
    """Return the identifier of a verdict's rule.

    Args:
        verdict: One of `VERDICTS`.

    Example:
        >>> rule_id("below the optimizer's reach")
        'below-the-optimizers-reach'
    """
    return re.sub(r"[^a-z0-9]+", "-", verdict.lower().replace("'", "")).strip("-")


def _rule(verdict: str) -> dict[str, Any]:
    return {
        "id": rule_id(verdict),
        "shortDescription": {"text": f"{verdict[:1].upper()}{verdict[1:]}"},
        "defaultConfiguration": {"level": LEVELS[GRADES[verdict]]},
    }


def _result(finding: Finding, rules: Sequence[str], place: tuple[Path, int] | None) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": rule_id(finding.verdict),
        "ruleIndex": rules.index(finding.verdict),
        "level": LEVELS[finding.grade],
        "message": {"text": str(finding)},
        "partialFingerprints": {"finding/v1": f"{finding.verdict}/{finding.layer}"},
    }
    location: dict[str, Any] = {} if place is None else {"physicalLocation": _physical(*place)}
    if finding.layer:
        location["logicalLocations"] = [{"name": finding.layer, "kind": "object"}]
    return {**result, "locations": [location]} if location else result


def _physical(file: Path, line: int) -> dict[str, Any]:
    """Return the place in a file, below the working folder where it lies there: so code hosts find it."""
    whole, here = file.absolute(), Path.cwd()
    inside = whole.is_relative_to(here)
    name = whole.relative_to(here).as_posix() if inside else whole.as_posix()
    uri = quote(name.encode("utf-8", "surrogateescape")) if inside else whole.as_uri()
    return {"artifactLocation": {"uri": uri}, "region": {"startLine": line}}


def _properties(diagnosis: Diagnosis) -> dict[str, Any]:
    return {"verdict": diagnosis.verdict, "grade": diagnosis.grade, "notes": diagnosis.notes}
