"""Mini-batches cut on the device: order, crop, flip and normalization in a few operations per batch.

The random draw (`epoch_draw`) depends on the seed and the epoch alone, never on the device, the batch size
or the number of workers. As in the study, an image is padded with black, cropped, mirrored, divided by 255,
reduced by the mean and divided by the standard deviation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class EpochDraw:
    """Random numbers of one epoch's data, on the CPU.

    Attributes:
        order: Permutation, int64 (count,), of the training images.
        offsets: Row and column of the crop in the padded image, int64 (count, 2); row i belongs to the i-th
            image in order.
        flips: Whether that image is mirrored left to right, bool (count,).
    """

    order: Tensor
    offsets: Tensor
    flips: Tensor


def epoch_draw(count: int, seed: int, epoch: int, crop_pad: int, flip: bool) -> EpochDraw:
    """Draw one epoch's order, crops (uniform in 0 … 2·crop_pad) and flips (probability ½).

    Args:
        count: Number of training images.
        seed, epoch: Numbers ≥ 0 that alone decide the draw.
        crop_pad: Black pixels added on each side before cropping; 0 for no crop.
        flip: Whether to mirror images at all.

    Example:
        >>> epoch_draw(4, seed=0, epoch=1, crop_pad=0, flip=False).offsets.sum()
        tensor(0)
    """
    assert count > 0, "count: expected a number > 0"
    assert min(seed, epoch, crop_pad) >= 0, "seed, epoch, crop_pad: expected numbers ≥ 0"
    # SeedSequence mixes: neighboring seeds and epochs give unrelated streams; (1, 2) ≠ (2, 1).
    state = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)
    generator = torch.Generator("cpu").manual_seed(int(state[0]))
    order = torch.randperm(count, generator=generator)
    offsets = torch.randint(0, 2 * crop_pad + 1, (count, 2), generator=generator)
    flips = torch.rand(count, generator=generator) < 0.5 if flip else torch.zeros(count).bool()
    return EpochDraw(order, offsets, flips)


@dataclass(frozen=True, eq=False)
class DeviceImages:
    """Training images on a device, as bytes, padded for cropping.

    Attributes:
        images: Pixels, uint8 (N, H + 2·crop_pad, W + 2·crop_pad, 3).
        labels: Labels, int64 (N,).
        crop_pad: Black pixels added on each side.
    """

    images: Tensor
    labels: Tensor
    crop_pad: int

    @classmethod
    def make(
        cls,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        crop_pad: int,
        device: torch.device | str = "cpu",
    ) -> DeviceImages:
        """Pad images and move them to a device, once per run.

        Args:
            images: Pixels (N, H, W, 3).
            labels: Labels (N,).
            crop_pad: Black pixels to add on each side.
            device: Device to move them to.

        Example:
            chosen = part.train
            pool = DeviceImages.make(data.train_images[chosen], data.train_labels[chosen], 4)
        """
        _check(images, labels)
        assert crop_pad >= 0, "crop_pad: expected a number ≥ 0"
        count, height, width, channels = images.shape
        shape = (count, height + 2 * crop_pad, width + 2 * crop_pad, channels)
        padded = torch.zeros(shape, dtype=torch.uint8)
        padded.numpy()[:, crop_pad : crop_pad + height, crop_pad : crop_pad + width] = images
        return cls(padded.to(device), torch.tensor(labels, dtype=torch.int64).to(device), crop_pad)

    def __len__(self) -> int:
        return len(self.labels)


class TrainBatches:
    """Augmented mini-batches of successive epochs, cut on the device from a draw stored there.

    Only `begin` involves the host, and the memory that batches are cut from never moves: on a GPU the cutting
    can be part of a CUDA graph.

    Args:
        pool: Training images.
        mean, std: Statistics per channel of pixels in 0…1, as in `STATISTICS`.

    Example:
        batches = TrainBatches(pool, *STATISTICS["cifar100"])
        batches.begin(epoch_draw(len(pool), seed=0, epoch=1, crop_pad=4, flip=True))
        for places in torch.arange(len(pool)).split(100):
            x, y = batches.take(places)
    """

    def __init__(self, pool: DeviceImages, mean: Sequence[float], std: Sequence[float]) -> None:
        device = pool.images.device
        self.pool = pool
        self.order = torch.zeros(len(pool), dtype=torch.int64, device=device)
        self.offsets = torch.zeros(len(pool), 2, dtype=torch.int64, device=device)
        self.flips = torch.zeros(len(pool), dtype=torch.bool, device=device)
        self.normalize = _Normalize(mean, std, pool.images.shape[2] - 2 * pool.crop_pad, device)

    def begin(self, draw: EpochDraw) -> None:
        """Copy an epoch's draw to the device.

        Args:
            draw: Result of `epoch_draw` for the pool's count and padding.
        """
        assert len(draw.order) == len(self.pool), "draw: expected as many images as the pool has"
        self.order.copy_(draw.order)
        self.offsets.copy_(draw.offsets)
        self.flips.copy_(draw.flips)

    def take(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return a mini-batch: the images at some places of the epoch's order.

        Args:
            places: Places 0 … count - 1 in the order, int64 (B,), on the pool's device.

        Returns:
            x float32 (B, 3, H, W), contiguous in `channels_last`; y int64 (B,).
        """
        index = self.order.index_select(0, places)
        offsets, flips = self.offsets.index_select(0, places), self.flips.index_select(0, places)
        images = _crop(self.pool, index, offsets, flips)
        return self.normalize(images), self.pool.labels.index_select(0, index)


