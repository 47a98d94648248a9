"""The answer of the controls study in plain sentences, from verdicts and numbers alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from gradscape.intervals import interval
from gradscape.records import StudyRecord
from gradscape.report.claims import Claim, Verdict, differences, unsettled
from gradscape.report.noises import slopes
from gradscape.report.outcomes import finals
from gradscape.report.runs import guessing, joined
from gradscape.report.scale_free import scales
from gradscape.study.controls_names import BASE, CONTROLS, NORMED, PLAIN, decays, larger, sized

LEAD: Mapping[str, Mapping[Verdict, str]] = {
    "K1": {
        "holds": "Larger batches do better at equal epochs and the same rate, as in the paper.",
        "does not hold": "Larger batches do not do better at equal epochs and the same rate here.",
    },
    "K2": {
        "holds": "At equal updates larger batches are ahead",
        "does not hold": "At equal updates larger batches are not ahead",
    },
    "K3": {
        "holds": "At rates that go with the batch or its root, larger ones are ahead",
        "does not hold": "At rates that go with the batch or its root, larger ones are not ahead throughout",
    },
    "K4": {
        "holds": (
            "Under BatchNorm, L2 does not change the accuracy: it shrinks the weights and so raises the "
            "effective learning rate."
        ),
        "does not hold": "That L2 changes the scale of weights alone under BatchNorm does not hold here.",
    },
    "K5": {
        "holds": "The gradient's noise falls with the batch size.",
        "does not hold": "The gradient's noise does not fall with the batch size here.",
    },
}
# What follows for the paper's finding, where it is found here.
BEHIND: Mapping[str, Mapping[Verdict, str]] = {
    "K2": {
        "holds": "; so it is not the number of updates",
        "does not hold": "; so it is the number of updates",
    },
    "K3": {
        "holds": "; so the rate beside the batch size, the noise of a step, is not all of it",
        "does not hold": "; so it is the rate beside the batch size, the noise of a step",
    },
}
OPEN = {
    "K1": "larger batches at equal epochs",
    "K2": "larger batches at equal updates",
    "K3": "larger batches at scaled rates",
    "K4": "L2 under BatchNorm",
    "K5": "noise by batch size",
}


def answer(study: StudyRecord, found: Sequence[Claim]) -> list[str]:
    """The question's answer in plain sentences, from verdicts and numbers alone."""
    settled = [settled_in_words(claim, found) for claim in found if claim.verdict in LEAD[claim.id]]
    left = [claim for claim in found if claim.verdict not in LEAD[claim.id]]
    why = unsettled(left)
    open_ = f"Open here: {'; '.join(OPEN[claim.id] for claim in left)}: {why}." if left else ""
    lead = joined([*settled, open_]) if settled else f"These runs do not settle it: {why}."
    return [text for text in (lead, leads_in_words(study, found), decay_in_words(study)) if text]


def settled_in_words(claim: Claim, found: Sequence[Claim]) -> str:
    """A verdict in a sentence."""
    said = LEAD[claim.id][claim.verdict]
    if claim.id not in BEHIND:
        return said
    confirmed = any(each.id == "K1" and each.verdict == "holds" for each in found)
    return f"{said}{BEHIND[claim.id][claim.verdict] if confirmed else ''}."


def leads_in_words(study: StudyRecord, found: Sequence[Claim]) -> str:
    """By how much the largest batch leads under each control, and how noise goes with the size."""
    largest = len(larger(study))
    parts = [part for claim in found[:3] for part in claim.parts[largest - 1 :: largest]]
    known = [
        f"{part.interval.mean:+.3f} ({label}, n = {part.interval.n})"
        for part, label in zip(parts, CONTROLS.values(), strict=True)
        if part.interval
    ]
    lead = f"Validation accuracy of batch {larger(study)[-1]} less that of batch {BASE}: {', '.join(known)}."
    steepness = list(slopes(study, list(sized(study, "batch"))).values())
    noise = f"The noise tr Σ_B after training goes as B to the power {interval(steepness or [0])}."
    return joined([lead if known else "", near_guessing(study), noise if steepness else ""])


def near_guessing(study: StudyRecord) -> str:
    """That runs hardly train, where they do not: what is compared then is luck."""
    ends = {role: finals(study, role, "train") for control in CONTROLS for role in sized(study, control)}
    means = {role: fmean(found.values()) for role, found in ends.items() if found}
    few = [role for role, mean in means.items() if mean <= 2 * guessing(study)]
    if not few:
        return ""
    return (
        f"At {len(few)} of the {len(means)} settings training accuracy is below twice guessing: such runs "
        "have hardly begun to learn, and differences between them say little."
    )


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
    return f"L2 {largest} against none: {'; '.join(said)}." if said else ""
