"""Rules on the residual stream, the gains of normalization layers and the output logits."""

from __future__ import annotations

import numpy as np

from gradscape.measure.diagnose.advice import LOWER, options
from gradscape.measure.diagnose.transformer.limits import TransformerLimits, evidence, median_of_last
from gradscape.records.diagnosis import Finding
from gradscape.records.gradients import FlowHistory
from gradscape.records.transformer import LogitHistory, StreamHistory


def stream_findings(stream: StreamHistory, last_step: int, limits: TransformerLimits) -> list[Finding]:
    """Return the faults of the residual stream.

    Args:
        stream: Stream at the readings of a training.
        last_step: Step of the last reading.
        limits: Limits of the rules.
    """
    if len(stream.size) < limits.fewest:
        return []
    return [
        *_growing(stream, limits),
        *(_without_blocks(stream, limits) if last_step >= limits.begun else ()),
    ]


def _growing(stream: StreamHistory, limits: TransformerLimits) -> list[Finding]:
    size = median_of_last(stream.size, limits)
    grown = size / size[0]
    beyond = np.flatnonzero(grown > limits.grown)
    if not len(beyond) or not size[0] > 0:
        return []
    first = int(beyond[0])
    return [
        Finding(
            verdict="residual stream grows",
            layer=stream.layers[first],
            cause="what blocks add is far larger than the embedding: the stream grows from "
            f"{size[0]:.2g} to {size[first]:.2g}",
            remedy=options(
                "initial weights of each block's last layer over √(2 · blocks), as GPT-2's",
                "a norm before each branch",
                LOWER,
            ),
            evidence=(
                evidence("grown", "size of the stream there over that of the embedding", grown[first]),
            ),
        )
    ]


def _without_blocks(stream: StreamHistory, limits: TransformerLimits) -> list[Finding]:
    share = median_of_last(stream.share, limits)
    size = median_of_last(stream.size, limits)
    added = abs(1 - share[-1])
    if not (added < limits.added and abs(1 - size[-1] / size[0]) < limits.added):
        return []
    return [
        Finding(
            verdict="blocks add nothing",
            layer=stream.layers[-1],
            cause="the stream at the end is the embedding itself: the output depends on single tokens alone",
            remedy=options(
                "look for layer scales or output layers that stay at 0",
                "a smaller scale of the embedding",
                "a longer training, if blocks begin at 0",
            ),
            evidence=(
                evidence("added", "share of the stream at the end that blocks have added", added, below=True),
            ),
        )
    ]


def logit_findings(logits: LogitHistory, limits: TransformerLimits) -> list[Finding]:
    """Return the fault of output logits that drift.

    Args:
        logits: Logits at the readings of a training.
        limits: Limits of the rules.
    """
    if len(logits.log_z) < limits.fewest:
        return []
    drift = float(median_of_last(logits.log_z, limits))
    if not abs(drift) > limits.log_z:
        return []
    return [
        Finding(
            verdict="output logits drift",
            layer="",
            cause=f"log Z of the output is {drift:.3g}, from {logits.log_z[0]:.3g} at the first reading: the "
            "loss does not hold a constant that all logits share, and half precision rounds it",
            remedy=options("a z-loss of 1e-4 · log² Z", LOWER, "logits and loss in float32"),
            evidence=(evidence("log_z", "size of log Z", abs(drift)),),
        )
    ]


def gain_findings(history: FlowHistory, limits: TransformerLimits) -> list[Finding]:
    """Return the fault of normalization layers whose gains have vanished or grown since the watch began.

    Gains that begin near 0 are left out: some layers keep theirs less 1.

    Args:
        history: History of a watch of a transformer.
        limits: Limits of the rules.
    """
    columns = [
        place
        for place, (kind, name) in enumerate(zip(history.kinds, history.layers, strict=True))
        if kind == "norm" and name.endswith("weight")
    ]
    made = np.flatnonzero(~history.skipped)
    if not columns or len(made) < limits.fewest:
        return []
    gains = history.weight[made][:, columns] / np.sqrt(np.array(history.sizes)[columns])
    began, now = gains[0], median_of_last(gains, limits)
    ratio = np.where(began > 1 / limits.gain, now / began, 1.0)
    beyond = np.flatnonzero((ratio < 1 / limits.gain) | (ratio > limits.gain))
    if not len(beyond):
        return []
    place = int(beyond[0])
    change = max(float(ratio[place]), 1 / float(ratio[place])) if ratio[place] > 0 else np.inf
    how = "vanished" if ratio[place] < 1 else "grown"
    return [
        Finding(
            verdict="norm gains out of scale",
            layer=history.layers[columns[place]],
            cause=f"its gains have {how}, from {began[place]:.2g} to {now[place]:.2g}: the branch after it "
            + ("gets next to nothing" if how == "vanished" else "is driven by it alone"),
            remedy=options("no weight decay on gains", LOWER),
            evidence=(evidence("gain", "change of the gains, as a factor", change),),
        )
    ]
