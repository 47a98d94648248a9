"""Claims S1 to S5: BatchNorm smooths the loss of networks that train without it, each with its rule.

C7 of the paper as Santurkar et al. (2018) argue for it, on pairs that differ in the norm alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from gradscape.analysis.claims import Claim, Evidence, Verdict
from gradscape.analysis.curvature import curvatures, flatter_on_average
from gradscape.analysis.equal_loss import (
    AT_EQUAL_LOSS,
    RolePair,
    over_in_words,
    smoother_at_equal_loss,
    testable,
)
from gradscape.analysis.evidence import open_runs
from gradscape.analysis.outcomes import joined
from gradscape.analysis.smoothness import VALUES, WAYS, smoother
from gradscape.records.run import StudyRecord
from gradscape.studies.smoothing.measures import (
    BETA,
    LIPSCHITZ,
    RELATIVE,
    SCALED,
    SHARPEST,
    best_pairs,
)
from gradscape.studies.smoothing.roles import DEFAULT_PAIR, NETWORKS, PAIRS, rated

Parts = Mapping[str, Evidence]  # by what was measured, in few words
WHERE = "abstract, §5; Santurkar et al. (2018), §3"
EVERY_STEP = (("beta", "relative"), ("lipschitz", "step"), ("beta", "step"))
WORDS: Mapping[Verdict, str] = {
    "holds": "smoother by", "does not hold": "rougher by", "undecided": "undecided by",
    "not testable": "not testable by",
}  # fmt: skip
TRAINED = (
    "Not at equal loss: λmax is that of the trained weights, at whatever loss each network has come to, and "
    "it rises as a network learns and falls again once it has learned its images (Cohen et al. 2021)."
)
BEST = (
    "A network's best learning rate is that of its highest mean final training accuracy over the seeds that "
    "came to an end; a run that diverged counts as guessing, of equal rates the lowest is taken, and nothing "
    "is decided while a run at any rate is open."
)


def claims(study: StudyRecord) -> list[Claim]:
    """Return S1 to S5 with the evidence of a study.

    Args:
        study: Record of a study.

    Example:
        >>> [f"{claim.id} {claim.verdict}" for claim in claims(study)][:1]
        ['S1 holds']
    """
    return [
        _default_weights(study),
        _equal_loss(study),
        _equal_steps(study),
        _best_rates(study),
        _after_training(study),
    ]


def _default_weights(study: StudyRecord) -> Claim:
    pairs, aside = testable(study, [DEFAULT_PAIR])
    return _claim(
        "S1",
        "BatchNorm smooths VGG08 from PyTorch's weights",
        "The loss of VGG08 from PyTorch's default weights, which trains without BatchNorm, is smoother with "
        "it at the same learning rate and equal loss.",
        _at_equal_loss(study, pairs, study.labels()),
        [AT_EQUAL_LOSS, aside],
        "the loss of VGG08 from PyTorch's weights",
    )


def _equal_loss(study: StudyRecord) -> Claim:
    pairs, aside = testable(study, PAIRS)
    return _claim(
        "S2",
        "BatchNorm smooths at the same learning rate and equal loss",
        "At the same learning rate and equal loss, the loss of networks that train from LSUV's weights "
        "without BatchNorm is smoother with it, on average over the pairs.",
        _at_equal_loss(study, pairs, study.labels()),
        [AT_EQUAL_LOSS, aside],
        "the loss at the same learning rate and equal loss, on average over pairs",
    )


def _equal_steps(study: StudyRecord) -> Claim:
    pairs, aside = testable(study, PAIRS)
    labels = study.labels()
    parts = {
        f"{VALUES[what][0]} {WAYS[along]} of {labels[plain]}": smoother(
            study, {normed: labels[normed], plain: labels[plain]}, what, along
        )
        for what, along in EVERY_STEP
        for normed, plain in pairs
    }
    return _claim(
        "S3",
        "BatchNorm smooths at the same learning rate and equal step",
        "At the same learning rate, through all steps of training, the loss of networks that train from "
        "LSUV's weights without BatchNorm is smoother with it.",
        parts,
        [
            "At equal step, as Santurkar et al. compare; one of two networks has then learned more, and what "
            "has learned its images is flat for that.",
            aside,
        ],
        "the loss at the same learning rate and equal step",
    )


def _best_rates(study: StudyRecord) -> Claim:
    best = best_pairs(study)
    pairs, aside = testable(study, list(best))
    labels = {
        role: f"{NETWORKS[network].label} at lr {rate:g}"
        for names, roles in zip(PAIRS, best, strict=True)
        for network, role, rate in zip(names, roles, best[roles], strict=True)
    }
    parts = _at_equal_loss(study, pairs, labels)
    networks = [network for pair in PAIRS for network in pair]
    missing = open_runs(study, *(role for network in networks for role in rated(study, network).values()))
    if missing:
        parts = {
            name: replace(part, verdict="undecided", reason=missing, p=None) for name, part in parts.items()
        }
    return _claim(
        "S4",
        "BatchNorm smooths where each network has its best learning rate",
        "Where each network has the best of the learning rates tried, the loss is smoother with BatchNorm "
        "than without at equal loss, on average over the pairs.",
        parts,
        [AT_EQUAL_LOSS, BEST, _at_an_end(study), aside],
        "the loss where each network has its best learning rate, on average over pairs",
    )


def _after_training(study: StudyRecord) -> Claim:
    pairs, aside = testable(study, PAIRS)
    over = over_in_words(pairs, study.labels())
    parts = {
        SCALED: flatter_on_average(study, pairs, over, scaled=True),
        SHARPEST: flatter_on_average(study, pairs, over),
    }
    return _claim(
        "S5",
        "BatchNorm lowers the curvature after training",
        "At the same learning rate, networks that train from LSUV's weights without BatchNorm end where the "
        "loss has less curvature with it, on average over the pairs.",
        parts,
        [TRAINED, _ends(study, pairs), aside],
        "the loss where training ends, on average over pairs",
    )


def _ends(study: StudyRecord, pairs: Sequence[RolePair]) -> str:
    """Return a sentence with the losses at which λmax was measured, means over seeds."""
    ends = {
        label: [curvature.loss for curvature in curvatures(study, role, "end").values()]
        for role, label in study.labels(*(role for pair in pairs for role in pair)).items()
    }
    words = [f"{label} {fmean(losses):.3g}" for label, losses in ends.items() if losses]
    return f"Losses there: {', '.join(words)}." if words else ""


def _at_an_end(study: StudyRecord) -> str:
    """Return a sentence that names networks whose best rate is the lowest or the highest tried."""
    words = []
    for names, rates in zip(PAIRS, best_pairs(study).values(), strict=True):
        for network, rate in zip(names, rates, strict=True):
            tried = list(rated(study, network))
            if tried and rate in (tried[0], tried[-1]):
                words.append(f"{NETWORKS[network].label} ({rate:g})")
    return (
        f"At an end of the rates tried, beyond which a better one may lie: {', '.join(words)}."
        if words
        else ""
    )


def _at_equal_loss(study: StudyRecord, pairs: Sequence[RolePair], labels: Mapping[str, str]) -> Parts:
    """Return the parts at equal loss, that which is free of the weights' scale first."""
    lipschitz, beta, relative = smoother_at_equal_loss(study, pairs, labels)
    return {RELATIVE: relative, LIPSCHITZ: lipschitz, BETA: beta}


def _claim(id_: str, title: str, text: str, parts: Parts, notes: Sequence[str], what: str) -> Claim:
    """Return a claim that says which measures are for it and which against it."""
    split = _by_verdict(parts)
    return Claim(
        id_,
        title,
        text,
        WHERE,
        tuple(parts.values()),
        joined([*notes, f"By measure: {split}."]),
        yes=f"BatchNorm smooths {what}, by every measure.",
        no=f"BatchNorm does not smooth {what}, by every measure: {split}.",
    )


def _by_verdict(parts: Parts) -> str:
    """Return the measures by their own verdicts: `smoother by the effective β; rougher by λmax`."""
    named = {
        word: [name for name, part in parts.items() if part.verdict == kind] for kind, word in WORDS.items()
    }
    return "; ".join(f"{word} {', '.join(names)}" for word, names in named.items() if names)
