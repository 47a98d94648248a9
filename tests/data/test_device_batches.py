from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradscape.data import STATISTICS
from gradscape.data.device_batches import DeviceImages, EpochDraw, TrainBatches, epoch_draw, eval_batches

MEAN, STD = STATISTICS["cifar100"]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def images(count=23, height=8, width=8):
    rng = np.random.default_rng(count)
    pixels = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    return pixels, rng.integers(0, 100, count)


def naive(image, offset, flip, pad):
    """One image as the study says: pad with black, crop, mirror, to 0…1, normalise; in float64."""
    height, width, _ = image.shape
    padded = np.zeros((height + 2 * pad, width + 2 * pad, 3), dtype=np.uint8)
    padded[pad : pad + height, pad : pad + width] = image
    crop = padded[offset[0] : offset[0] + height, offset[1] : offset[1] + width]
    if flip:
        crop = crop[:, ::-1]
    return ((crop / 255 - np.array(MEAN)) / np.array(STD)).transpose(2, 0, 1)


def train_batches(pool: DeviceImages, draw: EpochDraw, size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """One epoch's mini-batches, in order."""
    batches = TrainBatches(pool, MEAN, STD)
    batches.begin(draw)
    return [batches.take(places.to(pool.images.device)) for places in torch.arange(len(pool)).split(size)]


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 30),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    pad=st.integers(0, 4),
    flip=st.booleans(),
    batch=st.integers(1, 35),
    epoch=st.integers(0, 5),
)
def test_batches_are_those_of_a_loop_over_images(count, size, pad, flip, batch, epoch):
    pixels, labels = images(count, *size)
    draw = epoch_draw(count, 3, epoch, pad, flip)
    pool = DeviceImages.make(pixels, labels, pad)
    batches = train_batches(pool, draw, batch)
    assert [len(y) for _, y in batches[:-1]] == [batch] * (len(batches) - 1)
    x, y = (torch.cat(parts).numpy() for parts in zip(*batches, strict=True))
    assert np.array_equal(y, labels[draw.order.numpy()])
    for place, chosen in enumerate(draw.order.tolist()):
        offset, mirrored = draw.offsets[place].tolist(), bool(draw.flips[place])
        expected = naive(pixels[chosen], offset, mirrored, pad)
        np.testing.assert_allclose(x[place], expected, rtol=0, atol=1e-6)


def test_shapes_types_and_memory_format():
    pixels, labels = images(23)
    pool = DeviceImages.make(pixels, labels, 4)
    batches = train_batches(pool, epoch_draw(23, 0, 1, 4, True), 10)
    batches += list(eval_batches(pixels, labels, 10, MEAN, STD))
    assert [len(x) for x, _ in batches] == [10, 10, 3] * 2
    for x, y in batches:
        assert x.shape[1:] == (3, 8, 8)
        assert x.dtype == torch.float32
        assert y.dtype == torch.int64
        assert x.is_contiguous(memory_format=torch.channels_last)
        assert x.storage_offset() == 0


def test_eval_batches_keep_order_and_do_not_augment():
    pixels, labels = images(23)
    pixels.setflags(write=False)  # as a memory map is
    parts = zip(*eval_batches(pixels, labels, 7, MEAN, STD), strict=True)
    x, y = (torch.cat(part).numpy() for part in parts)
    assert np.array_equal(y, labels)
    expected = np.stack([naive(image, (0, 0), False, 0) for image in pixels])
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-6)


def test_training_without_augmentation_equals_evaluation_bit_for_bit():
    pixels, labels = images(23)
    draw = epoch_draw(23, 0, 1, 0, False)
    pool = DeviceImages.make(pixels, labels, 0)
    ((trained, _),) = train_batches(pool, draw, 23)
    ((plain, _),) = eval_batches(pixels, labels, 23, MEAN, STD)
    assert torch.equal(trained, plain[draw.order])


def test_all_pixel_values_are_exact_to_one_rounding():
    values = np.arange(256, dtype=np.uint8)
    pixels = np.repeat(values, 3).reshape(1, 16, 16, 3)
    ((x, _),) = eval_batches(pixels, np.zeros(1, np.int64), 1, MEAN, STD)
    for channel in range(3):
        exact = (values / 255 - MEAN[channel]) / STD[channel]
        assert np.abs(x[0, channel].numpy().ravel() - exact).max() < 4e-7


