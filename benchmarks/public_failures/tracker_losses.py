"""Issues and merges whose fault lies in the loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from public_failures.case import Case, Training
from public_failures.losses import of_labels
from public_failures.plain import (
    Split,
    binary_accuracy,
    drawn,
    plain,
    r2,
)
from public_failures.tasks import blobs


def balanced(output: Tensor, y: Tensor) -> float:
    """Mean of the shares of positives and of negatives that are right; outputs are logits."""
    right = ((output > 0) == (y > 0.5)).float()
    return 0.5 * float(right[y > 0.5].mean() + right[y <= 0.5].mean())


def focal_of_zero(fixed: bool, seed: int) -> Training:
    """An eighth is positive; 20 columns, one of them an amount of up to some thousands."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid())
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = drawn(seed)
    x = torch.randn(3_500, 20, generator=generator)
    y = (x[:, :3].sum(1, keepdim=True) > 2).float()
    x[:, 19] = 10 * (1.5 * x[:, 19]).exp()
    tiny = 1e-7 if fixed else 0.0

    def focal(p: Tensor, y: Tensor) -> Tensor:
        p_1, p_0 = torch.where(y == 1, p, 1.0), torch.where(y == 0, p, 0.0)
        ones = 0.25 * (1 - p_1).square() * (p_1 + tiny).log()
        zeros = 0.75 * p_0.square() * (1 - p_0 + tiny).log()
        return -ones.mean() - zeros.mean()

    def measure(p: Tensor, y: Tensor) -> float:
        return balanced(p - 0.5, y)

    return plain(model, optimizer, Split.of(x, y, 1_000), focal, measure, seed)


def weights_as_frequencies(fixed: bool, seed: int) -> Training:
    """Bright spots of 3×3 in pictures of 16×16; a twenty-eighth of all pixels."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 2, 1),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = drawn(seed)
    row, column = torch.randint(0, 14, (2, 700, 1), generator=generator)
    places = torch.arange(16)
    rows, columns = ((places >= at) & (places < at + 3) for at in (row, column))
    y = (rows[:, :, None] & columns[:, None, :]).long()
    x = y[:, None] + 0.6 * torch.randn(700, 1, 16, 16, generator=generator)
    share = torch.bincount(y.flatten()) / y.numel()
    weight = 1 - share if fixed else share

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(logits, y, weight)

    def dice(logits: Tensor, y: Tensor) -> float:
        mask = logits.argmax(1)
        return float(2 * (mask * y).sum() / (mask.sum() + y.sum()))

    return plain(model, optimizer, Split.of(x, y, 100), loss, dice, seed, size=16)


def negative_weight(fixed: bool, seed: int) -> Training:
    """Columns of which three decide; 30 % positives."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(15, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = drawn(seed)
    x = torch.randn(2_000, 15, generator=generator)
    y = (x[:, :3].sum(1, keepdim=True) + x[:, 3:4] * x[:, 4:5] > 1).float()
    ones = y[:-500].sum()
    zeros = 1_500 - ones if fixed else ones - 1_500

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, y, pos_weight=zeros / ones)

    return plain(model, optimizer, Split.of(x, y, 500), loss, balanced, seed, size=32)


