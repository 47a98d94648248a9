"""Rules on adapters of low rank: those that get no gradient, and weights below them that move."""

from __future__ import annotations

import numpy as np

from gradscape._text import join_names
from gradscape.measure.diagnose.advice import options
from gradscape.records.adapters import AdapterFacts, LowRank, low_rank
from gradscape.records.diagnosis import Finding, Symptom
from gradscape.records.gradients import FlowHistory

FEWEST = 3  # steps: A has no gradient in the first one, before which B is 0
FROZEN = "LoRA trains A and B alone, and W stays (Hu et al. 2021, §4.1)"


def adapter_findings(history: FlowHistory) -> list[Finding]:
    """Return the faults of adapters of low rank.

    Args:
        history: History of a watch.
    """
    if history.adapters is None:
        return []
    return [*_without_gradient(history), *_moving(history, history.adapters)]


def _without_gradient(history: FlowHistory) -> list[Finding]:
    """Layers whose adapter gets no gradient, where the adapter of that name gets one in other layers.

    An adapter that gets none anywhere is one of several, and not the active one.
    """
    made = np.flatnonzero(~history.skipped)
    if len(made) < FEWEST:
        return []
    alive: dict[tuple[str, str], bool] = {}
    largest = np.nan_to_num(history.max_abs[made]).max(axis=0)
    broken = np.nan_to_num(history.nonfinite[made]).max(axis=0)
    for name, value, bad in zip(history.layers, largest, broken, strict=True):
        _note(alive, low_rank(name), bool(value > 0 or bad > 0))
    for name in () if history.untrained is None else history.untrained.frozen:
        _note(alive, low_rank(name), False)
    active = {adapter for (_, adapter), has in alive.items() if has} or {adapter for _, adapter in alive}
    layers = [layer for (layer, adapter), has in alive.items() if not has and adapter in active]
    if not layers:
        return []
    return [
        Finding(
            verdict="adapters get no gradient",
            layer=layers[0],
            cause=f"the adapters of {join_names(layers)} got no gradient in {len(made)} steps, and stay as "
            "they began",
            remedy=options(
                "requires_grad of their A and B",
                "look whether the loss depends on these layers",
                "target_modules without them",
            ),
            evidence=(
                Symptom("layers whose adapter gets no gradient", float(len(layers)), 0.0,
                        "Hu et al. (2021), §4.1: B begins at 0, and has a gradient at the first step"),
            ),
        )
    ]  # fmt: skip


def _note(alive: dict[tuple[str, str], bool], place: LowRank | None, has: bool) -> None:
    """Record whether a matrix of an adapter has a gradient: one of the two is enough."""
    if place is not None:
        key = place.layer, place.adapter
        alive[key] = alive.get(key, False) or has


def _moving(history: FlowHistory, adapters: AdapterFacts) -> list[Finding]:
    """Weights below adapters that steps change, or that change without a step of the optimizer."""
    own = {f"{layer}{rest}" for layer in adapters.layers for rest in (".base_layer.weight", ".weight")}
    moves = np.nan_to_num(history.update).max(axis=0, initial=0.0) > 0
    trained = [name for name, moved in zip(history.layers, moves, strict=True) if moved and name in own]
    names = [*trained, *adapters.moved]
    if not names:
        return []
    how = "the optimizer trains them too" if trained else "something else than the optimizer changes them"
    return [
        Finding(
            verdict="base weights move",
            layer=names[0],
            cause=f"the weights below the adapters change, {join_names(names)}: {how}, and the adapters "
            "alone are not what was trained",
            remedy=options(
                "requires_grad_(False) on the base weights",
                "an optimizer of the parameters that require a gradient",
            )
            if trained
            else options("no merging of adapters within the training", "look for writes to .data"),
            evidence=(Symptom("base weights that have moved", float(len(names)), 0.0, FROZEN),),
        )
    ]
