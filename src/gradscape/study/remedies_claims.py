"""What the study of remedies asks, each question as a claim with the rule that decides it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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
from gradscape.report.outcomes import TINY, beats, finals, trains
from gradscape.report.runs import ended, together, unfinished
from gradscape.report.smoothing import smoother
from gradscape.report.spectra import flatter
from gradscape.study.remedies_names import BOTH, HE, PLAIN
from gradscape.study.remedies_numbers import (
    SIGNAL,
    SMOOTHNESS,
    Number,
    best,
    each,
    first_gradient,
    rate_of,
    rated,
    there,
)

GUESSES = "A run that diverged counts as guessing."
RATIO = 2.0  # orders of magnitude between gradients that count as restored
GRADIENT, LIKENESS, BETA = "mean |∂L/∂W| of the first layer", "correlation of two images", "effective β"
NAMED = 3  # remedies with missing runs that a reason has room to name
VERDICTS: dict[Side, Verdict] = {"first": "holds", "second": "does not hold", "undecided": "undecided"}
MOMENTS = ("at initialisation", "through training")


def claims(study: StudyRecord) -> list[Claim]:
    """R1 to R8 with the evidence there is.

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
        adds_at_best(study),
    ]


def restores(study: StudyRecord) -> Claim:
    he, plain = (logarithm(each(study, role, first_gradient)) for role in (HE, PLAIN))
    return Claim(
        "R1",
        "The initialisation alone restores the gradient",
        "Without BatchNorm, He initialisation raises the first layer's gradient before training, by two "
        "orders of magnitude at least.",
        "the control that the paper leaves out",
        (
            above(
                "log10 of the first layer's mean |∂L/∂W| before training, He over VGG38",
                differences(he, plain),
                RATIO,
                together(without(study, HE), without(study, PLAIN)),
            ),
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
        "At the paper's learning rate BatchNorm raises the accuracy of a VGG38 that is well initialised "
        "already.",
        "the paper's question",
        tuple(beats(study, BOTH, HE, split, label) for split in ("train", "valid")),
        GUESSES,
    )


def adds_at_best(study: StudyRecord) -> Claim:
    """The same where each may have another learning rate: what it adds beyond a choice of rates."""
    both, alone = best(study, BOTH), best(study, HE)
    label = f"He and BatchNorm at lr {rate_of(both):g} − He alone at lr {rate_of(alone):g}"
    rated_ = [role for name in (BOTH, HE) for role in rated(study, name).values()]
    part = beats(study, both, alone, "valid", label)
    missing = together(*(unfinished(study, role) for role in rated_))
    return Claim(
        "R8",
        "BatchNorm adds where each has its best learning rate",
        "BatchNorm raises the accuracy of a well-initialised VGG38 also where each is given the best of the "
        "learning rates tried.",
        "control",
        (replace(part, verdict="undecided", reason=missing) if missing else part,),
        f"Best by mean validation accuracy, the number that is compared: it favours neither. {GUESSES}",
    )


def smooths(study: StudyRecord) -> Claim:
    pair = {BOTH: "He and BatchNorm", HE: "He alone"}
    return Claim(
        "R4",
        "BatchNorm smooths a well-initialised network",
        "With the initialisation repaired in both, the loss is smoother with BatchNorm.",
        "abstract, §5 of the paper; Santurkar et al. (2018)",
        (
            *(
                smoother(study, pair, what, along)
                for what, along in (("lipschitz", "gradient"), ("beta", "gradient"), ("beta", "relative"))
            ),
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
        "The gradient predicts accuracy better than effective β",
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
        "Telling images apart predicts accuracy better than effective β",
        "Over all remedies the correlation of two images in the last convolution's output, before training, "
        "has a closer rank correlation with the accuracy than the effective β of the first step has.",
        "Schoenholz et al. (2017)",
        (closer(study, LIKENESS, 0),),
        f"{BOOTSTRAP} It was chosen after a pilot of two epochs on 100 digits. Table 2 has other numbers, "
        "beside which it may tell no more.",
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


def sample(study: StudyRecord, number: Number, roles: Sequence[str]) -> Sample:
    runs = [(role, seed, end) for role in roles for seed, end in finals(study, role, "valid").items()]
    known = {role: each(study, role, number) for role in roles}
    return Sample(
        values=tuple(known[role].get(seed, math.nan) for role, seed, _ in runs),
        accuracy=tuple(end for *_, end in runs),
        remedies=tuple(role for role, *_ in runs),
    )


def correlation(study: StudyRecord, number: Number, roles: Sequence[str] | None = None) -> RankCorrelation:
    """Spearman's ρ of a number with the final validation accuracy, over the runs of all, or of these."""
    found = sample(study, number, there(study) if roles is None else roles)
    return rank_correlation(found.values, found.accuracy, found.remedies)


def against(study: StudyRecord, first: Number, second: Number) -> RankDifference:
    one, other = (sample(study, number, there(study)) for number in (first, second))
    return rank_difference(one.values, other.values, one.accuracy, one.remedies)


def logarithm(values: Mapping[int, float]) -> dict[int, float]:
    return {seed: math.log10(max(value, TINY)) for seed, value in values.items()}
