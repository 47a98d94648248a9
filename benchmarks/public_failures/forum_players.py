"""Reports of policies, of Q-learning and of adversaries that do not learn."""

from __future__ import annotations

import copy
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from public_failures.case import Case, Training
from public_failures.forum_games import SIDE, balance, balanced, returns, steps_on_grid, values
from public_failures.plain import Batches, from_center, r2, untouched
from public_failures.scripts_vectors import Gan


class Policy(nn.Module):
    """Logits of two actions; a value beside them if it is wanted."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 64), nn.LeakyReLU())
        self.action, self.value = nn.Linear(64, 2), nn.Linear(64, 1)

    def forward(self, state: Tensor) -> Tensor:
        return self.action(self.body(state))


def softmax_over_states(fixed: bool, seed: int) -> Training:
    """github.com/DeepReinforcementLearning/DeepReinforcementLearningInAction/issues/32."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 64), nn.LeakyReLU(), nn.Linear(64, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    axis = -1 if fixed else 0

    def step(_: int) -> Tensor:
        states, actions, rewards = balanced(model, 8)
        there = rewards.flatten() > 0
        total = returns(rewards, 0.99).flatten()[there]
        chances = model(states.flatten(0, 1)[there]).softmax(axis)
        taken = chances.gather(1, actions.flatten()[there, None])[:, 0]
        optimizer.zero_grad()
        loss = -(total / total.max() * taken.log()).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return Training(model, optimizer, step, lambda: balance(model, seed))


def advantage_broadcast(fixed: bool, seed: int) -> Training:
    """github.com/PacktPublishing/Deep-Reinforcement-Learning-Hands-On/issues/74."""
    torch.manual_seed(seed)
    model = Policy()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    def step(_: int) -> Tensor:
        states, actions, rewards = balanced(model, 8)
        there = rewards.flatten() > 0
        total = returns(rewards, 0.95).flatten()[there]
        hidden = model.body(states.flatten(0, 1)[there])
        value = model.value(hidden)
        advantage = total - (value.squeeze(-1) if fixed else value).detach()
        log_p = model.action(hidden).log_softmax(-1).gather(1, actions.flatten()[there, None])[:, 0]
        optimizer.zero_grad()
        loss = F.mse_loss(value.squeeze(-1), total) - (advantage * log_p).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return Training(model, optimizer, step, lambda: balance(model, seed))


class Tour(nn.Module):
    """Ten choices of ten, read off a text, and what they are expected to cost."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 16)
        self.actor = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 10))
        self.critic = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, words: Tensor) -> Tensor:
        return self.actor(self.embed(words))


def critic_not_detached(fixed: bool, seed: int) -> Training:
    """github.com/astariul/encode-attend-navigate-pytorch/pull/3."""
    torch.manual_seed(seed)
    model = Tour()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step(_: int) -> Tensor:
        words = torch.randint(0, 10, (64, 10))
        choice = torch.distributions.Categorical(logits=model(words))
        taken = choice.sample()
        cost = -(taken == words).float().sum(1)
        expected = model.critic(model.embed(words).mean(1))[:, 0]
        error = cost - (expected.detach() if fixed else expected)
        optimizer.zero_grad()
        loss = (error * choice.log_prob(taken).sum(1)).mean() + F.mse_loss(expected, cost)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def score() -> float:
        """Chance of the right choice."""
        with untouched(model):
            words = torch.arange(10)
            return float(model(words).softmax(-1).gather(1, words[:, None]).mean())

    return Training(model, optimizer, step, score)


def q_learning(seed: int, masked: bool = True, flat: bool = False) -> Training:
    """Q-learning from stored steps on a grid, the target network renewed every 50 steps."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(SIDE**2, 64), nn.ReLU(), nn.Linear(64, 4))
    target = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    cells = torch.eye(SIDE**2)
    cell, action, reward, after, done = steps_on_grid(seed)
    batches = Batches(len(cell), 64, seed)

    def step(i: int) -> Tensor:
        at = batches(i)
        if i % 50 == 0:
            target.load_state_dict(model.state_dict())
        with torch.no_grad():
            best = target(cells[after[at]]).amax(1)
        goal = reward[at] + 0.9 * (best * ~done[at] if masked else best)
        chosen = model(cells[cell[at]]).gather(1, action[at, None])
        optimizer.zero_grad()
        loss = ((chosen if flat else chosen[:, 0]) - goal).square().mean()  # flat: (64, 1) less (64,)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def score() -> float:
        """R² of the values of all cells but the goal."""
        with untouched(model):
            return r2(model(cells)[:-1], values(0.9)[:-1])

    return Training(model, optimizer, step, score)


