"""Each rule of a diagnosis: a view of the last rows and what the network is made of → what is wrong with it.

The evidence of a finding is what tripped its rule, beside the very limit that it tripped.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradscape.measure.diagnose.advice import HIGHER, LOWER, Traits, find_rate, options
from gradscape.measure.diagnose.limits import SOURCES
from gradscape.measure.diagnose.view import TINY, Bools, View
from gradscape.records.diagnosis import Finding, Symptom

Rule = Callable[[View, Traits], list[Finding]]
UNDERFLOW = np.finfo(np.float32).tiny / np.finfo(np.float32).eps


def _non_finite(view: View, _: Traits) -> list[Finding]:
    """Non-finite numbers spread backwards: they begin at the layer nearest to the output."""
    if not view.broken.any():
        return []
    last = int(np.flatnonzero(view.broken)[-1])
    at_the_end = last == len(view.layers) - 1
    return [
        Finding(
            verdict="non-finite",
            layer=view.layers[last],
            cause="the loss, its derivative or what enters the last layer is infinite or NaN"
            if at_the_end
            else "an operation after this layer and before the next gave an infinite or NaN gradient",
            remedy=options(
                "check inputs and labels for NaN, and the loss for roots, logarithms and quotients of 0",
                LOWER,
                "clip gradients",
                "under float16 use a GradScaler or bfloat16",
            ),
            evidence=(
                Symptom(
                    "weight layers with a non-finite gradient", float(view.broken.sum()), 0.0, "IEEE 754"
                ),
            ),
        )
    ]


def _frozen(view: View, _: Traits) -> list[Finding]:
    """Layers without a gradient, or with one of exact zeros, while others have theirs.

    From the input up to one is a gradient that is cut; where layers before have theirs, one is unused. A
    layer that never had a gradient at all is out of the loss: a note says so.
    """
    none, alive = view.zero, np.flatnonzero(~view.zero)
    if not none.any():
        return []
    if not len(alive):
        return [] if view.has_faded else [_frozen_at(view, len(none), NO_LOSS, none)]
    cut = int(alive[0])
    if cut:
        if 0 < view.rms[cut] < UNDERFLOW:
            return []  # the end of a gradient that vanishes
        return [_frozen_at(view, cut, CUT, none)]
    unused = none & ~view.absent
    if not unused.any():
        return []
    where = int(np.flatnonzero(unused)[-1])
    return [
        Finding(
            verdict="unused layer",
            layer=view.layers[where],
            cause="its gradient is exactly 0 while layers before it have theirs: it takes no part in the "
            "loss, is detached, or all its units are dead",
            remedy=options("look whether its output is used", "a leaky activation, if its units are dead"),
            evidence=(_without(unused),),
        )
    ]


CUT_OFF = "no gradient has ever come to this layer or one before it: something cuts them off from the loss"
NO_LOSS = "no gradient leaves the loss: it is flat or satisfied, or cut off from the model by a detach()"
CUT = "nothing comes back through what follows this layer: dead units, or a detach()"
DIED = "nothing has come back through what follows this layer for most of it: its units have died"


def _died(view: View, _: Traits) -> list[Finding]:
    """All layers up to one have lost their gradient on the way, though nothing else was found."""
    if not view.died[0] or view.died.all():
        return []
    return [_frozen_at(view, int(np.argmin(view.died)), DIED, view.died)]


def _frozen_at(view: View, number: int, cause: str, none: Bools) -> Finding:
    """Report that the first layers are frozen, those in `none`: dead units leave zeros, a cut nothing."""
    cut_off = bool(view.absent[:number].all())
    return Finding(
        verdict="frozen layer",
        layer=view.layers[number - 1],
        cause=CUT_OFF if cut_off else cause,
        remedy=options(
            "look for detach(), .data, numpy or torch.no_grad() after it", "look whether its output is used"
        )
        if cut_off
        else options(
            "look whether its output is used",
            "for dead ReLUs a leaky activation",
            LOWER,
            "biases of 0 or above",
        ),
        evidence=(_without(none),),
    )


def _without(none: Bools) -> Symptom:
    return Symptom("weight layers without a gradient", float(none.sum()), 0.0, "none is meant to be")


def _exploding(view: View, traits: Traits) -> list[Finding]:
    """Gradients that grow towards the input by orders of magnitude, or are large beside the weights.

    Where signals grow forward as they do backward, gradients are as large in every layer.
    """
    grown, steep = view.grows > view.limits.span, view.steepness > view.limits.steep
    if view.largest_update.max() > view.limits.large and not view.began_steep.any():
        steep[:] = False  # what steps that are too large have made of the weights
    beyond = np.flatnonzero(grown | steep)
    if not len(beyond):
        return []
    evidence = []
    if grown.any():
        most = int(np.nanargmax(view.grows))
        what = f"‖∂L/∂W‖ of {view.layers[most]} over the last weight layer's"
        evidence.append(view.evidence("span", what, view.grows[most]))
    if steep.any():
        most = int(np.nanargmax(view.steepness))
        what = f"‖∂L/∂W‖/‖W‖ of {view.layers[most]}"
        evidence.append(view.evidence("steep", what, view.steepness[most]))
    norm = () if traits.norm else ("a norm after each layer",)
    return [
        Finding(
            verdict="exploding",
            layer=view.layers[beyond[-1]],
            cause=f"what comes back grows by {view.per_layer():+.2f} orders of magnitude a layer"
            if grown[0]
            else "gradients are large beside the weights: signals grow on their way forward, or the loss, "
            "inputs or targets are large numbers",
            remedy=options(
                *(() if grown[0] else ("bring inputs, targets and the loss to a size near 1",)),
                "smaller initial weights (He's, or Glorot's for tanh)",
                *norm,
                "a scale on each branch before it is added, if there are skip connections",
                "clipping bounds the step and leaves the cause",
            ),
            evidence=tuple(evidence),
        )
    ]


def _vanishing(view: View, traits: Traits) -> list[Finding]:
    """Gradients that shrink from the output to the input until nothing of them is left in the first steps.

    A layer in the middle that has little while those before it have theirs is none: the query of an attention
    that is uniform, a branch behind a gain of 0.
    """
    lost = np.flatnonzero(view.before & view.out_of_reach(view.still))
    if not len(lost):
        return _unheard(view, traits)
    begins, least = int(lost[-1]), int(lost[np.argmin(view.gradient[lost])])
    what = f"‖∂L/∂W‖ of the last weight layer over that of {view.layers[least]}"
    shown = dict.fromkeys((begins, int(lost[0])))
    return [
        Finding(
            verdict="vanishing",
            layer=view.layers[begins],
            cause=f"what comes back changes by {view.per_layer():+.2f} orders of magnitude a layer; "
            + _why_nothing_moves(view),
            remedy=options(*traits.signals),
            evidence=(
                view.evidence("span", what, view.gradient[-1] / view.gradient[least]),
                *(_of_the_step(view, place, view.still) for place in shown),
            ),
        )
    ]


def _unheard(view: View, traits: Traits) -> list[Finding]:
    """Steps of the first layers that are of their size, and change next to nothing of the loss."""
    share = view.gain / max(float(np.nanmax(view.gain, initial=0.0)), TINY)
    unheard_of = view.idle & (view.gain > 0) & (share < 1 / view.limits.span)
    heard = ~unheard_of | view.out_of_reach(view.still)
    found = np.flatnonzero(~np.logical_or.accumulate(heard))
    if not len(found):
        return []
    last, what = int(found[-1]), "‖∂L/∂W‖·‖ΔW‖ of a step of"
    beside = Symptom(
        "the same beside the layer's that has most",
        float(share[last]),
        1 / view.limits.span,
        SOURCES["span"],
        True,
    )
    return [
        Finding(
            verdict="vanishing",
            layer=view.layers[last],
            cause="up to here the steps change next to nothing of the loss; what comes back changes by "
            f"{view.per_layer():+.2f} orders of magnitude a layer",
            remedy=options(*traits.signals),
            evidence=(
                view.evidence("gain", f"{what} {view.layers[last]}", view.gain[last], below=True),
                beside,
            ),
        )
    ]


def _below_reach(view: View, traits: Traits) -> list[Finding]:
    """Gradients that are too small for the optimizer in more than half of the layers, not by depth."""
    lost = np.flatnonzero(view.out_of_reach(view.limits.still))
    if 2 * len(lost) <= len(view.layers) or _vanishing(view, traits):
        return []
    last = int(lost[-1])
    return [
        Finding(
            verdict="below the optimizer's reach",
            layer=view.layers[last] if len(lost) < len(view.layers) else "",
            cause=_why_nothing_moves(view),
            remedy=options("scale the loss up", "a smaller eps", "look why the loss is so flat")
            if view.optimizer.eps
            else options(HIGHER, "scale the loss up", "look why it is so flat"),
            evidence=(_of_the_step(view, last, view.limits.still),),
        )
    ]


def _why_nothing_moves(view: View) -> str:
    facts = view.optimizer
    if facts.eps:
        return f"{facts.name} divides by √v + ε, and beside ε = {facts.eps:g} nothing is left in a step"
    return f"a step of {facts.name}, learning rate × gradient, is nothing beside the weights"


def _of_the_step(view: View, place: int, still: float) -> Symptom:
    """Symptom of what a layer's gradient comes to in its step, beside the limit that it was held against."""
    if view.optimizer.eps:
        what = f"share of its normal step that ε leaves {view.layers[place]}"
        return view.evidence("reach", what, float(view.share[place]), below=True)
    what = f"‖ΔW‖/‖W‖ of a step of {view.layers[place]}"
    source = (
        SOURCES["still"] if still == view.limits.still else f"a {view.limits.span:g}th of the largest layer's"
    )
    return Symptom(what, float(view.update[place]), still, source, below=True)


