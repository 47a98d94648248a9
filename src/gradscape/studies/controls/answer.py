"""The answer of the controls study in plain sentences, from verdicts and numbers alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from gradscape.analysis.claims import Claim, differences, in_words
from gradscape.analysis.evidence import finals
from gradscape.analysis.noise import slopes
from gradscape.analysis.run_status import joined
from gradscape.analysis.weight_norm import scales
from gradscape.records.run import StudyRecord
from gradscape.stats.student_t import interval
from gradscape.studies.controls.roles import BASE, CONTROLS, NORMED, PLAIN, decays, larger


def answer(study: StudyRecord, found: Sequence[Claim]) -> list[str]:
    """The question's answer in plain sentences, from verdicts and numbers alone."""
    said = (in_words(found), leads_in_words(study), decay_in_words(study))
    return [text for text in said if text]


def leads_in_words(study: StudyRecord) -> str:
    """By how much the largest batch leads under each control, and how noise goes with the size."""
    largest = larger(study)[-1]
    leads = {
        label: differences(
            finals(study, f"{control}-{largest}", "valid"), finals(study, f"{control}-{BASE}", "valid")
        )
        for control, label in CONTROLS.items()
    }
    known = [
        f"{fmean(lead.values()):+.3f} ({label}, n = {len(lead)})" for label, lead in leads.items() if lead
    ]
    lead = f"Validation accuracy of batch {largest} less that of batch {BASE}: {', '.join(known)}."
    steepness = list(slopes(study, f"batch-{BASE}").values())
    noise = f"At the same weights the noise tr Σ_B goes as B to the power {interval(steepness or [0])}."
    return joined([lead if known else "", noise if steepness else ""])


def decay_in_words(study: StudyRecord) -> str:
    """What the largest penalty did to weights and accuracy, with BatchNorm and without."""
    least, *_, largest = decays(study)
    said = []
    for network, label in (("bn", NORMED), ("plain", f"{PLAIN} without BatchNorm")):
        some, none = (f"{network}-l2-{decay}" for decay in (largest, least))
        logs = [{s: math.log(v) for s, v in scales(study, role, "norm").items()} for role in (some, none)]
        shrunk = differences(*logs)
        changed = differences(finals(study, some, "valid"), finals(study, none, "valid"))
        if shrunk:
            said.append(
                f"‖w‖ × {math.exp(fmean(shrunk.values())):.2f} and validation accuracy "
                f"{fmean(changed.values()):+.3f} in {label} (n = {len(shrunk)})"
            )
    return f"L2 {largest} against none at the same learning rate: {'; '.join(said)}." if said else ""
