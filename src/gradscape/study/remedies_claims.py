"""What the study of remedies asks, each question as a claim with the rule that decides it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from gradscape.ranks import (
    FEWEST,
    RankCorrelation,
    RankDifference,
    Side,
    rank_correlation,
    rank_difference,
    told,
)
from gradscape.records import StudyRecord
from gradscape.report.claims import Claim, Evidence, Verdict, above, differences
from gradscape.report.outcomes import beats, trains
from gradscape.report.runs import ended, together, unfinished
from gradscape.report.smoothing import smoother
from gradscape.report.spectra import flatter
from gradscape.study.remedies_names import BOTH, HE, NORMED, PLAIN, REMEDIES
from gradscape.study.remedies_numbers import (
    SIGNAL,
    SMOOTHNESS,
    Number,
    accuracies,
    each,
    first_gradient,
    there,
)

GUESSES = "A run that diverged counts as guessing."
RATIO = 2.0  # orders of magnitude between gradients that count as restored
GRADIENT, LIKENESS, BETA = "mean |∂L/∂W| of the first layer", "correlation of two images", "effective β"
NAMED = 3  # remedies with missing runs that a reason has room to name
VERDICTS: dict[Side, Verdict] = {"first": "holds", "second": "does not hold", "undecided": "undecided"}
MOMENTS = ("at initialisation", "through training")


def claims(study: StudyRecord) -> list[Claim]:
    """R1 to R7 with the evidence there is.

    Example:
        >>> [f"{claim.id} {claim.verdict}" for claim in claims(study)][:1]
        ['R1 holds']
    """
    return [
        restores(study),
        suffices(study),
        adds(study),
        smooths(study),
        skips(study),
        gradient_predicts(study),
        likeness_predicts(study),
    ]


def restores(study: StudyRecord) -> Claim:
    logs = {role: logarithm(each(study, role, first_gradient)) for role in (PLAIN, HE, NORMED)}
    return Claim(
        "R1",
        "The initialisation alone restores the gradient",
        "Without BatchNorm, He initialisation brings the first layer's gradient back to where other networks "
        "have it, before training.",
        "the control that the paper leaves out",
        tuple(
            above(
                f"log10 of the first layer's mean |∂L/∂W| before training, {REMEDIES[role].label} over VGG38",
                differences(logs[role], logs[PLAIN]),
                RATIO,
                together(without(study, role), without(study, PLAIN)),
            )
            for role in (HE, NORMED)
        ),
    )


def without(study: StudyRecord, role: str) -> str:
    """Runs of a role whose first gradient before training is not known: unfinished, or without it."""
    known = each(study, role, first_gradient)
    words = ", ".join(
        f"seed {seed} has no gradient before training" for seed in ended(study, role) if seed not in known
    )
    return together(unfinished(study, role), f"{role}: {words}" if words else "")


def suffices(study: StudyRecord) -> Claim:
    return Claim(
        "R2",
        "A well-initialised VGG38 trains without BatchNorm",
        "With He initialisation VGG38 trains at the paper's learning rate, without BatchNorm.",
        "the control that the paper leaves out",
        (trains(study, HE, "VGG38 with He initialisation"),),
        GUESSES,
    )


def adds(study: StudyRecord) -> Claim:
    label = "He and BatchNorm − He alone"
    return Claim(
        "R3",
        "BatchNorm adds to a good initialisation",
        "BatchNorm raises the accuracy of a VGG38 that is well initialised already.",
        "the paper's question",
        tuple(beats(study, BOTH, HE, split, label) for split in ("train", "valid")),
        GUESSES,
    )


def smooths(study: StudyRecord) -> Claim:
    pair = {BOTH: "He and BatchNorm", HE: "He alone"}
    return Claim(
        "R4",
        "BatchNorm smooths a well-initialised network",
        "With the initialisation repaired in both, the loss is smoother with BatchNorm.",
        "abstract, §5 of the paper; Santurkar et al. (2018)",
        (
            *(smoother(study, pair, what, "gradient") for what in ("lipschitz", "beta", "scale-free")),
            *flatter(study, pair),
        ),
        "A network that does not train lies on a plateau: flat, it counts as smooth.",
    )


def skips(study: StudyRecord) -> Claim:
    return Claim(
        "R5",
        "Skip connections alone make VGG38 train",
        "VGG38 with residual connections trains without BatchNorm.",
        "the paper's literature section; He et al. (2016)",
        (trains(study, "skip", "VGG38 with skips"),),
        GUESSES,
    )


def gradient_predicts(study: StudyRecord) -> Claim:
    return Claim(
        "R6",
        "The gradient predicts accuracy better than smoothness",
        "Over all remedies the first layer's gradient has a closer rank correlation (Spearman's ρ) with the "
        "accuracy than the effective β has.",
        "the paper argues for smoothness",
        tuple(closer(study, GRADIENT, place) for place in range(len(MOMENTS))),
        f"{BOOTSTRAP} Which two numbers are held against each other was chosen before any run; Table 2 has "
        "the others.",
    )


def likeness_predicts(study: StudyRecord) -> Claim:
    return Claim(
        "R7",
        "Telling images apart predicts accuracy better than smoothness",
        "Over all remedies the correlation of two images in the last convolution's output, before training, "
        "has a closer rank correlation with the accuracy than the effective β has.",
        "Schoenholz et al. (2017)",
        (closer(study, LIKENESS, 0),),
        f"{BOOTSTRAP} It was chosen after a pilot of two epochs on 100 digits.",
    )


BOOTSTRAP = "The interval is of a bootstrap over remedies: seeds of one are not independent."


def closer(study: StudyRecord, signal: str, place: int) -> Evidence:
    """Whether a number of the signal has a larger |ρ| with accuracy than effective β, at one of `MOMENTS`."""
    found = against(study, SIGNAL[signal][place], SMOOTHNESS[BETA][place])
    return judged(
        f"|ρ| of {signal} − |ρ| of {BETA}, {MOMENTS[place]}, with validation accuracy, over {found.n} runs "
        f"of {found.groups} remedies",
        found,
        left(study),
    )


def judged(measured: str, found: RankDifference, missing: str) -> Evidence:
    """`above` for an interval that is not over seeds."""
    rule = "the 95 % bootstrap interval over remedies lies above 0"
    if missing or found.low is None:
        few = "too few remedies" if found.groups < FEWEST else "a number is the same in all remedies"
        return Evidence(measured, rule, (), None, "undecided", missing or few)
    reason = f"|ρ| {abs(found.first):.3g} and {abs(found.second):.3g}, {told(found)}"
    return Evidence(measured, rule, (), None, VERDICTS[found.verdict], reason)


def left(study: StudyRecord) -> str:
    """Which remedies have runs that have not come to an end; how many, where they are many."""
    words = [unfinished(study, role) for role in there(study)]
    open_ = [text for text in words if text]
    if len(open_) > NAMED:
        return f"{len(open_)} of {len(words)} remedies have runs that have not come to an end"
    return together(*open_)


# Rank correlations over all runs


@dataclass(frozen=True)
class Sample:
    """One number of every run that came to its end, beside the run's accuracy and its remedy."""

    values: tuple[float, ...]
    accuracy: tuple[float, ...]
    remedies: tuple[str, ...]


def sample(study: StudyRecord, number: Number) -> Sample:
    runs = [
        (role, seed, end) for role in there(study) for seed, end in accuracies(study, role, "valid").items()
    ]
    known = {role: each(study, role, number) for role in there(study)}
    return Sample(
        values=tuple(known[role].get(seed, math.nan) for role, seed, _ in runs),
        accuracy=tuple(end for *_, end in runs),
        remedies=tuple(role for role, *_ in runs),
    )


def correlation(study: StudyRecord, number: Number) -> RankCorrelation:
    """Spearman's ρ of a number with the final validation accuracy, over all runs of the study."""
    found = sample(study, number)
    return rank_correlation(found.values, found.accuracy, found.remedies)


def against(study: StudyRecord, first: Number, second: Number) -> RankDifference:
    one, other = sample(study, first), sample(study, second)
    return rank_difference(one.values, other.values, one.accuracy, one.remedies)


def logarithm(values: Mapping[int, float]) -> dict[int, float]:
    return {seed: math.log10(max(value, 2.0**-149)) for seed, value in values.items()}
