"""Data of the cases: stand-ins of the manner of scikit-learn's, few samples, the embedded digits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

import gradscape as gs

Draw = Callable[[int], "Data"]


@dataclass(frozen=True)
class Data:
    """Samples to train on and to score on.

    Attributes:
        x, y: Inputs, and labels (whole numbers) or real targets of shape (N, outputs).
        x_test, y_test: Samples that the score is of; those trained on where nothing generalizes.
        classes: Number of classes; 0 where targets are real.
    """

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: int = 0


def parted(x: Tensor, y: Tensor, test: int, classes: int = 0) -> Data:
    """Keep the last `test` samples for the score, or score on all that is trained on if 0."""
    if not test:
        return Data(x, y, x, y, classes)
    return Data(x[:-test], y[:-test], x[-test:], y[-test:], classes)


def classification(
    n: int,
    *shape: int,
    classes: int = 2,
    informative: int = 2,
    redundant: int = 2,
    test: int = 0,
    unit_rows: bool = False,
) -> Draw:
    """Gaussian clusters, two a class, on a hypercube's corners; the manner of make_classification.

    That is scikit-learn's, which deepmufl put in the data's place. A hundredth of the labels is drawn anew.
    Besides informative features there are linear combinations of them, and noise, in random order.

    Args:
        n: Number of samples to train on.
        *shape: Shape of a sample.
        classes, informative, redundant: Their numbers; the rest of the features is noise.
        test: Number of further samples to score on; 0 to score on those trained on.
        unit_rows: Whether each sample is divided by its norm.
    """

    def draw(seed: int) -> Data:
        generator = Generator().manual_seed(seed)
        x, y = clusters(n + test, math.prod(shape), classes, informative, redundant, generator)
        if unit_rows:
            x = F.normalize(x, dim=1)
        return parted(x.reshape(-1, *shape), y, test, classes)

    return draw


def clusters(
    count: int, features: int, classes: int, informative: int, redundant: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Features and labels of `classification`."""
    redundant = min(redundant, features - informative)
    each = 2 if 2 * classes <= 2**informative else 1
    bits = corners(each * classes, informative, generator)
    cluster = torch.randint(0, each * classes, (count,), generator=generator)
    spread = 2 * torch.rand(each * classes, informative, informative, generator=generator) - 1
    noise = torch.randn(count, informative, generator=generator)
    known = torch.bmm(noise[:, None], spread[cluster])[:, 0] + (2 * bits - 1)[cluster]
    mixed = known @ (2 * torch.rand(informative, redundant, generator=generator) - 1)
    rest = torch.randn(count, features - informative - redundant, generator=generator)
    x = torch.cat([known, mixed, rest], 1)[:, torch.randperm(features, generator=generator)]
    y = cluster % classes
    wrong = torch.rand(count, generator=generator) < 0.01
    return x, torch.where(wrong, torch.randint(0, classes, (count,), generator=generator), y)


def corners(count: int, dimensions: int, generator: Generator) -> Tensor:
    """Different corners of the unit cube, (count, dimensions); random ones of too many to list."""
    if dimensions > 12:
        return torch.randint(0, 2, (count, dimensions), generator=generator)
    chosen = torch.randperm(2**dimensions, generator=generator)[:count]
    return chosen[:, None] >> torch.arange(dimensions) & 1


def regression(n: int, *shape: int, targets: int = 1, informative: int = 10, test: int = 0) -> Draw:
    """Normal inputs and linear targets, coefficients uniform in 0 … 100; the manner of make_regression."""

    def draw(seed: int) -> Data:
        generator = Generator().manual_seed(seed)
        features = math.prod(shape)
        x = torch.randn(n + test, features, generator=generator)
        coefficients = torch.zeros(features, targets)
        chosen = torch.randperm(features, generator=generator)[:informative]
        coefficients[chosen] = 100 * torch.rand(len(chosen), targets, generator=generator)
        return parted(x.reshape(-1, *shape), x @ coefficients, test)

    return draw


def digits(
    size: int = 16,
    channels: int = 1,
    classes: int = 10,
    raw: bool = False,
    flat: bool = False,
) -> Draw:
    """The embedded digits as (channels, size, size); pixels to 255 if `raw`, else to 1."""

    def draw(seed: int) -> Data:
        parts = []
        for images, labels in digit_images(size, channels):
            keep = labels < classes
            x = images[keep] if raw else images[keep] / 255
            parts += [x.flatten(1) if flat else x, labels[keep]]
        order = torch.randperm(len(parts[0]), generator=Generator().manual_seed(seed))
        return Data(parts[0][order], parts[1][order], parts[2], parts[3], classes)

    return draw


@cache
def digit_images(size: int, channels: int) -> tuple[tuple[Tensor, Tensor], ...]:
    """Training and test images (N, channels, size, size) of 0 … 255 and their labels."""
    known = gs.load_images("digits")
    parts = []
    for images, labels in (
        (known.train_images, known.train_labels),
        (known.test_images, known.test_labels),
    ):
        x = torch.tensor(images).permute(0, 3, 1, 2)[:, :channels].float()
        parts.append((F.interpolate(x, (size, size)), torch.tensor(labels).long()))
    return tuple(parts)


def fixed(x: list[Any], y: list[Any], classes: int = 0) -> Draw:
    """The report's own few samples, scored on themselves."""

    def draw(seed: int) -> Data:
        return parted(torch.tensor(x).float(), torch.tensor(y).long() if classes else real(y), 0, classes)

    return draw


def real(y: list[Any]) -> Tensor:
    targets = torch.tensor(y).float()
    return targets[:, None] if targets.ndim == 1 else targets


def curve(
    of: Callable[[Tensor], Tensor], low: float, high: float, n: int, test: int = 100, unit: bool = False
) -> Draw:
    """A function of one number at random points; `unit` brings inputs and targets to 0 … 1."""

    def draw(seed: int) -> Data:
        x = low + (high - low) * torch.rand(n + test, 1, generator=Generator().manual_seed(seed))
        y = of(x)
        return parted(unit_range(x), unit_range(y), test) if unit else parted(x, y, test)

    return draw


def unit_range(x: Tensor, low: float = 0, high: float = 1) -> Tensor:
    """Bring each column to low … high."""
    least, most = x.amin(0), x.amax(0)
    return low + (high - low) * (x - least) / (most - least)


def made(samples: Callable[[Generator], tuple[Tensor, Tensor]], classes: int = 0, test: int = 0) -> Draw:
    """Samples by a function of a generator, the last `test` to score on."""

    def draw(seed: int) -> Data:
        return parted(*samples(Generator().manual_seed(seed)), test, classes)

    return draw
