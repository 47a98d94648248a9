"""The gradients that a step uses and what it does to the weights, each read when it is whole.

Gradients are read as the backward pass ends. By the step they may be others: unscaled, reduced, clipped, put
there by hand. Clipping leaves what was read as it is; of all else what the step uses is read.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from gradscape.measure.core.gradient_statistics import local, norms
from gradscape.measure.core.parameters import Subjects
from gradscape.measure.watch.activations import in_backward
from gradscape.measure.watch.readings import Readings, scaled_down
from gradscape.measure.watch.steps import called_by_scaler

LOOKED_AT = 10  # rows at the beginning in which values are looked at too, and after them every eighth


class StepReader:
    """Reads the gradients and weights of the step under way.

    Args:
        model: that is watched.
        notes: of the watch; what is found odd is added.

    Attributes:
        readings: of the gradients.
        reduced: whether DDP shares gradients within the backward pass: they are read after that.
        at_step: whether they are read when the step begins, which is when they are whole.
        told: whether they are read by `Watch.take` alone.
        private: whether the optimizer clips each sample's gradient and adds noise.
        fresh: whether they were read since the last step.
        spent: seconds that reading took, without waiting for the device.
    """

    def __init__(self, model: nn.Module, notes: list[str]) -> None:
        self.notes = notes
        self.reduced = any(isinstance(module, DistributedDataParallel) for module in model.modules())
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.at_step = distributed and not self.reduced
        self.told = self.private = False
        self.by_hand = self.in_pass = False  # whether steps use another `.grad`, or come within the pass
        self.by_data = False  # whether gradients are changed past autograd's count of changes
        self.fresh = self.closure = False
        self.spent = 0.0

    def follow(self, subjects: Subjects) -> None:
        """Read these parameters from now on."""
        self.subjects = subjects
        self.readings = Readings(subjects.parameters, subjects.shards)
        self.weights = [torch.empty_like(local(p.detach())) for p in subjects.parameters]

    def let_go(self) -> None:
        """Keep no tensor any more."""
        self.weights = []
        self.readings = Readings(self.subjects.parameters, self.subjects.shards)

    def read(self, scale: Tensor | None = None) -> None:
        """All gradients that are not yet read as they are."""
        start = time.perf_counter()
        self.fresh = True
        places = range(len(self.subjects.parameters))
        # A GradScaler's unscaling leaves no trace by which one could tell that a gradient is another.
        if altered := list(places) if self.told else self.readings.altered(places):
            self.readings.read(altered, scale)
        self.spent += time.perf_counter() - start

    def begin(self, optimizer: Optimizer, places: list[int], closure: bool, step: int, row: int) -> None:
        """Read what a step uses if that is not read, and keep the weights to see what it does to them.

        Args:
            optimizer: that makes it.
            places: of its parameters.
            closure: whether it is given one, which may yet bring another gradient.
            step: its number.
            row: the number of rows so far.
        """
        self.closure = closure
        if not self.told:
            self.read_late(optimizer, places, step, row)
        start = time.perf_counter()
        with torch.no_grad():
            torch._foreach_copy_([self.weights[i] for i in places], self.held(places))
        self.spent += time.perf_counter() - start

    def read_late(self, optimizer: Optimizer, places: list[int], step: int, row: int) -> None:
        """Read what the end of the backward pass was too early for."""
        if not self.at_step and called_by_scaler():
            self.at_step = True
            self.notes.append("a GradScaler is at work: gradients are read after it has unscaled them")
        if self.at_step:
            start = time.perf_counter()
            self.readings.read(places, getattr(optimizer, "grad_scale", None))
            self.spent += time.perf_counter() - start
        elif altered := self.readings.altered(places) or self.rewritten(places, row):
            self.settle(places, altered, step)

    def rewritten(self, places: list[int], row: int) -> list[int]:
        """Gradients that `.grad.data` was used to change: nothing but their values tells.

        Looking at those costs a quarter of a reading, and waits for a GPU: the first rows are looked at, then
        every eighth, and all if it was done once.
        """
        if not (self.by_data or row < LOOKED_AT or row % 8 == 0) or _capturing():
            return []
        start = time.perf_counter()
        found = self.readings.rewritten(places)
        self.by_data |= bool(found)
        self.spent += 0.0 if self.readings.values.is_cuda else time.perf_counter() - start
        return found

    def settle(self, places: list[int], altered: list[int], step: int) -> None:
        """Read gradients that are another by now than when they were read, unless they were clipped since."""
        start = time.perf_counter()
        readings = self.readings
        now, found = readings.read_now(altered)
        self.spent += time.perf_counter() - start
        if readings.written_upon(altered) and _clipped(readings, altered, now):
            return
        start = time.perf_counter()
        readings.take(altered, now, found)
        if in_backward():
            self.in_pass = True
        elif not (self.by_hand or self.private or self.closure) and (self.fresh or found):
            self.by_hand = True
            self.notes.append(self.why_late(places, step))
        self.spent += time.perf_counter() - start

    def why_late(self, places: list[int], step: int) -> str:
        """That the gradients of a step are not those of the backward pass."""
        if all(self.subjects.parameters[place].grad is None for place in places):
            return (
                f"step {step} was made without a gradient: zero_grad() came after the backward pass, "
                "or .grad was set to None"
            )
        how = "after the backward pass, other than by clipping" if self.fresh else "without a backward pass"
        return f".grad was set {how}, at step {step} first: rows hold what steps used, clipped if it was"

    def end(self, places: list[int]) -> Tensor:
        """(columns, places): what was read of their gradients, the weights before the step, and its size."""
        if self.closure and not self.told and not self.at_step:
            altered = self.readings.altered(places)
            if not self.readings.written_upon(altered):  # the closure puts gradients there by hand
                self.readings.read(altered)
        return self.part(places)

    @torch.no_grad()
    def part(self, places: list[int]) -> Tensor:
        shards = self.subjects.shards.part(places)
        before = [self.weights[i] for i in places]
        weight = norms(before, shards)
        torch._foreach_sub_(before, self.held(places))
        moved = torch.stack([weight, norms(before, shards)])
        return torch.cat([self.readings.values[:, places], moved])

    def held(self, places: Sequence[int]) -> list[Tensor]:
        return [local(self.subjects.parameters[i].detach()) for i in places]

    @property
    def seen(self) -> str:
        """What the gradients are, in words."""
        if self.told:
            return "when the training loop told, reduced and unscaled, before any clipping"
        if self.private:
            return "when the step began: each sample's gradient clipped, and noise added"
        if self.at_step:
            return "when the step began, reduced and unscaled, after any clipping"
        if self.in_pass:
            return "when each optimizer's step began, within the backward pass"
        if self.by_hand:
            return "when the step began, as it used them"
        return f"after the backward pass{', reduced' if self.reduced else ''}, before any clipping"


def _clipped(readings: Readings, places: list[int], now: Tensor) -> bool:
    """Whether gradients are what was read, clipped; waits for the device, unless that may not be."""
    if _capturing():
        return True
    half = any(readings.parameters[i].dtype in (torch.float16, torch.bfloat16) for i in places)
    return bool(scaled_down(readings.values[:, places], now, half))


def _capturing() -> bool:
    """Whether a CUDA graph is being captured, in which nothing may wait for the device."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
