"""Read the outputs of layers during training; a watch decides which passes belong to a step."""

from __future__ import annotations

import math
import weakref
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gradscape._text import join_names
from gradscape.measure.core.batch import main_tensor
from gradscape.measure.core.compiled_calls import CompiledCall
from gradscape.measure.core.containers import tensors
from gradscape.measure.core.gathered import own_part
from gradscape.measure.core.gradient_statistics import local
from gradscape.measure.core.layer_statistics import (
    dead_share,
    moments,
    saturated_share,
    unit_axis,
    unused_share,
)
from gradscape.measure.core.layer_trace import Running, layer_kind, numbered
from gradscape.measure.core.parameters import strip_wrappers
from gradscape.measure.watch.last_output import LastOutput, unused_unless_output
from gradscape.records.activations import ActivationHistory
from gradscape.records.signal import WEIGHT_KINDS

STATISTICS = ("second_moment", "correlation", "dead", "saturated")
CALLS = 8  # first calls of a module, all read; further ones are read if their number is a power of two
Pass = dict[str, Tensor]  # a layer's call → (4,), on its device


class Piece:
    """Readings of one call of the model, or of a module called by itself; lives as long as its graph.

    Attributes:
        number: Number of the piece, in order.
        root: Outermost call.
        calls: Number of calls of each layer in it, read or not.
        counts: Number of calls of each layer in all pieces with a graph; this one's are subtracted at its
            end.
        readings: Name, number of the call in the piece, kind, width, values.
        sketches: Sketches of the outputs of calls, by name and number, where distributions are read.
    """

    def __init__(self, number: int, root: Running, counts: Counter[str]) -> None:
        self.number, self.root, self.counts = number, weakref.ref(root), counts
        self.calls: Counter[str] = Counter()
        self.readings: list[tuple[str, int, str, int, Tensor]] = []
        self.sketches: dict[tuple[str, int], Tensor] = {}
        self.taken = False
        self.is_awaited = False  # whether some node tells when a gradient arrives

    def forget(self) -> None:
        """Subtract this piece's calls from the counts of all pieces."""
        self.counts.subtract(self.calls)
        self.calls = Counter()

    def __del__(self) -> None:
        self.forget()


