"""Reports from PyTorch's forums, trackers and repositories."""

from __future__ import annotations

from public_failures import reports_loops, reports_networks
from public_failures.case import Case

CASES: tuple[Case, ...] = (*reports_networks.CASES, *reports_loops.CASES)
