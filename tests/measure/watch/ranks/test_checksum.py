"""The checksum of a tensor: every bit counts, in every dtype, at every place, however the tensor lies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from gradscape.measure.watch.ranks.checksum import BLOCK, BLOCKS, checksum

DTYPES = [
    torch.float32,
    torch.float64,
    torch.bfloat16,
    torch.float16,
    torch.complex64,
    torch.int64,
    torch.bool,
]


def drawn(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def weights() -> np.ndarray:  # type: ignore[type-arg]
    return np.random.PCG64(25).random_raw(2 * BLOCK).astype(np.uint64) | np.uint64(1)


@pytest.mark.parametrize("size", [0, 1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 3])
def test_it_is_the_weighted_sum_of_the_bits(size: int) -> None:
    values = drawn((size,))
    bits = values.numpy().view(np.int32).astype(np.int64).view(np.uint64)
    numbers = np.arange(size)
    with np.errstate(over="ignore"):
        terms = bits * weights()[numbers % BLOCK] * weights()[BLOCK + numbers // BLOCK]
        expected = terms.sum(dtype=np.uint64)
    assert checksum(values).item() == int(expected.view(np.int64))


def test_several_blocks_in_one_operation_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    values = drawn((5 * BLOCK + 3,))
    alone = checksum(values)
    monkeypatch.setitem(BLOCKS, "cpu", 2)  # as on an accelerator
    assert checksum(values) == alone


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_single_bit_counts(dtype: torch.dtype) -> None:
    values = drawn((3, 5), dtype)
    before = checksum(values)
    held = values.view(torch.uint8)
    for place in range(held.numel()):
        for bit in range(1 if dtype is torch.bool else 8):
            held.view(-1)[place] ^= 1 << bit
            assert checksum(values) != before
            held.view(-1)[place] ^= 1 << bit
    assert checksum(values) == before


def test_exchanged_elements_count_and_strides_do_not() -> None:
    values = drawn((4, 6, 3, 3))
    assert checksum(values.to(memory_format=torch.channels_last)) == checksum(values)
    assert checksum(values.transpose(0, 1)) != checksum(values)
    assert checksum(torch.tensor([0.0, 1.0])) != checksum(torch.tensor([-0.0, 1.0]))
    assert checksum(torch.full((3,), torch.nan)) == checksum(torch.full((3,), torch.nan))


def test_no_two_of_many_small_changes_collide() -> None:
    values = torch.ones(1_000)
    seen = {checksum(values).item()}
    for first in range(50):
        for second in range(first + 1, 60):
            changed = values.clone()
            changed[
                [first, second]
            ] *= -1  # what is least likely to show: all differences are the same power of 2
            seen.add(checksum(changed).item())
    assert len(seen) == 1 + sum(59 - first for first in range(50))


def test_it_takes_no_random_numbers_and_leaves_the_tensor() -> None:
    values, state = drawn((100,)).requires_grad_(), torch.random.get_rng_state()
    found = checksum(values)
    assert found.dtype == torch.int64
    assert not found.requires_grad
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(values, drawn((100,)))
