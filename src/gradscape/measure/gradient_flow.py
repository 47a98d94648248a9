"""Gradient flow: what reaches every layer, and what the optimiser makes of it.

The paper's Figures 1 and 2 draw, per layer, the mean of |∂L/∂W|. It is summed here on the device over an
epoch's mini-batches together with the statistics of `gradscape.records.GradientFlow`; nothing is read
back before `result`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from gradscape.errors import ConfigError, brief
from gradscape.records import GradientFlow

NORM_LAYERS = ("BatchNorm", "BatchRenorm", "Algorithm1", "GroupNorm", "LayerNorm", "InstanceNorm", "RMSNorm")


def parameter_kind(module: nn.Module, name: str, shape: Sequence[int]) -> str:
    """`conv`, `linear`, `embedding`, `norm`, `bias` or `scale`: kinds are never mixed in one curve.

    Fixup's multipliers stand where a norm's γ would, so they are of its kind. A `scale` is whatever else is
    no matrix: a layer scale's γ, a PReLU's slope, a class token, a temperature. Such a tensor may begin at
    next to nothing by design, and its size says nothing of a signal's.

    Args:
        module: owner of the parameter.
        name: of the parameter within it.
        shape: of the parameter.
    """
    owner = type(module).__name__
    if any(word in owner for word in (*NORM_LAYERS, "ScalarMultiplier")):
        return "norm"
    if "bias" in name:  # recurrent layers have several, Swin a relative_position_bias_table
        return "bias"
    if "Embedding" in owner or "embed" in name:
        return "embedding"
    if "Linear" in owner and len(shape) > 1:  # with one output too
        return "linear"
    if "Conv" in owner and owner != "Conv1D" and len(shape) > 1:  # transformers' Conv1D is a linear layer
        return "conv"
    return "linear" if sum(size > 1 for size in shape) > 1 else "scale"


def parameters_and_kinds(model: nn.Module) -> Iterator[tuple[str, str, nn.Parameter]]:
    """Name, kind and parameter, in the order of registration, shared ones under each of their names.

    Of a weight that torch.nn.utils.parametrize makes of others, those have the kind of the weight, but for
    the gain g of weight normalisation, which is a norm's.
    """
    for prefix, module in model.named_modules():
        owner, _, tensor = prefix.rpartition(PARAMETRIZED)
        for name, parameter in module.named_parameters(recurse=False):
            full = f"{prefix}.{name}" if prefix else name
            if not isinstance(module, ParametrizationList):
                yield full, parameter_kind(module, name, parameter.shape), parameter
            elif name == "original0" and type(module[0]).__name__ == "_WeightNorm":
                yield full, "norm", parameter
            else:
                whole = model.get_submodule(owner.removesuffix("."))
                yield full, parameter_kind(whole, tensor, parameter.shape), parameter


PARAMETRIZED = "parametrizations."  # between a module's name and its tensor's


class FlowRecorder:
    """Sums gradient statistics over mini-batches; the model and its gradients are only read.

    Call `before_step` after backward and `after_step` after the optimiser's step; `result` once at the
    end of the epoch, and `reset` before the next. Everything is written where it was written before: both
    calls may be part of a CUDA graph. Tensors of one shape are stacked, so that a deep network of many small
    layers costs a dozen operations per shape rather than a dozen per layer.

    Args:
        model: its trainable parameters that have elements are recorded, in the order of their registration.

    Raises:
        ConfigError: the model has no trainable parameters.

    Example:
        >>> recorder = FlowRecorder(model)
        >>> loss.backward(); recorder.before_step(); optimizer.step(); recorder.after_step()
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
        places: dict[torch.Size, list[int]] = defaultdict(list)
        for place, parameter in enumerate(parameters):
            places[parameter.shape].append(place)
        self.order = [place for group in places.values() for place in group]
        self.scales = [math.sqrt(parameters[place].numel()) for place in self.order]  # norm over RMS
        self.groups = [Group([parameters[place] for place in group]) for group in places.values()]
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
        """Read what the optimiser did, ΔW of the real step, and count the mini-batch."""
        weights, change = torch.cat([group.step() for group in self.groups], dim=1).double()
        mean_abs, largest, rms, zeros, finite = self.now
        relative, update = ratio(rms, weights), ratio(change, weights)
        self.sums += torch.stack([mean_abs, rms.square(), zeros, finite, relative, update, weights])
        torch.maximum(self.max_abs, largest, out=self.max_abs)
        self.steps += 1

    def result(self) -> GradientFlow:
        """The epoch's statistics; the one place that waits for the device."""
        assert self.steps > 0, "no mini-batch has been recorded"
        mean_abs, square, zeros, finite, relative, update, weights = (self.sums / self.steps).cpu()
        return GradientFlow(
            layers=tuple(self.names),
            kinds=tuple(self.kinds),
            mean_abs=self.ordered(mean_abs),
            last_mean_abs=self.ordered(self.now[0]),
            rms=self.ordered(square.sqrt()),
            max_abs=self.ordered(self.max_abs),
            zeros=self.ordered(zeros),
            nonfinite=self.ordered(1 - finite),
            relative=self.ordered(relative),
            update=self.ordered(update),
            weight_norm=self.ordered(weights * torch.tensor(self.scales, dtype=torch.float64)),
        )

    def ordered(self, grouped: Tensor) -> tuple[float, ...]:
        """Values in the groups' order as values in the order of registration."""
        by_place = dict(zip(self.order, grouped.tolist(), strict=True))
        return tuple(by_place[place] for place in range(len(self.order)))


