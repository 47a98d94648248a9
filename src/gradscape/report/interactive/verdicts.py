"""Verdicts as they formed: the diagnosis of a training's first rows, again and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradscape._codec import Record
from gradscape.errors import ConfigError
from gradscape.measure.diagnose.diagnose import diagnose
from gradscape.records.diagnosis import Diagnosis
from gradscape.records.gradients import FlowHistory, slice_rows
from gradscape.records.run import RunRecord

FIRST = 5  # rows: of fewer a verdict would say little
MOMENTS = 24  # verdicts on a page, at most


@dataclass(frozen=True)
class Verdict(Record):
    """Verdict on the training up to a step.

    Attributes:
        step: Step, or epoch of a run, up to which it was judged.
        verdict, grade, layer: As of `Diagnosis`.
    """

    step: int
    verdict: str
    grade: str
    layer: str


def verdict_at(step: int, diagnosis: Diagnosis) -> Verdict:
    """Return the verdict of a diagnosis.

    Args:
        step: Last step that it is of.
        diagnosis: Diagnosis of the rows up to that step.
    """
    return Verdict(step, diagnosis.verdict, diagnosis.grade, diagnosis.layer)


def past_verdicts(thing: FlowHistory | RunRecord, most: int = MOMENTS) -> tuple[Verdict, ...]:
    """Judge a training at some of its rows, as it would have been judged then.

    Args:
        thing: History of a watch, or record of a run.
        most: Number of verdicts, at most.
    """
    rows = len(thing.epochs) if isinstance(thing, RunRecord) else len(thing.steps)
    first = 1 if isinstance(thing, RunRecord) else min(FIRST, rows)
    if not rows:
        return ()
    counts = np.unique(np.linspace(first, rows, most).round().astype(int))
    found = (_judged(thing, int(count)) for count in counts)
    return tuple(each for each in found if each is not None)


def _judged(thing: FlowHistory | RunRecord, rows: int) -> Verdict | None:
    """Return the verdict on the first rows; None where they hold no step."""
    begun = _beginning(thing, rows)
    step = begun.epochs[-1].epoch if isinstance(begun, RunRecord) else int(begun.steps[-1])
    try:
        return verdict_at(step, diagnose(begun))
    except ConfigError:
        return None


def _beginning(thing: FlowHistory | RunRecord, rows: int) -> FlowHistory | RunRecord:
    """Return a training as it was after so many rows."""
    if isinstance(thing, FlowHistory):
        return slice_rows(thing, slice(rows))
    if rows == len(thing.epochs):
        return thing
    flow = None if thing.flow is None else slice_rows(thing.flow, slice(rows))
    return replace(thing, state="running", epochs=thing.epochs[:rows], flow=flow)


def since(verdicts: Sequence[Verdict]) -> int | None:
    """Return the step since which the last verdict has stood; None without any.

    Args:
        verdicts: Verdicts in order.
    """
    step = None
    for each in reversed(verdicts):
        if (each.verdict, each.layer) != (verdicts[-1].verdict, verdicts[-1].layer):
            break
        step = each.step
    return step
