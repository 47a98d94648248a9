"""Gradient flow: what reaches every layer, and what the optimiser makes of it.

The paper's Figures 1 and 2 draw, per layer, the mean of |∂L/∂W|. It is summed here on the device over an
epoch's mini-batches together with the statistics of `gradscape.records.GradientFlow`; nothing is read
back before `result`.
"""

from __future__ import annotations

import math
from collections import defaultdict

import torch
from torch import Tensor, nn

from gradscape.records import GradientFlow

NORM_LAYERS = ("BatchNorm", "Algorithm1", "GroupNorm", "LayerNorm", "InstanceNorm")


def parameter_kind(module: nn.Module, name: str) -> str:
    """`conv`, `linear`, `norm` or `bias`: kinds are never mixed in one curve."""
    if any(word in type(module).__name__ for word in NORM_LAYERS):
        return "norm"
    if name == "bias":
        return "bias"
    return "conv" if "Conv" in type(module).__name__ else "linear"


class FlowRecorder:
    """Sums gradient statistics over mini-batches; the model and its gradients are only read.

    Call `before_step` after backward and `after_step` after the optimiser's step; `result` once at the
    end of the epoch. Tensors of one shape are stacked, so that a deep network of many small layers costs a
    dozen operations per shape rather than a dozen per layer.

    Args:
        model: its trainable parameters are recorded, in the order of their registration.

    Example:
        >>> recorder = FlowRecorder(model)
        >>> loss.backward(); recorder.before_step(); optimizer.step(); recorder.after_step()
        >>> flow = recorder.result()
    """

    def __init__(self, model: nn.Module) -> None:
        self.names: list[str] = []
        self.kinds: list[str] = []
        parameters: list[nn.Parameter] = []
        for prefix, module in model.named_modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.requires_grad:
                    self.names.append(f"{prefix}.{name}" if prefix else name)
                    self.kinds.append(parameter_kind(module, name))
                    parameters.append(parameter)
        places: dict[torch.Size, list[int]] = defaultdict(list)
        for place, parameter in enumerate(parameters):
            places[parameter.shape].append(place)
        self.order = [place for group in places.values() for place in group]
        self.groups = [Group([parameters[place] for place in group]) for group in places.values()]

    def before_step(self) -> None:
        """Read the gradients: after backward, before the step."""
        for group in self.groups:
            group.read_gradients()

    def after_step(self) -> None:
        """Read what the optimiser did: ΔW of the real step."""
        for group in self.groups:
            group.read_step()

    def result(self) -> GradientFlow:
        """The epoch's statistics; the one place that waits for the device."""
        means = [group.result() for group in self.groups]
        columns = {}
        for name in means[0]:
            grouped = torch.cat([mean[name] for mean in means]).tolist()
            by_place = dict(zip(self.order, grouped, strict=True))
            columns[name] = tuple(by_place[place] for place in range(len(self.order)))
        return GradientFlow(layers=tuple(self.names), kinds=tuple(self.kinds), **columns)


class Group:
    """Sums over mini-batches for parameters of one shape; every sum has shape (parameters,).

    Within a mini-batch in the gradient's own precision, over mini-batches in float64. Squares are taken of
    gradients divided by their largest: the square of a vanishing 1e-30 is 0 in float32.
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.steps = 0
        zeros = torch.zeros(len(parameters), dtype=torch.float64, device=parameters[0].device)
        self.last, self.max_abs = zeros.clone(), zeros.clone()
        self.sums = {name: zeros.clone() for name in SUMS}
        self.weights = stack(list(parameters))
        self.weight_norm = zeros
        self.inner = tuple(range(1, self.weights.dim()))
        self.scale = math.sqrt(parameters[0].numel())

    @torch.no_grad()
    def read_gradients(self) -> None:
        gradient = stack([zeros_if_none(p) for p in self.parameters]).abs_()
        largest = gradient.amax(self.inner)
        rms = largest * self.rms(gradient / self.per_tensor(largest.clamp_min(TINY)))
        self.last = gradient.mean(self.inner)
        self.weight_norm = self.rms(self.weights)
        self.sums["mean_abs"] += self.last
        self.sums["square"] += rms.double().square()
        self.sums["zeros"] += (gradient == 0).float().mean(self.inner)
        self.sums["finite"] += (gradient < torch.inf).float().mean(self.inner)  # false for NaN too
        self.sums["relative"] += ratio(rms, self.weight_norm)
        torch.maximum(self.max_abs, largest.double(), out=self.max_abs)

    @torch.no_grad()
    def read_step(self) -> None:
        weights = stack(list(self.parameters))
        self.sums["update"] += ratio(self.rms(weights - self.weights), self.weight_norm)
        self.weights = weights
        self.steps += 1

    def rms(self, values: Tensor) -> Tensor:
        """Root mean square within each tensor of a stack."""
        norm: Tensor = torch.linalg.vector_norm(values, dim=self.inner)
        return norm / self.scale

    def per_tensor(self, values: Tensor) -> Tensor:
        """(tensors,) shaped to broadcast over a stack."""
        return values.reshape(-1, *(1 for _ in self.inner))

    def result(self) -> dict[str, Tensor]:
        assert self.steps > 0
        means = {name: total / self.steps for name, total in self.sums.items()}
        return {
            "mean_abs": means["mean_abs"],
            "last_mean_abs": self.last,
            "rms": means["square"].sqrt(),
            "max_abs": self.max_abs,
            "zeros": means["zeros"],
            "nonfinite": 1 - means["finite"],
            "relative": means["relative"],
            "update": means["update"],
        }


TINY = 1e-38  # about the smallest normal float32
SUMS = ("mean_abs", "square", "zeros", "finite", "relative", "update")


def stack(tensors: list[Tensor]) -> Tensor:
    """Tensors of one shape as one, (tensors, …), detached; numbers as vectors of one."""
    return torch.stack([t.detach().reshape(t.shape or (1,)) for t in tensors])


def zeros_if_none(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def ratio(above: Tensor, below: Tensor) -> Tensor:
    """above / below, 0 where below is 0."""
    return torch.where(below > 0, above / below, torch.zeros_like(above))