class Group:
    """Parameters of one shape, read together; what is returned has a column for each.

    Squares are taken of gradients divided by their largest: the square of a vanishing 1e-30 is 0 in float32.
    Everything is written into buffers of its own, and comparisons as floats: a bool of 300,000 elements
    costs a CPU four to seven times as much as the float, and its sum ten times.
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.weights = stacked(parameters)
        self.values, self.scratch = torch.empty_like(self.weights), torch.empty_like(self.weights)
        self.inner = tuple(range(1, self.weights.dim()))
        self.scale = math.sqrt(parameters[0].numel())

    def gradients(self) -> Tensor:
        """(5, parameters): mean, largest and RMS of |∂L/∂W|, shares of zero and of finite elements."""
        stacked(self.parameters, out=self.weights)
        gradient = stacked([zeros_if_none(p) for p in self.parameters], out=self.values).abs_()
        mean, largest = gradient.mean(self.inner), gradient.amax(self.inner)
        zeros = torch.eq(gradient, 0, out=self.scratch).mean(self.inner)
        finite = torch.lt(gradient, torch.inf, out=self.scratch).mean(self.inner)  # false for NaN too
        gradient /= largest.clamp_min(TINY).reshape(-1, *(1 for _ in self.inner))
        return torch.stack([mean, largest, largest * self.rms(gradient), zeros, finite])

    def step(self) -> Tensor:
        """(2, parameters): RMS of the weights before the step, and of its change."""
        after = stacked(self.parameters, out=self.values)
        change = torch.sub(after, self.weights, out=self.scratch)
        return torch.stack([self.rms(self.weights), self.rms(change)])

    def rms(self, values: Tensor) -> Tensor:
        """Root mean square within each tensor of a stack."""
        norm: Tensor = torch.linalg.vector_norm(values, dim=self.inner)
        return norm / self.scale


TINY = 2.0**-126  # smallest normal float32: below it is 0 where denormals are flushed


@torch.no_grad()
def stacked(tensors: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
    """Tensors of one shape as one, (tensors, …), into `out` if given; numbers as vectors of one."""
    return torch.stack([t.reshape(1) for t in tensors] if tensors[0].dim() == 0 else list(tensors), out=out)


def zeros_if_none(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def ratio(above: Tensor, below: Tensor) -> Tensor:
    """above / below, 0 where below is 0."""
    return torch.where(below > 0, above / below, torch.zeros_like(above))
