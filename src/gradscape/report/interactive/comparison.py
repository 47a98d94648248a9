"""Comparison of two trainings as the page of those that are side by side shows it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import combinations
from typing import Any

from gradscape._codec import encode
from gradscape.analysis.comparison import compare
from gradscape.errors import GradscapeError
from gradscape.records.comparison import LABELS, Difference, Setting, shortened
from gradscape.records.gradients import FlowHistory
from gradscape.records.run import RunRecord

FURTHER = 20  # differences after the first one
SEEDS = "stronger with other seeds of both, by gradscape compare with --seeds-of-a and --seeds-of-b"
FEW = 6  # runs of a page without a server, at most, where each pair is compared


def comparison_document(a: FlowHistory | RunRecord, b: FlowHistory | RunRecord) -> dict[str, Any]:
    """Return where two trainings differ, and in what settings, by `gradscape.compare`.

    Args:
        a, b: History of a watch, or record of a run.

    Raises:
        ConfigError: They have no step in common, or one has none yet.
    """
    found = compare(a, b)
    plain: dict[str, Any] = encode(
        {
            "row": found.row,
            "verdict": found.verdict,
            "differs": found.differs,
            "basis": found.basis,
            "differences": [_difference(each) for each in found.differences[: FURTHER + 1]],
            "more": max(0, len(found.differences) - FURTHER - 1),
            "settings": [_setting(each) for each in found.settings],
            "only_a": found.only_a,
            "only_b": found.only_b,
            "notes": found.notes if found.by_seeds else (*found.notes, SEEDS),
        }
    )
    return plain


def pairs_compared(runs: Sequence[RunRecord]) -> dict[str, dict[str, Any]]:
    """Return the comparison of every pair of a few runs, by their identities with a space between.

    Args:
        runs: Runs, read whole.
    """
    found = {}
    for a, b in combinations(runs, 2):
        with suppress(GradscapeError):  # of one that was read without the gradients of every epoch
            found[f"{a.identity} {b.identity}"] = comparison_document(a, b)
    return found


def _difference(each: Difference) -> dict[str, Any]:
    return {**vars(each), "times": each.times, "label": LABELS[each.quantity], "text": str(each)}


def _setting(each: Setting) -> dict[str, str]:
    return {"name": each.name, "a": shortened(each.a), "b": shortened(each.b)}
