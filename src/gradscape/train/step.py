"""One training step, one evaluation, and their sums over images, which stay on the device."""

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

LabeledBatch = tuple[Tensor, Tensor]  # images (B, 3, H, W) and labels (B,)


class Tally:
    """Loss and accuracy as means over images, never means of batch means.

    Args:
        device: Device of the sums.

    Attributes:
        steps, images: Numbers so far.
        first_bad: First step, from 1, with a loss that is not finite; infinite without one.
    """

    def __init__(self, device: torch.device) -> None:
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        self.images = torch.zeros((), dtype=torch.int64, device=device)
        self.steps = torch.zeros((), dtype=torch.float64, device=device)
        self.first_bad = torch.full((), math.inf, dtype=torch.float64, device=device)

    def reset(self) -> None:
        """Forget every mini-batch."""
        for total in (self.loss, self.correct, self.images, self.steps):
            total.zero_()
        self.first_bad.fill_(math.inf)

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a mini-batch.

        Args:
            loss: Its mean loss.
            logits: Outputs (B, classes).
            labels: Labels (B,).
        """
        loss = loss.detach()
        self.loss += loss * len(labels)
        self.correct += (logits.detach().argmax(1) == labels).sum()
        self.images += len(labels)
        self.steps += 1
        bad = torch.where(loss.isfinite(), self.first_bad, self.steps)
        torch.minimum(self.first_bad, bad, out=self.first_bad)

    def means(self) -> tuple[float, float]:
        """Return mean loss in nats and accuracy in 0…1; waits for the device."""
        images = self.images.item()
        return self.loss.item() / images, self.correct.item() / images


class TrainStep:
    """Training step of one run: cut the next mini-batch, forward, backward, record, optimizer step.

    From `begin` to the end of the epoch it never synchronizes with the host and always writes to the same
    memory; the position of the next batch is counted on the device. On a GPU, all of it is one CUDA graph
    (`gradscape.train.cuda_graph`); the same code runs everywhere else.

    Args:
        state: Network, optimizer and progress, on the pool's device.
        pool: Training images.
        mean, std: Statistics per channel, as in `STATISTICS`.
        how: Precision and fusion; the state's model is fused if this says so.
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
        self.flow, self.tally = FlowRecorder(state.model), Tally(self.device)
        self.place = torch.zeros((), dtype=torch.int64, device=self.device)

    def begin(self, draw: EpochDraw, lr: float) -> None:
        """Prepare an epoch: copy its draw, set its learning rate, reset all sums.

        Args:
            draw: Order, crops and flips of the epoch.
            lr: Learning rate.
        """
        self.batches.begin(draw)
        self.state.set_lr(lr)
        self.state.model.train()
        self.flow.reset()
        self.tally.reset()
        self.place.zero_()

    def __call__(self, size: int) -> None:
        """Train on the epoch's next `size` images.

        Args:
            size: Number of images.
        """
        self.take(size)

    def take(self, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Train on the epoch's next `size` images.

        Args:
            size: Number of images, B.

        Returns:
            The images (B, 3, H, W), their labels (B,) and their mean loss.
        """
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
        """Train like `take` and measure the loss's smoothness; synchronizes with the host, unlike a graph.

        Args:
            size: Number of images.
            direction: Line to measure along, see `step_smoothness`.
            lr: Learning rate of the step.
            number: Number of the step, for the record.
        """
        before = [parameter.detach().clone() for parameter in self.state.model.parameters()]
        x, y, loss = self.take(size)
        known = None
        # Not in bf16, whose rounding exceeds the effect of a short step, nor if the loss measured after the
        # step differs from the step's own at the same weights.
        if self.precision != "bf16" and self.state.repeats:
            gradients = [cast(Tensor, parameter.grad) for parameter in self.state.model.parameters()]
            known = loss.item(), gradients
        return step_smoothness(self.state.model, cross_entropy, (x, y), before, known, direction, lr, number)


@torch.inference_mode()
def evaluate(
    model: nn.Module, batches: Iterable[LabeledBatch], device: torch.device, precision: str = "fp32"
) -> tuple[float, float]:
    """Return mean loss and accuracy in eval mode; the mode is restored.

    Args:
        model: Network to evaluate.
        batches: Pairs of images (B, 3, H, W) and labels (B,), on the device.
        device: Device of the model.
        precision: Precision from `settle`.

    Returns:
        Loss in nats and accuracy in 0…1, as means over images.
    """
    tally, training = Tally(device), model.training
    model.eval()
    with low_precision(device, precision):
        for x, y in batches:
            logits = model(x)
            tally.add(cross_entropy(logits, y), logits, y)
    model.train(training)
    return tally.means()


def cosine(lr: float, min_lr: float, period: int, epoch: int) -> float:
    """Return the learning rate of an epoch: Loshchilov & Hutter (2017), equation 5, without restarts.

    Args:
        lr, min_lr: First and last learning rate.
        period: Epochs from lr to min_lr.
        epoch: Epoch, from 0.
    """
    return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * min(epoch, period) / period)) / 2
