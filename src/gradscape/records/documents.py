"""Documents for programs: a diagnosis, those of a study's runs, and a check, with fields that stay.

`document_schemas` has their JSON Schemas, `docs/programs.md` the promise. A record's `to_dict` has every
field of the record, as this version of gradscape has it; a document has what a program may rely on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gradscape._codec import encode

if TYPE_CHECKING:
    from gradscape.records.check import CheckRecord, Fit, Trial
    from gradscape.records.diagnosis import Diagnosis, Finding
    from gradscape.records.signal import SignalRecord

DIAGNOSIS = "gradscape.diagnosis/1"
DIAGNOSES = "gradscape.diagnoses/1"
CHECK = "gradscape.check/1"
EVIDENCE = ("what", "value", "limit", "below", "source")
OF_FIT = ("fits", "learns", "losses", "constant", "evaluated", "samples", "size", "seconds")
OF_OPTIMIZER = ("name", "lr", "eps", "momentum")
OF_LAYER = (
    "second_moment", "correlation", "dead", "saturated", "nonfinite", "gradient", "weight_gradient",
)  # fmt: skip
OF_JACOBIAN = (
    "largest", "largest_error", "smallest", "mean_square", "mean_square_error", "samples", "how",
)  # fmt: skip


def diagnosis_document(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return a diagnosis as plain values, of the schema `gradscape.diagnosis/1`.

    Args:
        diagnosis: Diagnosis of a watch, a history or a run.
    """
    return {"schema": DIAGNOSIS, **_diagnosis(diagnosis)}


def diagnoses_document(study: str, preset: str, diagnoses: Mapping[str, Diagnosis | None]) -> dict[str, Any]:
    """Return the diagnoses of a study as plain values, of the schema `gradscape.diagnoses/1`.

    Args:
        study: Name of the study, such as `batchnorm`.
        preset: Name of the preset.
        diagnoses: Diagnosis per identity of a run; None for a run without an epoch.
    """
    runs = {name: None if each is None else diagnosis_document(each) for name, each in diagnoses.items()}
    return {"schema": DIAGNOSES, "study": study, "preset": preset, "runs": runs}


def check_document(record: CheckRecord) -> dict[str, Any]:
    """Return a check as plain values, of the schema `gradscape.check/1`.

    Args:
        record: Record of the check.
    """
    values = {
        "schema": CHECK,
        **_diagnosis(record.diagnosis),
        "fell": record.as_is.fell,
        "as_is": _trial(record.as_is),
        "band": record.band,
        "remedies": [_trial(each) for each in record.remedies],
        "fit": None if record.fit is None else _fit(record.fit),
        "facts": record.facts,
        "optimizers": [{name: getattr(each, name) for name in OF_OPTIMIZER} for each in record.optimizers],
        "parameters": record.parameters,
        "dtypes": record.dtypes,
        "signal": _signal(record.signal),
    }
    plain: dict[str, Any] = encode(values)
    return plain


def _diagnosis(diagnosis: Diagnosis) -> dict[str, Any]:
    plain: dict[str, Any] = encode(
        {
            "verdict": diagnosis.verdict,
            "grade": diagnosis.grade,
            "heading": diagnosis.heading,
            "layer": diagnosis.layer,
            "findings": [_finding(each) for each in diagnosis.findings],
            "seen": diagnosis.seen,
            "unseen": diagnosis.unseen,
            "notes": diagnosis.notes,
        }
    )
    return plain


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "verdict": finding.verdict,
        "grade": finding.grade,
        "heading": finding.heading,
        "layer": finding.layer,
        "place": finding.place,
        "cause": finding.cause,
        "remedy": finding.remedy,
        "evidence": [{name: getattr(each, name) for name in EVIDENCE} for each in finding.evidence],
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "remedy": trial.remedy,
        "what": trial.what,
        "effect": trial.effect,
        "verdict": trial.verdict,
        "grade": trial.diagnosis.grade if trial.diagnosis else "",
        "layer": trial.diagnosis.layer if trial.diagnosis else "",
        "losses": trial.losses,
        "span": trial.span,
        "right": trial.right,
    }


def _fit(fit: Fit) -> dict[str, Any]:
    return {name: getattr(fit, name) for name in OF_FIT}


def _signal(signal: SignalRecord) -> dict[str, Any]:
    layers = [
        {
            "name": name,
            "kind": signal.kinds[place],
            "width": signal.widths[place],
            **{column: getattr(signal, column)[:, place] for column in OF_LAYER},
        }
        for place, name in enumerate(signal.layers)
    ]
    return {
        "samples": signal.samples,
        "seeds": len(signal.second_moment),
        "loss": signal.loss,
        "mean_chi": signal.mean_chi,
        "depth_scale": signal.depth_scale,
        "origin": signal.origin,
        "layers": layers,
        "jacobian": {name: getattr(signal.jacobian, name) for name in OF_JACOBIAN},
        "notes": signal.notes,
    }
