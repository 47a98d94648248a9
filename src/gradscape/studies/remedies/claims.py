"""Claims of the study of remedies, R1 to R10: each question with the rule that decides it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gradscape.analysis.claims import Claim, Evidence, Verdict, above, differences
from gradscape.analysis.equal_loss import AT_EQUAL_LOSS, smoother_at_equal_loss, testable
from gradscape.analysis.evidence import beats, finals, oftener, trains
from gradscape.analysis.gradient_flow import TINY
from gradscape.analysis.outcomes import ended, joined, together, unfinished
from gradscape.records.run import StudyRecord
from gradscape.stats.paired import look_level
from gradscape.stats.rank_correlation import (
    FEWEST,
    RankCorrelation,
    RankDifference,
    Side,
    interval_in_words,
    rank_correlation,
    rank_difference,
)
from gradscape.stats.student_t import percent
from gradscape.studies.remedies.metrics import (
    SIGNAL,
    SMOOTHNESS,
    Number,
    all_train,
    best,
    each,
    first_gradient,
    rated,
    there,
    threshold,
)
from gradscape.studies.remedies.roles import BOTH, HE, PAIRS, PLAIN

GUESSES = "A run that diverged counts as guessing."
RATIO = 2.0  # orders of magnitude between gradients that count as restored
GRADIENT, LIKENESS, BETA = "mean |∂L/∂W| of the first layer", "correlation of two images", "effective β"
NAMED = 3  # remedies with missing runs that a reason has room to name
VERDICTS: dict[Side, Verdict] = {"first": "holds", "second": "does not hold", "undecided": "undecided"}
MOMENTS = ("at initialization", "through training")
CONTROL = "vgg08"  # if it trains, the runs are long enough
QUESTIONS = ("whether it trains", "accuracy among those that train")
# Moments at which each signal is compared with effective β, for both questions.
SIGNALS = {GRADIENT: (0, 1), LIKENESS: (0,)}
LEVEL = look_level(len(QUESTIONS) * sum(map(len, SIGNALS.values())))


def claims(study: StudyRecord) -> list[Claim]:
    """Return R1 to R10 with the evidence of a study.

    Args:
        study: Record of a study.

    Example:
        >>> [f"{claim.id} {claim.verdict}" for claim in claims(study)][:1]
        ['R1 holds']
    """
    return [
        _restores(study),
        _suffices(study),
        _adds(study),
        _smooths(study),
        _skips(study),
        _predicts(study, "R6", GRADIENT, 1),
        _predicts(study, "R7", LIKENESS, 1),
        _adds_at_best(study),
        _predicts(study, "R9", GRADIENT, 0),
        _predicts(study, "R10", LIKENESS, 0),
    ]


def _restores(study: StudyRecord) -> Claim:
    he, plain = (_logarithm(each(study, role, first_gradient)) for role in (HE, PLAIN))
    return Claim(
        "R1",
        "The initialization alone restores the gradient",
        "Without BatchNorm, He initialization raises the first layer's gradient before training, by two "
        "orders of magnitude at least.",
        "the control that the paper leaves out",
        (
            above(
                "log10 of the first layer's mean |∂L/∂W| before training, He over VGG38",
                differences(he, plain),
                RATIO,
                together(_without(study, HE), _without(study, PLAIN)),
            ),
        ),
        yes="He initialization alone restores the gradient before training.",
        no="He initialization does not restore the gradient before training.",
    )


def _without(study: StudyRecord, role: str) -> str:
    """Name runs of a role without a first gradient before training: unfinished, or not measured."""
    measured = each(study, role, first_gradient)
    words = ", ".join(
        f"seed {seed} has no gradient before training" for seed in ended(study, role) if seed not in measured
    )
    return together(unfinished(study, role), f"{role}: {words}" if words else "")


def _suffices(study: StudyRecord) -> Claim:
    return Claim(
        "R2",
        "A well-initialized VGG38 trains without BatchNorm",
        "With He initialization VGG38 trains at the paper's learning rate, without BatchNorm.",
        "the control that the paper leaves out",
        (trains(study, HE, "VGG38 with He initialization", control=CONTROL),),
        GUESSES,
        yes="With it VGG38 trains at the paper's learning rate, without BatchNorm.",
        no="With it VGG38 still does not train at the paper's learning rate without BatchNorm.",
    )


def _adds(study: StudyRecord) -> Claim:
    return Claim(
        "R3",
        "BatchNorm makes a well-initialized network train",
        "At the paper's learning rate more seeds of a VGG38 that is well initialized train with BatchNorm "
        "than without.",
        "the paper's question",
        (oftener(study, BOTH, HE, "He and BatchNorm against He alone"),),
        f"How accurate they are where both train is R8. {GUESSES}",
        yes="At the paper's learning rate a well-initialized VGG38 trains with more seeds with BatchNorm "
        "than without.",
        no="At the paper's learning rate a well-initialized VGG38 trains with more seeds without BatchNorm.",
    )


def _adds_at_best(study: StudyRecord) -> Claim:
    """Claim on the accuracy where each may have another learning rate: the gain beyond a choice of rates."""
    (rate, both), (other_rate, alone) = best(study, BOTH), best(study, HE)
    label = f"He and BatchNorm at lr {rate:g} − He alone at lr {other_rate:g}"
    rated_ = [role for name in (BOTH, HE) for role in rated(study, name).values()]
    part = beats(study, both, alone, "valid", label)
    missing = together(*(unfinished(study, role) for role in rated_))
    return Claim(
        "R8",
        "BatchNorm adds accuracy where each has its best learning rate",
        "Where each is given the best of the learning rates tried, BatchNorm raises the accuracy of a "
        "well-initialized VGG38.",
        "control",
        (replace(part, verdict="undecided", reason=missing, p=None) if missing else part,),
        "Best by mean validation accuracy, the number that is compared: it favours neither.",
        yes="Where each has its best learning rate, BatchNorm adds accuracy.",
        no="Where each has its best learning rate, BatchNorm adds no accuracy.",
    )


def _smooths(study: StudyRecord) -> Claim:
    """Decide R4 on the pairs of which both networks train; not testable if there is none."""
    asked = [pair for pair in PAIRS if set(pair) <= study.roles.keys()]
    pairs, aside = testable(study, asked)
    return Claim(
        "R4",
        "BatchNorm smooths networks that train without it",
        "Where a network trains with BatchNorm and without, the loss is smoother with it.",
        "abstract, §5 of the paper; Santurkar et al. (2018)",
        smoother_at_equal_loss(study, pairs, study.labels()),
        joined([AT_EQUAL_LOSS, aside]),
        yes="Of networks that train both ways, the loss is smoother with BatchNorm.",
        no="Of networks that train both ways, not all that was measured is smoother with BatchNorm.",
    )


def _skips(study: StudyRecord) -> Claim:
    return Claim(
        "R5",
        "Skip connections alone make VGG38 train",
        "VGG38 with residual connections trains without BatchNorm.",
        "the paper's literature section; He et al. (2016)",
        (trains(study, "skip", "VGG38 with skips", control=CONTROL),),
        GUESSES,
        yes="Skip connections alone make VGG38 train.",
        no="Skip connections alone do not make VGG38 train.",
    )


NAMES = {GRADIENT: "The gradient", LIKENESS: "Telling images apart"}
CHOSEN = {
    GRADIENT: "Which two numbers are held against each other was chosen before any run.",
    LIKENESS: "It was chosen after a pilot of two epochs on 100 digits, and so explores rather than tests.",
}


def _predicts(study: StudyRecord, name: str, signal: str, question: int) -> Claim:
    """Claim that a number of the signal says more than effective β on training, or on accuracy."""
    asked = QUESTIONS[question]
    places = SIGNALS[signal]
    return Claim(
        name,
        f"{NAMES[signal]} predicts {asked} better than effective β",
        f"The {signal} has a closer rank correlation (Spearman's ρ) with {asked} than the effective β has, "
        f"{' and '.join(MOMENTS[place] for place in places)}.",
        "the paper argues for smoothness" if signal == GRADIENT else "Schoenholz et al. (2017)",
        tuple(_closer(study, signal, place, question) for place in places),
        f"{BOOTSTRAP} {CHOSEN[signal]} Table 2 has other numbers.",
    )


BOOTSTRAP = (
    "The interval is of a bootstrap over remedies: seeds of one are not independent. Its level makes up for "
    "all such comparisons of this study (Bonferroni)."
)


def _closer(study: StudyRecord, signal: str, place: int, question: int) -> Evidence:
    """Judge if a number of the signal has a larger |ρ| with an outcome than effective β, at one moment."""
    first, second = SIGNAL[signal][place], SMOOTHNESS[BETA][place]
    roles = there(study) if question == 0 else [role for role in there(study) if all_train(study, role)]
    one, other = (_sample(study, number, roles, question) for number in (first, second))
    compared = rank_difference(one.values, other.values, one.outcome, one.remedies, LEVEL)
    return _judged(
        f"|ρ| of {signal} − |ρ| of {BETA}, {MOMENTS[place]}, with {QUESTIONS[question]}, over {compared.n} "
        f"runs of {compared.groups} remedies",
        compared,
        _left(study),
    )


def _judged(measured: str, found: RankDifference, missing: str) -> Evidence:
    """Judge as `above` does, by an interval that is not over seeds."""
    rule = f"the {percent(found.level)} bootstrap interval over remedies lies above 0"
    if missing or found.low is None:
        few = "too few remedies" if found.groups < FEWEST else "a number is the same in all remedies"
        return Evidence(measured, rule, (), None, "undecided", missing or few)
    reason = f"|ρ| {abs(found.first):.3g} and {abs(found.second):.3g}, {interval_in_words(found)}"
    most = 1.0 if found.verdict == "undecided" else 1 - found.level
    return Evidence(measured, rule, (), None, VERDICTS[found.verdict], reason, most)


def _left(study: StudyRecord) -> str:
    """Name remedies with runs that have not come to an end; count them where they are many."""
    words = [unfinished(study, role) for role in there(study)]
    open_ = [text for text in words if text]
    if len(open_) > NAMED:
        return f"{len(open_)} of {len(words)} remedies have runs that have not come to an end"
    return together(*open_)


# Rank correlations over all runs


@dataclass(frozen=True)
class _Sample:
    """One number of every run that came to its end, the run's outcome and its remedy."""

    values: tuple[float, ...]
    outcome: tuple[float, ...]
    remedies: tuple[str, ...]


