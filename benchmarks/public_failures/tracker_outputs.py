"""Issues and merges whose fault lies in what the network gives out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from public_failures.case import Case, Training
from public_failures.plain import Split, accuracy, binary_accuracy, drawn, plain, r2, untouched
from public_failures.tasks import digits


def softmax_twice(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    layers = (nn.Flatten(), nn.Linear(64, 10))
    model = nn.Sequential(*layers) if fixed else nn.Sequential(*layers, nn.Softmax(1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return plain(model, optimizer, digits(), F.cross_entropy, accuracy, seed, size=32)


class Matching(nn.Module):
    """One picture each of five classes; queries take the labels of those that they are like."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )

    def forward(self, support: Tensor, query: Tensor) -> Tensor:
        """Weights (queries, 5) of support (5, 1, 8, 8) for query (queries, 1, 8, 8)."""
        both = F.normalize(self.embed(torch.cat([support, query])), dim=1)
        return (both[5:] @ both[:5].T).softmax(1)


def episode(x: Tensor, y: Tensor, seed: int, number: int) -> tuple[dict[str, Tensor], Tensor]:
    generator = drawn(seed, 5_000 + number)
    classes = torch.randperm(10, generator=generator)[:5]
    own = [torch.nonzero(y == label)[:, 0] for label in classes]
    chosen = torch.stack([at[torch.randperm(len(at), generator=generator)[:9]] for at in own])
    labels = torch.arange(5).repeat_interleave(8)
    return {"support": x[chosen[:, 0]], "query": x[chosen[:, 1:].flatten()]}, labels


def matching(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model, data = Matching(), digits()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def loss(weights: Tensor, y: Tensor) -> Tensor:
        return F.nll_loss(weights.log(), y) if fixed else F.cross_entropy(weights, y)

    def step(i: int) -> Tensor:
        pictures, y = episode(data.x, data.y, seed, i)
        optimizer.zero_grad()
        value = loss(model(**pictures), y)
        value.backward()
        optimizer.step()
        return value.detach()

    def score() -> float:
        with untouched(model):
            held_out = [episode(data.test_x, data.test_y, seed, 10_000 + k) for k in range(20)]
            return sum(accuracy(model(**pictures), y) for pictures, y in held_out) / 20

    return Training(model, optimizer, step, score, episode(data.x, data.y, seed, 0), loss)


class Recommender(nn.Module):
    """Users and items, embedded, into one network."""

    def __init__(self, end: nn.Module) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(200, 16), nn.Embedding(100, 16)
        self.mlp = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())
        self.predict = nn.Linear(32, 1)
        self.end = end

    def forward(self, pair: Tensor) -> Tensor:
        user, item = self.user(pair[:, 0]), self.item(pair[:, 1])
        both = torch.cat([user * item, self.mlp(torch.cat([user, item], 1))], 1)
        return self.end(self.predict(both))[:, 0]


def ranked(output: Tensor, y: Tensor) -> float:
    """Share of pairs of one seen and one unseen item that are ranked rightly; ties count a half."""
    seen, unseen = output[y == 1], output[y == 0]
    difference = seen[:, None] - unseen
    return float((difference > 0).float().mean() + 0.5 * (difference == 0).float().mean())


def recommender(fixed: bool, seed: int) -> Training:
    """Which of 100 items 200 users took; a fifth of all pairs."""
    torch.manual_seed(seed)
    model = Recommender(nn.Identity() if fixed else nn.Sigmoid())
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = drawn(seed)
    taste = torch.randn(200, 3, generator=generator) @ torch.randn(3, 100, generator=generator)
    taken = (taste > taste.flatten().kthvalue(16_000).values).float()
    pairs = torch.cartesian_prod(torch.arange(200), torch.arange(100))
    order = torch.randperm(20_000, generator=generator)
    data = Split.of(pairs[order], taken.flatten()[order], 3_000)
    return plain(model, optimizer, data, F.binary_cross_entropy_with_logits, ranked, seed, size=256)


