"""Rules on routers of experts: those that send all tokens to few experts, and experts that get none."""

from __future__ import annotations

import numpy as np

from gradscape.measure.diagnose.advice import options
from gradscape.measure.diagnose.transformer.limits import TransformerLimits, evidence, median_of_last
from gradscape.records.diagnosis import Finding
from gradscape.records.encoding import Values
from gradscape.records.transformer import RouterHistory

BALANCE = (
    "a load-balancing loss, or a larger weight of it",
    "noise on the router's logits",
    "a router z-loss",
)


def router_findings(routers: RouterHistory, limits: TransformerLimits) -> list[Finding]:
    """Return the faults of a mixture's routers.

    Args:
        routers: Routers at the readings of a training.
        limits: Limits of the rules.
    """
    if len(routers.load) < limits.fewest:
        return []
    return [*_collapsed(routers, limits), *_dead(routers, limits)]


def _mean_load(routers: RouterHistory, limits: TransformerLimits) -> Values:
    """(R, E) mean load of the last readings; NaN where there is no such expert."""
    last = routers.load[-limits.readings :]
    known = np.isfinite(last)
    total = np.where(known, last, 0.0).sum(axis=0)
    found: Values = np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)
    return found


def _collapsed(routers: RouterHistory, limits: TransformerLimits) -> list[Finding]:
    """Routers whose load is that of as many experts as each token has, and not of all."""
    load = _mean_load(routers, limits)
    entropy = -np.nansum(load * np.log(np.where(load > 0, load, 1.0)), axis=1)
    least = np.log(median_of_last(routers.chosen, limits))
    most = np.log(np.array(routers.experts, dtype=np.float64))
    balance = np.where(most > least, (entropy - least) / (most - least), np.nan)
    beyond = np.flatnonzero(balance < limits.balance)
    if not len(beyond):
        return []
    first = int(beyond[0])
    share = float(np.nanmax(load[first]))
    return [
        Finding(
            verdict="router collapses",
            layer=routers.layers[first],
            cause=f"expert {int(np.nanargmax(load[first]))} of {routers.experts[first]} gets "
            f"{100 * share:.3g} % of what is routed, in {len(beyond)} of {len(routers.layers)} routers so: "
            "few experts learn, and are chosen the more for it",
            remedy=options(*BALANCE),
            evidence=(
                evidence(
                    "balance", "entropy of the load, 0 of as few experts as can be and 1 of all alike",
                    balance[first], below=True,
                ),
            ),
        )
    ]  # fmt: skip


def _dead(routers: RouterHistory, limits: TransformerLimits) -> list[Finding]:
    """Experts that no token was sent to in any of the last readings, though many could have been."""
    load = _mean_load(routers, limits)
    assigned = np.nansum(routers.tokens[-limits.readings :] * routers.chosen[-limits.readings :], axis=0)
    expected = assigned / np.array(routers.experts)
    dead = (load == 0) & (expected >= limits.expected)[:, None]
    share = dead.sum(axis=1) / np.array(routers.experts)
    beyond = np.flatnonzero(share > limits.idle)
    if not len(beyond):
        return []
    first = int(beyond[0])
    places = np.flatnonzero(dead[first])
    named = ", ".join(str(place) for place in places[:8]) + (", …" if len(places) > 8 else "")
    return [
        Finding(
            verdict="dead experts",
            layer=routers.layers[first],
            cause=f"experts {named} of {routers.experts[first]} got no token, where {expected[first]:.0f} "
            f"each would be even; so it is in {len(beyond)} of {len(routers.layers)} routers",
            remedy=options(*BALANCE),
            evidence=(evidence("idle", "share of experts without a token", share[first]),),
        )
    ]
