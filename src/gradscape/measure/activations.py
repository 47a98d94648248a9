"""Reads the outputs of layers while a network is trained; a watch tells which passes are of a step."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gradscape.activations import ActivationHistory
from gradscape.measure.batches import main_tensor
from gradscape.measure.containers import tensors
from gradscape.measure.gradient_norms import local
from gradscape.measure.subjects import plain
from gradscape.measure.tracing import Running, layer_kind, numbered
from gradscape.measure.units import dead_share, moments, saturated_share, unit_axis, unused_share
from gradscape.signal import WEIGHT_KINDS

STATISTICS = ("second_moment", "correlation", "dead", "saturated")
Pass = dict[str, Tensor]  # a layer's call → (4,), on its device


class Activations:
    """What the last forward passes were, and rows of what the passes of a step were.

    Args:
        capacity: rows that are kept.
    """

    def __init__(self, capacity: int) -> None:
        self.rows: deque[Pass] = deque(maxlen=capacity)
        self.known: dict[str, tuple[str, int]] = {}  # a layer's call → its kind and width, in order
        self.passes: list[Pass] = []  # since the last row, those whose gradients have come
        self.begin_pass()

    def begin_pass(self) -> None:
        self.now: Pass = {}
        self.calls: dict[str, int] = {}
        self.size = 0
        self.axis: int | None = None
        self.last = (0, 0, torch.Size())  # where the last output lies
        self.forward: frozenset[str] | None = None  # who ran before the backward pass did

    def end_pass(self) -> None:
        """Its gradients are there."""
        if self.now:
            self.passes.append(self.now)
        self.begin_pass()

    def add(self) -> None:
        """A row of the passes since the last one."""
        merged = {name for one in self.passes for name in one}
        self.rows.append({name: mean([p[name] for p in self.passes if name in p]) for name in merged})
        self.passes = []

    def end_step(self) -> None:
        """Passes that no gradient came of, such as those of a frozen half, are of no later step."""
        self.passes = []
        self.begin_pass()

    @torch.no_grad()
    def read(self, call: Running, output: Any, recorded: bool) -> None:
        """A layer's output, as it is made.

        Args:
            call: of the layer.
            output: of it.
            recorded: whether autograd records the pass: evaluations are not read. What a checkpoint drops is
                run again within the backward pass; it is read then if it was not before.
        """
        values = main_tensor(output)
        if values is None or not values.numel() or isinstance(call.module, nn.Identity):
            return
        name = plain(call.name) or type(call.module).__name__
        if not recorded:
            if call.module.training:  # the order in which layers run is that of the forward pass
                self.known.setdefault(name, (layer_kind(call.module), 0))
            return
        if in_backward():
            self.forward = self.forward if self.forward is not None else frozenset(self.calls)
            if name in self.forward:
                return
        if not self.calls:
            self.read_input(call)
        self.calls[name] = count = self.calls.get(name, 0) + 1
        self.put(numbered(name, count), call, local(values))

    def read_input(self, call: Running) -> None:
        """What the first layer is given; its first axis is the samples'."""
        first = next((each for each in tensors(call.given) if each.dim()), None)
        self.size = len(first) if first is not None else 1
        given = main_tensor(call.given)
        if given is not None and given.numel():
            self.known.setdefault("input", ("input", given.numel() // self.size))
            self.now["input"] = stacked(*moments(local(given), self.size), None, None)

    def put(self, label: str, call: Running, values: Tensor) -> None:
        kind, module = layer_kind(call.module), call.module
        self.axis = unit_axis(kind, module, self.axis)
        dead = dead_share(module, values, self.axis)
        given = main_tensor(call.given)
        if kind in WEIGHT_KINDS and given is not None and given.requires_grad and place(given) != self.last:
            dead = unused_share(local(given), 1 if kind == "conv" else -1)
        if kind in (*WEIGHT_KINDS, "norm", "activation"):  # not dropout after a function
            self.last = place(values)
        if label not in self.known or not self.known[label][1]:
            self.known[label] = (kind, values.numel() // max(1, self.size))
        self.now[label] = stacked(
            *moments(values, self.size, correlation=kind in WEIGHT_KINDS),
            dead,
            saturated_share(module, values),
        )

    def history(self, steps: Sequence[int]) -> ActivationHistory:
        """The rows of the last so many steps; waits for the device."""
        rows = list(self.rows)[len(self.rows) - len(steps) :]
        seen = {label for row in rows for label in row}
        labels = [label for label in self.known if label in seen]
        column_of = {label: column for column, label in enumerate(labels)}
        table = np.full((len(STATISTICS), len(rows), len(labels)), math.nan)
        nonfinite = np.zeros((len(rows), len(labels)), dtype=np.bool_)
        for t, row in enumerate(rows):
            if row:
                columns = [column_of[label] for label in row]
                device = next(iter(row.values())).device
                values = torch.stack([each.to(device) for each in row.values()]).cpu().double().numpy()
                table[:, t, columns] = values.T
                nonfinite[t, columns] = ~np.isfinite(values[:, 0])
        return ActivationHistory(
            layers=tuple(labels),
            kinds=tuple(self.known[label][0] for label in labels),
            widths=tuple(self.known[label][1] for label in labels),
            steps=np.array(steps, dtype=np.int64),
            **dict(zip(STATISTICS, table, strict=True)),
            nonfinite=nonfinite,
        )


def place(values: Tensor) -> tuple[int, int, torch.Size]:
    """Where values lie, and how often they were changed: the same of what was read a moment ago."""
    return values.data_ptr(), values._version, values.shape


def in_backward() -> bool:
    """Whether autograd runs a backward pass in this thread, as when a checkpoint is run again."""
    return torch._C._current_graph_task_id() != -1


def stacked(*values: Tensor | None) -> Tensor:
    """As one tensor, NaN for what there is not; the first one is."""
    assert values[0] is not None
    unknown = torch.full_like(values[0], math.nan)
    return torch.stack([unknown if value is None else value for value in values])


def mean(values: Sequence[Tensor]) -> Tensor:
    return (
        values[0] if len(values) == 1 else torch.stack([each.to(values[0].device) for each in values]).mean(0)
    )


def is_compiled(model: nn.Module) -> bool:
    """Whether a module of it runs as compiled code, which calls no hooks."""
    return any(
        hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )
