"""Record which batch each step was made with: ids that the loop tells, and what the model was given.

Of each tensor some elements are copied on its device; hash and statistics are computed when a step is asked
for, as when its loss spikes: no step waits, and most are forgotten unread.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gradscape.errors import brief, first_line
from gradscape.measure.core.containers import tensors
from gradscape.measure.core.gradient_statistics import local
from gradscape.measure.core.layer_trace import Hook
from gradscape.measure.core.parameters import unwrapped
from gradscape.measure.watch.activations import in_backward, unreachable
from gradscape.measure.watch.schedule import SMALL
from gradscape.measure.watch.step_reading import is_out_of_reach
from gradscape.measure.watch.summaries import is_readable, thinned
from gradscape.records.spikes import BatchPrint, TensorPrint

ELEMENTS = 1_024  # of each tensor
TENSORS = 8  # of a step
IDS = 1_024  # of a step
STEPS = 500  # in memory; the watch looks for spikes at least as often as every 250
FEW = 0.5  # share of the usual size up to which a batch is small
BUDGET = 0.004  # fraction of the time, of a model that is not small: below half a per cent in all

Sample = tuple[tuple[int, ...], str, Tensor | None]  # shape and dtype of a tensor, and some of its elements
Ids = Tensor | tuple[int | str, ...]


class BatchRecorder:
    """Batches of the last 500 steps.

    Args:
        model: Watched model.
        on_error: Callback with what went wrong; no batch is read any more.

    Attributes:
        spent: Seconds spent on copying, without waiting for the device.
        few: Steps with a small batch, and its share of the usual size, that of the last two like batches.
    """

    def __init__(self, model: nn.Module, on_error: Callable[[str], None]) -> None:
        self.on_error = on_error
        self.small = sum(parameter.numel() for parameter in model.parameters()) <= SMALL
        self.began, self.spent = time.perf_counter(), 0.0
        self.few: deque[tuple[int, float]] = deque(maxlen=STEPS)
        self._last = self._usual = 0
        self._steps: OrderedDict[int, tuple[list[Ids], int, list[Sample]]] = OrderedDict()
        self._ids: list[Ids] = []
        self._count = 0
        self._samples: list[Sample] = []
        hook = Hook(self._before_forward)
        module = unwrapped(model)
        self._handle = (
            None if unreachable(model) else module.register_forward_pre_hook(hook, with_kwargs=True)
        )

    def close(self) -> None:
        """Remove the hook; the batches remain."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def tell(self, ids: Sequence[int | str] | NDArray[Any] | Tensor) -> None:
        """Take ids of samples of the next step.

        Args:
            ids: As of `Watch.batch`; see `refusal`.
        """
        room = IDS - sum(len(each) for each in self._ids)
        self._count += len(ids)
        if isinstance(ids, Tensor):
            self._ids.append(ids.detach()[:room].clone())
        else:
            self._ids.append(tuple(each if isinstance(each, str) else int(each) for each in ids[:room]))

    def _before_forward(self, _: nn.Module, positional: Any, named: Any) -> None:
        if not torch.is_grad_enabled() or in_backward() or is_out_of_reach():
            return
        start = time.perf_counter()
        try:
            read = self.small or self.spent <= BUDGET * (start - self.began)
            for each in tensors((positional, named)):
                if len(self._samples) < TENSORS and each.dim():
                    self._samples.append(_sample(each, read))
        except Exception as error:  # any type: a watch must not stop a training
            self.close()
            self.on_error(first_line(error))
        self.spent += time.perf_counter() - start

    def end_step(self, step: int) -> None:
        """Assign what came since the last step to a step.

        Args:
            step: Number of the step.
        """
        if self._ids or self._samples:
            self._compare(step, self._count or sum(shape[0] for shape, _, _ in self._samples))
            self._steps[step] = self._ids, self._count, self._samples
            self._ids, self._count, self._samples = [], 0, []
            if len(self._steps) > STEPS:
                self._steps.popitem(last=False)

    def _compare(self, step: int, size: int) -> None:
        """Remember a step whose batch is small; two in a row of one size are no remainders."""
        if size == self._last:
            self._usual = size
        elif 0 < size <= FEW * self._usual:
            self.few.append((step, size / self._usual))
        self._last = size

    def read(self, step: int) -> BatchPrint | None:
        """Return the batch of a step, None where it is not known; waits for the device.

        Args:
            step: Number of the step.
        """
        if step not in self._steps:
            return None
        told, count, samples = self._steps[step]
        ids = tuple(i for each in told for i in (each.tolist() if isinstance(each, Tensor) else each))
        return BatchPrint(ids, count, tuple(_print_of(each) for each in samples))


def refusal_of_ids(ids: Any) -> str:
    """Return why ids cannot be used; empty where they can.

    Args:
        ids: Whatever `Watch.batch` was given.
    """
    wanted = "expected one id for each sample, whole numbers or texts in a list or a tensor of one axis"
    if isinstance(ids, Tensor | np.ndarray):
        whole = not ids.is_floating_point() if isinstance(ids, Tensor) else ids.dtype.kind in "iuU"
        if ids.ndim == 1 and whole:
            return ""
        return f"{wanted}; got {ids.dtype} of shape {tuple(ids.shape)}"
    if isinstance(ids, str) or not isinstance(ids, Sequence):
        return f"{wanted}; got {brief(ids)}"
    wrong = next((each for each in ids[:IDS] if not isinstance(each, int | str | np.integer)), None)
    return "" if wrong is None else f"{wanted}; got {brief(wrong)} among them"


def fingerprint(values: Tensor) -> TensorPrint:
    """Return the fingerprint of a tensor, to find a batch again that a spike names.

    Args:
        values: Tensor with one axis at least, as the model is given it.

    Example:
        >>> wanted = {print.hash for spike in flow.history().spikes for print in spike.batch.inputs}
        >>> [place for place, (x, y) in enumerate(batches) if fingerprint(x).hash in wanted]
        []
    """
    return _print_of(_sample(values, True))


@torch.no_grad()
def _sample(values: Tensor, read: bool) -> Sample:
    """Copy some elements of a tensor on its device."""
    form = tuple(values.shape), str(values.dtype).removeprefix("torch.")
    if hasattr(values, "placements"):  # sharded: the part that this process holds
        values = local(values)
    if not read or not is_readable(values) or not values.numel():
        return *form, None
    return *form, thinned(values.detach(), ELEMENTS).clone()


def _print_of(sample: Sample) -> TensorPrint:
    """Return the fingerprint that a copy makes."""
    shape, dtype, elements = sample
    if elements is None:
        return TensorPrint(shape, dtype)
    held = elements.cpu().contiguous()
    digits = hashlib.sha256(held.view(torch.uint8).numpy().tobytes()).hexdigest()[:16]
    whole = not (held.is_floating_point() or held.is_complex())
    numbers = (held.abs() if held.is_complex() else held).double().numpy()
    finite = numbers[np.isfinite(numbers)]
    there = len(finite) > 0
    often = np.unique(numbers, return_counts=True)[1].max() if whole else math.nan
    return TensorPrint(
        shape=shape,
        dtype=dtype,
        hash=digits,
        mean=float(finite.mean()) if there else math.nan,
        std=float(finite.std()) if there else math.nan,
        low=float(finite.min()) if there else math.nan,
        high=float(finite.max()) if there else math.nan,
        zeros=float((numbers == 0).mean()),
        nonfinite=1 - len(finite) / len(numbers),
        commonest=float(often / len(numbers)),
    )
