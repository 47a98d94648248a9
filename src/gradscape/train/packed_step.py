"""One training step of several runs whose networks are computed as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradscape.data.device_batches import DeviceImages, EpochDraw, TrainBatches
from gradscape.measure.watch.epoch_recorder import FlowRecorder
from gradscape.records.gradients import FlowHistory, flow_of_epochs
from gradscape.train.packed import Rows
from gradscape.train.state import TrainState
from gradscape.train.step import LabeledBatch, Tally


class PackedStep:
    """Training step of runs of one shape, on a CPU: every run has its own mini-batch, loss and optimizer.

    Args:
        states: States of the runs; their parameters, gradients and statistics become views of the pack's.
        pool: Training images, the same for all.
        mean, std: Statistics per channel, as in `STATISTICS`.

    Attributes:
        tallies: Sums of each run.
    """

    def __init__(
        self, states: Sequence[TrainState], pool: DeviceImages, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        self.states, self.rows = states, Rows(states)
        self.batches = [TrainBatches(pool, mean, std) for _ in states]
        self.tallies = [Tally(pool.images.device) for _ in states]
        self.recorder = FlowRecorder(nn.ModuleList(self.rows.models))
        self.place = 0

    def begin(self, draws: Sequence[EpochDraw], lrs: Sequence[float]) -> None:
        """Prepare an epoch of every run: take its draw, set its learning rate, reset all sums.

        Args:
            draws: Order, crops and flips of each run's epoch.
            lrs: Learning rate of each run.
        """
        for run, (draw, lr) in enumerate(zip(draws, lrs, strict=True)):
            self.states[run].model.train()
            self.batches[run].begin(draw)
            self.tallies[run].reset()
            for group in self.rows.optimizers[run].param_groups:
                group["lr"] = lr
        self.recorder.reset()
        self.place = 0

    def __call__(self, size: int) -> list[LabeledBatch]:
        """Train each run on its epoch's next `size` images, and return these mini-batches.

        Args:
            size: Number of images.
        """
        places = torch.arange(self.place, self.place + size)
        batches = [each.take(places) for each in self.batches]
        images = [x for x, _ in batches]
        images += images[:1] * (len(self.rows.models) - len(images))
        self.rows.clear_gradients()
        logits = self.rows(torch.cat(images, dim=1)).unbind(0)
        # A copy that fills the pack has no loss, and so no gradient.
        losses = [cross_entropy(own, y) for own, (_, y) in zip(logits, batches, strict=False)]
        torch.autograd.backward(losses)
        self.recorder.before_step()
        for optimizer in self.rows.optimizers:
            optimizer.step()
        self.recorder.after_step()
        for tally, loss, own, (_, y) in zip(self.tallies, losses, logits, batches, strict=False):
            tally.add(loss, own, y)
        self.place += size
        return batches

    def finish(self) -> None:
        """Bring the state of each run's optimizer up to date, for its checkpoint."""
        for run in range(len(self.states)):
            self.rows.hand_back(run)

    def parameters_of(self, run: int) -> list[Tensor]:
        """Return copies of a run's parameters.

        Args:
            run: Place of the run.
        """
        return [parameter.detach().clone() for parameter in self.states[run].model.parameters()]

    def flow(self, run: int, epoch: int) -> FlowHistory:
        """Return the gradients of a run's epoch, in one row.

        Args:
            run: Place of the run.
            epoch: Number of its epoch.
        """
        count = len(self.recorder.names) // len(self.rows.models)
        mine = slice(run * count, (run + 1) * count)
        names = [name.split(".", 1)[1] for name in self.recorder.names[mine]]  # without the network's number
        kinds, sizes = self.recorder.kinds[mine], self.recorder.sizes[mine]
        return flow_of_epochs(names, kinds, sizes, [epoch], self.recorder.tables()[..., mine])
