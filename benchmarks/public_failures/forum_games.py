"""A pole to be balanced and a grid to be crossed, for the reports of reinforcement learning."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from public_failures.plain import drawn, untouched

LONGEST = 100  # steps of an episode


def pushed(state: Tensor, action: Tensor) -> Tensor:
    """States (N, 4) of carts with poles a fiftieth of a second after pushes to the left (0) or right (1)."""
    x, speed, angle, spin = state.unbind(-1)
    force = 20.0 * action - 10.0
    aside = (force + 0.05 * spin.square() * angle.sin()) / 1.1
    turn = (9.8 * angle.sin() - aside * angle.cos()) / (0.5 * (4 / 3 - 0.1 * angle.cos().square() / 1.1))
    shift = aside - 0.05 * turn * angle.cos() / 1.1
    return torch.stack([x + 0.02 * speed, speed + 0.02 * shift, angle + 0.02 * spin, spin + 0.02 * turn], -1)


def fallen(state: Tensor) -> Tensor:
    return (state[:, 0].abs() > 2.4) | (state[:, 2].abs() > 12 * math.pi / 180)


@torch.no_grad()
def balanced(policy: nn.Module, episodes: int, generator: Generator | None = None) -> tuple[Tensor, ...]:
    """States, actions and rewards (time, episode, …) under a policy's logits, rewards 0 after a fall."""
    state = 0.1 * torch.rand(episodes, 4, generator=generator) - 0.05
    alive = torch.ones(episodes)
    states, actions, rewards = [], [], []
    for _ in range(LONGEST):
        action = policy(state).softmax(-1).multinomial(1, generator=generator)[:, 0]
        states.append(state)
        actions.append(action)
        rewards.append(alive)
        state = pushed(state, action)
        alive = alive * ~fallen(state)
        if not alive.any():
            break
    return torch.stack(states), torch.stack(actions), torch.stack(rewards)


def balance(policy: nn.Module, seed: int) -> float:
    """Mean length of twenty episodes, as a share of the longest."""
    with untouched(policy):
        return float(balanced(policy, 20, drawn(seed, 1))[2].sum() / 20 / LONGEST)


def returns(rewards: Tensor, discount: float) -> Tensor:
    """Discounted sums (time, episode) of the rewards from each time on."""
    total, sums = torch.zeros(rewards.shape[1]), []
    for reward in rewards.flip(0):
        total = reward + discount * total
        sums.append(total)
    return torch.stack(sums[::-1])


SIDE = 6  # of the grid, whose last cell is the goal


def moved(cell: Tensor, action: Tensor) -> Tensor:
    """Cells after steps down, up, right or left (0 … 3), which walls may hold."""
    row, column = cell // SIDE, cell % SIDE
    down = torch.tensor([1, -1, 0, 0])[action]
    right = torch.tensor([0, 0, 1, -1])[action]
    return SIDE * (row + down).clamp(0, SIDE - 1) + (column + right).clamp(0, SIDE - 1)


def steps_on_grid(seed: int, count: int = 4_000) -> tuple[Tensor, ...]:
    """Cells, actions, rewards, cells after them, and whether the goal was reached.

    The cell after the goal is the first of the next episode, as where a loop has reset its game by then.
    """
    generator = drawn(seed)
    cell = torch.randint(0, SIDE**2 - 1, (count,), generator=generator)
    action = torch.randint(0, 4, (count,), generator=generator)
    after = moved(cell, action)
    done = after == SIDE**2 - 1
    fresh = torch.randint(0, SIDE**2 - 1, (count,), generator=generator)
    return cell, action, done.float(), torch.where(done, fresh, after), done


def values(discount: float) -> Tensor:
    """True values (cell, action) of a grid whose only reward is 1 at the goal."""
    row, column = torch.arange(SIDE**2) // SIDE, torch.arange(SIDE**2) % SIDE
    away = (SIDE - 1 - row) + (SIDE - 1 - column)
    every = torch.arange(SIDE**2)[:, None].expand(-1, 4)
    return discount ** away[moved(every, torch.arange(4).expand_as(every))].float()
