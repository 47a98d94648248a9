"""Failing scripts on vectors: regression, embeddings, Q-learning, a GAN, a graph."""

from __future__ import annotations

import copy
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from public_failures.case import Case, Training
from public_failures.plain import (
    Batches,
    Split,
    accuracy,
    at_least,
    drawn,
    from_center,
    plain,
    r2,
    untouched,
)
from public_failures.tasks import blobs


def regression_unscaled(fixed: bool, seed: int) -> Training:
    """x³ for x in 1 … 4,000."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(1, 50), nn.ReLU(), nn.Linear(50, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x = torch.arange(1, 4_000, 4).float()[torch.randperm(1_000, generator=drawn(seed)), None]
    y = x**3
    if fixed:
        x, y = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    return plain(model, optimizer, Split.of(x, y, 200), F.mse_loss, r2, seed, size=100)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(50, 16)
        self.head = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8))

    def forward(self, three: Tensor) -> Tensor:
        return torch.stack([self.head(self.bag(texts)) for texts in three.unbind(1)], 1)


def triplets(seed: int, count: int = 2_500) -> Tensor:
    """Texts of an anchor, one of its class and one of another; anchor and positive are equal now and then."""
    generator = drawn(seed)
    label = torch.randint(0, 5, (count,), generator=generator)
    other = (label + torch.randint(1, 5, (count,), generator=generator)) % 5
    words = torch.randint(0, 10, (count, 3, 6), generator=generator)
    texts = 10 * torch.stack([label, label, other], 1)[..., None] + words
    equal = torch.rand(count, generator=generator) < 0.02
    texts[equal, 1] = texts[equal, 0]
    return texts


def distance_of_equals(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = Encoder()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    texts = triplets(seed)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return ((a - b).pow(2).sum(1) + (1e-8 if fixed else 0)).sqrt()

    def loss(out: Tensor, _: Tensor) -> Tensor:
        anchor, positive, negative = out.unbind(1)
        return (distance(anchor, positive) - distance(anchor, negative) + 1).relu().mean()

    def nearer(out: Tensor, _: Tensor) -> float:
        anchor, positive, negative = out.unbind(1)
        return float(((anchor - positive).norm(dim=1) < (anchor - negative).norm(dim=1)).float().mean())

    data = Split.of(texts, torch.zeros(len(texts)), 500)
    return plain(model, optimizer, data, loss, nearer, seed, size=20)


def triplet_collapse(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3 if fixed else 1e-2)

    def batch_hard(z: Tensor, y: Tensor) -> Tensor:
        distance = (z[:, None] - z).pow(2).sum(-1).clamp(min=1e-12).sqrt()
        same = y[:, None] == y
        positive = distance.masked_fill(~same, 0).amax(1)
        negative = distance.masked_fill(same, torch.inf).amin(1)
        return (positive - negative + 0.5).relu().mean()

    def nearest(z: Tensor, y: Tensor) -> float:
        """Accuracy of the nearest neighbor; of a collapsed net, where all distances are 0, that of chance."""
        distance = torch.cdist(z, z).fill_diagonal_(torch.inf)
        return float((y[distance.argmin(1)] == y).float().mean())

    data = blobs(seed, classes=8, noise=1.95)
    return plain(model, optimizer, data, batch_hard, nearest, seed, size=40)


def dqn_same_network(fixed: bool, seed: int) -> Training:
    """Q-learning from stored transitions of a linear system with four actions."""
    torch.manual_seed(seed)
    q = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    target = copy.deepcopy(q) if fixed else q
    optimizer = torch.optim.Adam(q.parameters(), lr=1e-3)
    generator = drawn(seed)
    state = torch.randn(6_000, 6, generator=generator)
    action = torch.randint(0, 4, (6_000,), generator=generator)
    turn = torch.randn(4, 6, 6, generator=generator) / 6**0.5
    after = torch.einsum("nij,nj->ni", turn[action], state)
    after += 0.3 * torch.randn(after.shape, generator=generator)
    reward = state[:, 0].tanh()
    batches = Batches(5_000, 64, seed)

    def td_loss(at: Tensor | slice) -> Tensor:
        best = target(after[at]).amax(1).detach()
        value = q(state[at]).gather(1, action[at, None])[:, 0]
        return F.mse_loss(value, reward[at] + 0.99 * best)

    def step(i: int) -> Tensor:
        optimizer.zero_grad()
        loss = td_loss(batches(i))
        loss.backward()
        optimizer.step()
        if fixed and (i + 1) % 200 == 0:
            target.load_state_dict(q.state_dict())
        return loss.detach()

    def score() -> float:
        with untouched(q):
            return at_least(-1e3, -float(td_loss(slice(5_000, None))))

    return Training(q, optimizer, step, score)


class Net(nn.Module):
    def __init__(self, registered: bool) -> None:
        super().__init__()
        layers = [nn.Linear(40 if k == 0 else 12, 12) for k in range(4)]
        self.hidden = nn.ModuleList(layers) if registered else layers
        self.classifier = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.hidden:
            x = torch.tanh(layer(x))
        return self.classifier(x)


def layers_in_list(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = Net(registered=fixed)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    return plain(model, optimizer, blobs(seed), F.cross_entropy, accuracy, seed)


class Gan(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.generator = nn.Sequential(
            nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2)
        )
        self.discriminator = nn.Sequential(
            nn.Linear(2, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, 1),
        )


def gan(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = Gan(32 if fixed else 256)
    of_d = torch.optim.Adam(model.discriminator.parameters(), lr=1e-3 if fixed else 2e-2, betas=(0.5, 0.999))
    of_g = torch.optim.Adam(model.generator.parameters(), lr=1e-3 if fixed else 1e-4, betas=(0.5, 0.999))
    ones, zeros, center = torch.ones(64, 1), torch.zeros(64, 1), torch.tensor([3.0, -2.0])

    def step(_: int) -> Tensor:
        real = 0.3 * torch.randn(64, 2) + center
        fake = model.generator(torch.randn(64, 4))
        of_d.zero_grad()
        of_real = F.binary_cross_entropy_with_logits(model.discriminator(real), ones)
        of_fake = F.binary_cross_entropy_with_logits(model.discriminator(fake.detach()), zeros)
        (of_real + of_fake).backward()
        of_d.step()
        of_g.zero_grad()
        loss = F.binary_cross_entropy_with_logits(model.discriminator(fake), ones)
        loss.backward()
        of_g.step()
        return loss.detach()

    score = partial(from_center, model, center, seed, -100.0)
    return Training(model, [of_d, of_g], step, score)


class Sigmoids(nn.Sequential):
    def __init__(self, activation: type[nn.Module]) -> None:
        hidden = [layer for inputs in (20, 100, 100, 100) for layer in (nn.Linear(inputs, 100), activation())]
        super().__init__(*hidden, nn.Linear(100, 1))


def four_sigmoid_layers(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = Sigmoids(nn.ReLU if fixed else nn.Sigmoid)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    x = torch.randint(0, 2, (2_500, 20), generator=drawn(seed)).float()
    y = x[:, :4].sum(1, keepdim=True) + (2 * x[:, 4] * x[:, 5] - x[:, 6] * x[:, 7] - 2.25)[:, None]
    return plain(model, optimizer, Split.of(x, y, 500), F.mse_loss, r2, seed)


class Gcn(nn.Module):
    def __init__(self, skip: bool) -> None:
        super().__init__()
        self.skip = skip
        self.enter = nn.Linear(16, 32)
        self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(12))
        self.head = nn.Linear(32, 5)

    def forward(self, graph: tuple[Tensor, Tensor]) -> Tensor:
        x, adjacency = graph
        h = torch.relu(self.enter(x))
        for layer in self.layers:
            new = torch.relu(layer(adjacency @ h))
            h = h + new if self.skip else new
        return self.head(h)


def deep_gcn(fixed: bool, seed: int) -> Training:
    """Communities of a graph of 300 nodes; the classes of 200 are known."""
    torch.manual_seed(seed)
    model = Gcn(skip=fixed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = drawn(seed)
    y = torch.randint(0, 5, (300,), generator=generator)
    chance = torch.where(y[:, None] == y, 0.06, 0.02)
    edges = (torch.rand(300, 300, generator=generator) < chance).float().triu(1)
    edges = edges + edges.T + torch.eye(300)
    scale = edges.sum(1).rsqrt()
    x = 0.4 * torch.randn(5, 16, generator=generator)[y] + torch.randn(300, 16, generator=generator)
    graph = (x, scale[:, None] * edges * scale)

    def loss(output: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(output[:200], y[:200])

    def step(_: int) -> Tensor:
        optimizer.zero_grad()
        value = loss(model(graph), y)
        value.backward()
        optimizer.step()
        return value.detach()

    def score() -> float:
        with untouched(model):
            return accuracy(model(graph)[200:], y[200:])

    return Training(model, optimizer, step, score, ({"graph": graph}, y), loss)


CASES: tuple[Case, ...] = (
    Case(
        "script/06_regression_unscaled",
        ("targets", "inputs"),
        "scale",
        "Neither inputs (to 4,000) nor targets (to 6e10) are scaled; Adam at its default learning rate.",
        "Both are standardized.",
        1_000,
        regression_unscaled,
    ),
    Case(
        "script/16_distance_of_equals",
        ("loss",),
        "sqrt",
        "The square root of a squared distance that is 0 now and then: its gradient is not finite.",
        "A small number under the root.",
        200,
        distance_of_equals,
    ),
    Case(
        "script/18_triplet_collapse",
        ("rate", "collapse"),
        "lr",
        "Batch-hard triplet loss at a learning rate of 1e-2: all embeddings become one point.",
        "A learning rate of 1e-3.",
        600,
        triplet_collapse,
    ),
    Case(
        "script/20_dqn_same_network",
        ("targets",),
        "target",
        "The target network of Q-learning is the same object as the one that is trained.",
        "A copy, renewed every 200 steps.",
        1_000,
        dqn_same_network,
    ),
    Case(
        "script/22_layers_in_list",
        ("untrained",),
        "hidden",
        "The hidden layers are in a Python list: parameters() does not know them, nor does the optimizer.",
        "nn.ModuleList.",
        400,
        layers_in_list,
    ),
    Case(
        "script/28_gan_discriminator_wins",
        ("collapse", "rate"),
        "discriminator",
        "The discriminator is wide and learns two hundred times as fast as the generator.",
        "One width and one learning rate.",
        400,
        gan,
    ),
    Case(
        "script/32_four_sigmoid_layers",
        ("hidden",),
        "sigmoid",
        "Four hidden layers of sigmoids, trained by SGD.",
        "ReLU.",
        400,
        four_sigmoid_layers,
    ),
    Case(
        "script/34_deep_gcn",
        ("architecture",),
        "layers",
        "Twelve graph convolutions without skip connections: all nodes become alike.",
        "Skip connections.",
        200,
        deep_gcn,
    ),
)