def test_padding_is_black_before_normalising():
    pool = DeviceImages.make(np.full((1, 4, 4, 3), 255, np.uint8), np.zeros(1, np.int64), 2)
    draw = epoch_draw(1, 0, 0, 2, False)
    draw.offsets.zero_()
    ((x, _),) = train_batches(pool, draw, 1)
    assert x[0, :, 0, 0].tolist() == pytest.approx([-m / s for m, s in zip(MEAN, STD, strict=True)])
    assert x[0, :, 3, 3].tolist() == pytest.approx([(1 - m) / s for m, s in zip(MEAN, STD, strict=True)])


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(0, 2**40), st.integers(0, 1000), st.integers(0, 5))
def test_draw_is_a_permutation_within_range(count, seed, epoch, pad):
    draw = epoch_draw(count, seed, epoch, pad, flip=True)
    assert torch.equal(draw.order.sort().values, torch.arange(count))
    assert draw.offsets.shape == (count, 2)
    assert draw.offsets.dtype == draw.order.dtype == torch.int64
    assert draw.flips.dtype == torch.bool
    assert draw.offsets.min() >= 0
    assert draw.offsets.max() <= 2 * pad


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 2**31))
def test_draw_depends_on_seed_and_epoch_alone(seed, epoch, disturbance):
    first = epoch_draw(50, seed, epoch, 4, True)
    torch.manual_seed(disturbance)
    np.random.seed(disturbance)
    state = torch.get_rng_state()
    second = epoch_draw(50, seed, epoch, 4, True)
    assert torch.equal(torch.get_rng_state(), state)  # and leaves the global generator alone
    for name in ("order", "offsets", "flips"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    for other in (
        epoch_draw(50, seed + 1, epoch, 4, True),
        epoch_draw(50, seed, epoch + 1, 4, True),
    ):
        assert not torch.equal(first.order, other.order)


def test_turning_augmentation_off_keeps_the_order():
    with_all, without = epoch_draw(50, 1, 2, 4, True), epoch_draw(50, 1, 2, 0, False)
    assert torch.equal(with_all.order, without.order)
    assert not without.flips.any()
    assert not without.offsets.any()


def test_seed_and_epoch_are_not_interchangeable():
    assert not torch.equal(epoch_draw(50, 1, 2, 4, True).order, epoch_draw(50, 2, 1, 4, True).order)


def test_offsets_and_flips_are_uniform():
    draw = epoch_draw(50_000, 0, 1, 4, True)
    counts = torch.bincount((draw.offsets[:, 0] * 9 + draw.offsets[:, 1]), minlength=81)
    chi2 = float(((counts - 50_000 / 81) ** 2 / (50_000 / 81)).sum())
    assert 40 < chi2 < 135  # 80 degrees of freedom; about ±4 sigma
    assert abs(float(draw.flips.float().mean()) - 0.5) < 0.01


def test_inputs_that_do_not_fit_are_caught():
    pixels, labels = images(5)
    pool = DeviceImages.make(pixels, labels, 1)
    with pytest.raises(AssertionError, match="draw: expected as many"):
        train_batches(pool, epoch_draw(6, 0, 0, 1, True), 2)
    with pytest.raises(AssertionError, match="batch_size: expected"):
        next(eval_batches(pixels, labels, 0, MEAN, STD))
    with pytest.raises(AssertionError, match="not bytes"):
        DeviceImages.make(pixels.astype(np.float32), labels, 1)
    with pytest.raises(AssertionError, match="per label"):
        DeviceImages.make(pixels, labels[:3], 1)
    with pytest.raises(AssertionError, match="std: expected"):
        next(eval_batches(pixels, labels, 2, MEAN, (0.1, 0.0, 0.1)))
    with pytest.raises(AssertionError, match="seed, epoch, crop_pad: expected"):
        epoch_draw(5, -1, 0, 1, True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_gives_the_same_batches():
    pixels, labels = images(23)
    draw = epoch_draw(23, 0, 1, 4, True)
    there = train_batches(DeviceImages.make(pixels, labels, 4, "cuda"), draw, 10)
    here = train_batches(DeviceImages.make(pixels, labels, 4), draw, 10)
    for (x, y), (x_cuda, y_cuda) in zip(here, there, strict=True):
        assert x_cuda.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(x_cuda.cpu(), x, rtol=0, atol=1e-6)
        assert torch.equal(y_cuda.cpu(), y)
