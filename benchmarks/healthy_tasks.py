"""What the healthy trainings learn: small synthetic tasks, which a network of the right kind learns."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import cross_entropy, interpolate, mse_loss, one_hot
from verdict_nets import data

CLASSES, WORDS = 5, 50
Draw = Callable[[Generator], tuple[Any, Any]]


@dataclass(frozen=True)
class Task:
    """A mini-batch (x, y), drawn anew for each step, and the loss of a model's output on it."""

    draw: Draw
    loss: Callable[[Any, Any], Tensor]

    @property
    def guessing(self) -> float:
        """The loss of who knows the targets' distribution and not the input; infinite where none is known."""
        generator = Generator().manual_seed(1)
        y = torch.cat([self.draw(generator)[1] for _ in range(20)])
        if self.loss is squares:
            return float(y.var(0).mean())
        if self.loss not in (classified, tokenwise, next_token):
            return math.inf
        share = y.flatten().bincount() / y.numel()
        return float(torch.special.entr(share).sum())


def fixed(*shape: int, scale: float = 1.0) -> Tensor:
    """The same numbers in every process: what is to be learnt."""
    return scale * torch.randn(shape, generator=Generator().manual_seed(7))


def labels(count: int, generator: Generator, classes: int = CLASSES) -> Tensor:
    return torch.randint(0, classes, (count,), generator=generator)


def noise(like: Tensor, generator: Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator)


def logits(output: Any) -> Tensor:
    """Of a tensor, a model output with logits, or the first of several."""
    if isinstance(output, Tensor):
        return output
    found: Tensor = output.logits if hasattr(output, "logits") else output[0]
    return found


def classified(output: Any, y: Tensor) -> Tensor:
    return cross_entropy(logits(output), y)


def tokenwise(output: Any, y: Tensor) -> Tensor:
    return cross_entropy(logits(output).flatten(0, 1), y.flatten())


