from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradscape.data import STATISTICS, ImageSet, split
from gradscape.errors import ConfigError


@st.composite
def pools(draw: st.DrawFn) -> tuple[np.ndarray, int, int]:
    labels = draw(st.lists(st.integers(0, 6), min_size=2, max_size=80))
    valid = draw(st.integers(1, len(labels) - 1))
    return np.array(labels), valid, draw(st.integers(0, 2**32 - 1))


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_images_are_averaged_over_squares(size: int) -> None:
    draw = np.random.default_rng(0)
    pixels, labels = draw.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8), np.arange(3)
    data = ImageSet("digits", pixels, labels, pixels[:1], labels[:1], ("a", "b", "c"), {})
    averaged = data.averaged(size)
    width = 8 // size
    for row, column in np.ndindex(size, size):
        square = pixels[:, row * width : (row + 1) * width, column * width : (column + 1) * width]
        expected = np.rint(square.astype(np.float64).mean(axis=(1, 2)))
        assert np.array_equal(averaged.train_images[:, row, column], expected)
    assert averaged.image_size == size
    assert averaged.test_images.shape == (1, size, size, 3)
    assert data.averaged(None) is data


@given(pools(), st.booleans())
def test_split_is_disjoint_sorted_complete_and_repeatable(pool, stratified):
    labels, valid, seed = pool
    part = split(labels, valid, seed, stratified)
    both = np.concatenate([part.train, part.valid])
    assert len(part.valid) == valid
    assert np.array_equal(np.sort(both), np.arange(len(labels)))
    for side in (part.train, part.valid):
        assert side.dtype == np.int64
        assert (np.diff(side) > 0).all()
    assert np.array_equal(split(labels, valid, seed, stratified).valid, part.valid)


@given(pools())
def test_stratified_split_gives_each_class_its_share_within_one(pool):
    labels, valid, seed = pool
    part = split(labels, valid, seed, stratified=True)
    for label in np.unique(labels):
        share = valid * np.mean(labels == label)
        assert abs(np.sum(labels[part.valid] == label) - share) < 1


def test_unstratified_split_is_the_course_codes():
    labels = np.zeros(50_000, dtype=np.int64)
    drawn = np.random.RandomState(0).choice(50_000, 2_500, replace=False)
    part = split(labels, 2_500, seed=0)
    assert np.array_equal(part.valid, np.sort(drawn))
    assert len(part.train) == 47_500
    assert part.method == "numpy RandomState(0).choice, unstratified"


def test_method_names_stratification():
    part = split(np.arange(10) % 2, 4, seed=7, stratified=True)
    assert part.method == "numpy RandomState(7).choice, stratified by largest remainder"


@pytest.mark.parametrize("valid", [0, -1, 10, 11])
def test_split_refuses_an_impossible_count(valid):
    with pytest.raises(ConfigError, match=rf"^valid: expected 1 … 9 of the 10 images; got {valid}$"):
        split(np.zeros(10), valid, seed=0)


def test_split_refuses_an_impossible_seed():
    with pytest.raises(ConfigError, match=r"^split seed: expected 0 … 4294967295; got -1$"):
        split(np.zeros(10), 3, seed=-1)


def test_statistics_have_three_channels():
    assert set(STATISTICS) == {"cifar10", "cifar100", "digits"}
    for mean, std in STATISTICS.values():
        assert len(mean) == len(std) == 3
