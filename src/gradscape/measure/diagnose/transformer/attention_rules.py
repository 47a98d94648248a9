"""Rules on attention: heads that look at one key alone, logits that grow, heads that are copies or silent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gradscape._text import count_noun
from gradscape.measure.diagnose.advice import LOWER, options
from gradscape.measure.diagnose.transformer.limits import TransformerLimits, evidence, median_of_last
from gradscape.records.diagnosis import Finding
from gradscape.records.encoding import Values
from gradscape.records.transformer import AttentionHistory

TAMED = ("normalized queries and keys (QK-norm)", LOWER, "a longer warm-up")


def attention_findings(attention: AttentionHistory, limits: TransformerLimits) -> list[Finding]:
    """Return the faults of a transformer's attention.

    Args:
        attention: Heads at the readings of a training.
        limits: Limits of the rules.
    """
    if len(attention.entropy) < limits.fewest or not attention.layers:
        return []
    return [
        *_collapsed(attention, limits),
        *_growing(attention, limits),
        *_copied(attention, limits),
        *_dead(attention, limits),
    ]


def _collapsed(attention: AttentionHistory, limits: TransformerLimits) -> list[Finding]:
    """Layers in which even the head with most entropy looks at one key alone."""
    share = median_of_last(attention.entropy, limits) / median_of_last(attention.uniform, limits)
    most = np.fmax.reduce(share, axis=1)
    beyond = np.flatnonzero(most < limits.entropy)
    if not len(beyond):
        return []
    first = int(beyond[0])
    return [
        Finding(
            verdict="attention entropy collapses",
            layer=attention.layers[first],
            cause=f"every query looks at one key alone, in {_of(len(beyond), attention)}: the softmax passes "
            "no gradient to queries and keys",
            remedy=options(*TAMED),
            evidence=(
                evidence(
                    "entropy", "entropy of attention over that of equal weights, of the head with most of it",
                    most[first], below=True,
                ),
            ),
        )
    ]  # fmt: skip


def _growing(attention: AttentionHistory, limits: TransformerLimits) -> list[Finding]:
    largest = np.fmax.reduce(median_of_last(attention.logit, limits), axis=1)
    beyond = np.flatnonzero(largest > limits.logit)
    if not len(beyond):
        return []
    first = int(beyond[0])
    began = float(np.fmax.reduce(attention.logit[0, first]))
    return [
        Finding(
            verdict="attention logits grow",
            layer=attention.layers[first],
            cause=f"products of queries and keys are that large in {_of(len(beyond), attention)}, from "
            f"{began:.3g} at the first reading: weights become one-hot, and half precision rounds by whole "
            "numbers there",
            remedy=options(*TAMED, "weight decay on queries and keys"),
            evidence=(evidence("logit", "largest attention logit", largest[first]),),
        )
    ]


def _copied(attention: AttentionHistory, limits: TransformerLimits) -> list[Finding]:
    """Heads whose logits have been those of another head at all of the last readings."""
    alike = np.fmin.reduce(attention.alike[-limits.readings :], axis=0)
    wide = np.fmax.reduce(median_of_last(attention.uniform, limits), axis=1) > np.log(limits.keys)
    return _of_heads(
        attention,
        (alike > limits.copied) & wide[:, None],
        verdict="copied heads",
        causes=(
            "looks at the same as another head of its layer",
            "look at the same as others of their layer",
        ),
        remedy=("random initial weights for each head", "fewer heads"),
        what=("copied", "correlation of the logits of two heads", alike),
    )


def _dead(attention: AttentionHistory, limits: TransformerLimits) -> list[Finding]:
    """Heads whose output has been next to nothing at all of the last readings."""
    size = np.fmax.reduce(attention.output[-limits.readings :], axis=0)
    largest = np.fmax.reduce(size, axis=1)[:, None]
    share = np.divide(size, largest, out=np.where(np.isnan(size), np.nan, 0.0), where=largest > 0)
    return _of_heads(
        attention,
        share < limits.dead,
        verdict="dead heads",
        causes=("adds next to nothing to its layer", "add next to nothing to their layer"),
        remedy=("look for values that are 0, as from a mask or a pruned weight", "other initial weights"),
        what=("dead", "size of a head's output over that of the largest", share),
        below=True,
    )


def _of_heads(
    attention: AttentionHistory,
    heads: NDArray[np.bool_],
    verdict: str,
    causes: tuple[str, str],
    remedy: tuple[str, ...],
    what: tuple[str, str, Values],
    below: bool = False,
) -> list[Finding]:
    """Return the finding on some heads (A, H), with the first layer that has any."""
    layers = np.flatnonzero(heads.any(axis=1))
    if not len(layers):
        return []
    first = int(layers[0])
    places = np.flatnonzero(heads[first])
    named = ", ".join(str(place) for place in places[:8]) + (", …" if len(places) > 8 else "")
    which = "heads" if len(places) > 1 else "head"
    more = f"; {int(heads.sum())} in all" if len(layers) > 1 else ""
    name, words, values = what
    value = float(values[first, places[0]])
    return [
        Finding(
            verdict=verdict,
            layer=attention.layers[first],
            cause=f"{which} {named} of {attention.heads[first]} {causes[len(places) > 1]}{more}",
            remedy=options(*remedy),
            evidence=(evidence(name, words, value, below),),
        )
    ]


def _of(number: int, attention: AttentionHistory) -> str:
    return f"{number} of {count_noun(len(attention.layers), 'attention layer')}"