def standardized_autoencoder(fixed: bool, seed: int) -> Training:
    """Pictures less their mean over their deviation: more than half of all pixels are negative."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 32),
        nn.ReLU(),
        nn.Linear(32, 256),
        nn.ReLU(),
        nn.Unflatten(1, (16, 4, 4)),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(16, 1, 3, padding=1),
        nn.ReLU(),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    same = digits()
    mean, deviation = (0.0, 1.0) if fixed else (float(same.x.mean()), float(same.x.std()))
    x, test = (same.x - mean) / deviation, (same.test_x - mean) / deviation
    return plain(model, optimizer, Split(x, x, test, test), F.mse_loss, r2, seed)


class Siamese(nn.Module):
    """Distance of two pictures, or a sigmoid of it."""

    def __init__(self, squashed: bool) -> None:
        super().__init__()
        self.embed = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(72, 16), nn.Tanh()
        )
        self.end: nn.Module = nn.Identity()
        if squashed:
            self.end = nn.Sequential(nn.BatchNorm1d(1), nn.Linear(1, 1), nn.Sigmoid())

    def forward(self, pair: Tensor) -> Tensor:
        one, other = self.embed(pair[:, 0]), self.embed(pair[:, 1])
        distance = (one - other).square().sum(1, keepdim=True).clamp(min=1e-7).sqrt()
        return self.end(distance)[:, 0]


def siamese(fixed: bool, seed: int) -> Training:
    """Pairs of digits, half of them of one class; 1 says that they differ."""
    torch.manual_seed(seed)
    model, same = Siamese(squashed=not fixed), digits()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)

    def pairs(x: Tensor, y: Tensor, stream: int) -> tuple[Tensor, Tensor]:
        generator = drawn(seed, stream)
        one, other = torch.randint(0, len(x), (2, 40_000), generator=generator)
        equal = y[one] == y[other]
        kept = torch.cat([torch.nonzero(equal)[:2_000], torch.nonzero(~equal)[:2_000]])[:, 0]
        kept = kept[torch.randperm(len(kept), generator=generator)]
        return torch.stack([x[one[kept]], x[other[kept]]], 1), (~equal[kept]).float()

    def contrastive(distance: Tensor, differ: Tensor) -> Tensor:
        return ((1 - differ) * distance.square() + differ * (1 - distance).relu().square()).mean()

    def verified(distance: Tensor, differ: Tensor) -> float:
        return binary_accuracy(distance, differ, 0.5)

    data = Split(*pairs(same.x, same.y, 1), *pairs(same.test_x, same.test_y, 2))
    return plain(model, optimizer, data, contrastive, verified, seed, size=16)


def softmax_of_one(fixed: bool, seed: int) -> Training:
    """Two numbers, and whether their sum is above 0.5 … 1; MSE."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(2, 64),
        nn.Tanh(),
        nn.Dropout(0.5),
        nn.Linear(64, 64),
        nn.Tanh(),
        nn.Dropout(0.5),
        nn.Linear(64, 1),
        nn.Sigmoid() if fixed else nn.Softmax(1),
    )
    for p in model.parameters():
        nn.init.uniform_(p, -0.05, 0.05) if p.ndim > 1 else nn.init.zeros_(p)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    x = torch.rand(600, 2, generator=drawn(seed))
    y = (x.sum(1, keepdim=True) > 0.9).float()

    def right(output: Tensor, y: Tensor) -> float:
        return binary_accuracy(output, y, 0.5)

    return plain(model, optimizer, Split.of(x, y, 200), F.mse_loss, right, seed, size=16)


class Counts(nn.Module):
    """Persons in each cell of a map, from its features, summed over a region."""

    def __init__(self, end: nn.Module) -> None:
        super().__init__()
        self.cell = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))
        self.end = end

    def forward(self, region: Tensor) -> Tensor:
        return self.end(self.cell(region)).sum((1, 2))


def relu_of_counts(fixed: bool, seed: int) -> Training:
    """Regions of 20 cells of six positive features; what is known is the number of persons in each."""
    torch.manual_seed(seed)
    model = Counts(nn.Softplus() if fixed else nn.ReLU())
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = drawn(seed)
    center = 1 + 0.5 * torch.rand(1_200, 1, 6, generator=generator)
    x = center * (1 + 0.2 * torch.randn(1_200, 20, 6, generator=generator)).clamp(min=0.1)
    y = (0.5 * x[..., 0] * x[..., 1] + 0.3 * x[..., 2]).sum(1)
    return plain(model, optimizer, Split.of(x, y, 200), F.mse_loss, r2, seed, size=32)


