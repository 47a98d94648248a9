"""Assertions for a test suite: a network trains, a training is healthy. Nothing of pytest is imported.

from gradscape.testing import assert_trains

def test_net_trains():
assert_trains(make_net, (x, y), nn.functional.cross_entropy)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gradscape.config.arguments import fitted
from gradscape.errors import ConfigError, brief, nearest
from gradscape.measure.check.check import check
from gradscape.measure.core.batch import Loss
from gradscape.measure.core.copied_optimizer import MakeOptimizer
from gradscape.measure.diagnose.diagnose import diagnose
from gradscape.records.diagnosis import VERDICTS, Diagnosis

if TYPE_CHECKING:
    from gradscape.measure.diagnose.limits import Limits
    from gradscape.measure.watch.watch import Watch
    from gradscape.records.check import CheckRecord
    from gradscape.records.gradients import FlowHistory
    from gradscape.records.run import RunRecord

__all__ = ["assert_healthy", "assert_trains"]


def assert_trains(
    make_model: nn.Module | Callable[[], nn.Module],
    batch: Any,
    loss: Loss | None = None,
    optimizer: MakeOptimizer | torch.optim.Optimizer | Sequence[torch.optim.Optimizer] = torch.optim.Adam,
    *,
    remedies: bool = False,
    allow: Sequence[str] = (),
    **options: Any,
) -> CheckRecord:
    """Raise an AssertionError if `gradscape.check` finds a fault of grade `fail`.

    The model, and all random numbers, are left as found.

    Args:
        make_model: Factory, or module.
        batch: (x, y), x, or a dict of the model's arguments.
        loss: Loss, as of `gradscape.check`.
        optimizer: Optimizer that is to train the model, or its maker.
        remedies: Whether remedies are tried, so that the message says what was measured to help.
        allow: Verdicts that are tolerated, such as `["dead units"]`.
        options: Further arguments of `gradscape.check`: `seeds`, `confirm`, `fit`, `causal`.

    Returns:
        Record of the check, also of a network with warnings.

    Raises:
        AssertionError: A fault was found; the message has verdict, layer, cause, and what would help.
        ConfigError: There is no such verdict, or the check cannot be made.

    Example:
        >>> record = assert_trains(make_model, (x, y), nn.functional.cross_entropy, fit=50)
    """
    __tracebackhide__ = True
    tolerated = _tolerated(allow)
    record = check(make_model, batch, loss, optimizer, remedies=remedies, **options)
    _refuse(record.diagnosis, tolerated)
    return record


def assert_healthy(
    watched: Watch | FlowHistory | RunRecord | Diagnosis,
    allow: Sequence[str] = (),
    limits: Limits | None = None,
) -> Diagnosis:
    """Raise an AssertionError if a training that was watched has a fault of grade `fail`.

    Args:
        watched: Watch, its history, record of a run, or their diagnosis.
        allow: Verdicts that are tolerated, such as `["exploding"]`.
        limits: Limits of the diagnosis, as of `gradscape.diagnose`.

    Returns:
        Diagnosis, also of a training with warnings.

    Raises:
        AssertionError: A fault was found; the message has verdict, layer, cause, and what would help.
        ConfigError: There is no such verdict, or nothing to diagnose yet.

    Example:
        >>> diagnosis = assert_healthy(flow, allow=["loss does not fall"])
    """
    __tracebackhide__ = True
    tolerated = _tolerated(allow)
    diagnosis = watched if isinstance(watched, Diagnosis) else diagnose(watched, limits)
    _refuse(diagnosis, tolerated)
    return diagnosis


def _tolerated(allow: Sequence[str]) -> frozenset[str]:
    """Return the verdicts that are tolerated; refuse what is none."""
    usage = '; type: allow=["dead units"]'
    for word in fitted(allow, Sequence[str], "allow", usage):
        if word not in VERDICTS:
            raise ConfigError(
                f"allow: expected verdicts; got {brief(word)}{nearest(word, VERDICTS) or usage}"
            )
    return frozenset(allow)


def _refuse(diagnosis: Diagnosis, tolerated: frozenset[str]) -> None:
    """Raise the faults that are not tolerated, the gravest first."""
    __tracebackhide__ = True
    faults = [each for each in diagnosis.findings if each.grade == "fail" and each.verdict not in tolerated]
    if faults:
        names = ", ".join(f'"{each.verdict}"' for each in faults)
        raise AssertionError("\n".join([*map(str, faults), f"to tolerate: allow=[{names}]"]))
