"""Sketches of tensors against their sorted values in float64, and parts of tensors against the whole."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gradscape.measure.core.sketch import (
    BUCKETS,
    COLUMNS,
    RELATIVE_ERROR,
    bounds,
    middles,
    quantiles,
    shares,
    sketch,
)
from gradscape.records.distributions import QUANTILES

ROUNDING = 2.0**-23  # of the values that stand for buckets
NEAR_ZERO = 2.0**-126  # below which the error is absolute,
ABSOLUTE = 2.0**-129  # and at most this

numbers = st.floats(width=32, allow_nan=True, allow_infinity=True)
lists = st.lists(numbers | st.sampled_from([0.0, -0.0, 1e-45, -1e-40, 3.4e38]), max_size=60)


def exact(values: Tensor) -> np.ndarray:
    """The quantiles of the finite values, of float64 or what it holds exactly, by sorting them."""
    finite = np.sort(values.double().numpy()[np.isfinite(values.double().numpy())])
    if not len(finite):
        return np.full(len(QUANTILES), math.nan)
    return finite[[math.floor(q * (len(finite) - 1)) for q in QUANTILES]]


def assert_near(found: Tensor, true: np.ndarray) -> None:
    error = np.abs(found.double().numpy() - true)
    allowed = np.where(np.abs(true) < NEAR_ZERO, ABSOLUTE, (RELATIVE_ERROR + ROUNDING) * np.abs(true))
    assert ((error <= allowed) | (np.isnan(found.numpy()) & np.isnan(true))).all(), (found, true)


@given(lists)
@settings(deadline=None, max_examples=150)
def test_quantiles_are_within_the_bound_of_sorted_values(values: list[float]) -> None:
    tensor = torch.tensor(values, dtype=torch.float32)
    found = sketch([tensor])
    assert_near(quantiles(found, QUANTILES)[0], exact(tensor))
    zeros, low, high, nan = found[0, BUCKETS:].tolist()
    assert zeros == sum(value == 0 for value in values)
    assert (low, high) == (values.count(-math.inf), values.count(math.inf))
    assert nan == sum(math.isnan(value) for value in values)
    assert int(found[0, :BUCKETS].sum()) == len(values) - low - high - nan


@given(lists, st.lists(st.integers(0, 60), max_size=3), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=80)
def test_sum_of_the_sketches_of_parts_is_that_of_the_whole(
    values: list[float], cuts: list[int], order: Random
) -> None:
    whole = torch.tensor(values, dtype=torch.float32)
    order.shuffle(values)
    parts = torch.tensor(values, dtype=torch.float32).tensor_split(sorted(cuts))
    assert torch.equal(sketch(list(parts)).sum(0), sketch([whole])[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_dtypes_of_many_sizes(dtype: torch.dtype, scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    values = (torch.randn(300_000, generator=generator) * scale * torch.logspace(-3, 0, 300_000)).to(dtype)
    assert_near(quantiles(sketch([values]), QUANTILES)[0], exact(values))


def test_float64_beyond_float32_keeps_its_place() -> None:
    values = torch.tensor([-1e300, -1e-300, 0.0, 1e-300, 1e300, math.inf], dtype=torch.float64)
    found = sketch([values])
    assert found[0, 0] == found[0, BUCKETS - 1] == 1
    assert found[0, BUCKETS // 2] == 3
    assert found[0, BUCKETS:].tolist() == [1, 0, 1, 0]


def test_layouts_count_each_element_once() -> None:
    dense = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).relu()
    image = torch.randn(2, 3, 4, 5)
    found = sketch([dense, dense.to_sparse(), dense.T, image, image.to(memory_format=torch.channels_last)])
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[3], found[4])
    both = torch.complex(dense, dense)
    assert torch.equal(sketch([both])[0], sketch([both.abs()])[0])


def test_values_that_torch_cannot_compare_or_view_are_counted() -> None:
    eight_bits = torch.linspace(-3, 3, 50).to(torch.float8_e4m3fn)
    negated = torch.randn(50, dtype=torch.complex64).conj().imag
    assert negated.is_neg()
    for values in (eight_bits, negated):
        for found in (sketch([values]), sketch([values, values])[:1]):
            assert_near(quantiles(found, QUANTILES)[0], exact(values.float().clone()))
            assert found[0, BUCKETS] == (values.float() == 0).sum()


def test_half_precision_is_divided_in_float32() -> None:
    """A fused optimizer under a GradScaler has scaled gradients, perhaps of float16."""
    values = torch.linspace(1e-3, 2e-3, 50).half()
    found = sketch([values, values], torch.tensor(65536.0))
    assert_near(quantiles(found, QUANTILES)[1], exact(values.double() / 65536))


def test_an_empty_tensor_has_no_quantiles() -> None:
    found = sketch([torch.zeros(0, 3), torch.zeros(3)])
    assert found.shape == (2, COLUMNS)
    assert quantiles(found, (0.5,))[0].isnan().all()
    assert shares(found)[0].isnan().all()
    assert shares(found)[1].tolist() == [1, 0, 0]


def test_buckets_are_as_wide_as_the_error_says() -> None:
    edges, values = bounds(), middles().double()
    assert (edges.diff() > 0).all()
    assert edges[-1] == 2.0**128
    normal = edges[:-1] >= NEAR_ZERO
    error = torch.maximum(1 - values / edges[1:], values / edges[:-1] - 1)[normal]
    assert error.max() <= RELATIVE_ERROR + ROUNDING
    assert torch.equal(values, -values.flip(0))


def test_denormals_that_the_processor_flushes_are_counted_as_it_sees_them() -> None:
    torch.set_flush_denormal(True)
    try:
        found = sketch([torch.tensor([1e-42, -1e-39, 0.0, 1.0])])
    finally:
        torch.set_flush_denormal(False)
    assert int(found[0, :BUCKETS].sum()) == 4
