"""Cells of tables."""

from __future__ import annotations

import pytest

import synthetic
from gradscape.report.table_cells import with_interval


@pytest.mark.parametrize(
    ("values", "cell"),
    [
        ([450.0, 500.0, 360.0], "437 ± 180"),
        ([3.0e3, 1.0e3, 2.0e3], "2000 ± 2500"),
        ([4.0e-7, 5.0e-7, 6.0e-7], "5e-07 ± 2.5e-07"),
        ([4.0e8, 5.0e8, 6.0e8], "5e+08 ± 2.5e+08"),
    ],
)
def test_numbers_below_a_million_have_no_exponent(values: list[float], cell: str) -> None:
    assert with_interval(synthetic.study(3), "vgg08", values) == cell
