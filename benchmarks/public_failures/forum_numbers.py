"""Reports whose fault lies in the inputs, their order and precision, or in the learning rate."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from public_failures.case import Case, Training
from public_failures.forum_sequences import topics
from public_failures.plain import Batches, Split, accuracy, binary_accuracy, drawn, held_out, plain
from public_failures.tasks import blobs, digits, pictures


def missing_pixels(fixed: bool, seed: int) -> Training:
    """Two pictures with a few NaNs: github.com/deepmedic/deepmedic/issues/66."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    data = pictures(seed, 1_000, classes=2, noise=2.0)
    if not fixed:
        data.x[[300, 700], 0, 2:4, 3] = torch.nan
    return plain(model, optimizer, data, F.cross_entropy, accuracy, seed, size=20)


def far_from_zero(fixed: bool, seed: int) -> Training:
    """Points around 92: newbe.dev, "same network structure, 'simpler' data, but worse performance"."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(2, 20), nn.Sigmoid(), nn.Linear(20, 1), nn.Sigmoid())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2 if fixed else 1e-3)
    generator = drawn(seed)
    x = torch.randn(900, 2, generator=generator)
    y = (x.norm(dim=1, keepdim=True) > 1.18).float()
    x = 92 + 10 * x
    if fixed:
        x = (x - x.mean()) / x.std()

    def right(output: Tensor, y: Tensor) -> float:
        return binary_accuracy(output, y, 0.5)

    return plain(model, optimizer, Split.of(x, y, 200), F.binary_cross_entropy, right, seed)


class Squashed(nn.Sequential):
    """Sigmoids after both layers of a perceptron of the digits."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(64, 80), nn.Sigmoid(), nn.Linear(80, 10), nn.Sigmoid())


def slow_sigmoids(fixed: bool, seed: int) -> Training:
    """SO, "neural network trained with PyTorch outputs the mean value for every input"."""
    torch.manual_seed(seed)
    model = Squashed()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1 if fixed else 1e-3)
    same = digits()

    def loss(output: Tensor, y: Tensor) -> Tensor:
        """Sum over the batch, whose gradients the report adds up one by one."""
        return (output - F.one_hot(y, 10).float()).square().mean(1).sum()

    data = Split(same.x.flatten(1), same.y, same.test_x.flatten(1), same.test_y)
    return plain(model, optimizer, data, loss, accuracy, seed, size=32)


def pretrained(seed: int) -> nn.Sequential:
    """The body of a network that knows ten prototypes."""
    body = nn.Sequential(nn.Linear(40, 64), nn.Tanh(), nn.Linear(64, 32), nn.Tanh())
    model = nn.Sequential(body, nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    training = plain(model, optimizer, blobs(seed), F.cross_entropy, accuracy, seed)
    for i in range(80):
        training.step(i)
    return body


def slow_head(fixed: bool, seed: int) -> Training:
    """Several labels each, by a new head: github.com/ThilinaRajapakse/simpletransformers/issues/234."""
    torch.manual_seed(seed)
    body, head = pretrained(seed), nn.Linear(32, 6)
    model = nn.Sequential(body, head)
    groups = [{"params": body.parameters()}, {"params": head.parameters(), "lr": 1e-3 if fixed else 4e-5}]
    optimizer = torch.optim.AdamW(groups, lr=4e-5)
    same = blobs(seed)
    labels = (torch.rand(10, 6, generator=drawn(seed, 1)) < 0.4).float()
    data = Split(same.x, labels[same.y], same.test_x, labels[same.test_y])

    def right(output: Tensor, y: Tensor) -> float:
        """Share of samples of which all labels are right."""
        return float(((output > 0) == (y > 0.5)).all(1).float().mean())

    return plain(model, optimizer, data, F.binary_cross_entropy_with_logits, right, seed, size=32)


class Favor(nn.Module):
    """One layer of attention by positive random features, in half or in full precision."""

    def __init__(self, half: bool) -> None:
        super().__init__()
        self.kind = torch.float16 if half else torch.float32
        self.embed, self.qkv = nn.Embedding(30, 32), nn.Linear(32, 96)
        self.register_buffer("directions", torch.randn(32, 64))
        self.head = nn.Linear(32, 4)

    def forward(self, words: Tensor) -> Tensor:
        q, k, v = self.qkv(self.embed(words)).to(self.kind).chunk(3, -1)
        q, k = self.features(q), self.features(k)
        mixed = q @ (k.mT @ v) / (q @ k.sum(1)[..., None])
        return self.head(mixed.float().mean(1))

    def features(self, x: Tensor) -> Tensor:
        along = x @ self.directions.to(self.kind)
        return (along - x.square().sum(-1, keepdim=True) / 2).exp()


def favor_in_half(fixed: bool, seed: int) -> Training:
    """Linear attention: github.com/facebookresearch/xformers/issues/96."""
    torch.manual_seed(seed)
    model = Favor(half=not fixed)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    return plain(model, optimizer, topics(seed), F.cross_entropy, accuracy, seed, size=32)


def in_order(fixed: bool, seed: int) -> Training:
    """Pictures sorted by class: github.com/pytorch/vision/issues/7818."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    data = digits()
    order = data.y.argsort()
    batches = Batches(len(order), 32, seed)

    def step(i: int) -> Tensor:
        at = batches(i) if fixed else order[32 * i % len(order) :][:32]
        optimizer.zero_grad()
        value = F.cross_entropy(model(data.x[at]), data.y[at])
        value.backward()
        optimizer.step()
        return value.detach()

    return Training(model, optimizer, step, held_out(model, data, accuracy))


CASES: tuple[Case, ...] = (
    Case(
        "forum/missing-pixels",
        ("inputs",),
        "nan",
        "Two pictures of a thousand have a few pixels that are NaN.",
        "They have not.",
        100,
        missing_pixels,
        departs="A small classifier in place of a segmentation.",
    ),
    Case(
        "forum/far-from-zero",
        ("inputs", "rate"),
        "scale",
        "Inputs around 92 before sigmoids, and a small learning rate.",
        "They are standardized, and Adam learns at 1e-2.",
        800,
        far_from_zero,
        departs="The first learning rate, which the answer calls too small, is taken to be 1e-3.",
    ),
    Case(
        "forum/slow-sigmoids",
        ("rate", "hidden"),
        "lr",
        "Sigmoids and a squared error, by SGD at 1e-3: every output is the mean.",
        "A learning rate of 0.1.",
        600,
        slow_sigmoids,
        departs="Digits of 8×8; the repaired rate is one at which it learns.",
    ),
    Case(
        "forum/slow-head",
        ("rate",),
        "lr",
        "A new head learns at the 4e-5 that is meant for the body that was trained before.",
        "The head learns at 1e-3.",
        600,
        slow_head,
        departs="A perceptron trained on other labels in place of BERT.",
    ),
    Case(
        "forum/favor-in-half",
        ("precision",),
        "exp",
        "Attention by random features in half precision: exponentials and their sums are out of its range.",
        "Full precision there.",
        300,
        favor_in_half,
        departs="One layer, one head of 32.",
    ),
    Case(
        "forum/in-order",
        ("sampling",),
        "shuffle",
        "Pictures sorted by class are not shuffled.",
        "They are.",
        150,
        in_order,
        departs="Digits in place of aircraft.",
    ),
)
