"""Data in place of those of DeepFD's subjects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from public_failures.plain import Split, drawn
from public_failures.tasks import digits


def sides(seed: int, inputs: int = 8, scale: float = 1.0) -> Split:
    """Columns of several scales and the side of a bent plane they lie on, 0.0 or 1.0, of shape (N, 1)."""
    generator = drawn(seed)
    x = torch.randn(1_000, inputs, generator=generator)
    along = x[:, :1] + x[:, 1:2] * x[:, 2:3] + x[:, 3:4]
    units = scale ** torch.linspace(0, 1, inputs)
    return Split.of(units * (x + (3 if scale > 1 else 0)), (along > 0).float(), 250)


def classes(seed: int, scale: float = 1.0, inputs: int = 10, count: int = 5) -> Split:
    """Columns of one scale, and labels by the nearest of fifteen centers, three of each class."""
    generator = drawn(seed)
    centers = torch.randn(3 * count, inputs, generator=generator)
    nearest = torch.randint(0, 3 * count, (1_250,), generator=generator)
    x = centers[nearest] + 0.6 * torch.randn(1_250, inputs, generator=generator)
    return Split.of(scale * (x + (3 if scale > 1 else 0)), nearest % count, 250)


def values(seed: int, inputs: int = 1, scale: float = 1.0, of_y: float = 1.0) -> Split:
    """A smooth function of columns between 0 and `scale`, between 0 and `of_y`."""
    generator = drawn(seed)
    x = torch.rand(1_000, inputs, generator=generator)
    weights = torch.rand(inputs, 1, generator=generator) + 0.5
    y = (1 + (4 * (x @ weights) / weights.sum()).sin() + x[:, :1] ** 2) / 3
    return Split.of(scale * x, of_y * y, 250)


def standardized(draw: Callable[[int], Split], targets: bool = False) -> Callable[[int], Split]:
    def scaled(x: Tensor, like: Tensor) -> Tensor:
        return (x - like.mean(0)) / like.std(0)

    def split(seed: int) -> Split:
        same = draw(seed)
        x, test_x = scaled(same.x, same.x), scaled(same.test_x, same.x)
        if not targets:
            return replace(same, x=x, test_x=test_x)
        return Split(x, scaled(same.y, same.y), test_x, scaled(same.test_y, same.y))

    return split


def flat_digits(_: int) -> Split:
    same = digits()
    return Split(same.x.flatten(1), same.y, same.test_x.flatten(1), same.test_y)


def labels_divided(seed: int) -> Split:
    """Labels, not only pixels, are divided by 255, and the pixels held out are not."""
    same = flat_digits(seed)
    return Split(same.x, (same.y / 255).long(), 255 * same.test_x, same.test_y)


def identity(seed: int) -> Split:
    x = torch.rand(1_250, 16, generator=drawn(seed))
    return Split.of(x, x, 250)


def degrees(seed: int) -> Split:
    """A line, as from one unit of temperature to another."""
    x = 10 * torch.rand(1_000, 1, generator=drawn(seed)) - 5
    return Split.of(x, 1.8 * x + 3.2, 250)


def line(seed: int) -> Split:
    """A line under noise, x between 0 and 30."""
    generator = drawn(seed)
    x = 30 * torch.rand(1_000, 1, generator=generator)
    return Split.of(x, 2 * x + 5 + torch.randn(x.shape, generator=generator), 250)


def life(seed: int) -> Split:
    """Boards of the game of life, and the next ones."""
    board = (torch.rand(1_000, 1, 10, 10, generator=drawn(seed)) < 0.35).float()
    near = F.conv2d(F.pad(board, (1, 1, 1, 1)), torch.ones(1, 1, 3, 3)) - board
    return Split.of(board, ((near == 3) | ((near == 2) & (board > 0))).float(), 200)


def points(seed: int) -> Split:
    """Pictures of two spots, and where these are, from −1 to 1."""
    generator = drawn(seed)
    y = 1.6 * torch.rand(1_000, 4, generator=generator) - 0.8
    line = torch.linspace(-1, 1, 12)
    at = y.reshape(-1, 2, 2, 1)
    spots = (-((at - line) ** 2) / 0.05).exp()  # (N, spot, axis, 12)
    drawn_spots = spots[:, :, 0, :, None] * spots[:, :, 1, None, :]
    x = (drawn_spots * torch.tensor([1.0, -1.0])[:, None, None]).sum(1, keepdim=True)
    return Split.of(x + 0.1 * torch.randn(x.shape, generator=generator), y, 200)


def three_digits(_: int) -> Split:
    """Zeros, ones and twos."""
    same = digits()
    train, test = same.y < 3, same.test_y < 3
    return Split(same.x[train], same.y[train], same.test_x[test], same.test_y[test])