def _too_large(view: View, _: Traits) -> list[Finding]:
    """One step that replaces the weights, or many that take much of them where noise says."""
    largest, most = int(np.argmax(view.largest_update)), _place_of_most(view)
    step, typical_step = view.largest_update[largest], view.update[most]
    if step > view.limits.large:
        what = f"‖ΔW‖/‖W‖ of the largest step of {view.layers[largest]}"
        layer, evidence = view.layers[largest], [view.evidence("large", what, step)]
    elif typical_step > view.limits.shaken and view.is_noise:
        what = f"‖ΔW‖/‖W‖ of a step of {view.layers[most]}"
        layer, evidence = view.layers[most], [view.evidence("shaken", what, typical_step), _of_noise(view)]
    else:
        return []
    cause, remedy = "steps replace the weights", options(LOWER, find_rate(view.row), "warm-up")
    return [Finding("learning rate too large", layer, cause, remedy, tuple(evidence))]


def _place_of_most(view: View) -> int:
    """The layer that moves most."""
    return int(np.nanargmax(np.nan_to_num(view.update)))


def _too_small(view: View, traits: Traits) -> list[Finding]:
    """Steps that are small beside the weights, or change next to nothing of the loss, in every layer.

    Not where they were larger before: a schedule has come to its end, or the gradient has.
    """
    most = _place_of_most(view)
    if _below_reach(view, traits) or _vanishing(view, traits):
        return []
    # A row is a step, of which one may be large by chance, or the mean over an epoch of them.
    before = view.largest_update if view.row == "epoch" else np.nan_to_num(view.earlier_update)
    if before.max() >= view.limits.small:
        return []
    never = view.has_gradient and view.largest_update.max() == 0
    if not view.update[most] > 0 and not never and view.optimizer.lr != 0:
        return []  # there was no gradient in most rows, or the optimizer steps in few of them
    if view.update[most] < view.limits.small:
        what = f"‖ΔW‖/‖W‖ of a step of {view.layers[most]}, the layer that moves most"
        evidence = view.evidence("small", what, view.update[most], below=True)
    elif view.idle[0] and view.gain[0] > 0:
        what = f"‖∂L/∂W‖·‖ΔW‖ of a step of {view.layers[0]}"
        evidence = view.evidence("gain", what, view.gain[0], below=True)
    else:
        return []
    cause = "steps are small in every layer"
    schedule = view.earlier_largest.max() > view.limits.small
    remedy = options(HIGHER, find_rate(view.row), *((SCHEDULE,) if schedule else ()))
    return [Finding("learning rate too small", "", cause, remedy, (evidence,))]


