"""Gradient flow: gradients that reach every layer, and the optimizer's updates.

The paper's Figures 1 and 2 draw, per layer, the mean of |∂L/∂W|. It is summed here on the device over an
epoch's mini-batches together with the other statistics of `gradscape.records.gradients`; nothing is read
back before `result`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gradscape.errors import ConfigError, brief
from gradscape.measure.core.parameter_kinds import parameters_and_kinds
from gradscape.records.gradients import EPOCH_TABLES, FlowHistory, flow_of_epochs


class FlowRecorder:
    """Sums gradient statistics over mini-batches; the model and its gradients are only read.

    Call `before_step` after backward and `after_step` after the optimizer's step; `result` once at the
    end of the epoch, and `reset` before the next. Everything is written where it was written before: both
    calls may be part of a CUDA graph. Tensors of one shape are stacked, so that a deep network of many small
    layers costs a dozen operations per shape rather than a dozen per layer.

    Args:
        model: its trainable parameters that have elements are recorded, in the order of their registration.

    Raises:
        ConfigError: the model has no trainable parameters.

    Example:
        >>> recorder = FlowRecorder(model)
        >>> loss(model(x), y).backward()
        >>> recorder.before_step(); optimizer.step(); recorder.after_step()
        >>> flow = recorder.result()
    """

    def __init__(self, model: nn.Module) -> None:
        self.names: list[str] = []
        self.kinds: list[str] = []
        parameters: list[nn.Parameter] = []
        if not isinstance(model, nn.Module):
            raise ConfigError(f"model: expected a module; got {brief(model)}")
        for name, kind, parameter in parameters_and_kinds(model):
            if parameter.requires_grad and parameter.numel():
                self.names.append(name)
                self.kinds.append(kind)
                parameters.append(parameter)
        if not parameters:
            raise ConfigError(f"{type(model).__name__} has no trainable parameters: nothing has a gradient")
        self.sizes = [parameter.numel() for parameter in parameters]
        places: dict[torch.Size, list[int]] = defaultdict(list)
        for place, parameter in enumerate(parameters):
            places[parameter.shape].append(place)
        self.order = [place for group in places.values() for place in group]
        self.scales = [math.sqrt(parameters[place].numel()) for place in self.order]  # norm over RMS
        self.groups = [_Group([parameters[place] for place in group]) for group in places.values()]
        # Sums over mini-batches in float64; columns are parameters in the groups' order.
        device = parameters[0].device
        self.now = torch.zeros(5, len(parameters), dtype=torch.float64, device=device)
        self.sums = torch.zeros(7, len(parameters), dtype=torch.float64, device=device)
        self.max_abs = torch.zeros(len(parameters), dtype=torch.float64, device=device)
        self.steps = torch.zeros((), dtype=torch.float64, device=device)

    def reset(self) -> None:
        """Forget every mini-batch."""
        for values in (self.now, self.sums, self.max_abs, self.steps):
            values.zero_()

    @torch.no_grad()
    def before_step(self) -> None:
        """Read the gradients and the weights: after backward, before the step."""
        torch.cat([group.gradients() for group in self.groups], dim=1, out=self.now)

    @torch.no_grad()
    def after_step(self) -> None:
        """Read the update ΔW of the optimizer's step, and count the mini-batch."""
        weights, change = torch.cat([group.step() for group in self.groups], dim=1).double()
        mean_abs, largest, rms, zeros, finite = self.now
        relative, update = _ratio(rms, weights), _ratio(change, weights)
        self.sums += torch.stack([mean_abs, rms.square(), zeros, finite, relative, update, weights])
        torch.maximum(self.max_abs, largest, out=self.max_abs)
        self.steps += 1

    def result(self, epoch: int = 1) -> FlowHistory:
        """The epoch's statistics, in one row; waits for the device.

        Args:
            epoch: its number.
        """
        return flow_of_epochs(self.names, self.kinds, self.sizes, [epoch], self.tables())

    def tables(self) -> NDArray[np.float64]:
        """Return the statistics as (1, tables, parameters), in the orders of `EPOCH_TABLES` and `names`."""
        assert self.steps > 0, "no mini-batch has been recorded"
        mean_abs, square, zeros, finite, relative, update, weights = (self.sums / self.steps).cpu()
        tables = {
            "mean_abs": mean_abs,
            "last_mean_abs": self.now[0],
            "max_abs": self.max_abs,
            "rms": square.sqrt(),
            "zeros": zeros,
            "nonfinite": 1 - finite,
            "weight": weights * torch.tensor(self.scales, dtype=torch.float64),
            "relative": relative,
            "relative_update": update,
        }
        return np.array([[self._ordered(tables[name]) for name in EPOCH_TABLES]])

    def _ordered(self, grouped: Tensor) -> tuple[float, ...]:
        """Reorder values from the groups' order to the order of registration."""
        by_place = dict(zip(self.order, grouped.tolist(), strict=True))
        return tuple(by_place[place] for place in range(len(self.order)))


class _Group:
    """Parameters of one shape, read together; what is returned has a column for each.

    Squares are taken of gradients divided by their largest: the square of a vanishing 1e-30 is 0 in float32.
    Everything is written into buffers of its own, and comparisons as floats: a bool of 300,000 elements
    costs a CPU four to seven times as much as the float, and its sum ten times.
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.weights = _stacked(parameters)
        self.values, self.scratch = torch.empty_like(self.weights), torch.empty_like(self.weights)
        self.inner = tuple(range(1, self.weights.dim()))
        self.scale = math.sqrt(parameters[0].numel())

    def gradients(self) -> Tensor:
        """Return mean, largest and RMS of |∂L/∂W|, fractions of zero and of finite ones: (5, parameters)."""
        _stacked(self.parameters, out=self.weights)
        gradient = _stacked([_zeros_if_none(p) for p in self.parameters], out=self.values).abs_()
        mean, largest = gradient.mean(self.inner), gradient.amax(self.inner)
        zeros = torch.eq(gradient, 0, out=self.scratch).mean(self.inner)
        finite = torch.lt(gradient, torch.inf, out=self.scratch).mean(self.inner)  # false for NaN too
        gradient /= largest.clamp_min(TINY).reshape(-1, *(1 for _ in self.inner))
        return torch.stack([mean, largest, largest * self.rms(gradient), zeros, finite])

    def step(self) -> Tensor:
        """(2, parameters): RMS of the weights before the step, and of its change."""
        after = _stacked(self.parameters, out=self.values)
        change = torch.sub(after, self.weights, out=self.scratch)
        return torch.stack([self.rms(self.weights), self.rms(change)])

    def rms(self, values: Tensor) -> Tensor:
        """Root mean square within each tensor of a stack."""
        norm: Tensor = torch.linalg.vector_norm(values, dim=self.inner)
        return norm / self.scale


TINY = 2.0**-126  # smallest normal float32: below it is 0 where denormals are flushed


@torch.no_grad()
def _stacked(tensors: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
    """Tensors of one shape as one, (tensors, …), into `out` if given; numbers as vectors of one."""
    return torch.stack([t.reshape(1) for t in tensors] if tensors[0].dim() == 0 else list(tensors), out=out)


def _zeros_if_none(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """Return above / below, 0 where below is 0."""
    return torch.where(below > 0, above / below, torch.zeros_like(above))
