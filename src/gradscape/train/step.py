"""One training step, one evaluation, and their sums over images, kept on the device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradscape.data.device_batches import DeviceImages, EpochDraw, TrainBatches
from gradscape.measure.smoothness.within_training import Direction, step_smoothness
from gradscape.measure.watch.epoch_recorder import FlowRecorder
from gradscape.records.smoothness import StepSmoothness
from gradscape.train.fusion import fuse
from gradscape.train.precision import Arithmetic, low_precision
from gradscape.train.state import TrainState

Batches = Iterable[tuple[Tensor, Tensor]]


class _Tally:
    """Loss and accuracy as means over images, never means of batch means.

    Attributes:
        steps, images: counted so far.
        first_bad: the first step, from 1, whose loss is not finite; infinite without one.
    """

    def __init__(self, device: torch.device) -> None:
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        self.images = torch.zeros((), dtype=torch.int64, device=device)
        self.steps = torch.zeros((), dtype=torch.float64, device=device)
        self.first_bad = torch.full((), math.inf, dtype=torch.float64, device=device)

    def reset(self) -> None:
        for total in (self.loss, self.correct, self.images, self.steps):
            total.zero_()
        self.first_bad.fill_(math.inf)

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        loss = loss.detach()
        self.loss += loss * len(labels)
        self.correct += (logits.detach().argmax(1) == labels).sum()
        self.images += len(labels)
        self.steps += 1
        bad = torch.where(loss.isfinite(), self.first_bad, self.steps)
        torch.minimum(self.first_bad, bad, out=self.first_bad)

    def means(self) -> tuple[float, float]:
        """Mean loss in nats and accuracy in 0…1; waits for the device."""
        images = self.images.item()
        return self.loss.item() / images, self.correct.item() / images


class TrainStep:
    """The step of one run: cut the next mini-batch, forward, backward, record, optimise.

    Between `begin` and the end of the epoch it asks the host for nothing and writes everything where it was
    written before: where the next batch lies is counted on the device. So a GPU can have all of it as one
    CUDA graph (`gradscape.train.cuda_graph`), and the same lines run everywhere else.

    Args:
        state: what is trained, on the pool's device.
        pool: the training images.
        mean, std: per channel, as in `STATISTICS`.
        how: it computes; where it says so, the state's model is fused.
    """

    def __init__(
        self,
        state: TrainState,
        pool: DeviceImages,
        mean: Sequence[float],
        std: Sequence[float],
        how: Arithmetic,
    ) -> None:
        self.state, self.precision, self.device = state, how.precision, pool.images.device
        if how.fused:
            fuse(state.model)
        self.batches = TrainBatches(pool, mean, std)
        self.flow, self.tally = FlowRecorder(state.model), _Tally(self.device)
        self.place = torch.zeros((), dtype=torch.int64, device=self.device)

    def begin(self, draw: EpochDraw, lr: float) -> None:
        """Make ready for an epoch: its draw, its learning rate, and every sum at zero."""
        self.batches.begin(draw)
        self.state.set_lr(lr)
        self.state.model.train()
        self.flow.reset()
        self.tally.reset()
        self.place.zero_()

    def __call__(self, size: int) -> None:
        """Train on the epoch's next `size` images."""
        self.take(size)

    def take(self, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Train on the epoch's next `size` images, and return them, their labels and their loss."""
        x, y = self.batches.take(self.place + torch.arange(size, device=self.device))
        self.state.optimizer.zero_grad(set_to_none=True)
        with low_precision(self.device, self.precision):
            logits = self.state.model(x)
        loss = cross_entropy(logits, y)
        loss.backward()  # type: ignore[no-untyped-call]
        self.flow.before_step()
        self.state.optimizer.step()
        self.flow.after_step()
        self.tally.add(loss, logits, y)
        self.place += size
        return x, y, loss.detach()

    def measure(self, size: int, direction: Direction, lr: float, number: int) -> StepSmoothness:
        """The same, and how smooth the loss was there. Asks the host: it is no part of a graph."""
        before = [parameter.detach().clone() for parameter in self.state.model.parameters()]
        x, y, loss = self.take(size)
        known = None
        # Not of bf16, whose roundings are larger than what a short step changes, nor where the loss measured
        # after the step is another than the step's own at the same weights.
        if self.precision != "bf16" and self.state.repeats:
            gradients = [cast(Tensor, parameter.grad) for parameter in self.state.model.parameters()]
            known = loss.item(), gradients
        return step_smoothness(self.state.model, cross_entropy, (x, y), before, known, direction, lr, number)


@torch.inference_mode()
def evaluate(
    model: nn.Module, batches: Batches, device: torch.device, precision: str = "fp32"
) -> tuple[float, float]:
    """Mean loss and accuracy in eval mode; the mode is put back."""
    tally, training = _Tally(device), model.training
    model.eval()
    with low_precision(device, precision):
        for x, y in batches:
            logits = model(x)
            tally.add(cross_entropy(logits, y), logits, y)
    model.train(training)
    return tally.means()


def cosine(lr: float, min_lr: float, period: int, epoch: int) -> float:
    """Learning rate of `epoch` (from 0): Loshchilov & Hutter (2017), equation 5, without restarts."""
    return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * min(epoch, period) / period)) / 2