class Field(nn.Module):
    """Density and color at points of the plane, seen along rays before a white wall."""

    def __init__(self, density: nn.Module) -> None:
        super().__init__()
        self.density = density
        self.mlp = nn.Sequential()
        for inputs in (18, *(32,) * 7):
            self.mlp.extend((nn.Linear(inputs, 32), nn.ReLU()))
        self.head = nn.Linear(32, 4)

    def forward(self, points: Tensor) -> Tensor:
        """Colors (rays, 3) of points (rays, samples, 2)."""
        waves = [f(2.0**k * torch.pi * points) for k in range(4) for f in (torch.sin, torch.cos)]
        out = self.head(self.mlp(torch.cat([points, *waves], -1)))
        alpha = 1 - torch.exp(-self.density(out[..., 0]) * 2 / points.shape[1])
        through = torch.cumprod(torch.cat([torch.ones_like(alpha[:, :1]), 1 - alpha[:, :-1]], 1), 1)
        weight = (alpha * through)[..., None]
        color: Tensor = (weight * out[..., 1:].sigmoid()).sum(1) + 1 - weight.sum(1)
        return color


def rays(seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Rays across a square and what is seen: a small opaque disk whose color depends on the side."""
    generator = drawn(seed)
    angle = 2 * torch.pi * torch.rand(count, 1, generator=generator)
    offset = 1.6 * torch.rand(count, 1, generator=generator) - 0.8
    along = torch.stack([angle.cos(), angle.sin()], -1)
    across = torch.stack([-angle.sin(), angle.cos()], -1)
    depth = torch.linspace(-0.9, 0.9, 24)[:, None]
    points = offset[..., None] * across + depth * along
    hit = offset.abs() < 0.15
    front = offset * across[:, 0] - (0.0225 - offset.square()).clamp(min=0).sqrt() * along[:, 0]
    color = torch.cat([0.5 + front, 0.3 + 0 * offset], 1)
    return points, torch.where(hit, color, torch.ones(()))


def density_of_relu(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = Field(nn.Softplus() if fixed else nn.ReLU())
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4)
    data = Split.of(*rays(seed, 3_000), 500)
    return plain(model, optimizer, data, F.mse_loss, r2, seed, size=64)


CASES: tuple[Case, ...] = (
    Case(
        "tracker/logistic-softmax-twice",
        ("output",),
        "softmax",
        "Logistic regression gives a softmax to a cross-entropy that makes one of its own.",
        "The logits.",
        400,
        softmax_twice,
        departs="Digits of 8×8; a learning rate of 1e-3.",
    ),
    Case(
        "tracker/matching-softmax-twice",
        ("output", "loss"),
        "softmax",
        "A matching network's attention weights, a softmax of cosines, go into cross_entropy as logits.",
        "The negative logarithm of the weights.",
        150,
        matching,
        departs="Digits, five ways and one shot.",
    ),
    Case(
        "tracker/recommender-sigmoid-twice",
        ("output",),
        "sigmoid",
        "A recommender ends in a sigmoid, into BCEWithLogitsLoss: it cannot say that an item is unlikely.",
        "No sigmoid in the network.",
        500,
        recommender,
        departs="Drawn tastes of 200 users; the score is the share of pairs ranked rightly.",
    ),
    Case(
        "tracker/autoencoder-standardized",
        ("output", "inputs"),
        "relu",
        "Pictures are standardized, and the autoencoder's last rectifier cannot give negative pixels.",
        "Pixels from 0 up.",
        400,
        standardized_autoencoder,
        departs="Digits of 8×8, a smaller code; which positive output it was is not told.",
    ),
    Case(
        "tracker/siamese-sigmoid",
        ("output",),
        "sigmoid",
        "BatchNorm, one unit and a sigmoid turn a distance into 0 … 1, which contrastive loss takes for one.",
        "The distance itself.",
        400,
        siamese,
        departs="Digits of 8×8.",
    ),
    Case(
        "tracker/mlp-softmax-of-one",
        ("output",),
        "softmax",
        "A softmax over a single unit is 1 for every input; MSE.",
        "A sigmoid.",
        500,
        softmax_of_one,
        departs="600 points in place of eight.",
    ),
    Case(
        "tracker/counts-relu-output",
        ("output", "initialization"),
        "relu",
        "A ReLU makes counts positive: where all begin negative, all are 0 and no gradient passes.",
        "Softplus.",
        400,
        relu_of_counts,
        departs="Drawn maps of 20 cells.",
    ),
    Case(
        "tracker/nerf-relu-density",
        ("output", "initialization"),
        "relu",
        "A radiance field's density is a ReLU: begun below 0 everywhere, the scene is empty for good.",
        "Softplus.",
        600,
        density_of_relu,
        departs="A plane in place of space, 32 units in place of 256.",
    ),
)
