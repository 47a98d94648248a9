"""The case without a data set: each step's batch is random, and so are its labels."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_
from torch.optim import NAdam

from public_failures.case import Case, Training
from public_failures.keras import network
from public_failures.recipe import EPSILON, outputs_of

SEQUENCE, INPUTS, LARGEST = 30, 16, 0.5  # steps and inputs of a sequence; a kernel column's largest norm


def noise(generator: Generator) -> tuple[Tensor, Tensor]:
    """32 random sequences, 5 of class 1, no matter which."""
    y = (torch.arange(32) < 5).float()[torch.randperm(32, generator=generator)]
    return torch.randn(32, SEQUENCE, INPUTS, generator=generator), y[:, None]


def begin(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = network("LSTM16 D1:sigmoid" if fixed else "LSTM16:relu D1:sigmoid", (SEQUENCE, INPUTS)).model
    optimizer = NAdam(model.parameters(), lr=4e-4, eps=EPSILON)
    generator = Generator().manual_seed(seed)
    held_out = [noise(Generator().manual_seed(10_000 + 100 * seed + k)) for k in range(8)]
    batch = noise(generator)

    def step(number: int) -> Tensor:
        x, y = batch if number == 0 else noise(generator)
        optimizer.zero_grad()
        loss = F.binary_cross_entropy(model(x), y)
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if not fixed:
            constrain(model)
        return loss.detach()

    def score() -> float:
        right = [((outputs_of(model, x) > 0.5) == (y > 0.5)).float().mean() for x, y in held_out]
        return float(torch.stack(right).mean())

    return Training(model, optimizer, step, score, batch, F.binary_cross_entropy)


def constrain(model: nn.Module) -> None:
    """Shrink each unit's kernels to a norm of at most `LARGEST`."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and "dense" not in name:
                weight.mul_((LARGEST / weight.norm(dim=1, keepdim=True)).clamp(max=1))


NOISE_CASE = Case(
    "deepmufl/57516678",
    ("regularization", "targets"),
    "LSTM",
    "an LSTM of ReLUs whose kernels' norm is held below 0.5; its labels are random",
    "tanh, no constraint; nothing can be learnt",
    100,
    begin,
    "M",
    "sequences of 30 instead of 672, 16 units instead of 512, no dropout within the LSTM",
)
