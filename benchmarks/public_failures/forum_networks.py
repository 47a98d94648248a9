"""Reports whose fault lies in activations, initialization or embeddings that collapse."""

from __future__ import annotations

from itertools import chain, pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from public_failures.case import Case, Training
from public_failures.forum_sequences import Decoder
from public_failures.plain import Split, accuracy, binary_accuracy, drawn, minus, plain, r2
from public_failures.tasks import blobs, digits, markov


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


class Field(nn.Module):
    """Density and shade of points of a plane, and what 24 points along a ray look like on white."""

    def __init__(self, soft: bool) -> None:
        super().__init__()
        self.soft = soft
        sizes = (16, 64, 64, 64, 64, 64, 64, 64)
        layers = [(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise((*sizes, 64))]
        self.body = nn.Sequential(*chain.from_iterable(layers))
        self.density, self.shade = nn.Linear(64, 1), nn.Linear(64, 1)

    def forward(self, points: Tensor) -> Tensor:
        waves = torch.cat([points * 2**k * torch.pi for k in range(4)], -1)
        x = self.body(torch.cat([waves.sin(), waves.cos()], -1))
        raw = self.density(x)[..., 0]
        density = F.softplus(raw - 1) if self.soft else torch.relu(raw)
        return rendered(density, self.shade(x)[..., 0].sigmoid())


def rendered(density: Tensor, shade: Tensor) -> Tensor:
    """Shades of rays from densities and shades of points along them, each a 24th of the ray's two."""
    passed = torch.exp(-density * 2 / density.shape[-1])
    before = torch.cat([torch.ones_like(passed[..., :1]), passed.cumprod(-1)], -1)
    return (before[..., :-1] * (1 - passed) * shade).sum(-1) + before[..., -1]


def rays(seed: int, count: int = 1_500) -> tuple[Tensor, Tensor]:
    """Points along rays from all sides, and how a small disk, dark on one side, looks along them."""
    generator = drawn(seed)
    angle = 2 * torch.pi * torch.rand(count, 1, generator=generator)
    aside = 2 * torch.rand(count, 1, generator=generator) - 1
    along = torch.linspace(-1, 1, 24)
    points = torch.stack(
        [along * angle.cos() - aside * angle.sin(), along * angle.sin() + aside * angle.cos()], -1
    )
    inside = ((points - torch.tensor([0.2, -0.1])).norm(dim=-1) < 0.25).float()
    return points, rendered(40 * inside, 0.4 + 0.4 * points[..., 0].sign())


def density_dies(fixed: bool, seed: int) -> Training:
    """A radiance field: github.com/munshisanowarraihan/nerf-meta/issues/3."""
    torch.manual_seed(seed)
    model = Field(soft=fixed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    data = Split.of(*rays(seed), 300)
    return plain(model, optimizer, data, F.mse_loss, r2, seed, size=32)


class Embedded(nn.Module):
    def __init__(self, unit: bool) -> None:
        super().__init__()
        self.unit = unit
        self.body = nn.Sequential(
            nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()
        )
        self.head = nn.Linear(64, 16)

    def forward(self, x: Tensor) -> Tensor:
        z = self.head(self.body(x))
        return F.normalize(z, dim=-1) if self.unit else z


def hardest_without_norm(fixed: bool, seed: int) -> Training:
    """Batch-hard triplets: github.com/omoindrot/tensorflow-triplet-loss/issues/37."""
    torch.manual_seed(seed)
    model = Embedded(unit=fixed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def batch_hard(z: Tensor, y: Tensor) -> Tensor:
        distance = (z[:, None] - z).pow(2).sum(-1).clamp(min=1e-12).sqrt()
        same = y[:, None] == y
        positive = distance.masked_fill(~same, 0).amax(1)
        negative = distance.masked_fill(same, torch.inf).amin(1)
        return (positive - negative + 0.5).relu().mean()

    def nearest(z: Tensor, y: Tensor) -> float:
        """Accuracy of the nearest neighbor."""
        distance = torch.cdist(z, z).fill_diagonal_(torch.inf)
        return float((y[distance.argmin(1)] == y).float().mean())

    data = blobs(seed, classes=8, noise=2.0)
    return plain(model, optimizer, data, batch_hard, nearest, seed, size=96)


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
    Case(
        "forum/density-dies",
        ("hidden", "output"),
        "density",
        "The density of a radiance field is a ReLU, which before a white background is soon 0 everywhere.",
        "A softplus.",
        500,
        density_dies,
        departs="A plane in place of space, no fine network; layers of 64; Adam at 1e-3.",
    ),
    Case(
        "forum/hardest-without-norm",
        ("collapse", "architecture"),
        "embedding",
        "Batch-hard triplets of embeddings of any length: they become one point, and the loss is the margin.",
        "Embeddings of unit length.",
        300,
        hardest_without_norm,
        departs="A perceptron on vectors near eight prototypes.",
    ),
)
