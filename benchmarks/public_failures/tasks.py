"""Small data sets drawn from a seed, in place of those of the reports."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

import gradscape as gs
from public_failures.plain import Split, drawn


def blobs(
    seed: int,
    count: int = 2_000,
    inputs: int = 40,
    classes: int = 10,
    noise: float = 1.2,
    held_out: int = 500,
) -> Split:
    """Vectors near one of several prototypes."""
    generator = drawn(seed)
    prototypes = torch.randn(classes, inputs, generator=generator)
    y = torch.randint(0, classes, (count + held_out,), generator=generator)
    return Split.of(prototypes[y] + noise * torch.randn(len(y), inputs, generator=generator), y, held_out)


def pictures(
    seed: int,
    count: int = 2_000,
    size: int = 8,
    channels: int = 1,
    classes: int = 10,
    noise: float = 0.7,
    held_out: int = 500,
) -> Split:
    """Pictures near one of several."""
    flat = blobs(seed, count, channels * size * size, classes, noise, held_out)
    shape = (-1, channels, size, size)
    return Split(flat.x.reshape(shape), flat.y, flat.test_x.reshape(shape), flat.test_y)


def curve(seed: int, count: int = 1_000, inputs: int = 8, held_out: int = 300) -> Split:
    """A smooth function of several numbers, standardized, with a product in it."""
    generator = drawn(seed)
    x = torch.randn(count + held_out, inputs, generator=generator)
    weights = torch.randn(inputs, 1, generator=generator) / inputs**0.5
    y = (x @ weights).sin() + 0.5 * x[:, :1] * x[:, 1:2]
    return Split.of(x, (y - y.mean()) / y.std(), held_out)


@cache
def _digits() -> Split:
    data = gs.load_images("digits")

    def prepared(images: object, labels: object) -> tuple[Tensor, Tensor]:
        x = torch.tensor(images)[:, ::2, ::2, 0].float() / 255  # each pixel is there 2×2 times, in 3 channels
        return x.unsqueeze(1), torch.tensor(labels)

    return Split(
        *prepared(data.train_images, data.train_labels), *prepared(data.test_images, data.test_labels)
    )


def digits(size: int = 8, channels: int = 1) -> Split:
    """The embedded digits, pixels 0 … 1, 1,497 to train on and 300 held out."""
    same = _digits()

    def grown(x: Tensor) -> Tensor:
        larger = x if size == 8 else F.interpolate(x, size=(size, size), mode="bilinear")
        return larger.expand(-1, channels, -1, -1).contiguous()

    return Split(grown(same.x), same.y, grown(same.test_x), same.test_y)


def markov(
    seed: int, words: int, length: int, count: int = 2_000, followers: int = 4, held_out: int = 200
) -> Split:
    """Texts in which a few words may follow each word: x the words, y the ones after them."""
    generator = drawn(seed)
    follow = torch.randint(0, words, (words, followers), generator=generator)
    rows = count + held_out
    tokens = [torch.randint(0, words, (rows,), generator=generator)]
    for _ in range(length):
        tokens.append(follow[tokens[-1], torch.randint(0, followers, (rows,), generator=generator)])
    text = torch.stack(tokens, 1)
    return Split.of(text[:, :-1], text[:, 1:], held_out)
