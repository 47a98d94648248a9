"""A transformer of two layers, written by hand, and what it learns: to spell, or to read a text."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from public_failures.plain import Split, drawn

WIDTH, HEADS = 32, 2
WORDS, LENGTH = 6, 5  # of a text to spell
TEXT = 12  # words of a text to read


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.value, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.scale = (WIDTH // HEADS) ** -0.5
        self.score_dropout = nn.Identity()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Attend from x (N, T, width) to those of its places where `mask`, (N or 1, T, T), is true."""
        projections = (self.query, self.key, self.value)
        q, k, v = (each(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for each in projections)
        scores = self.score_dropout(q @ k.mT * self.scale)
        weights = scores.masked_fill(~mask[:, None], -1e9).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.act, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.act(self.up(x)))


class Residual(nn.Module):
    def forward(self, x: Tensor, added: Tensor) -> Tensor:
        return x + added


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(WIDTH), Attention()
        self.norm2, self.ffn = nn.LayerNorm(WIDTH), FeedForward()
        self.residual1, self.residual2 = Residual(), Residual()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.residual1(x, self.attention(self.norm1(x), mask))
        return self.residual2(x, self.ffn(self.norm2(x)))


class Transformer(nn.Module):
    """Words and places embedded, two blocks before which all is normalized, and a head."""

    def __init__(self, words: int, length: int, outputs: int) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, WIDTH), nn.Embedding(length, WIDTH)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, outputs)
        self.longest = length

    def hidden(self, ids: Tensor, mask: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1]).clamp(max=self.longest - 1)
        x = self.words(ids) + self.places(places)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)


class Speller(Transformer):
    """Predicts each next word."""

    def __init__(self) -> None:
        super().__init__(WORDS, 2 * LENGTH, WORDS)
        self.ahead = 0

    def forward(self, ids: Tensor) -> Tensor:
        size = ids.shape[1]
        mask = torch.ones(1, size, size, dtype=torch.bool).tril(self.ahead)
        return self.head(self.hidden(ids, mask))


class Reader(Transformer):
    """Says of a text of some length, in a buffer with leftovers after it, which of four words is in it."""

    def __init__(self) -> None:
        super().__init__(20, TEXT, 4)

    def mask(self, present: Tensor) -> Tensor:
        return present[:, None].expand(-1, TEXT, -1)

    def forward(self, batch: Tensor) -> Tensor:
        ids, present = batch.unbind(1)
        return self.head(self.hidden(ids, self.mask(present > 0))[:, 0])


def spelled(seed: int) -> Split:
    """Words x₁ … x₅, then y₁ … y₅: each y is a table's entry for its x and the y before it (first, x₅).

    y holds the next word of each place, −100 where it is one that nothing tells.
    """
    generator = drawn(seed)
    table = torch.stack([torch.randperm(WORDS, generator=generator) for _ in range(WORDS)])
    ids = torch.randint(0, WORDS, (3_000, 2 * LENGTH + 1), generator=generator)
    for i in range(LENGTH):
        ids[:, LENGTH + i] = table[ids[:, i], ids[:, LENGTH + i - 1]]
    x, y = ids[:, : 2 * LENGTH - 1], ids[:, 1 : 2 * LENGTH].clone()
    y[:, : LENGTH - 1] = -100
    return Split.of(x, y, 200)


def spelling_loss(output: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(output.flatten(0, 1), y.flatten())


def spelling(model: Speller, data: Split) -> float:
    """Accuracy of the y that are written one after the other, without those to come."""
    ids = data.test_x[:, :LENGTH]
    for _ in range(LENGTH):
        ids = torch.cat([ids, model(ids)[:, -1:].argmax(-1)], 1)
    return float((ids[:, LENGTH:] == data.test_y[:, LENGTH - 1 :]).float().mean())


def read(seed: int) -> Split:
    """Texts (N, 2, 12), words and 1 where the text is, 0 at leftovers; which of four words is in it."""
    generator = drawn(seed)
    count = 2_300
    ids = torch.randint(4, 19, (count, TEXT), generator=generator)
    lengths = torch.randint(4, 10, (count, 1), generator=generator)
    present = torch.arange(TEXT) < lengths
    y = torch.randint(0, 4, (count,), generator=generator)
    rows = torch.arange(count)
    own = 1 + (torch.rand(count, generator=generator) * (lengths[:, 0] - 1)).long()
    ids[rows, own] = y
    left = torch.randint(0, 4, (count, 2), generator=generator)
    after = lengths + torch.tensor([[0, 1]])
    ids[rows[:, None], after] = left
    ids[:, 0] = 19  # the place that the answer is read from
    return Split.of(torch.stack([ids, present.long()], 1), y, 300)


def all_of(model: nn.Module, kind: type[Any]) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, kind)]
