"""Failing scripts rebuilt from public reports."""

from __future__ import annotations

from public_failures import scripts_images, scripts_sequences, scripts_vectors
from public_failures.case import Case

CASES: tuple[Case, ...] = (*scripts_sequences.CASES, *scripts_images.CASES, *scripts_vectors.CASES)
