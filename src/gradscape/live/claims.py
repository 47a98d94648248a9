"""Claims of a study as its runs stand now."""

from __future__ import annotations

from typing import Any

from gradscape._codec import encode
from gradscape.analysis.claims import Claim, Evidence
from gradscape.errors import GradscapeError
from gradscape.report.interactive.forest import forest
from gradscape.storage.study_folder import StudyFolder
from gradscape.studies.catalogue import STUDIES

MOST = 200  # runs of a study whose claims are judged again and again


def judged_claims(study: StudyFolder) -> list[dict[str, Any]]:
    """Return the claims of a study that is known by name; none of others, and of very large ones.

    Args:
        study: Folder of the study.
    """
    try:
        asked = study.asked()
        known = STUDIES.get(str((asked or {}).get("study")))
        if known is None or len(study.identities(asked)) > MOST:
            return []
        record = study.record(known.parts.epochs)
        return [_as_plain(claim) for claim in known.parts.claims(record)] if record.runs else []
    except GradscapeError:  # damaged, or planned by another version: the runs' rows say so
        return []


def _as_plain(claim: Claim) -> dict[str, Any]:
    found: dict[str, Any] = encode(
        {
            "id": claim.id,
            "title": claim.title,
            "text": claim.text,
            "verdict": claim.verdict,
            "note": claim.note,
            "parts": [_part(part) for part in claim.parts],
        }
    )
    return found


def _part(part: Evidence) -> dict[str, Any]:
    return {
        "text": part.measured,
        "rule": part.rule,
        "shown": f"{part.verdict}; {part.reason}",
        "forest": forest(part),
    }
