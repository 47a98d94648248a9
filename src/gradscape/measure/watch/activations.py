"""Reads the outputs of layers while a network is trained; a watch tells which passes are of a step."""

from __future__ import annotations

import math
import weakref
from collections import Counter, deque
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gradscape.measure.core.batch import main_tensor
from gradscape.measure.core.containers import tensors
from gradscape.measure.core.gradient_statistics import local
from gradscape.measure.core.layer_statistics import (
    dead_share,
    moments,
    saturated_share,
    unit_axis,
    unused_share,
)
from gradscape.measure.core.layer_trace import Running, layer_kind, numbered
from gradscape.measure.core.parameters import listed, plain
from gradscape.records.activations import ActivationHistory
from gradscape.records.signal import WEIGHT_KINDS

STATISTICS = ("second_moment", "correlation", "dead", "saturated")
CALLS = 8  # of a module that are all read; of further ones those whose number is a power of two
Pass = dict[str, Tensor]  # a layer's call → (4,), on its device


class Piece:
    """What was read of a call of the model, or of a module that is called by itself; lives as its graph does.

    Attributes:
        number: of the piece, in order.
        root: the outermost call.
        calls: of each layer in it, read or not.
        counts: of each layer in all pieces whose graphs live; this one's leave it when it goes.
        readings: name, which of its calls in the piece, kind, width, values.
    """

    def __init__(self, number: int, root: Running, counts: Counter[str]) -> None:
        self.number, self.root, self.counts = number, weakref.ref(root), counts
        self.calls: Counter[str] = Counter()
        self.readings: list[tuple[str, int, str, int, Tensor]] = []
        self.taken = False

    def forget(self) -> None:
        self.counts.subtract(self.calls)
        self.calls = Counter()

    def __del__(self) -> None:
        self.forget()