def alone_in_its_class(fixed: bool, seed: int) -> Training:
    """Supervised contrastive loss of one view each: some have no other of their class in the batch."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 16))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def contrastive(z: Tensor, y: Tensor) -> Tensor:
        z = F.normalize(z, dim=1)
        self_mask = torch.eye(len(z), dtype=torch.bool)
        logits = (z @ z.T / 0.1).masked_fill(self_mask, -torch.inf)
        same = ((y[:, None] == y) & ~self_mask).float()
        of_others = logits.log_softmax(1).masked_fill(self_mask, 0)
        number = same.sum(1)
        if fixed:
            number = torch.where(number == 0, 1.0, number)
        return -((same * of_others).sum(1) / number).mean()

    def nearest(z: Tensor, y: Tensor) -> float:
        distance = torch.cdist(z, z).fill_diagonal_(torch.inf)
        return float((y[distance.argmin(1)] == y).float().mean())

    return plain(net, optimizer, blobs(seed, noise=2.0), contrastive, nearest, seed, size=16)


def distilled_without_logarithm(fixed: bool, seed: int) -> Training:
    """A teacher's soft labels of vectors."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 6))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    generator = drawn(seed)
    x = torch.randn(2_500, 20, generator=generator)
    teacher = (x @ torch.randn(20, 6, generator=generator) / 20**0.5 * 1.5).softmax(1)

    def loss(logits: Tensor, teacher: Tensor) -> Tensor:
        student = logits.log_softmax(1) if fixed else logits.softmax(1)
        return F.kl_div(student, teacher, reduction="none").mean()

    def likeness(logits: Tensor, teacher: Tensor) -> float:
        return r2(logits.softmax(1), teacher)

    return plain(model, optimizer, Split.of(x, teacher, 500), loss, likeness, seed)


class Detector(nn.Module):
    """A score for each place of a grid, and the height and width of what is there."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 5, padding=2), nn.ReLU()
        )
        self.score = nn.Conv2d(16, 1, 1)
        self.size = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, 3, 12, 12): score, height, width."""
        features = self.trunk(x)
        return torch.cat([self.score(features), self.size(features)], 1)


def score_alone(fixed: bool, seed: int) -> Training:
    """One rectangle in each picture of 12×12; y has its map, and its sizes wherever it is."""
    torch.manual_seed(seed)
    model = Detector()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    generator = drawn(seed)
    height, width = torch.randint(1, 6, (2, 1_000, 1), generator=generator)
    row, column = torch.randint(0, 7, (2, 1_000, 1), generator=generator)
    places = torch.arange(12)
    rows = (places >= row) & (places < row + height)
    columns = (places >= column) & (places < column + width)
    there = (rows[:, :, None] & columns[:, None, :]).float()
    sizes = torch.stack([height, width], 1)[..., None].float() * there[:, None]
    x = there[:, None] + 0.3 * torch.randn(1_000, 1, 12, 12, generator=generator)
    data = Split.of(x, torch.cat([there[:, None], sizes / 3], 1), 200)

    def loss(maps: Tensor, y: Tensor) -> Tensor:
        score = F.binary_cross_entropy_with_logits(maps[:, 0], y[:, 0])
        if not fixed:
            return score
        return score + (y[:, :1] * (maps[:, 1:] - y[:, 1:]).abs()).sum() / y[:, 0].sum()

    def of_sizes(maps: Tensor, y: Tensor) -> float:
        there = y[:, 0] == 1
        return r2(maps[:, 1:].permute(0, 2, 3, 1)[there], y[:, 1:].permute(0, 2, 3, 1)[there])

    return plain(model, optimizer, data, loss, of_sizes, seed, size=20)