SCHEDULE = "look how often the learning rate's schedule is stepped"


def _stopped(view: View, traits: Traits) -> list[Finding]:
    """Steps that were of their size before and are next to nothing now, though gradients are there."""
    most, before = _place_of_most(view), int(np.argmax(view.earlier_largest))
    if any(rule(view, traits) for rule in (_vanishing, _below_reach, _too_small)):
        return []
    if not view.has_gradient or not view.update[most] < view.limits.small < view.earlier_largest[before]:
        return []
    what = f"‖ΔW‖/‖W‖ of a step of {view.layers[most]}, the layer that moves most"
    return [
        Finding(
            verdict="stopped",
            layer="",
            cause="next to nothing is left of the steps, which were larger before: a schedule of the "
            "learning rate has come to its end, or the gradient has fallen",
            remedy=f"nothing, if the training is at its end; else {SCHEDULE}",
            evidence=(
                view.evidence("small", what, view.update[most], below=True),
                view.evidence(
                    "small",
                    f"the same of the largest step of {view.layers[before]} before",
                    view.earlier_largest[before],
                ),
            ),
        )
    ]


def _of_noise(view: View) -> Symptom:
    return view.evidence("noise", "cosine between successive gradients", view.alike, below=True)


def _noise(view: View, _: Traits) -> list[Finding]:
    """Successive gradients that have nothing in common, or point against each other."""
    if view.alike < view.limits.overshoot:
        what = "cosine between successive gradients"
        return [
            Finding(
                verdict="overshooting",
                layer="",
                cause="each step goes beyond the minimum along its gradient, and the next one comes back",
                remedy=options(LOWER, find_rate(view.row), "warm-up"),
                evidence=(view.evidence("overshoot", what, view.alike, below=True),),
            )
        ]
    if not view.is_noise:
        return []
    return [
        Finding(
            verdict="noise-dominated",
            layer="",
            cause="what one mini-batch asks for, the next one does not: the gradient is nearly all noise",
            remedy=options("larger mini-batches or accumulation", LOWER, "check that labels fit the inputs"),
            evidence=(_of_noise(view),),
        )
    ]