def _sample(study: StudyRecord, number: Number, roles: Sequence[str], question: int = 1) -> _Sample:
    """Sample of a number, with one of `QUESTIONS` as outcome: 0 or 1, or the final validation accuracy."""
    outcomes = {
        role: {seed: float(value > threshold(study)) for seed, value in finals(study, role, "train").items()}
        if question == 0
        else finals(study, role, "valid")
        for role in roles
    }
    runs = [(role, seed, end) for role, ends in outcomes.items() for seed, end in ends.items()]
    known = {role: each(study, role, number) for role in roles}
    return _Sample(
        values=tuple(known[role].get(seed, math.nan) for role, seed, _ in runs),
        outcome=tuple(end for *_, end in runs),
        remedies=tuple(role for role, *_ in runs),
    )


def correlation(
    study: StudyRecord, number: Number, roles: Sequence[str] | None = None, question: int = 1
) -> RankCorrelation:
    """Return Spearman's ρ of a number with an outcome, over the runs of several remedies.

    Args:
        study: Record of a study.
        number: Function from a run to the number.
        roles: Names of the remedies, by default all.
        question: Index in `QUESTIONS`.
    """
    found = _sample(study, number, there(study) if roles is None else roles, question)
    return rank_correlation(found.values, found.outcome, found.remedies)


def _logarithm(values: Mapping[int, float]) -> dict[int, float]:
    return {seed: math.log10(max(value, TINY)) for seed, value in values.items()}
