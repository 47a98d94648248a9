"""Reshapes that tear axes are found; those that split or merge axes, and shifts of rows, are not."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from gradscape.measure.core.graph.torn_reshapes import tears_axes, torn_reshapes

sizes = st.lists(st.integers(1, 7), min_size=1, max_size=5)


@st.composite
def merged(draw: st.DrawFn, fine: list[int]) -> list[int]:
    """A shape of which some neighboring axes are one."""
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(fine) - 1)))) | {0, len(fine)})
    return [math.prod(fine[low:high]) for low, high in pairwise(cuts)]


@given(st.data())
def test_merges_of_one_shape_are_not_torn(data: st.DataObject) -> None:
    fine = data.draw(sizes)
    assert not tears_axes(data.draw(merged(fine)), data.draw(merged(fine)))


def factorizations(number: int) -> list[tuple[int, ...]]:
    """All ordered lists of factors above 1."""
    if number == 1:
        return [()]
    return [
        (factor, *rest)
        for factor in range(2, number + 1)
        if number % factor == 0
        for rest in factorizations(number // factor)
    ]


def cuts(shape: tuple[int, ...]) -> set[int]:
    return {math.prod(shape[place:]) for place in range(len(shape))}


@pytest.mark.parametrize("number", [12, 24, 30, 36])
def test_what_is_torn_has_no_common_finer_shape(number: int) -> None:
    """By brute force over every shape of so many elements."""
    shapes = factorizations(number)
    for before in shapes:
        for after in shapes:
            finer = any(cuts(before) | cuts(after) <= cuts(fine) for fine in shapes)
            assert tears_axes(before, after) == (not finer)


@pytest.mark.parametrize(
    ("before", "after", "torn"),
    [
        ((32, 10, 64), (10, 32, 64), True),
        ((32, 3, 8, 8), (32, 64, 3), True),
        ((32, 20), (80, 8), True),
        ((32, 20), (160, 4), False),
        ((8, 16, 32), (8, 32, 16), False),  # heads of attention may be as many as samples
        ((0, 3), (3, 0), False),
        ((), (1,), False),
    ],
)
def test_known_shapes(before: tuple[int, ...], after: tuple[int, ...], torn: bool) -> None:
    assert tears_axes(before, after) == torn


def sequences() -> Tensor:
    return torch.randn(32, 10, 6, requires_grad=True)


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda x: x.view(10, 32, 6), [((32, 10, 6), (10, 32, 6))]),
        (lambda x: x.transpose(0, 1).reshape(32, 10, 6), [((10, 32, 6), (32, 10, 6))]),
        (lambda x: x.transpose(0, 1).contiguous().view(32, 10, 6), [((10, 32, 6), (32, 10, 6))]),
        (lambda x: x.transpose(0, 1), []),
        (lambda x: x.flatten(1).view(32, 6, 10), []),  # two steps, neither of which is torn
        (lambda x: x.flatten(1), []),
        (lambda x: x.view(32, 10, 2, 3).transpose(1, 2).reshape(32, 2, 30), []),
    ],
)
def test_in_a_graph(function: Callable[[Tensor], Tensor], found: list[Any]) -> None:
    torn = torn_reshapes(function(sequences()).square().mean())
    assert list(torn) == found


def test_a_shift_of_rows_is_on_purpose() -> None:
    """Relative positions as Transformer-XL has them: padded, or sliced afterwards."""
    scores = torch.randn(2, 10, 10, requires_grad=True)
    padded = F.pad(scores, (1, 0)).view(2, 11, 10)[:, 1:].view(2, 10, 10)
    assert torn_reshapes(padded.sum()) == ()
    scores = torch.randn(7, 13, 2, requires_grad=True)
    shifted = scores.reshape(13, 7, 2)[1:].reshape(7, 12, 2)
    assert torn_reshapes(shifted.sum()) == ()


@pytest.mark.parametrize("batch_first", [True, False])
def test_layers_of_torch_tear_nothing(batch_first: bool) -> None:
    x = torch.randn(9, 7, 10)
    encoder = nn.TransformerEncoderLayer(10, 5, 12, batch_first=batch_first)
    assert torn_reshapes(encoder(x).square().mean()) == ()
    assert torn_reshapes(nn.LSTM(10, 3, batch_first=batch_first, bidirectional=True)(x)[0].mean()) == ()
    assert torn_reshapes(nn.GroupNorm(3, 9)(x.transpose(0, 1)).mean()) == ()
    assert torn_reshapes(nn.PixelShuffle(3)(torch.randn(5, 9, 7, 11, requires_grad=True)).mean()) == ()