class Activations:
    """Readings of the last forward passes, and rows of the passes of each step.

    Args:
        capacity: Number of rows in memory.
        sketch: Function that returns the sketch of an output, or None if none is wanted in this step.

    Attributes:
        sketches: Sketches of the outputs since they were taken, by layer; those of several passes are added.
        thinned: Whether calls of a module were left out because there were many.
        transformed: Whether calls were left out because they were inside torch.func.
    """

    def __init__(self, capacity: int, sketch: Callable[[Tensor], Tensor | None] = lambda _: None) -> None:
        self.sketch = sketch
        self.sketches: Pass = {}
        self.rows: deque[Pass] = deque(maxlen=capacity)
        self.known: dict[str, tuple[str, int]] = {}  # a layer's call → its kind and width, in order
        self.passes: list[Pass] = []  # passes with gradients since the last step
        self.of_row: list[Pass] = []  # passes of the current row
        self.thinned = self.transformed = False
        self.counts: Counter[str] = Counter()
        self.pieces = 0
        self.piece: Piece | None = None  # the current or last one
        self.opener = ""  # name of the outermost call that the current pass begins with
        self.reached: dict[int, weakref.ref[Piece]] = {}  # pieces that gradients have reached, by number
        self.rerun: list[Piece] = []  # pieces that checkpoints run within the backward pass
        self.begin()
        self.forward: frozenset[str] | None = None  # layers that ran before the backward pass

    def begin(self) -> None:
        """Forget the number and layout of samples."""
        self.size = 0
        self.axis: int | None = None
        self.last: LastOutput | None = None

    def end_pass(self) -> None:
        """End a backward pass: collect the readings of the pieces that its gradients reached."""
        now: Pass = {}
        calls: Counter[str] = Counter()
        for _, known in sorted(self.reached.items()):
            piece = known()
            if piece is None or piece.taken:  # a gradient by the input alone, whose graph is gone
                continue
            for name, count, kind, width, values in piece.readings:
                if name == "input":
                    now.setdefault(name, values)
                    self._know(name, kind, width)
                elif _is_read(calls[name] + count):
                    label = numbered(name, calls[name] + count)
                    now[label] = values
                    self._know(label, kind, width)
                    self._add_sketch(label, piece.sketches.get((name, count)))
            calls += piece.calls
            piece.taken, piece.readings, piece.sketches = True, [], {}
            piece.forget()
        self.thinned |= any(count > CALLS for count in calls.values())
        if now:
            self.passes.append(now)
        self.reached, self.rerun, self.forward = {}, [], None
        self.begin()

    def _add_sketch(self, label: str, sketch: Tensor | None) -> None:
        if sketch is not None:
            before = self.sketches.get(label)
            # Those of all micro-batches may have more numbers than 32 bits hold.
            self.sketches[label] = sketch if before is None else before.long() + sketch

    def take_sketches(self) -> Pass:
        """Return the sketches since the last time."""
        found, self.sketches = self.sketches, {}
        return found

    def _know(self, label: str, kind: str, width: int) -> None:
        if label not in self.known or not self.known[label][1]:
            self.known[label] = (kind, width)

    def add(self) -> None:
        """Add a row for the passes since the last step."""
        self.of_row = []
        self.rows.append({})
        self.join(row=True)

    def join(self, row: bool) -> None:
        """Assign the passes since the last step to the current row.

        Args:
            row: Whether there is a current row.
        """
        self.of_row += self.passes
        self.passes = []
        if row:
            merged = {name: None for one in self.of_row for name in one}
            self.rows[-1] = {name: _mean([p[name] for p in self.of_row if name in p]) for name in merged}

    def end_row(self) -> None:
        """Forget the passes of the current row, whose means it keeps."""
        self.of_row = []

    def oddities(self, parameters: Sequence[str]) -> list[str]:
        """Return notes on outputs that the current row lacks.

        Args:
            parameters: Names of the parameters with a gradient.
        """
        seen = {label.partition(" (call ")[0] for label in self.rows[-1]}
        owners = dict.fromkeys(name.rpartition(".")[0] for name in parameters)
        unseen = [owner for owner in owners if owner and not any(_akin(owner, label) for label in seen)]
        found = []
        if not seen:
            found = [
                "no layer's output was seen: the model, or another of its class, ran compiled before the "
                "watch began (begin it before the first step, or call torch.compiler.reset() then), or it is "
                "called past its hooks, as by model.forward(x) or torch.func"
            ]
        elif unseen:
            found = [
                f"outputs of {join_names(unseen)} are not seen: nothing calls these modules as such, unless "
                "it is compiled code inside torch.func, torch.cond or the like"
            ]
        if self.thinned:
            found.append(
                f"of a module's calls in a pass after the {CALLS}th the 16th, 32nd, … alone are read"
            )
        if self.transformed:
            found.append("passes within torch.func (vmap, grad, …) are not read")
        return found

    @torch.no_grad()
    def read(self, call: Running, output: Any, recorded: bool, root: Running) -> None:
        """Read a layer's output.

        It counts once a gradient reaches its piece: evaluations that autograd records belong to no step.

        Args:
            call: Call of the layer.
            output: Output of the call.
            recorded: Whether autograd records the pass; others are not read. A checkpointed part runs again
                within the backward pass, and is read then if it was not before.
            root: Outermost call around it, or the call itself.
        """
        values = main_tensor(output)
        if values is not None and torch._C._functorch.is_functorch_wrapped_tensor(values):
            self.transformed = True
        elif values is not None:
            self._read(call, values, recorded, root)

    @torch.no_grad()
    def read_compiled(self, call: CompiledCall, root: Running) -> None:
        """Read a layer's output inside compiled code.

        Args:
            call: Call of the layer.
            root: Outermost call around it.
        """
        given = () if call.given is None else (call.given,)
        running = Running(call.name, call.module, given)
        self._read(running, call.output, call.recorded, root, call)

    def _read(
        self,
        call: Running,
        values: Tensor,
        recorded: bool,
        root: Running,
        compiled: CompiledCall | None = None,
    ) -> None:
        """Read a layer's output, inside compiled code or outside."""
        if not values.numel() or isinstance(call.module, nn.Identity):
            return
        name = strip_wrappers(call.name) or type(call.module).__name__
        if not recorded:
            if call.module.training:  # layers have the order of the forward pass
                self.known.setdefault(name, (layer_kind(call.module), 0))
            return
        if in_backward():
            if self.forward is None:
                self.forward = frozenset(name for name, count in self.counts.items() if count > 0)
            if name in self.forward:
                return
        piece = self._piece_of(root)
        piece.calls[name] += 1
        self.counts[name] += 1
        # Some passes of the whole model may belong to no step: each counts its own calls.
        count = piece.calls[name] if root.name == "" else self.counts[name]
        if not piece.readings and not self.size:
            self._read_input(call, piece, compiled, _is_read(count))
        reading = self._reading(call, values, _is_read(count), compiled)
        if reading is not None:
            piece.readings.append((name, piece.calls[name], *reading))
            if (found := self.sketch(own_part(values.detach()))) is not None:
                piece.sketches[name, piece.calls[name]] = found
        if in_backward():
            self.rerun.append(piece)
            self._arrived(piece)
        elif compiled is None:
            self._await(piece, values.grad_fn)
        elif compiled.first or not piece.is_awaited:
            self._await(piece, compiled.node())

    def _await(self, piece: Piece, node: Any) -> None:
        """Take note when a gradient arrives at a node, the output of a piece."""
        if node is not None:  # a hook of the tensor would cause warnings on saving
            piece.is_awaited = True
            node.register_prehook(partial(self._arrived, piece))

    def _arrived(self, piece: Piece, *_: Any) -> None:
        """Record that a gradient has reached an output of a piece."""
        self.reached[piece.number] = weakref.ref(piece)

    def _piece_of(self, root: Running) -> Piece:
        """Return the piece of an outermost call, a new one if that has just begun."""
        if self.piece is None or self.piece.taken or self.piece.root() is not root:
            self.piece = None  # first, which subtracts the counts of a released graph
            if root.name in ("", self.opener) or not self.counts.total():
                self.begin()
                self.opener = root.name
            self.pieces += 1
            self.piece = Piece(self.pieces, root, self.counts)
        return self.piece

    def _read_input(self, call: Running, piece: Piece, compiled: CompiledCall | None, read: bool) -> None:
        """Read the input of the first layer, if it is to be read; its first axis is that of the samples."""
        first = next((each for each in tensors(call.given) if each.dim()), None)
        self.size = len(first) if first is not None else 1
        if compiled is not None:
            self.size = compiled.size
        given = main_tensor(call.given)
        if read and given is not None and given.numel():
            values = _stacked(*moments(local(given), self.size), None, None)
            piece.readings.append(("input", 1, "input", given.numel() // self.size, values))

    def _reading(
        self, call: Running, output: Tensor, read: bool, compiled: CompiledCall | None
    ) -> tuple[str, int, Tensor] | None:
        """Return kind, width and statistics of a layer's output; None if it is not to be read."""
        kind, module = layer_kind(call.module), call.module
        self.axis = unit_axis(kind, module, self.axis)
        last, follows = self.last, kind in (*WEIGHT_KINDS, "norm", "activation")
        if follows:  # not dropout after a function
            self.last = LastOutput.of(output)
        if not read:
            return None
        values = local(output)
        dead = dead_share(module, values, self.axis)
        given = main_tensor(call.given)
        if kind in WEIGHT_KINDS and given is not None:
            axis = 1 if kind == "conv" else -1
            if compiled is not None and compiled.differentiable:
                dead = unused_unless_output(last, local(given), axis, self.size)
            elif given.requires_grad and (last is None or not last.is_at(given)):
                dead = unused_share(local(given), axis)
        moment, correlation = moments(values, self.size, correlation=kind in WEIGHT_KINDS)
        if follows and self.last is not None:
            self.last = replace(self.last, moment=moment)
        numbers = _stacked(moment, correlation, dead, saturated_share(module, values))
        return kind, values.numel() // max(1, self.size), numbers

    def history(self, steps: Sequence[int]) -> ActivationHistory:
        """Return the rows of the last steps; waits for the device.

        Args:
            steps: Steps of the rows.
        """
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
    """Return True if one name is that of the same module or of one inside the other."""
    return f"{owner}.".startswith(f"{label}.") or label.startswith(f"{owner}.")


def _is_read(call: int) -> bool:
    """Return True if a module's n-th call is read: in a loop over time, all would cost more than the pass."""
    return call <= CALLS or call & (call - 1) == 0


def in_backward() -> bool:
    """Return True inside a backward pass of this thread, such as when a checkpoint runs again."""
    return torch._C._current_graph_task_id() != -1


def _stacked(*values: Tensor | None) -> Tensor:
    """Stack values as one tensor, with NaN for None; the first is no None."""
    assert values[0] is not None
    unknown = torch.full_like(values[0], math.nan)
    return torch.stack([unknown if value is None else value for value in values])


def _mean(values: Sequence[Tensor]) -> Tensor:
    return (
        values[0] if len(values) == 1 else torch.stack([each.to(values[0].device) for each in values]).mean(0)
    )


def is_compiled(model: nn.Module) -> bool:
    """Return True if a module, or one inside it, runs as compiled code, which calls no hooks.

    Args:
        model: Any module.
    """
    return any(
        hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )


def unreachable(model: nn.Module) -> str:
    """Return the reason why no layer's output can be read, or an empty string.

    Args:
        model: Watched model.
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        return "the model is scripted, which takes no hooks: its activations are not read"
    if isinstance(model, nn.DataParallel) and len(model.device_ids) > 1:
        return "the model runs in threads, on several devices: its activations are not read"
    return ""


def is_hidden(model: nn.Module) -> bool:
    """Return True if hooks of a model do not run where it is called.

    Args:
        model: Watched model.
    """
    return is_compiled(model) or bool(unreachable(model))
