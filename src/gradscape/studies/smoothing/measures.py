"""Measures by which the loss of one network is smoother than that of another, and each one's best rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from statistics import fmean

from gradscape.analysis.claims import differences
from gradscape.analysis.curvature import sharpness
from gradscape.analysis.equal_loss import RolePair, ratios
from gradscape.analysis.evidence import finals
from gradscape.records.run import StudyRecord
from gradscape.stats.student_t import ROUNDING
from gradscape.studies.smoothing.roles import BASE, PAIRS, rated

LogRatios = Callable[[StudyRecord, RolePair], dict[int, float]]  # per seed, BatchNorm over none

RELATIVE = "effective β relative to the weights' size"
SCALED = "λmax times ‖w‖²"
LIPSCHITZ = "Lipschitz estimate of the loss"
BETA = "effective β"
SHARPEST = "λmax"
MEANING = (
    "Smoother is less of a measure. The Lipschitz estimate is how far the loss changes along a step of the "
    "gradient over the step's length, the effective β how far the gradient does, λmax the Hessian's largest "
    "eigenvalue after training (Santurkar et al. 2018 have the first two). Scale matters: weights before a "
    "BatchNorm can be multiplied by any a > 0 without changing the network, which makes the gradient 1/a and "
    "the change of the gradient over a length 1/a² times as large, so that β and λmax go as 1/‖w‖². β "
    "relative to the weights' size, each parameter and its change over its own |θ_i|, is free of every such "
    "scale (Kwon et al. 2021), λmax times ‖w‖² of one that all convolutions have in common."
)


def _learning(what: str, along: str) -> LogRatios:
    return lambda study, pair: ratios(study, pair, what, along)


def _flat(scaled: bool) -> LogRatios:
    return lambda study, pair: differences(*(sharpness(study, role, scaled) for role in pair))


# Free of the weights' scale first.
MEASURES: Mapping[str, LogRatios] = {
    RELATIVE: _learning("beta", "relative"),
    SCALED: _flat(scaled=True),
    LIPSCHITZ: _learning("lipschitz", "gradient"),
    BETA: _learning("beta", "gradient"),
    SHARPEST: _flat(scaled=False),
}


def best_rate(study: StudyRecord, network: str) -> float:
    """Return the learning rate of a network's highest mean final training accuracy, of equal ones the lowest.

    The mean is over the seeds that came to an end, of which one that diverged counts as guessing; a rate
    without any is not chosen. Without any rate it is `BASE`.

    Args:
        study: Record of a study.
        network: Key of `NETWORKS`.
    """
    ends = {rate: finals(study, role, "train") for rate, role in rated(study, network).items()}
    means = {rate: fmean(values.values()) for rate, values in ends.items() if values}
    highest = max(means.values(), default=0.0)
    return min((rate for rate, mean in means.items() if _equal(mean, highest)), default=BASE)


def _equal(mean: float, highest: float) -> bool:
    return math.isclose(mean, highest, rel_tol=ROUNDING)


def best_pairs(study: StudyRecord) -> dict[RolePair, tuple[float, float]]:
    """Return the pairs of `PAIRS` as roles at each network's best rate, with the two rates.

    Args:
        study: Record of a study.
    """
    found = {}
    for pair in PAIRS:
        with_norm, without = (best_rate(study, network) for network in pair)
        names = tuple(
            rated(study, network).get(rate, network)
            for network, rate in zip(pair, (with_norm, without), strict=True)
        )
        found[names[0], names[1]] = (with_norm, without)
    return found