def next_token(output: Any, ids: Tensor) -> Tensor:
    return cross_entropy(logits(output)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def squares(output: Any, y: Tensor) -> Tensor:
    return mse_loss(output.sample if hasattr(output, "sample") else logits(output), y)


def pictures(size: int = 32, channels: int = 3, batch: int = 16) -> Task:
    """One of five fixed pictures under noise."""
    known = fixed(CLASSES, channels, size, size)

    def draw(generator: Generator) -> tuple[Tensor, Tensor]:
        y = labels(batch, generator)
        return known[y] + 0.7 * noise(known[y], generator), y

    return Task(draw, classified)


def vectors(inputs: int = 32, batch: int = 32) -> Task:
    """One of five fixed vectors under noise."""
    known = fixed(CLASSES, inputs)

    def draw(generator: Generator) -> tuple[Tensor, Tensor]:
        y = labels(batch, generator)
        return known[y] + noise(known[y], generator), y

    return Task(draw, classified)


@cache
def all_digits() -> tuple[Tensor, Tensor]:
    return data()


def digits(batch: int = 32, size: int = 8, reshape: Callable[[Tensor], Tensor] = lambda x: x) -> Task:
    """The embedded digits, 8×8, or larger."""

    def draw(generator: Generator) -> tuple[Tensor, Tensor]:
        x, y = all_digits()
        chosen = torch.randint(0, len(x), (batch,), generator=generator)
        grown = x[chosen] if size == 8 else interpolate(x[chosen], size=(size, size), mode="bilinear")
        return reshape(grown), y[chosen]

    return Task(draw, classified)


def rebuilt(size: int = 8, batch: int = 32, channels: int = 1) -> Task:
    """Digits from digits."""
    same = digits(batch, size, lambda x: x.expand(-1, channels, -1, -1))

    def draw(generator: Generator) -> tuple[Tensor, Tensor]:
        x, _ = same.draw(generator)
        return x, x

    return Task(draw, squares)


def denoised(size: int = 16, channels: int = 1, batch: int = 16) -> Task:
    """The noise that was added to digits, at a time between 0 and 1,000 (Ho et al. 2020)."""
    same = rebuilt(size, batch, channels)

    def draw(generator: Generator) -> tuple[Any, Tensor]:
        clean, _ = same.draw(generator)
        times = torch.randint(0, 1_000, (batch,), generator=generator)
        share = (1 - times / 1_000).reshape(-1, 1, 1, 1)
        added = noise(clean, generator)
        return {"sample": share.sqrt() * clean + (1 - share).sqrt() * added, "timestep": times}, added

    return Task(draw, squares)


def topics(length: int = 12, batch: int = 16, named: bool = True) -> Task:
    """Which of five distributions the words of a text are drawn from."""
    table = torch.softmax(fixed(CLASSES, WORDS, scale=3), 1)

    def draw(generator: Generator) -> tuple[Any, Tensor]:
        y = labels(batch, generator)
        ids = torch.multinomial(table[y], length, replacement=True, generator=generator)
        return {"input_ids": ids} if named else ids, y

    return Task(draw, classified)


def tags(length: int = 12, batch: int = 16) -> Task:
    """The class of each word."""
    of_word = torch.randint(0, CLASSES, (WORDS,), generator=Generator().manual_seed(7))

    def draw(generator: Generator) -> tuple[Any, Tensor]:
        ids = torch.randint(0, WORDS, (batch, length), generator=generator)
        return {"input_ids": ids}, of_word[ids]

    return Task(draw, tokenwise)


def chain(generator: Generator, batch: int, length: int) -> Tensor:
    """Texts of a Markov chain, each word next to sure of the one after."""
    table = torch.softmax(fixed(WORDS, WORDS, scale=4), 1)
    ids = [torch.randint(0, WORDS, (batch,), generator=generator)]
    for _ in range(length - 1):
        ids.append(torch.multinomial(table[ids[-1]], 1, generator=generator)[:, 0])
    return torch.stack(ids, 1)


def language(length: int = 16, batch: int = 16, named: bool = True) -> Task:
    """The next word of a Markov chain."""

    def draw(generator: Generator) -> tuple[Any, Tensor]:
        ids = chain(generator, batch, length)
        return {"input_ids": ids} if named else ids, ids

    return Task(draw, next_token)


def copied(length: int = 8, batch: int = 16) -> Task:
    """A text from itself, word by word through another alphabet: for an encoder and a decoder."""
    other = torch.randperm(WORDS, generator=Generator().manual_seed(7))

    def draw(generator: Generator) -> tuple[Any, Tensor]:
        ids = chain(generator, batch, length)
        given = torch.cat([torch.zeros_like(ids[:, :1]), other[ids][:, :-1]], 1)
        return {"input_ids": ids, "decoder_input_ids": given}, other[ids]

    return Task(draw, tokenwise)


def regression(inputs: int = 8, batch: int = 32) -> Task:
    """A smooth function of eight numbers, standardized."""
    weights = fixed(inputs, 1, scale=0.5)

    def draw(generator: Generator) -> tuple[Tensor, Tensor]:
        x = torch.randn(batch, inputs, generator=generator)
        return x, (x @ weights).tanh() + 0.5 * x[:, :1] * x[:, 1:2]

    return Task(draw, squares)


def masks(size: int = 32, batch: int = 8, dims: int = 2, channels: int = 1) -> Task:
    """Where a bright square is: two classes for each pixel."""

    def draw(generator: Generator) -> tuple[Tensor, Tensor]:
        y = torch.zeros(batch, *(size,) * dims, dtype=torch.long)
        for each in y:
            corner = torch.randint(0, size // 2, (dims,), generator=generator).tolist()
            each[tuple(slice(c, c + size // 2) for c in corner)] = 1
        clean = y.unsqueeze(1).float().expand(-1, channels, *(-1,) * dims)
        return clean + 0.5 * noise(clean, generator), y

    return Task(draw, classified)


def graph(nodes: int = 60) -> Task:
    """The community of each node of a fixed graph; features are redrawn, the graph is always whole."""
    y = labels(nodes, Generator().manual_seed(7))
    chance = torch.where(y[:, None] == y[None], 0.2, 0.02)
    edges = (torch.rand(nodes, nodes, generator=Generator().manual_seed(8)) < chance).triu(1)
    index = (edges | edges.T).nonzero().T.contiguous()

    def draw(generator: Generator) -> tuple[Any, Tensor]:
        x = 2 * one_hot(y, 16).float()
        return (x + noise(x, generator), index), y

    return Task(draw, classified)


def points(count: int = 24, batch: int = 32) -> Task:
    """One of five clouds of points, in any order, under noise."""
    known = fixed(CLASSES, count, 3)

    def draw(generator: Generator) -> tuple[Tensor, Tensor]:
        y = labels(batch, generator)
        cloud = known[y][:, torch.randperm(count, generator=generator)]
        return cloud + 0.1 * noise(cloud, generator), y

    return Task(draw, classified)


def pairs(batch: int = 64) -> Task:
    """How a user rates an item: a table of rank four."""
    table = (fixed(40, 4) @ fixed(30, 4).T) / 2

    def draw(generator: Generator) -> tuple[Any, Tensor]:
        user = torch.randint(0, 40, (batch,), generator=generator)
        item = torch.randint(0, 30, (batch,), generator=generator)
        return (user, item), table[user, item]

    return Task(draw, squares)


def triplets(batch: int = 32) -> Task:
    """Two vectors of one class and one of another; satisfied once they are a margin apart."""
    known = fixed(CLASSES, 32)

    def draw(generator: Generator) -> tuple[Tensor, Tensor]:
        y = labels(batch, generator)
        other = (y + 1 + labels(batch, generator, CLASSES - 1)) % CLASSES
        x = torch.stack([known[y], known[y], known[other]], 1)
        return x + 0.5 * noise(x, generator), y

    def loss(output: Tensor, _: Tensor) -> Tensor:
        return torch.nn.functional.triplet_margin_loss(output[:, 0], output[:, 1], output[:, 2])

    return Task(draw, loss)


def actions(inputs: int = 6, choices: int = 4, batch: int = 32) -> Task:
    """The action of an expert, and the value of a state: behavior cloned by an actor and a critic."""
    expert, worth = fixed(inputs, choices), fixed(inputs, 1)[:, 0]

    def draw(generator: Generator) -> tuple[Any, Tensor]:
        x = torch.randn(batch, inputs, generator=generator)
        return (x, (x @ expert).argmax(1)), (x @ worth).tanh()

    def loss(output: Any, value: Tensor) -> Tensor:
        values, log_prob, entropy = output
        found: Tensor = -log_prob.mean() + 0.5 * mse_loss(values[:, 0], value) - 0.001 * entropy.mean()
        return found

    return Task(draw, loss)
