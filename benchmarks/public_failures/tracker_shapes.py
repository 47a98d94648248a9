"""Issues and merges whose fault is an axis: batch for class, batch for time, shapes that broadcast."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn import functional as F

from public_failures.case import Case, Training
from public_failures.plain import Batches, Split, accuracy, drawn, plain, r2, untouched
from public_failures.tasks import digits


class ActorCritic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.actor = nn.Sequential(nn.Linear(6, 64), nn.Tanh(), nn.Linear(64, 4))
        self.critic = nn.Sequential(nn.Linear(6, 64), nn.Tanh(), nn.Linear(64, 1))

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, 4) and values (N, 1)."""
        return self.actor(state), self.critic(state)


def broadcast_advantage(fixed: bool, seed: int) -> Training:
    """Four actions, one of which pays in each state; every fourth step collects anew."""
    torch.manual_seed(seed)
    model = ActorCritic()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    pays = torch.randn(6, 4, generator=drawn(seed))
    kept: list[Tensor] = []

    def collect() -> None:
        with torch.no_grad():
            state = torch.randn(256, 6)
            logits, value = model(state)
            policy = Categorical(logits=logits)
            action = policy.sample()
            reward = ((state @ pays).argmax(1) == action).float()
            advantage = reward[:, None] - value
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
            kept[:] = [state, action, policy.log_prob(action), reward, advantage]

    def step(i: int) -> Tensor:
        if i % 4 == 0:
            collect()
        state, action, before, reward, advantage = kept
        logits, value = model(state)
        policy = Categorical(logits=logits)
        ratio = (policy.log_prob(action) - before).exp()
        gain = advantage[:, 0] if fixed else advantage
        surrogate = torch.min(ratio * gain, ratio.clamp(0.8, 1.2) * gain).mean()
        loss = 0.5 * F.mse_loss(value[:, 0], reward) - surrogate - 0.01 * policy.entropy().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    def score() -> float:
        with untouched(model):
            state = torch.randn(1_000, 6, generator=drawn(seed, 1))
            return accuracy(model(state)[0], (state @ pays).argmax(1))

    return Training(model, optimizer, step, score)


