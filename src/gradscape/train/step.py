"""One training step, one evaluation, and their sums over images, kept on the device."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradscape.measure.gradient_flow import FlowRecorder

Batches = Iterable[tuple[Tensor, Tensor]]


class Tally:
    """Loss and accuracy as means over images, never means of batch means."""

    def __init__(self, device: torch.device) -> None:
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        self.images = 0

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        self.loss += loss.detach() * len(labels)
        self.correct += (logits.detach().argmax(1) == labels).sum()
        self.images += len(labels)

    def means(self) -> tuple[float, float]:
        """Mean loss in nats and accuracy in 0…1; waits for the device."""
        return self.loss.item() / self.images, self.correct.item() / self.images


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, flow: FlowRecorder, tally: Tally, x: Tensor, y: Tensor
) -> Tensor:
    """Forward, backward, record, step; returns the mini-batch's loss on the device."""
    optimizer.zero_grad(set_to_none=True)
    logits = model(x)
    loss = cross_entropy(logits, y)
    loss.backward()  # type: ignore[no-untyped-call]
    flow.before_step()
    optimizer.step()
    flow.after_step()
    tally.add(loss, logits, y)
    return loss.detach()


@torch.inference_mode()
def evaluate(model: nn.Module, batches: Batches, device: torch.device) -> tuple[float, float]:
    """Mean loss and accuracy in eval mode; the mode is put back."""
    tally, training = Tally(device), model.training
    model.eval()
    for x, y in batches:
        logits = model(x)
        tally.add(cross_entropy(logits, y), logits, y)
    model.train(training)
    return tally.means()


def cosine(lr: float, min_lr: float, period: int, epoch: int) -> float:
    """Learning rate of `epoch` (from 0): Loshchilov & Hutter (2017), equation 5, without restarts."""
    return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * min(epoch, period) / period)) / 2
