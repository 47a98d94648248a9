"""Sums in pieces are those of the whole tensors; what is kept of large ones is little, and says the same."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import gradscape as gs
from gradscape.measure.core import pieces
from gradscape.measure.core.pieces import LEAST, STRIDE, WHOLE, keep, magnitudes, squares, strides_of, sums


def channels_last(values: Tensor) -> Tensor:
    return values.reshape(2, 3, -1, 2).contiguous(memory_format=torch.channels_last)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "flat": lambda values: values,
    "transposed": lambda values: values.reshape(4, -1).T,
    "channels last": channels_last,
    "every second": lambda values: values[::2],
    "one value": lambda values: values[:1].expand(24),
    "complex": lambda values: torch.complex(values, values.flip(0)),
    "half": lambda values: values.clamp(-1e4, 1e4).half(),
}


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    piece=st.sampled_from([1, 5, 2**20]),
    seed=st.integers(0, 2**31),
    exponents=st.tuples(*[st.integers(-35, 30)] * len(LAYOUTS)),
)
def test_sums_are_those_of_the_whole_tensors(piece: int, seed: int, exponents: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(24, generator=generator, dtype=torch.float64) for _ in LAYOUTS]
    tensors = [
        layout(values.where(values.abs() > 0.5, 0.0) * 10.0**power)
        for layout, values, power in zip(LAYOUTS.values(), drawn, exponents, strict=True)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE", piece)
        found = sums(tensors, [2] * len(tensors))
        one, two = magnitudes(tensors), squares(tensors)
    for place, tensor in enumerate(tensors):
        whole = tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)
        tolerance = 1e-3 if tensor.dtype == torch.float16 else 1e-12
        largest = whole.abs().max()
        assert found.largest[place].item() == pytest.approx(largest.item(), rel=tolerance)
        assert found.absolute[place].item() == pytest.approx(whole.abs().sum().item(), rel=tolerance)
        assert found.nonzero[place] == torch.count_nonzero(tensor)
        assert one[place].item() == pytest.approx(whole.abs().sum().item(), rel=tolerance)
        if largest:
            square = (whole.abs() / largest).square().sum()
            assert found.square[place].item() == pytest.approx(square.item(), rel=tolerance)
            assert two[place].item() == pytest.approx((square * largest**2).item(), rel=tolerance)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_broken_element_in_one_piece_is_one_of_the_tensor(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE", 4)
    broken = torch.ones(12)
    broken[6] = value
    found = sums([broken, torch.ones(12)], [2, 2])
    assert found.largest.isfinite().tolist() == [False, True]
    assert found.square[1] == 12


def test_large_tensors_of_large_models_alone_are_thinned() -> None:
    enough = STRIDE * LEAST
    assert strides_of([WHOLE]) == (1,)
    assert strides_of([WHOLE, enough, enough - 1]) == (STRIDE, STRIDE, 1)


@pytest.mark.parametrize("layout", ["flat", "transposed", "channels last"])
def test_what_is_kept_lies_in_the_tensor(layout: str) -> None:
    tensor = LAYOUTS[layout](torch.arange(2_400.0))
    kept = keep(tensor, STRIDE).elements
    assert kept.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
    assert kept.numel() == math.ceil(2_400 / STRIDE)
    assert kept.unique().numel() == kept.numel()


def large_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.EmbeddingBag(40_000, 32), nn.Linear(32, 5_000), nn.Tanh(), nn.Linear(5_000, 10))


def watched(steps: int = 4) -> tuple[gs.FlowHistory, int]:
    """History of a training, and the bytes that the watch holds of its weights and gradients."""
    model = large_net()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    flow = gs.watch(model, optimizer, every=1)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        words = torch.randint(0, 40_000, (64, 8), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(words), words[:, 0] % 10).backward()
        optimizer.step()
    reader = flow._recorder.reader
    gradients = [
        each.kept.elements for kept in (reader.readings.now, reader.readings.before) for each in kept.values()
    ]
    held = {each.data_ptr(): each.nbytes for each in [*reader.weights, *gradients]}
    return flow.history(), sum(held.values())


def test_a_large_model_is_read_in_little_memory_to_within_a_tenth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A batch touches 1 % of the words; their rows move, all others not."""
    large, held = watched()
    for limit in ("WHOLE", "PIECE"):
        monkeypatch.setattr(pieces, limit, 2_000_000)
    exact, held_before = watched()
    training = 4 * 4 * sum(parameter.numel() for parameter in large_net().parameters())  # with Adam's moments
    assert held < 0.08 * training  # of tensors below a fifth of a million elements all are kept
    assert held_before > 0.4 * training
    assert large.to_dict().keys() == exact.to_dict().keys()
    for name in ("mean_abs", "max_abs", "rms", "zeros", "weight"):
        np.testing.assert_allclose(getattr(large, name), getattr(exact, name), rtol=1e-5, equal_nan=True)
    np.testing.assert_allclose(large.update, exact.update, rtol=0.1)
    np.testing.assert_allclose(large.agreement[1:], exact.agreement[1:], atol=0.15)
