"""All cases of all sets, each set loaded when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from public_failures.case import Case

SETS = (
    "deepmufl",
    "scripts",
    "pytorch_reports",
    "traincheck",
    "transformer_faults",
    "emse",
    "deepfd",
    "deepchecker",
    "tracker",
    "forum",
)

FRESH = ("tracker", "forum")  # found and rebuilt by who had not seen the rules, after these were set


def all_cases(sets: Sequence[str] = SETS) -> tuple[Case, ...]:
    """Return the cases of some sets, by default of all, in the order of their tables."""
    return tuple(case for name in sets for case in import_module(f"public_failures.{name}").CASES)
