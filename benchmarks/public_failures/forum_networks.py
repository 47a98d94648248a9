"""Reports whose fault lies in activations, initialization or embeddings that collapse."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from public_failures.case import Case, Training
from public_failures.forum_sequences import Decoder
from public_failures.plain import Split, accuracy, binary_accuracy, drawn, minus, plain
from public_failures.tasks import digits, markov


def xor_without_hidden(fixed: bool, seed: int) -> Training:
    """Exclusive or: discuss.pytorch.org/t/13287."""
    torch.manual_seed(seed)
    hidden = (nn.ReLU(),) if fixed else ()
    model = nn.Sequential(nn.Linear(2, 20), *hidden, nn.Linear(20, 1), nn.Sigmoid())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    generator = drawn(seed)
    bits = torch.randint(0, 2, (700, 2), generator=generator)
    y = (bits[:, :1] != bits[:, 1:]).float()
    x = bits + 0.1 * torch.randn(700, 2, generator=generator)

    def right(output: Tensor, y: Tensor) -> float:
        return binary_accuracy(output, y, 0.5)

    return plain(model, optimizer, Split.of(x, y, 200), F.binary_cross_entropy, right, seed)


class Referred(nn.Module):
    """A picture and a word, joined by a gate of two linear layers without bias, as residuals."""

    def __init__(self, zeros: int) -> None:
        super().__init__()
        self.picture = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))
        self.word = nn.Embedding(10, 32)
        first, second = nn.Linear(32, 32, bias=False), nn.Linear(32, 32, bias=False)
        for layer in (second, first)[:zeros]:
            nn.init.zeros_(layer.weight)
        self.gate = nn.Sequential(first, nn.ReLU(), second, nn.Tanh())
        self.head = nn.Linear(32, 2)

    def forward(self, both: Tensor) -> Tensor:
        seen = self.picture(both[:, :-1])
        joined = seen * self.word(both[:, -1].long())
        return self.head(torch.relu(seen + self.gate(joined) * joined))


def gate_of_zeros(fixed: bool, seed: int) -> Training:
    """Whether a word names the digit: github.com/yz93/LAVT-RIS/issues/25."""
    torch.manual_seed(seed)
    model = Referred(zeros=1 if fixed else 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = drawn(seed)

    def asked(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        other = torch.randint(0, 10, labels.shape, generator=generator)
        word = torch.where(torch.rand(labels.shape, generator=generator) < 0.45, labels, other)
        return torch.cat([x.flatten(1), word[:, None].float()], 1), (word == labels).long()

    same = digits()
    data = Split(*asked(same.x, same.y), *asked(same.test_x, same.test_y))
    return plain(model, optimizer, data, F.cross_entropy, accuracy, seed, size=32)


def normal_weights(fixed: bool, seed: int) -> Training:
    """A language model: github.com/pytorch-tpu/transformers/pull/26."""
    torch.manual_seed(seed)
    model = Decoder(masked=True)
    for parameter in model.parameters():
        if parameter.ndim > 1 and fixed:
            nn.init.uniform_(parameter, -0.05, 0.05)
        elif parameter.ndim > 1:
            nn.init.normal_(parameter)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def loss(output: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(output.flatten(0, 1), y.flatten())

    data = markov(seed, 20, 16, 1_000, followers=2)
    return plain(model, optimizer, data, loss, minus(loss, -10.0), seed, size=32)


CASES: tuple[Case, ...] = (
    Case(
        "forum/xor-without-hidden",
        ("hidden",),
        "activation",
        "Two linear layers with nothing between them are to learn an exclusive or.",
        "A ReLU between them.",
        500,
        xor_without_hidden,
        departs="Corners with noise; twenty hidden units; SGD at 0.1.",
    ),
    Case(
        "forum/gate-of-zeros",
        ("initialization",),
        "gate",
        "Both layers of a residual gate begin at 0: neither gets a gradient, nor what it lets through.",
        "Only the second begins at 0.",
        500,
        gate_of_zeros,
        departs="Digits and their names.",
    ),
    Case(
        "forum/normal-weights",
        ("initialization",),
        "init",
        "All weights of a transformer begin as normal numbers of variance 1.",
        "Small uniform numbers.",
        300,
        normal_weights,
        departs="Two layers of 32; biases and norms as PyTorch has them.",
    ),
)