def eval_batches(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    batch_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device | str = "cpu",
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the images in order, normalized and not augmented, in the shapes of `TrainBatches.take`.

    Args:
        images: Pixels, uint8 (N, H, W, 3).
        labels: Labels (N,).
        batch_size: Images per batch; the last batch may have fewer.
        mean, std: Statistics per channel, as in `STATISTICS`.
        device: Device of the batches.

    Example:
        for x, y in eval_batches(data.test_images, data.test_labels, 50, *STATISTICS["digits"]):
            ...
    """
    _check(images, labels)
    assert batch_size > 0, "batch_size: expected a number > 0"
    normalize = _Normalize(mean, std, images.shape[2], device)
    for start in range(0, len(images), batch_size):
        chosen = slice(start, start + batch_size)
        # torch.tensor copies: the arrays are read-only maps, which a tensor must not share.
        x = torch.tensor(np.asarray(images[chosen])).to(device)
        yield normalize(x), torch.tensor(labels[chosen], dtype=torch.int64).to(device)


def _check(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    assert images.dtype == np.uint8, "images are not bytes"
    assert images.shape == (len(labels), *images.shape[1:3], 3), "not one (H, W, 3) per label"


def _crop(pool: DeviceImages, index: Tensor, offsets: Tensor, flips: Tensor) -> Tensor:
    """Crop and mirror images with one gather of whole pixels; uint8 (B, H, W, 3).

    Flat indices and `index_select` take 0.56 ms per 100 images of 32×32 on one core; the same with
    advanced indexing 1.4 ms, a Python loop of slices 0.9 ms, strided views of rows 0.5 ms.
    """
    _, tall, wide, channels = pool.images.shape
    height, width = tall - 2 * pool.crop_pad, wide - 2 * pool.crop_pad
    across = torch.arange(width, device=index.device)
    rows = offsets[:, :1] + torch.arange(height, device=index.device)
    columns = offsets[:, 1:] + torch.where(flips[:, None], width - 1 - across, across)
    lines = index[:, None] * tall + rows
    pixels = lines[:, :, None] * wide + columns[:, None, :]
    flat = pool.images.view(-1, channels).index_select(0, pixels.flatten())
    return flat.view(len(index), height, width, channels)


class _Normalize:
    """(x / 255 − mean) / std as one multiply-add per value: x · scale + shift.

    Scale and shift are repeated along a whole row: broadcast over the three channels alone, the inner loop
    would have three values and take ten times as long (0.56 ms per 100 images instead of 0.06).
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], width: int, device: torch.device | str
    ) -> None:
        assert len(mean) == len(std) == 3, "mean, std: expected three channels"
        assert min(std) > 0, "std: expected numbers > 0"
        center, spread = np.asarray(mean, dtype=np.float64), np.asarray(std, dtype=np.float64)
        self.scale = self._row(1 / (255 * spread), width, device)
        self.shift = self._row(-center / spread, width, device)

    @staticmethod
    def _row(values: NDArray[Any], width: int, device: torch.device | str) -> Tensor:
        return torch.tensor(np.tile(values, width), dtype=torch.float32).to(device)

    def __call__(self, images: Tensor) -> Tensor:
        """Convert uint8 (B, H, W, 3) to float32 (B, 3, H, W) in channels_last; the permutation is a view."""
        rows = images.flatten(2).float()
        torch.addcmul(self.shift, rows, self.scale, out=rows)
        return rows.view(images.shape).permute(0, 3, 1, 2)
