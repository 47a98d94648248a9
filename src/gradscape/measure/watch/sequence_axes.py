"""Shapes that recurrent and attention layers are given, and which axis they take for the samples."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gradscape.measure.core.layer_trace import Hook
from gradscape.measure.core.parameters import strip_wrappers
from gradscape.measure.watch.step_reading import is_out_of_reach
from gradscape.records.loss import SequenceInput


class SequenceAxes:
    """Layers of a model that compute along one axis of a batch of sequences.

    Args:
        model: Watched model, without wrappers.

    Attributes:
        is_due: Whether the step is read.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = [
            (strip_wrappers(name), module)
            for name, module in model.named_modules()
            if isinstance(module, nn.RNNBase | nn.MultiheadAttention)
        ]
        self._seen: list[SequenceInput] = []
        self.is_due = True

    def hooks(self) -> list[RemovableHandle]:
        """Hook the layers, whose inputs' shapes are read from now on."""
        return [
            module.register_forward_pre_hook(Hook(lambda m, given, name=name: self._read(name, m, given)))
            for name, module in self._modules
        ]

    def _read(self, name: str, module: Any, given: tuple[Any, ...]) -> None:
        values = given[0] if given and self.is_due else None
        if isinstance(values, Tensor) and values.dim() == 3 and not is_out_of_reach():
            shape = tuple(int(size) for size in values.shape)
            self._seen.append(SequenceInput(name, type(module).__name__, bool(module.batch_first), shape))

    def take(self) -> tuple[SequenceInput, ...]:
        """Return the first input of each layer since this was called."""
        first = {each.layer: each for each in reversed(self._seen)}
        self._seen = []
        return tuple(reversed(first.values()))
