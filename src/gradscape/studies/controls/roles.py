"""Roles of the controls study, by their parameters, in its report and its claims."""

from __future__ import annotations

from gradscape.config.paths import Value
from gradscape.records.role import Role
from gradscape.records.run import StudyRecord

BASE = 100  # batch size that the others are compared with
SGD_RATE = 0.02  # constant, so that the effective rate moves with ‖w‖ alone; 0.05 trains VGG38 no better
CONTROLS = {
    "batch": "equal epochs",
    "updates": "equal updates",
    "linear": "rate ∝ batch",
    "sqrt": "rate ∝ √batch",
}
NORMED, PLAIN = "VGG38 + BatchNorm", "VGG08"
NETWORKS = {"bn": NORMED, "plain": PLAIN}


def penalized(network: str, decay: float, rate: float = SGD_RATE) -> Role:
    """Return the role of the runs of one network under one L2 penalty.

    Args:
        network: `bn` or `plain`.
        decay: L2 penalty; 0 for none.
        rate: Learning rate.
    """
    words = f"L2 {decay:g}" if decay else "no L2"
    parameters: dict[str, Value] = {"network": network, "l2": decay, "lr": rate}
    if rate == SGD_RATE:
        return Role(f"{network}-l2-{decay:g}", words, NETWORKS[network], parameters)
    return Role(f"{network}-lr-{rate:g}", f"{words}, lr {rate:g}", NETWORKS[network], parameters)


def sizes(study: StudyRecord) -> tuple[int, ...]:
    """Return the batch sizes that the study has, by the paper's names, from the smallest.

    Args:
        study: Record of a study.
    """
    found = (role.parameters["batch_size"] for role in study.where(control="batch"))
    return tuple(size for size in found if isinstance(size, int))


def larger(study: StudyRecord) -> tuple[int, ...]:
    """Return the batch sizes above `BASE`.

    Args:
        study: Record of a study.
    """
    return tuple(size for size in sizes(study) if size > BASE)
