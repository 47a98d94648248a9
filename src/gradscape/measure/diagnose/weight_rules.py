"""Rules on the weights themselves: units that begin as copies, weights that no step moves."""

from __future__ import annotations

import numpy as np

from gradscape._text import join_names
from gradscape.measure.diagnose.advice import options
from gradscape.measure.diagnose.limits import Limits
from gradscape.measure.diagnose.view import sized
from gradscape.records.diagnosis import Finding, Symptom
from gradscape.records.gradients import FlowHistory

FEWEST = 3  # steps that have to leave a weight where it is
ALIKE = 0.1  # of what others are asked to move: what vanishes is lost to rounding


def weight_findings(history: FlowHistory) -> list[Finding]:
    """Return the faults of the weights themselves.

    Args:
        history: History of a watch.
    """
    return [*_zero_weights(history), *_equal_units(history), *_unmoved(history)]


def _zero_weights(history: FlowHistory) -> list[Finding]:
    """Weights that begin at 0 and never get a gradient: what passes through them is 0 both ways."""
    columns = history.weights
    made = np.flatnonzero(~history.skipped)
    if history.row != "step" or len(made) < FEWEST or history.steps[0] > 0:
        return []
    zero = (history.weight[made][:, columns] == 0).all(axis=0)
    stuck = zero & (history.max_abs[made][:, columns] == 0).all(axis=0)
    names = [history.layers[columns[place]] for place in np.flatnonzero(stuck)]
    if not names or zero.sum() < 2:
        return []
    return [
        Finding(
            verdict="equal units",
            layer=names[0],
            cause=f"{join_names(names)} begin at 0, and so does a layer after them: neither signals nor "
            "gradients pass, and they stay at 0",
            remedy=options("random initial weights, such as He's"),
            evidence=(
                Symptom(
                    "weight layers that begin at 0 and never get a gradient", float(len(names)), 0.0,
                    "initial weights break the symmetry between units (Goodfellow et al. 2016, §8.4)",
                ),
            ),
        )
    ]  # fmt: skip


def _equal_units(history: FlowHistory) -> list[Finding]:
    """Two successive layers of equal weights: all units between them get one gradient, and stay copies."""
    weights = [history.layers[column] for column in history.weights]
    equal = [name in history.equal_units for name in weights]
    pair = next((at for at in range(len(weights) - 1) if equal[at] and equal[at + 1]), None)
    if pair is None:
        return []
    number = float(sum(equal))
    return [
        Finding(
            verdict="equal units",
            layer=weights[pair],
            cause=f"the units of {weights[pair]} begin as copies of each other, and {weights[pair + 1]} "
            "weighs all alike: they get one gradient, and stay copies",
            remedy=options("random initial weights, such as He's"),
            evidence=(
                Symptom(
                    "weight layers whose units begin equal", number, 0.0,
                    "initial weights break the symmetry between units (Goodfellow et al. 2016, §8.4)",
                ),
            ),
        )
    ]  # fmt: skip


def _unmoved(history: FlowHistory) -> list[Finding]:
    """Weights with the gradients and learning rate of others, that no step changes while those move."""
    made = np.flatnonzero(~history.skipped)
    weights = [at for at in history.weights if history.dtypes[at : at + 1] == ("float32",)]
    if len(made) < FEWEST or history.rates is None or history.row != "step" or not weights:
        return []
    asked = np.median((history.rms * history.rates)[made][:, weights], axis=0)
    update = history.update[made][:, weights]
    moved = np.median(update / sized(history)[made][:, weights], axis=0) > Limits().still
    if not moved.any():
        return []
    still = (update == 0).all(axis=0) & (asked > ALIKE * np.median(asked[moved]))
    names = [history.layers[weights[place]] for place in np.flatnonzero(still)]
    if not names:
        return []
    return [
        Finding(
            verdict="parameters not trained",
            layer=names[0],
            cause=f"{join_names(names)} have a gradient and a learning rate, and no step changes them",
            remedy=options(
                "look at what the optimizer does with them", "weight.contiguous(), if it is a view"
            ),
            evidence=(
                Symptom("steps that left them as they were", float(len(made)), 0.0, "a step moves weights"),
            ),
        )
    ]
