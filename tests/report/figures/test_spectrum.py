"""Spectra of a study's runs: counts of eigenvalues that are exact where the quadrature is."""

from __future__ import annotations

import numpy as np
import pytest

from gradscape.analysis.curvature import counted_beyond
from gradscape.records.curvature import CurvatureRecord
from made_records import made_curvature


def of(nodes: tuple[float, ...], weights: tuple[float, ...]) -> CurvatureRecord:
    return made_curvature(nodes, weights, max(nodes))


def test_eigenvalues_are_counted_from_the_outside_in() -> None:
    seeds = [of((-1.0, 0.5, 2.0), (0.2, 0.3, 0.5)), of((-3.0, 0.0, 1.0), (0.1, 0.7, 0.2))]
    values, beyond = counted_beyond(seeds, 1)
    assert values.tolist() == [2.0, 2.0, 1.0, 0.5]
    assert beyond == pytest.approx([0.0, 2.5, 3.5, 5.0])
    values, beyond = counted_beyond(seeds, -1)
    assert values.tolist() == [3.0, 3.0, 1.0]
    assert beyond == pytest.approx([0.0, 0.5, 1.5])


def test_a_diagonal_matrix_is_counted_exactly() -> None:
    """A vector of equal components has each eigenvalue with the same weight."""
    eigenvalues = np.arange(-3.0, 7.0)
    values, beyond = counted_beyond([of(tuple(eigenvalues), (0.1,) * 10)], 1)
    assert values.tolist() == [6.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    assert beyond == pytest.approx([(eigenvalues >= x).sum() * (i > 0) for i, x in enumerate(values)])


def test_seeds_of_different_numbers_of_nodes_are_counted_together() -> None:
    seeds = [of((-1.0, 2.0), (0.5, 0.5)), of((0.0, 1.0, 3.0), (0.2, 0.3, 0.5))]
    values, beyond = counted_beyond(seeds, 1)
    assert values.tolist() == [3.0, 3.0, 2.0, 1.0]
    assert beyond == pytest.approx([0.0, 2.5, 5.0, 6.5])


def test_without_seeds_there_is_nothing() -> None:
    assert [each.size for each in counted_beyond([], 1)] == [0, 0]
