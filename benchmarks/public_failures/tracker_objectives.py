"""Issues and merges whose objective is met without learning, or is turned around."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn import functional as F

from public_failures.case import Case, Training
from public_failures.plain import Split, accuracy, from_center, plain, r2, untouched
from public_failures.tasks import blobs, digits


class Embedder(nn.Module):
    """Embeddings on the unit sphere, or anywhere."""

    def __init__(self, on_sphere: bool) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16)
        )
        self.on_sphere = on_sphere

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.net(x)
        return F.normalize(z, dim=1) if self.on_sphere else z


def triplets_collapse(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = Embedder(on_sphere=fixed)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    def batch_hard(z: Tensor, y: Tensor) -> Tensor:
        distance = (z[:, None] - z).square().sum(-1).clamp(min=1e-16).sqrt()
        same = y[:, None] == y
        positive = distance.masked_fill(~same, 0).amax(1)
        negative = distance.masked_fill(same, torch.inf).amin(1)
        return (positive - negative + 0.5).relu().mean()

    def nearest(z: Tensor, y: Tensor) -> float:
        distance = torch.cdist(z, z).fill_diagonal_(torch.inf)
        return float((y[distance.argmin(1)] == y).float().mean())

    data = blobs(seed, classes=8, noise=1.8)
    return plain(model, optimizer, data, batch_hard, nearest, seed, size=96)


class Vae(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(1_024, 64), nn.ReLU(), nn.Linear(64, 8))
        self.decoder = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 1_024), nn.Sigmoid())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, logvar = self.encoder(x).chunk(2, -1)
        z = mean + (torch.randn_like(mean) * (0.5 * logvar).exp() if self.training else 0)
        return self.decoder(z), mean, logvar


def posterior_collapse(fixed: bool, seed: int) -> Training:
    """Digits of 32×32: the picture's error per pixel, or of all its pixels, against the divergence."""
    torch.manual_seed(seed)
    model = Vae()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    same = digits(32)
    x, test = same.x.flatten(1), same.test_x.flatten(1)

    def loss(output: tuple[Tensor, Tensor, Tensor], y: Tensor) -> Tensor:
        rebuilt, mean, logvar = output
        divergence = -0.5 * (1 + logvar - mean.square() - logvar.exp())
        if fixed:
            return ((rebuilt - y).square().sum(1) + divergence.sum(1)).mean()
        return 10 * F.mse_loss(rebuilt, y) + divergence.mean()

    def of_rebuilt(output: tuple[Tensor, Tensor, Tensor], y: Tensor) -> float:
        return r2(output[0], y)

    return plain(model, optimizer, Split(x, x, test, test), loss, of_rebuilt, seed, size=100)


class Wgan(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.generator.append(nn.Linear(32, 2))
        self.critic = nn.Sequential(nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64))
        self.critic.extend((nn.LeakyReLU(0.2), nn.Linear(64, 1)))


def generator_turned(fixed: bool, seed: int) -> Training:
    """Points around (1, −1); five steps of the critic, its weights clipped, for one of the generator."""
    torch.manual_seed(seed)
    model = Wgan()
    of_critic = torch.optim.RMSprop(model.critic.parameters(), lr=1e-3)
    of_generator = torch.optim.RMSprop(model.generator.parameters(), lr=1e-3)
    center = torch.tensor([1.0, -1.0])

    def step(_: int) -> Tensor:
        for _ in range(5):
            with torch.no_grad():
                made = model.generator(torch.randn(64, 4))
            of_critic.zero_grad()
            real = center + 0.3 * torch.randn(64, 2)
            (model.critic(made).mean() - model.critic(real).mean()).backward()
            of_critic.step()
            with torch.no_grad():
                for p in model.critic.parameters():
                    p.clamp_(-0.1, 0.1)
        of_generator.zero_grad()
        value = model.critic(model.generator(torch.randn(64, 4))).mean()
        loss = -value if fixed else value
        loss.backward()
        of_generator.step()
        return loss.detach()

    score = partial(from_center, model, center, seed, -10.0)
    return Training(model, [of_critic, of_generator], step, score)


class ActorCritic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(40, 64), nn.ReLU())
        self.policy, self.value = nn.Linear(64, 20), nn.Linear(64, 1)

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        h = self.body(state)
        return self.policy(h), self.value(h)[:, 0]


def entropy_turned(fixed: bool, seed: int) -> Training:
    """Twenty actions, of which one pays in each state; games of one move."""
    torch.manual_seed(seed)
    model = ActorCritic()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    data = blobs(seed, classes=20)

    def step(_: int) -> Tensor:
        at = torch.randint(0, len(data.x), (64,))
        logits, value = model(data.x[at])
        policy = Categorical(logits=logits)
        action = policy.sample()
        reward = (action == data.y[at]).float()
        gain = (reward - value).detach()
        entropy = policy.entropy().mean()
        loss = -(policy.log_prob(action) * gain).mean() + 0.5 * F.mse_loss(value, reward)
        loss = loss - 0.1 * entropy if fixed else loss + 0.1 * entropy
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    def score() -> float:
        with untouched(model):
            return accuracy(model(data.test_x)[0], data.test_y)

    return Training(model, optimizer, step, score)


CASES: tuple[Case, ...] = (
    Case(
        "tracker/triplets-collapse",
        ("collapse",),
        "collapse",
        "Batch-hard triplet loss of embeddings that are not normalized: all become one point.",
        "Embeddings of length 1.",
        400,
        triplets_collapse,
        departs="Vectors; batches of 96; a learning rate of 3e-3.",
    ),
    Case(
        "tracker/vae-posterior-collapse",
        ("collapse", "loss"),
        "kl",
        "A VAE's error is a mean over pixels, ten times the divergence's mean: the code says little.",
        "Sums over pixels and over the code.",
        400,
        posterior_collapse,
        departs="Digits of 32×32 and a code of four numbers; no convolutions.",
    ),
    Case(
        "tracker/wgan-generator-turned",
        ("loss", "collapse"),
        "generator",
        "The generator of a Wasserstein GAN goes down the critic's value in place of up.",
        "The sign of its loss.",
        300,
        generator_turned,
        departs="Points of the plane; a learning rate of 1e-3 and a bound of 0.1.",
    ),
    Case(
        "tracker/entropy-turned",
        ("loss", "collapse"),
        "entropy",
        "An actor-critic's loss adds the policy's entropy in place of its negative: it soon tries no more.",
        "It is subtracted.",
        600,
        entropy_turned,
        departs="Games of one move with twenty actions; the entropy counts a tenth.",
    ),
)
