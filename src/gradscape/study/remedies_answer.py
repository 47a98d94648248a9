"""The answer of the study of remedies in plain sentences, from verdicts and numbers alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gradscape.records import StudyRecord
from gradscape.report.claims import Claim, unsettled
from gradscape.study.remedies_claims import BETA, correlation
from gradscape.study.remedies_names import BOTH, HE, NORMED, REMEDIES
from gradscape.study.remedies_numbers import SMOOTHNESS, all_train, highest_rate, there


def answer(study: StudyRecord, found: Sequence[Claim]) -> list[str]:
    """The study's questions answered in plain sentences, from verdicts and numbers alone."""
    of = {claim.id: claim for claim in found}
    return [lead(study, of), which(study), *questions(study, of), direction(study)]


def lead(study: StudyRecord, of: Mapping[str, Claim]) -> str:
    """The title's question, as far as the runs decide it."""
    verdicts = {name: of[name].verdict for name in ("R1", "R2", "R3")}
    # A higher accuracy may still be that of guessing, give or take: that it trains is another question.
    if tuple(verdicts.values()) == ("holds", "does not hold", "holds") and all_train(study, BOTH):
        said = (
            "Yes: with the initialisation repaired the gradient is there at the start, and VGG38 still does "
            "not train at the paper's learning rate without BatchNorm; with it, it does."
        )
    elif verdicts["R3"] == "holds":
        said = (
            "At the paper's learning rate, yes: BatchNorm raises the accuracy of a VGG38 that is well "
            "initialised already."
        )
    elif verdicts["R3"] == "does not hold":
        return "No: to a VGG38 that is well initialised already, BatchNorm adds no accuracy here."
    else:
        return f"These runs do not settle it: {unsettled([of['R2'], of['R3']])}."
    return f"{said} {BEST[of['R8'].verdict]}"


BEST = {
    "holds": "It does so, too, where each has its best learning rate.",
    "does not hold": "Where each has its best learning rate it does not: what it adds is the range of rates.",
    "undecided": "Whether it does where each has its best learning rate stays open here.",
    "not measured": "",
}


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


def questions(study: StudyRecord, of: Mapping[str, Claim]) -> list[str]:
    """The other questions, one sentence each."""
    asked: dict[str, Callable[[Claim], str]] = {
        "R2": lambda claim: f"Does VGG38 with He initialisation train without BatchNorm? {decided(claim)}",
        "R3": lambda claim: f"Does BatchNorm add to a well-initialised network? {decided(claim)}",
        "R8": lambda claim: f"And where each has its best learning rate? {decided(claim)}",
        "R4": lambda claim: f"Is the loss smoother with it? {decided(claim)}",
        "R6": lambda claim: f"Does the gradient predict accuracy better than effective β? {decided(claim)}",
        "R7": lambda claim: f"Does telling images apart, before training? {decided(claim)}",
    }
    rates = {role: highest_rate(study, role) for role in (HE, NORMED, BOTH) if role in study.roles}
    told = ", ".join(f"{REMEDIES[role].label} {rate}" for role, rate in rates.items())
    return [*(say(of[name]) for name, say in asked.items()), f"Highest learning rate that trains: {told}."]


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


def decided(claim: Claim) -> str:
    words = {"holds": "Yes", "does not hold": "No", "undecided": "Undecided", "not measured": "Not measured"}
    return f"{words[claim.verdict]} ({claim.reason})."
