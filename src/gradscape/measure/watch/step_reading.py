"""Read the gradients that a step uses and its effect on the weights, each when it is complete.

Gradients are read at the end of the backward pass. They may change before the step: unscaled, reduced,
clipped, replaced by hand. After clipping, the first reading remains; otherwise the gradients that the step
uses are read.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from gradscape.measure.core.gradient_statistics import STATISTICS, held
from gradscape.measure.core.parameters import WatchedParameters
from gradscape.measure.core.pieces import keep, squares, widened
from gradscape.measure.watch.activations import in_backward
from gradscape.measure.watch.readings import Readings, scaled_down
from gradscape.measure.watch.steps import called_by_scaler
from gradscape.records.gradients import SCALER_AT_WORK

Moment = Literal["backward", "reduced", "step", "call"]
LOOKED_AT = 10  # first rows in which values are compared too; after them every eighth is


class StepReader:
    """Reader of the gradients and weights of the current step.

    Args:
        model: Watched model.
        notes: Notes of the watch, to which this appends.

    Attributes:
        readings: Statistics of the gradients.
        moment: Moment when gradients are read; see `Watch.moment`.
        private: Whether the optimizer clips each sample's gradient and adds noise.
        fresh: Whether they were read since the last step.
        clip: Norm of the step's gradients after clipping over that before; None where nothing was clipped.
        spent: Seconds spent on reading, without waiting for the device.
    """

    def __init__(self, model: nn.Module, notes: list[str]) -> None:
        self.notes = notes
        self.moment = _moment_for(model)
        self.private = False
        self.by_hand = self.in_pass = False  # whether steps use another `.grad`, or happen within the pass
        self.by_data = False  # whether gradients are changed past autograd's count of changes
        self.fresh = self.closure = False
        self.clip: Tensor | None = None
        self.spent = 0.0

    def follow(self, subjects: WatchedParameters) -> None:
        """Read other parameters from now on.

        Args:
            subjects: Watched parameters.
        """
        self.subjects = subjects
        self.readings = Readings(subjects.parameters, subjects.shards)
        parts = [held(parameter.detach()) for parameter in subjects.parameters]
        self.weights = [torch.empty_like(each) for each in self._kept(range(len(parts)))]
        counts = [part.numel() / weight.numel() for part, weight in zip(parts, self.weights, strict=True)]
        self.shares = subjects.shards.sizes.new_tensor(counts)  # elements over those that are kept
        self.squares = torch.zeros_like(self.shares)  # of the norms of the weights, before the step

    def let_go(self) -> None:
        """Release all tensors."""
        self.weights = []
        self.readings = Readings(self.subjects.parameters, self.subjects.shards)

    def read(self, scale: Tensor | None = None) -> None:
        """Read all gradients that have changed since they were read.

        Args:
            scale: Loss scale that the gradients still have.
        """
        start = time.perf_counter()
        self.fresh = True
        places = range(len(self.subjects.parameters))
        # A GradScaler's unscaling does not increase a gradient's version.
        if altered := list(places) if self.moment == "call" else self.readings.altered(places):
            self.readings.read(altered, scale)
        self.spent += time.perf_counter() - start

    def begin(self, optimizer: Optimizer, places: list[int], closure: bool, step: int, row: int) -> None:
        """Read the gradients of a step if they differ from the reading, and copy the weights.

        Args:
            optimizer: Optimizer that makes the step.
            places: Indices of its parameters.
            closure: Whether it has a closure, which may compute another gradient.
            step: Number of the step.
            row: Number of rows so far.
        """
        self.closure, self.clip = closure, None
        if self.moment != "call":
            self._read_late(optimizer, places, step, row)
        start = time.perf_counter()
        with torch.no_grad():
            self.squares[places] = squares([held(self.subjects.parameters[i].detach()) for i in places])
            torch._foreach_copy_([self.weights[i] for i in places], self._kept(places))
        self.spent += time.perf_counter() - start

    def _read_late(self, optimizer: Optimizer, places: list[int], step: int, row: int) -> None:
        """Read gradients that were incomplete at the end of the backward pass, or changed since."""
        if self.moment != "step" and called_by_scaler():
            self.moment = "step"
            self.notes.append(f"{SCALER_AT_WORK}: gradients are read after it has unscaled them")
        if self.moment == "step":
            start = time.perf_counter()
            self.readings.read(places, getattr(optimizer, "grad_scale", None))
            self.spent += time.perf_counter() - start
        elif altered := self.readings.altered(places) or self._rewritten(places, row):
            self._settle(places, altered, step)

    def _rewritten(self, places: list[int], row: int) -> list[int]:
        """Return gradients changed through `.grad.data`, which only their values reveal.

        The comparison costs a quarter of a reading and waits for a GPU: it is made in the first rows, then in
        every eighth, and in all once it has found a change.
        """
        if not (self.by_data or row < LOOKED_AT or row % 8 == 0) or is_capturing():
            return []
        start = time.perf_counter()
        changed = self.readings.rewritten(places)
        self.by_data |= bool(changed)
        self.spent += 0.0 if self.readings.values.is_cuda else time.perf_counter() - start
        return changed

    def _settle(self, places: list[int], altered: list[int], step: int) -> None:
        """Read gradients that have changed since they were read, other than by clipping."""
        start = time.perf_counter()
        readings = self.readings
        now, found = readings.read_now(altered)
        self.spent += time.perf_counter() - start
        if readings.written_upon(altered) and _clipped(readings, altered, now):
            sizes, rms = self.subjects.shards.sizes[altered], STATISTICS.index("rms")
            squares = (torch.stack([now[rms], readings.values[rms, altered]]).square() * sizes).nansum(1)
            self.clip = (squares[0] / squares[1]).sqrt()
            return
        start = time.perf_counter()
        readings.take(altered, now, found)
        if in_backward():
            self.in_pass = True
        elif not (self.by_hand or self.private or self.closure) and (self.fresh or found):
            self.by_hand = True
            self.notes.append(self._why_late(places, step))
        self.spent += time.perf_counter() - start

    def _why_late(self, places: list[int], step: int) -> str:
        """Return a note that the gradients of a step are not those of the backward pass."""
        if all(self.subjects.parameters[place].grad is None for place in places):
            return (
                f"step {step} was made without a gradient: zero_grad() came after the backward pass, "
                "or .grad was set to None"
            )
        how = "after the backward pass, other than by clipping" if self.fresh else "without a backward pass"
        return f".grad was set {how}, at step {step} first: rows hold what steps used, clipped if it was"

    def end(self, places: list[int]) -> Tensor:
        """Return statistics of gradients, norms of weights before the step and of the update.

        Args:
            places: Indices of the step's parameters.
        """
        if self.closure and self.moment not in ("call", "step"):
            altered = self.readings.altered(places)
            if not self.readings.written_upon(altered):  # the closure replaces gradients by hand
                self.readings.read(altered)
        return self._part(places)

    @torch.no_grad()
    def _part(self, places: list[int]) -> Tensor:
        shards = self.subjects.shards.part(places)
        before = [self.weights[i] for i in places]
        torch._foreach_sub_(before, self._kept(places))
        moved = torch.stack([self.squares[places], squares(before) * self.shares[places]])
        return torch.cat([self.readings.values[:, places], shards.total(moved).sqrt()])

    def _kept(self, places: Sequence[int]) -> list[Tensor]:
        """Return the elements by which updates are measured."""
        parameters, strides = self.subjects.parameters, self.subjects.shards.strides
        return [widened(keep(held(parameters[i].detach()), strides[i]).elements) for i in places]

    @property
    def seen(self) -> str:
        """Description of the gradients that are read."""
        if self.moment == "call":
            return "when the training loop called for it, reduced and unscaled, before any clipping"
        if self.private:
            return "when the step began: each sample's gradient clipped, and noise added"
        if self.moment == "step":
            return "when the step began, reduced and unscaled, after any clipping"
        if self.in_pass:
            return "when each optimizer's step began, within the backward pass"
        if self.by_hand:
            return "when the step began, as it used them"
        reduced = ", reduced" if self.moment == "reduced" else ""
        return f"after the backward pass{reduced}, before any clipping"


def _moment_for(model: nn.Module) -> Moment:
    """Return the moment when a model's gradients are complete, as far as its wrappers reveal it."""
    if any(isinstance(module, DistributedDataParallel) for module in model.modules()):
        return "reduced"
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return "step" if distributed else "backward"


def _clipped(readings: Readings, places: list[int], now: Tensor) -> bool:
    """Return True if clipping explains the change; waits for the device, except during a graph capture."""
    if is_capturing():
        return True
    half = any(readings.parameters[i].dtype in (torch.float16, torch.bfloat16) for i in places)
    return bool(scaled_down(readings.values[:, places], now, half))


def is_out_of_reach() -> bool:
    """Return True where no tensor may be read: within torch.func, or while a CUDA graph is captured."""
    return torch._C._functorch.peek_interpreter_stack() is not None or is_capturing()


def is_capturing() -> bool:
    """Return True while a CUDA graph is captured, when nothing may wait for the device."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