class Activations:
    """What the last forward passes were, and rows of what the passes of a step were.

    Args:
        capacity: rows that are kept.

    Attributes:
        thinned: whether some calls of a module were not read, for there were many.
        transformed: whether some were not, for they were of torch.func.
    """

    def __init__(self, capacity: int) -> None:
        self.rows: deque[Pass] = deque(maxlen=capacity)
        self.known: dict[str, tuple[str, int]] = {}  # a layer's call → its kind and width, in order
        self.passes: list[Pass] = []  # since the last step, those whose gradients have come
        self.of_row: list[Pass] = []  # those of the row under way
        self.thinned = self.transformed = False
        self.counts: Counter[str] = Counter()
        self.pieces = 0
        self.piece: Piece | None = None  # under way, or the last
        self.reached: dict[int, weakref.ref[Piece]] = {}  # by number, those that gradients came back to
        self.rerun: list[Piece] = []  # run by a checkpoint within the backward pass
        self.begin()
        self.forward: frozenset[str] | None = None  # who ran before the backward pass did

    def begin(self) -> None:
        """Nothing is known of the samples."""
        self.size = 0
        self.axis: int | None = None
        self.last = (0, 0, torch.Size())  # where the last output lies

    def end_pass(self) -> None:
        """Its gradients are there: take what was read of the pieces that they came through."""
        now: Pass = {}
        calls: Counter[str] = Counter()
        for _, known in sorted(self.reached.items()):
            piece = known()
            if piece is None or piece.taken:  # of a gradient by the input alone, whose graph is no more
                continue
            for name, count, kind, width, values in piece.readings:
                if name == "input":
                    now.setdefault(name, values)
                    self.know(name, kind, width)
                elif _is_read(calls[name] + count):
                    label = numbered(name, calls[name] + count)
                    now[label] = values
                    self.know(label, kind, width)
            calls += piece.calls
            piece.taken, piece.readings = True, []
            piece.forget()
        self.thinned |= any(count > CALLS for count in calls.values())
        if now:
            self.passes.append(now)
        self.reached, self.rerun, self.forward = {}, [], None
        self.begin()

    def know(self, label: str, kind: str, width: int) -> None:
        if label not in self.known or not self.known[label][1]:
            self.known[label] = (kind, width)

    def add(self) -> None:
        """Open a row, of the passes since the last step."""
        self.of_row = []
        self.rows.append({})
        self.join(row=True)

    def join(self, row: bool) -> None:
        """A step has used the passes since the last one: they are of the row under way, if there is one."""
        self.of_row += self.passes
        self.passes = []
        if row:
            merged = {name: None for one in self.of_row for name in one}
            self.rows[-1] = {name: _mean([p[name] for p in self.of_row if name in p]) for name in merged}

    def end_row(self) -> None:
        self.of_row = []

    def oddities(self, parameters: Sequence[str]) -> list[str]:
        """What the row under way lacks, in words.

        Args:
            parameters: names of those that had a gradient.
        """
        seen = {label.partition(" (call ")[0] for label in self.rows[-1]}
        owners = dict.fromkeys(name.rpartition(".")[0] for name in parameters)
        unseen = [owner for owner in owners if owner and not any(_akin(owner, label) for label in seen)]
        found = []
        if not seen:
            found = [
                "no layer's output was seen: the model was compiled after the watch began, or is called past "
                "its hooks, as by model.forward(x) or torch.func"
            ]
        elif unseen:
            found = [f"outputs of {listed(unseen)} are not seen: nothing calls these modules as such"]
        if self.thinned:
            found.append(
                f"of a module's calls in a pass after the {CALLS}th the 16th, 32nd, … alone are read"
            )
        if self.transformed:
            found.append("passes within torch.func (vmap, grad, …) are not read")
        return found

    @torch.no_grad()
    def read(self, call: Running, output: Any, recorded: bool, root: Running) -> None:
        """A layer's output, as it is made.

        It counts once a gradient comes back to its piece: evaluations that autograd records are of no step.

        Args:
            call: of the layer.
            output: of it.
            recorded: whether autograd records the pass: others are not read. What a checkpoint drops is run
                again within the backward pass; it is read then if it was not before.
            root: the outermost call that it is in, or itself.
        """
        values = main_tensor(output)
        if values is None or not values.numel() or isinstance(call.module, nn.Identity):
            return
        name = plain(call.name) or type(call.module).__name__
        if torch._C._functorch.is_functorch_wrapped_tensor(values):
            self.transformed = True
            return
        if not recorded:
            if call.module.training:  # the order in which layers run is that of the forward pass
                self.known.setdefault(name, (layer_kind(call.module), 0))
            return
        if in_backward():
            if self.forward is None:
                self.forward = frozenset(name for name, count in self.counts.items() if count > 0)
            if name in self.forward:
                return
        piece = self.piece_of(root)
        piece.calls[name] += 1
        self.counts[name] += 1
        if not piece.readings and not self.size:
            self.read_input(call, piece)
        # Of the whole model's passes some may be of no step: they do not count for one another.
        count = piece.calls[name] if root.name == "" else self.counts[name]
        reading = self.reading(call, local(values), read=_is_read(count))
        if reading is not None:
            piece.readings.append((name, piece.calls[name], *reading))
        if in_backward():
            self.rerun.append(piece)
            self.arrived(piece)
        elif values.grad_fn is not None:  # not a hook on the tensor: whoever saves that would be warned of it
            values.grad_fn.register_prehook(partial(self.arrived, piece))

    def arrived(self, piece: Piece, *_: Any) -> None:
        """A gradient comes back to an output of the piece."""
        self.reached[piece.number] = weakref.ref(piece)

    def piece_of(self, root: Running) -> Piece:
        """The piece of an outermost call; a new one if that has just begun."""
        if self.piece is None or self.piece.taken or self.piece.root() is not root:
            self.piece = None  # first: with it go the counts of a graph that is no more
            if root.name == "" or not self.counts.total():
                self.begin()
            self.pieces += 1
            self.piece = Piece(self.pieces, root, self.counts)
        return self.piece

    def read_input(self, call: Running, piece: Piece) -> None:
        """What the first layer is given; its first axis is the samples'."""
        first = next((each for each in tensors(call.given) if each.dim()), None)
        self.size = len(first) if first is not None else 1
        given = main_tensor(call.given)
        if given is not None and given.numel():
            values = _stacked(*moments(local(given), self.size), None, None)
            piece.readings.append(("input", 1, "input", given.numel() // self.size, values))

    def reading(self, call: Running, values: Tensor, read: bool) -> tuple[str, int, Tensor] | None:
        """Kind, width and numbers of a layer's output; None of one that is not to be read."""
        kind, module = layer_kind(call.module), call.module
        self.axis = unit_axis(kind, module, self.axis)
        last = self.last
        if kind in (*WEIGHT_KINDS, "norm", "activation"):  # not dropout after a function
            self.last = _place(values)
        if not read:
            return None
        dead = dead_share(module, values, self.axis)
        given = main_tensor(call.given)
        if kind in WEIGHT_KINDS and given is not None and given.requires_grad and _place(given) != last:
            dead = unused_share(local(given), 1 if kind == "conv" else -1)
        numbers = _stacked(
            *moments(values, self.size, correlation=kind in WEIGHT_KINDS),
            dead,
            saturated_share(module, values),
        )
        return kind, values.numel() // max(1, self.size), numbers

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


def _akin(owner: str, label: str) -> bool:
    """Whether one module is the other, or within it."""
    return f"{owner}.".startswith(f"{label}.") or label.startswith(f"{owner}.")


def _place(values: Tensor) -> tuple[int, int, torch.Size]:
    """Where values lie, and how often they were changed: the same of what was read a moment ago."""
    return values.data_ptr(), values._version, values.shape


def _is_read(call: int) -> bool:
    """Whether a module's call of that number is read: in a loop over time all cost more than the pass."""
    return call <= CALLS or call & (call - 1) == 0


def in_backward() -> bool:
    """Whether autograd runs a backward pass in this thread, as when a checkpoint is run again."""
    return torch._C._current_graph_task_id() != -1


def _stacked(*values: Tensor | None) -> Tensor:
    """As one tensor, NaN for what there is not; the first one is."""
    assert values[0] is not None
    unknown = torch.full_like(values[0], math.nan)
    return torch.stack([unknown if value is None else value for value in values])


def _mean(values: Sequence[Tensor]) -> Tensor:
    return (
        values[0] if len(values) == 1 else torch.stack([each.to(values[0].device) for each in values]).mean(0)
    )


def _is_compiled(model: nn.Module) -> bool:
    """Whether a module of it runs as compiled code, which calls no hooks."""
    return any(
        hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )


def hidden(model: nn.Module) -> str:
    """Why no layer's output can be read; empty if they can."""
    if _is_compiled(model):
        return "the model is compiled, which calls no hooks: its activations are not read"
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        return "the model is scripted, which takes no hooks: its activations are not read"
    if isinstance(model, nn.DataParallel) and len(model.device_ids) > 1:
        return "the model runs in threads, on several devices: its activations are not read"
    return ""
