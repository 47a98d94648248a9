"""The answer of the study of remedies in plain sentences, from verdicts and numbers alone."""

from __future__ import annotations

from collections.abc import Sequence

from gradscape.analysis.claims import Claim, in_words
from gradscape.records.run import StudyRecord
from gradscape.studies.remedies.claims import BETA, correlation
from gradscape.studies.remedies.metrics import SMOOTHNESS, all_train, highest_rate, there
from gradscape.studies.remedies.roles import BOTH, HE, NORMED, REMEDIES

LEAD = ("R1", "R2", "R3", "R8")  # the title's question


def answer(study: StudyRecord, found: Sequence[Claim]) -> list[str]:
    """The study's questions answered in plain sentences, from verdicts and numbers alone."""
    lead = [claim for claim in found if claim.id in LEAD]
    others = [claim for claim in found if claim.id not in LEAD]
    said = [in_words(lead), which(study), in_words(others), rates(study), direction(study)]
    return [text for text in said if text]


def which(study: StudyRecord) -> str:
    """Which remedies make VGG38 train."""
    verdicts = {role: all_train(study, role) for role in there(study) if role != "vgg08"}
    yes, no, unknown = (
        [REMEDIES[role].label for role, found in verdicts.items() if found is wanted]
        for wanted in (True, False, None)
    )
    parts = [
        f"train: {', '.join(yes)}" if yes else "",
        f"do not, or not with every seed: {', '.join(no)}" if no else "",
        f"not run to the end: {', '.join(unknown)}" if unknown else "",
    ]
    return f"At the paper's learning rate {'; '.join(part for part in parts if part)}."


def rates(study: StudyRecord) -> str:
    """The highest learning rates at which the networks that claims rest on train."""
    highest = {role: highest_rate(study, role) for role in (HE, NORMED, BOTH) if role in study.roles}
    told = ", ".join(f"{REMEDIES[role].label} {rate}" for role, rate in highest.items())
    return f"Highest learning rate that trains: {told}."


def direction(study: StudyRecord) -> str:
    """Whether it is the smooth networks that are accurate, over all remedies; empty while that is open."""
    found = correlation(study, SMOOTHNESS[BETA][1])
    if found.low is None or found.high is None or found.low <= 0 <= found.high:
        return ""
    which = "less smooth" if found.low > 0 else "smoother"
    among = correlation(study, SMOOTHNESS[BETA][1], [role for role in there(study) if all_train(study, role)])
    return (
        f"Over all remedies the {which} a network is through training, the more accurate it is ({found}); "
        "but a network that does not train lies on a plateau, which is smooth. Among those that train: "
        f"{among}."
    )
