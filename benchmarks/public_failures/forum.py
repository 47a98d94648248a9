"""Fresh reports from forums, question pages and trackers, found and rebuilt apart from the rules."""

from __future__ import annotations

from public_failures import (
    forum_loops,
    forum_networks,
    forum_numbers,
    forum_players,
    forum_sequences,
    forum_targets,
)
from public_failures.case import Case

CASES: tuple[Case, ...] = (
    *forum_targets.CASES,
    *forum_sequences.CASES,
    *forum_networks.CASES,
    *forum_players.CASES,
    *forum_loops.CASES,
    *forum_numbers.CASES,
)
