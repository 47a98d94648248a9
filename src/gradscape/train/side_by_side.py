"""Layers of several networks as one: their channels side by side, each network's untouched by the others'."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, conv2d

# Layers that treat every channel alone are used as they are.
BY_CHANNEL = (
    nn.Identity, nn.LeakyReLU, nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SELU, nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
)  # fmt: skip


class _Convolutions(nn.Module):
    """Convolutions of equal shape, a group each; `weight` and `bias` are set before every pass."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, convs: Sequence[Any]) -> None:
        super().__init__()
        self.groups, self.bias = len(convs), None
        self.stride, self.padding = convs[0].stride, convs[0].padding

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.weight, self.bias, self.stride, self.padding, groups=self.groups)


class _BatchNorms(nn.Module):
    """BatchNorms in train mode; each norm's statistics become views of those of all."""

    weight: Tensor
    bias: Tensor

    def __init__(self, norms: Sequence[Any]) -> None:
        super().__init__()
        self.eps, self.momentum, channels = norms[0].eps, norms[0].momentum, norms[0].num_features
        self.mean = torch.cat([norm.running_mean for norm in norms])
        self.variance = torch.cat([norm.running_var for norm in norms])
        self.batches = torch.stack([norm.num_batches_tracked for norm in norms])
        views = torch.split(self.mean, channels), torch.split(self.variance, channels), self.batches
        for norm, mean, variance, batches in zip(norms, *views, strict=True):
            norm.running_mean, norm.running_var, norm.num_batches_tracked = mean, variance, batches

    def forward(self, x: Tensor) -> Tensor:
        self.batches += 1
        affine = self.weight, self.bias
        if x.shape[2:] != (1, 1):
            return batch_norm(x, self.mean, self.variance, *affine, True, self.momentum, self.eps)
        # Features of one pixel may have the strides of one layout and their gradient the other's: torch then
        # sums over images in an order that depends on the number of channels.
        features = batch_norm(x.flatten(1), self.mean, self.variance, *affine, True, self.momentum, self.eps)
        return features[:, :, None, None]


class _Linears(nn.Module):
    """Linear layers: features (B, networks × inputs) to (networks, B, outputs)."""

    weight: Tensor
    bias: Tensor

    def __init__(self, linears: Sequence[Any]) -> None:
        super().__init__()
        self.count = len(linears)

    def forward(self, x: Tensor) -> Tensor:
        inputs = x.view(len(x), self.count, -1).transpose(0, 1)
        weights = self.weight.view(self.count, -1, inputs.shape[-1]).transpose(1, 2)
        return torch.baddbmm(self.bias.view(self.count, 1, -1), inputs, weights)


# A dict of callables: class of a layer → the layer that stands for several of them.
TOGETHER: dict[type[nn.Module], Callable[[Sequence[Any]], nn.Module]] = {
    nn.Conv2d: _Convolutions,
    nn.BatchNorm2d: _BatchNorms,
    nn.Linear: _Linears,
}


def side_by_side(models: Sequence[nn.Module]) -> tuple[nn.Module, list[tuple[nn.Module, str]]]:
    """Return one network for several of equal structure; their BatchNorm statistics become views of its own.

    Args:
        models: Networks whose layers are those above.

    Returns:
        The network, without parameters, and for each parameter of a model the layer and the attribute that
        takes those of all models, joined along their first dimension.
    """
    net, slots = copy.deepcopy(models[0]), []
    for name, module in models[0].named_modules():
        if type(module) in TOGETHER:
            layer = TOGETHER[type(module)]([model.get_submodule(name) for model in models])
            net.set_submodule(name, layer)
            slots += [(layer, own) for own, _ in module.named_parameters(recurse=False)]
        else:
            leaf = next(module.children(), None) is None
            assert type(module) in BY_CHANNEL or not leaf, f"{name}: {type(module).__name__} mixes channels"
    return net.train(), slots
