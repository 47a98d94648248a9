"""Issues of transformers that do not train: the learning rate, and what Adam makes of a decay."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from public_failures.case import Case, Training
from public_failures.plain import Split, accuracy, drawn, plain

WORDS, LENGTH = 40, 13  # word 0 is the mask, 1 opens a text and 2 parts its halves


class Bert(nn.Module):
    """Layers of attention whose norms come after; masked words, and whether one half follows the other."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, width), nn.Embedding(LENGTH, width)
        self.norm = nn.LayerNorm(width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, "gelu", batch_first=True)
        self.body = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.pooler, self.follows = nn.Linear(width, width), nn.Linear(width, 2)
        self.word = nn.Linear(width, WORDS)

    def forward(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the words (N, LENGTH, WORDS), and of the second half (N, 2)."""
        x = self.norm(self.words(text) + self.places(torch.arange(LENGTH)))
        x = self.body(x)
        return self.word(x), self.follows(self.pooler(x[:, 0]).tanh())


def texts(seed: int, topics: int) -> Split:
    """Two halves of five words, of one topic or two; y has the masked words, and which it is."""
    generator = drawn(seed)
    count = 3_400
    topic, other = torch.randint(0, topics, (2, count, 1), generator=generator)
    follows = torch.randint(0, 2, (count, 1), generator=generator)
    other = torch.where(other == topic, (other + 1) % topics, other)
    each = (WORDS - 3) // topics
    halves = 3 + each * torch.stack([topic, torch.where(follows == 1, topic, other)], 1)
    halves = halves + torch.randint(0, each, (count, 2, 5), generator=generator)
    one, two = torch.ones(count, 1).long(), torch.full((count, 1), 2)
    text = torch.cat([one, halves[:, 0], two, halves[:, 1], two], 1)
    masked = (torch.rand(text.shape, generator=generator) < 0.15) & (text > 2)
    target = torch.cat([torch.where(masked, text, -100), follows], 1)
    return Split.of(text.masked_fill(masked, 0), target, 400)


def both(output: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
    words, follows = output
    of_words = F.cross_entropy(words.flatten(0, 1), y[:, :LENGTH].flatten())
    return of_words + F.cross_entropy(follows, y[:, LENGTH])


def next_half(output: tuple[Tensor, Tensor], y: Tensor) -> float:
    return accuracy(output[1], y[:, LENGTH])


def rate_of_bert(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = Bert(layers=6, width=32)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3 if fixed else 1e-2)
    return plain(model, optimizer, texts(seed, 4), both, next_half, seed, size=16)


def decay_within_adam(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = Bert(layers=2, width=32)
    of = torch.optim.AdamW if fixed else torch.optim.Adam
    optimizer = of(model.parameters(), lr=1e-3, weight_decay=0.01)
    return plain(model, optimizer, texts(seed, 4), both, next_half, seed, size=32)


CASES: tuple[Case, ...] = (
    Case(
        "tracker/bert-learning-rate",
        ("rate",),
        "lr",
        "A BERT of six layers, its norms after them, no warm-up: the learning rate is ten times too large.",
        "A tenth of it.",
        400,
        rate_of_bert,
        departs="32 units in place of 768, and 1e-2 for 1e-3; drawn texts; the score is of what follows.",
    ),
    Case(
        "tracker/bert-decay-within-adam",
        ("regularization", "rate"),
        "weight_decay",
        "Adam takes a weight decay of 0.01 into its averages: whether a sentence follows is not learned.",
        "AdamW.",
        400,
        decay_within_adam,
        departs="Two layers of 32 units; drawn texts; a learning rate of 1e-3.",
    ),
)
