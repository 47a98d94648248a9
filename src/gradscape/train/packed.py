"""Networks of several runs as one: each convolution has a group per run, each parameter a row per run.

A step of a small network takes as long as its operations take to start. Those of K runs of one shape are
started once for all K: images and features of the runs lie side by side as channels, convolutions have K
times as many groups, and BatchNorm, which normalizes each channel alone, K times as many channels.

A row's numbers do not depend on the other rows, nor on how many there are, as long as there are two: a lone
run has a copy of itself beside it, which nothing trains. They do differ, in the last bits, from those of the
same network alone, whose convolutions have one group and sum in another order.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from gradscape.config.run import RunConfig
from gradscape.train.side_by_side import side_by_side
from gradscape.train.state import TrainState

FEWEST = 2  # rows: with one group convolutions round differently
WHOLE = 8  # filters are a multiple of it: else vectors of a CPU span two rows, and round differently


def packable(config: RunConfig) -> bool:
    """Return True if a run can be computed in a pack: a VGG of plain layers without random draws, in fp32.

    Args:
        config: Configuration of the run.
    """
    net = config.net
    assert net.filters is not None
    plain = net.family == "vgg" and net.norm in ("none", "batch") and net.init != "fixup"
    return plain and not net.random and config.precision == "fp32" and net.filters % WHOLE == 0


@dataclass(frozen=True)
class _Block:
    """Parameters of one shape and one group of the optimizer, which are neighbors in every row.

    Attributes:
        places: Places of the parameters in `model.parameters()`.
        shape: Shape of each as it lies in memory, (outputs, height, width, inputs) for convolutions.
    """

    places: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def columns(self) -> int:
        """Number of columns."""
        return len(self.places) * math.prod(self.shape)

    def views(self, vector: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield the place of each parameter and its view of a vector (columns,)."""
        stack = vector.view(len(self.places), *self.shape)
        yield from zip(self.places, _from_memory(stack).unbind(0), strict=True)

    def side_by_side(self, rows: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield the place of each parameter and, of (rows, columns), all its rows as (rows × first, …)."""
        first, *rest = self.shape
        by_layer = rows.view(len(rows), len(self.places), *self.shape).transpose(0, 1)
        stack = by_layer.reshape(len(self.places), len(rows) * first, *rest)
        yield from zip(self.places, _from_memory(stack).unbind(0), strict=True)


class Rows:
    """Parameters of networks of one shape, a row each; the networks' own become views of their rows.

    Gradients are views of `values.grad`, which stays where it is, and BatchNorm's statistics views of those
    of all networks. The state of each optimizer is copied into one that steps a whole row.

    Args:
        states: States of the runs, whose optimizers have equal groups.

    Attributes:
        models: Networks of the rows; the last is a copy of the first where that was alone.
        values: Parameters (rows, columns).
        optimizers: Optimizer of each run's row.
    """

    def __init__(self, states: Sequence[TrainState]) -> None:
        self.states = states
        self.models = [state.model for state in states]
        self.models += [copy.deepcopy(self.models[0]) for _ in range(FEWEST - len(states))]
        self.groups = _blocks_of(states[0])
        self.blocks = [block for group in self.groups for block in group]
        rows = [_joined(self.blocks, list(model.parameters())) for model in self.models]
        self.values = torch.stack(rows).requires_grad_()
        self.values.grad = torch.zeros_like(self.values)
        self.net, self.slots = side_by_side(self.models)
        for model, row, gradient in zip(self.models, self.values.detach(), self.values.grad, strict=True):
            parameters = list(model.parameters())
            for place, view in _views(self.blocks, row):
                parameters[place].data = view
            for place, view in _views(self.blocks, gradient):
                parameters[place].grad = view
        self.optimizers = [self._optimizer(index) for index in range(len(states))]

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits (rows, B, classes) of each network for its own images.

        Args:
            images: Images (B, rows × 3, H, W), row by row.
        """
        parts = torch.split(self.values, [block.columns for block in self.blocks], dim=1)
        for block, part in zip(self.blocks, parts, strict=True):
            for place, parameter in block.side_by_side(part):
                layer, name = self.slots[place]
                setattr(layer, name, parameter)
        logits: Tensor = self.net(images)
        return logits

    def clear_gradients(self) -> None:
        """Set every gradient to zero, where it is."""
        assert self.values.grad is not None
        self.values.grad.zero_()

    def _optimizer(self, index: int) -> torch.optim.Optimizer:
        """Return an optimizer of a run's row, with the settings and the state of the run's own."""
        own, row, gradient = self.states[index].optimizer, self.values.detach()[index], self.values.grad
        assert gradient is not None
        sizes = [sum(block.columns for block in group) for group in self.groups]
        wholes = [nn.Parameter(part) for part in torch.split(row, sizes)]
        for whole, part in zip(wholes, torch.split(gradient[index], sizes), strict=True):
            whole.grad = part
        settings, kind = zip(own.param_groups, wholes, strict=True), cast(Any, type(own))
        optimizer: torch.optim.Optimizer = kind([{**each, "params": [whole]} for each, whole in settings])
        parameters = list(self.models[index].parameters())
        for whole, blocks in zip(wholes, self.groups, strict=True):
            first = parameters[blocks[0].places[0]]
            for name, value in own.state[first].items():
                every = [own.state[parameter].get(name) for parameter in parameters]
                whole_state = value if value.shape != first.shape else _joined(blocks, every)
                optimizer.state[whole][name] = whole_state.clone()
        return optimizer

    def hand_back(self, index: int) -> None:
        """Make the state of a run's own optimizer views of that of its row, for its checkpoint.

        Args:
            index: Place of the run.
        """
        own, parameters = self.states[index].optimizer, list(self.models[index].parameters())
        for group, blocks in zip(self.optimizers[index].param_groups, self.groups, strict=True):
            (whole,) = group["params"]
            for name, value in self.optimizers[index].state[whole].items():
                places = [place for block in blocks for place in block.places]
                views = _views(blocks, value) if value.shape == whole.shape else ((p, value) for p in places)
                for place, view in views:
                    own.state[parameters[place]][name] = view


def _blocks_of(state: TrainState) -> list[list[_Block]]:
    """Return the blocks of each group of a run's optimizer."""
    places = {id(parameter): place for place, parameter in enumerate(state.model.parameters())}
    groups = []
    for group in state.optimizer.param_groups:
        by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for parameter in group["params"]:
            by_shape[tuple(_to_memory(parameter).shape)].append(places[id(parameter)])
        groups.append([_Block(tuple(found), shape) for shape, found in by_shape.items()])
    return groups


def _views(blocks: Sequence[_Block], vector: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield the place of each parameter of these blocks and its view of a vector of their columns."""
    parts = torch.split(vector, [block.columns for block in blocks])
    for block, part in zip(blocks, parts, strict=True):
        yield from block.views(part)


def _joined(blocks: Sequence[_Block], tensors: Sequence[Tensor]) -> Tensor:
    """Return the columns of these blocks, from a tensor per parameter of the network."""
    places = [place for block in blocks for place in block.places]
    return torch.cat([_to_memory(tensors[place].detach()).flatten() for place in places])


def _to_memory(parameter: Tensor) -> Tensor:
    """View a parameter as it lies in memory: filters in channels_last."""
    return parameter.permute(0, 2, 3, 1) if parameter.dim() == 4 else parameter


def _from_memory(stack: Tensor) -> Tensor:
    """View a stack of parameters, as they lie in memory, in their own shapes."""
    return stack.permute(0, 1, 4, 2, 3) if stack.dim() == 5 else stack