class PointNet(nn.Module):
    """Each point alone, the maximum of all, and a classifier."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.points = nn.Sequential(
            nn.Conv1d(3, 32, 1), nn.BatchNorm1d(32), nn.ReLU(), nn.Conv1d(32, 64, 1), nn.BatchNorm1d(64)
        )
        self.head = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 5))
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(self.head(self.points(x).amax(2)), self.axis)


def softmax_of_clouds(fixed: bool, seed: int) -> Training:
    """64 points on a sphere, a cube, a disk, a cylinder or a cone."""
    torch.manual_seed(seed)
    model = PointNet(axis=-1 if fixed else 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = drawn(seed)
    sphere = F.normalize(torch.randn(1_500, 3, 64, generator=generator), dim=1)
    around = F.normalize(sphere[:, :2], dim=1)
    height = 2 * torch.rand(1_500, 1, 64, generator=generator) - 1
    cube = sphere / sphere.abs().amax(1, keepdim=True)
    disk = torch.cat([sphere[:, :2], 0 * height], 1)
    cylinder, cone = torch.cat([around, height], 1), torch.cat([around * (1 - height) / 2, height], 1)
    y = torch.randint(0, 5, (1_500,), generator=generator)
    x = torch.stack([sphere, cube, disk, cylinder, cone])[y, torch.arange(1_500)]
    x = x * (0.7 + 0.6 * torch.rand(1_500, 3, 1, generator=generator))
    x = x + 0.05 * torch.randn(x.shape, generator=generator)
    return plain(model, optimizer, Split.of(x, y, 300), F.nll_loss, accuracy, seed, size=32)


class Mixture(nn.Module):
    """An LSTM and, at each time, a mixture of three normal distributions of what comes next."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.rnn = nn.LSTM(2, 32, batch_first=True)
        self.head = nn.Linear(32, 9)
        self.axis = axis

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logarithms of shares, means and logarithms of deviations, each (N, time, 3)."""
        share, mean, deviation = self.head(self.rnn(x)[0]).chunk(3, -1)
        return share.log_softmax(self.axis), mean, deviation


def shares_over_batch(fixed: bool, seed: int) -> Training:
    """A walk that goes up or down as a switch says, which was set two steps before."""
    torch.manual_seed(seed)
    model = Mixture(axis=-1 if fixed else 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = drawn(seed)
    switch = 2.0 * torch.randint(0, 2, (1_300, 18), generator=generator) - 1
    y = torch.zeros(1_300, 18)
    y[:, 2:] = switch[:, :-2] + 0.2 * torch.randn(1_300, 16, generator=generator)
    x = torch.stack([switch, torch.cat([torch.zeros(1_300, 1), y[:, :-1]], 1)], 2)

    def loss(mixture: tuple[Tensor, Tensor, Tensor], y: Tensor) -> Tensor:
        share, mean, deviation = mixture
        normal = -0.5 * ((y[..., None] - mean) / deviation.exp()).square() - deviation
        return 0.5 * math.log(2 * math.pi) - (share + normal).logsumexp(-1).mean()

    def of_mean(mixture: tuple[Tensor, Tensor, Tensor], y: Tensor) -> float:
        share, mean, _ = mixture
        return r2((share.exp() * mean).sum(-1), y)

    return plain(model, optimizer, Split.of(x, y, 300), loss, of_mean, seed, size=32)


class Recurrent(nn.Module):
    """Q-values from an LSTM over the maps of a convolution."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.maps = nn.Sequential(nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(2))
        self.lstm = nn.LSTM(16, 16, batch_first=batch_first)
        self.q = nn.Linear(256, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.q(self.lstm(self.maps(x))[0].flatten(1))


def recurrent_over_batch(fixed: bool, seed: int) -> Training:
    """The action of four that is the digit's remainder pays 1; a game of one move."""
    torch.manual_seed(seed)
    model, data = Recurrent(batch_first=fixed), digits()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    action = torch.randint(0, 4, (len(data.x),), generator=drawn(seed))
    batches = Batches(len(data.x), 32, seed)

    def step(i: int) -> Tensor:
        at = batches(i)
        optimizer.zero_grad()
        value = model(data.x[at]).gather(1, action[at, None])[:, 0]
        loss = F.smooth_l1_loss(value, (data.y[at] % 4 == action[at]).float())
        loss.backward()
        optimizer.step()
        return loss.detach()

    def score() -> float:
        with untouched(model):
            return accuracy(model(data.test_x), data.test_y % 4)

    return Training(model, optimizer, step, score)


class Recall(nn.Module):
    """Attention of a question to six facts: each a key and a value."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.key, self.value = nn.Embedding(12, 32), nn.Embedding(8, 32)
        self.question = nn.Linear(32, 32)
        self.answer = nn.Linear(64, 8)
        self.axis = axis

    def forward(self, words: Tensor) -> Tensor:
        """Logits of the answer to words (N, 13): keys, values, and the key that is asked for."""
        keys, asked = self.key(words[:, :6]), self.key(words[:, 12])
        facts = keys + self.value(words[:, 6:12])
        scores = (facts @ self.question(asked)[:, :, None])[..., 0]
        weights = scores.softmax(self.axis)
        found = (weights[:, None] @ facts)[:, 0]
        return self.answer(torch.cat([found, asked], 1).tanh())


def attention_over_batch(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = Recall(axis=-1 if fixed else 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = drawn(seed)
    keys = torch.rand(4_400, 12, generator=generator).argsort(1)[:, :6]
    values = torch.randint(0, 8, (4_400, 6), generator=generator)
    which = torch.randint(0, 6, (4_400, 1), generator=generator)
    words = torch.cat([keys, values, keys.gather(1, which)], 1)
    data = Split.of(words, values.gather(1, which)[:, 0], 400)
    return plain(model, optimizer, data, F.cross_entropy, accuracy, seed, size=64)


class Regressor(nn.Module):
    def __init__(self, flat: bool) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, 24, batch_first=True)
        self.head = nn.Linear(24, 1)
        self.flat = flat

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.rnn(x)[0][:, -1])
        return out[:, 0] if self.flat else out


def series_broadcast(fixed: bool, seed: int) -> Training:
    """A weighted sum of the last values of two series."""
    torch.manual_seed(seed)
    model = Regressor(flat=fixed)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    x = torch.randn(1_200, 20, 2, generator=drawn(seed))
    fade = 0.7 ** torch.arange(19, -1, -1)
    y = (fade * (x[..., 0] - 0.5 * x[..., 1])).sum(1)

    def loss(output: Tensor, y: Tensor) -> Tensor:
        return (output - y).square().mean()

    return plain(model, optimizer, Split.of(x, y, 200), loss, r2, seed, size=16)


CASES: tuple[Case, ...] = (
    Case(
        "tracker/ppo-advantage-broadcast",
        ("shapes",),
        "advantage",
        "Ratios of shape (N,) times advantages of shape (N, 1) are (N, N): every action is paid for all.",
        "Advantages of shape (N,).",
        400,
        broadcast_advantage,
        departs="Games of one move.",
    ),
    Case(
        "tracker/pointnet-softmax-over-batch",
        ("shapes", "output"),
        "softmax",
        "log_softmax over the batch in place of the classes.",
        "Over the classes.",
        300,
        softmax_of_clouds,
        departs="A smaller net without the spatial transformer; five bodies of 64 points.",
    ),
    Case(
        "tracker/mixture-shares-over-batch",
        ("shapes", "output"),
        "softmax",
        "The shares of a mixture of normal distributions are normalized over the batch.",
        "Over the components.",
        400,
        shares_over_batch,
        departs="A drawn walk in place of frames; the score is R² of the mixture's mean.",
    ),
    Case(
        "tracker/dqn-lstm-over-batch",
        ("shapes", "leak"),
        "lstm",
        "An LSTM without batch_first reads the batch as time: each sample sees those before it.",
        "batch_first=True.",
        500,
        recurrent_over_batch,
        departs="Digits and games of one move, without replay.",
    ),
    Case(
        "tracker/attention-softmax-over-batch",
        ("shapes", "architecture"),
        "softmax",
        "Attention's softmax is over the batch in place of what is attended to.",
        "Over what is attended to.",
        600,
        attention_over_batch,
        departs="Six facts and a question.",
    ),
    Case(
        "tracker/rnn-regressor-broadcast",
        ("shapes",),
        "broadcast",
        "A regressor's outputs of shape (N, 1) less targets of shape (N,) are (N, N).",
        "Outputs of shape (N,).",
        300,
        series_broadcast,
        departs="Drawn series.",
    ),
)