def _converged(view: View) -> Finding:
    """Report that the gradient has faded, in place of what its smallness would say."""
    what = "the last layer's ‖∂L/∂W‖ when the watch began over what it is now"
    return Finding(
        verdict="converged",
        layer="",
        cause="next to nothing is left of the gradient that comes from the loss: it is met, or the output is "
        "saturated, or the same for all that enters",
        remedy="nothing, if the loss is what it should be; else look at the last layer and the loss",
        evidence=(view.evidence("faded", what, view.fallen),),
    )


def healthy(view: View) -> Finding:
    """Return the finding that nothing is wrong, with numbers that are on the right side of their limits.

    Args:
        view: Typical values of the last rows.
    """
    step = float(np.nan_to_num(view.largest_update).max())
    return Finding(
        verdict="healthy",
        layer="",
        cause="every weight layer that is trained gets a gradient and a step of its size, in the "
        + (f"{len(view.rows)} {view.row}s" if len(view.rows) > 1 else f"one {view.row}")
        + " looked at",
        remedy="nothing",
        evidence=(
            view.evidence(
                "span", "largest ‖∂L/∂W‖ over the last weight layer's", np.nan_to_num(view.grows).max()
            ),
            view.evidence("large", "largest ‖ΔW‖/‖W‖ of a step", step),
        ),
    )


RULES: tuple[Rule, ...] = (
    _non_finite,
    _frozen,
    _exploding,
    _vanishing,
    _below_reach,
    _too_large,
    _too_small,
    _stopped,
    _noise,
)
FADING = ("vanishing", "below the optimizer's reach", "learning rate too small", "stopped")


def findings_of(view: View, traits: Traits) -> list[Finding]:
    """Return all that the rules find in one optimizer's layers; empty if they are well.

    Args:
        view: Typical values of the last rows.
        traits: Traits of the network.
    """
    # Where no layer's step is a number sizes cannot be compared.
    rules = RULES if np.isfinite(view.update).any() else RULES[:2]
    found = [finding for rule in rules for finding in rule(view, traits)]
    if not any(finding.grade == "fail" for finding in found):
        found += _died(view, traits)
    if not view.has_faded:
        return found
    kept = [finding for finding in found if finding.verdict not in FADING]
    silent = view.zero.all() or view.died.all()
    return [*kept, _converged(view)] if len(kept) < len(found) or silent else found
