"""Modules put in the place of others in a network: a norm after a layer, a skip around a block."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from gradscape.measure.check.reinitialize import is_transposed


class _Around(nn.Module):
    """Stand-in for a module; its other attributes, such as `weight`, are that module's."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.training = inner.training

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "inner":  # while it is being copied
                raise
            return getattr(super().__getattr__("inner"), name)


class NormAfter(_Around):
    """norm(f(x)).

    Args:
        inner: Layer f.
        norm: Norm of its output.
    """

    def __init__(self, inner: nn.Module, norm: nn.Module) -> None:
        super().__init__(inner)
        self.norm = norm.train(inner.training)

    def forward(self, *args: Any, **named: Any) -> Tensor:
        """Return norm(f(x)).

        Args:
            args, named: Arguments of the layer.
        """
        out: Tensor = self.norm(self.inner(*args, **named))
        return out


class SkipAround(_Around):
    """x + f(x), where f keeps the shape (He et al. 2016, eq. 1)."""

    def forward(self, x: Tensor, **named: Any) -> Tensor:
        """Return x + f(x).

        Args:
            x: Input of the block.
            named: Further arguments of the block.
        """
        out: Tensor = x + self.inner(x.clone(), **named)  # a copy: the block may begin in place
        return out


def put(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a module in the place of another under each of its names, but not inside itself.

    Args:
        model: Network, changed in place.
        old: Module to replace.
        new: Module put in its place.
    """
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if module is old and name:
            model.set_submodule(name, new)


def norm_for(layer: nn.Module) -> nn.Module | None:
    """Return BatchNorm over the channels of a convolution, LayerNorm over a linear layer's features.

    Args:
        layer: Layer that the norm is to follow.

    Returns:
        Norm on the layer's device and in its precision; None for another layer.
    """
    for kind, norm in ((nn.Conv1d, nn.BatchNorm1d), (nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d)):
        if isinstance(layer, kind):
            return norm(layer.out_channels).to(layer.weight.device, layer.weight.dtype)
    if isinstance(layer, nn.Linear):
        return nn.LayerNorm(layer.out_features).to(layer.weight.device, layer.weight.dtype)
    if is_transposed(layer):
        weight = cast(Tensor, layer.weight)
        return nn.LayerNorm(weight.shape[1]).to(weight.device, weight.dtype)
    return None