class Denoiser(nn.Module):
    """A mask on each segment's samples."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(1, 16, 9, padding=4), nn.ReLU(), nn.Conv1d(16, 1, 9, padding=4), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        mask: Tensor = self.net(x[:, None])[:, 0]
        return mask * x


def root_of_silence(fixed: bool, seed: int) -> Training:
    """Waves that sound half of the time, in noise; one in 200 is silent. The loss is a correlation."""
    torch.manual_seed(seed)
    model = Denoiser()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = drawn(seed)
    time = torch.arange(64) / 64
    pitch, phase, start = torch.rand(3, 1_500, 1, generator=generator)
    sounds = (time >= start / 2) & (time < start / 2 + 0.5)
    clean = torch.sin(2 * torch.pi * ((4 + 8 * pitch) * time + phase)) * sounds
    noisy = clean + 0.4 * torch.randn(clean.shape, generator=generator)
    silent = torch.rand(1_500, 1, generator=generator) < 0.005
    silent[-300:] = False
    data = Split.of(torch.where(silent, 0.0, noisy), torch.where(silent, 0.0, clean), 300)

    def unit(x: Tensor) -> Tensor:
        power = x.square().sum(1, keepdim=True)
        return x / (power + 1e-8).sqrt() if fixed else x / (power.sqrt() + 1e-8)

    def uncorrelated(out: Tensor, y: Tensor) -> Tensor:
        return -(unit(out) * unit(y)).sum(1).mean()

    def correlated(out: Tensor, y: Tensor) -> float:
        value = float(F.cosine_similarity(out, y).mean())
        return value if value == value else -1.0

    return plain(model, optimizer, data, uncorrelated, correlated, seed, size=25)


def categorical_of_one(fixed: bool, seed: int) -> Training:
    """Thirty standardized columns; a sigmoid."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(30, 16),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(16, 16),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(16, 1),
        nn.Sigmoid(),
    )
    for p in model.parameters():
        nn.init.uniform_(p, -0.05, 0.05) if p.ndim > 1 else nn.init.zeros_(p)
    optimizer = torch.optim.Adam(model.parameters(), eps=1e-7)
    generator = drawn(seed)
    x = torch.randn(1_000, 30, generator=generator)
    y = (x[:, :5].sum(1, keepdim=True) + 0.5 * torch.randn(1_000, 1, generator=generator) > 0).float()

    def right(p: Tensor, y: Tensor) -> float:
        return binary_accuracy(p, y, 0.5)

    loss = F.binary_cross_entropy if fixed else of_labels
    return plain(model, optimizer, Split.of(x, y, 300), loss, right, seed, size=100)


CASES: tuple[Case, ...] = (
    Case(
        "tracker/focal-log-of-zero",
        ("loss", "precision"),
        "log",
        "A focal loss takes the logarithm of probabilities that are 0 once a sigmoid is saturated: NaN.",
        "1e-7 under the logarithms.",
        400,
        focal_of_zero,
        departs="Drawn columns.",
    ),
    Case(
        "tracker/weights-as-frequencies",
        ("loss", "targets"),
        "weight",
        "Class weights of a cross-entropy are the classes' frequencies: background outweighs by far.",
        "One less the frequency.",
        200,
        weights_as_frequencies,
        departs="Pictures of 16×16 and a net of three layers.",
    ),
    Case(
        "tracker/negative-pos-weight",
        ("loss",),
        "pos_weight",
        "pos_weight is computed with the wrong sign: the loss falls without bound as all logits do.",
        "The number of zeros by that of ones.",
        300,
        negative_weight,
        departs="Drawn columns, a smaller net.",
    ),
    Case(
        "tracker/contrastive-alone-in-class",
        ("loss",),
        "nan",
        "Supervised contrastive loss divides by the number of others of the class, which may be 0: NaN.",
        "By 1 there.",
        300,
        alone_in_its_class,
        departs="Vectors; batches of 16.",
    ),
    Case(
        "tracker/distillation-without-log",
        ("loss",),
        "kl_div",
        "kl_div is given the student's softmax, and not its logarithm.",
        "log_softmax.",
        400,
        distilled_without_logarithm,
        departs="Vectors in place of pixels, and no other loss; the score is R² of probabilities.",
    ),
    Case(
        "tracker/detector-score-alone",
        ("untrained", "loss"),
        "size",
        "A line left from a trial lets only the score's loss through: the head of sizes is never trained.",
        "The sum of all losses.",
        300,
        score_alone,
        departs="Rectangles in pictures of 12×12; height and width alone.",
    ),
    Case(
        "tracker/root-of-silence",
        ("loss", "precision"),
        "sqrt",
        "A loss divides by a norm, ε added after the root: a silent segment makes the gradient NaN.",
        "ε under the root.",
        300,
        root_of_silence,
        departs="One correlation in place of the intelligibility of speech; drawn waves.",
    ),
    Case(
        "tracker/categorical-of-one",
        ("loss",),
        "cross",
        "Categorical cross-entropy of a single sigmoid, which divided by its sum is 1.",
        "Binary cross-entropy.",
        400,
        categorical_of_one,
        departs="Drawn columns.",
    ),
)