def goal_goes_on(fixed: bool, seed: int) -> Training:
    """github.com/navneet-nmk/pytorch-rl/issues/2."""
    return q_learning(seed, masked=fixed)


def flat_targets(fixed: bool, seed: int) -> Training:
    """github.com/jaybutera/tetrisRL/pull/5."""
    return q_learning(seed, flat=not fixed)


CENTER = torch.tensor([3.0, -2.0])


def logits_for_chances(fixed: bool, seed: int) -> Training:
    """A GAN: github.com/mlpack/mlpack/pull/1813."""
    torch.manual_seed(seed)
    model = Gan(32)
    of_d, of_g = (
        torch.optim.Adam(part.parameters(), lr=1e-3, betas=(0.5, 0.999))
        for part in (model.discriminator, model.generator)
    )

    def loss(output: Tensor, real: bool) -> Tensor:
        if fixed:
            return F.softplus(-output if real else output).mean()
        return -(output if real else 1 - output).log().mean()

    def step(_: int) -> Tensor:
        real = 0.3 * torch.randn(64, 2) + CENTER
        fake = model.generator(torch.randn(64, 4))
        of_d.zero_grad()
        value = loss(model.discriminator(real), True) + loss(model.discriminator(fake.detach()), False)
        value.backward()
        of_d.step()
        of_g.zero_grad()
        value = loss(model.discriminator(fake), True)
        value.backward()
        of_g.step()
        return value.detach()

    return Training(model, [of_d, of_g], step, partial(from_center, model, CENTER, seed, -20.0))


CASES: tuple[Case, ...] = (
    Case(
        "forum/softmax-over-states",
        ("shapes",),
        "softmax",
        "A policy's softmax is over the states of a batch and not over the actions.",
        "It is over the actions.",
        150,
        softmax_over_states,
        departs="A pole balanced for at most 100 steps; eight episodes a step; Adam at 3e-3.",
    ),
    Case(
        "forum/advantage-broadcast",
        ("shapes",),
        "broadcast",
        "Returns (N,) less values (N, 1) are (N, N): every action is praised for every state's advantage.",
        "Values (N,).",
        60,
        advantage_broadcast,
        departs="A pole in place of Pong; whole episodes.",
    ),
    Case(
        "forum/critic-not-detached",
        ("loss",),
        "detach",
        "The critic's value is not detached in the policy's loss, which moves the critic too.",
        "It is detached.",
        400,
        critic_not_detached,
        departs="Ten choices of ten in place of a tour of cities; one optimizer.",
    ),
    Case(
        "forum/goal-goes-on",
        ("targets",),
        "target",
        "Q-learning's targets go on after the end of an episode, with the next one's first state.",
        "They are the reward alone there.",
        600,
        goal_goes_on,
        departs="Stored steps on a grid of 6×6.",
    ),
    Case(
        "forum/flat-targets",
        ("shapes",),
        "broadcast",
        "Q-values (N, 1) are compared with targets (N,): all with all.",
        "Both have one shape.",
        600,
        flat_targets,
        departs="Stored steps on a grid of 6×6; the squared error.",
    ),
    Case(
        "forum/logits-for-chances",
        ("loss", "output"),
        "log",
        "A discriminator's outputs, which no sigmoid bounds, are taken for probabilities: log of below 0.",
        "The cross-entropy of logits.",
        400,
        logits_for_chances,
        departs="Points of a plane; written in PyTorch.",
    ),
)
