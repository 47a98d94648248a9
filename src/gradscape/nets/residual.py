"""Residual blocks of He et al. (2016), their shortcuts, and stochastic depth of Huang et al. (2016)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import pad

from gradscape.nets.layers import Layers


class ResidualBlock(nn.Module):
    """y = σ(F(x) + shortcut(x)), F = conv1 → norm1 → σ → conv2 → norm2: He et al. (2016), eq. 1-2, Fig. 2.

    Dropout, if any, stands between the convolutions (Zagoruyko & Komodakis 2016, §2.4).

    Args:
        inputs, filters: channels of x and of y.
        layers: makes convolutions, norms and σ; it may work in place, for all that it is given is new here.
        bias: whether convolutions have one.
        stride: of conv1 and of the shortcut.
        kind: of the shortcut where the shape changes, `a` or `b`, as `shortcut` makes it.
        survival: of the branch F, as in `StochasticDepth`; 1 keeps it.
    """

    def __init__(
        self,
        inputs: int,
        filters: int,
        layers: Layers,
        bias: bool,
        stride: int = 1,
        kind: str = "a",
        survival: float = 1.0,
    ) -> None:
        super().__init__()
        self.conv1 = layers.conv(inputs, filters, stride=stride, bias=bias)
        self.norm1 = layers.after_conv(filters)
        self.drop = layers.drop()
        self.conv2 = layers.conv(filters, filters, bias=bias)
        self.norm2 = layers.after_conv(filters)
        self.depth = stochastic(survival)
        self.shortcut = shortcut(kind, inputs, filters, stride, layers, bias)
        self.activation = layers.act()

    def forward(self, x: Tensor) -> Tensor:
        branch = self.activation(self.norm1(self.conv1(x)))
        branch = self.depth(self.norm2(self.conv2(self.drop(branch))))
        out: Tensor = self.activation(branch + self.shortcut(x))
        return out


def shortcut(kind: str, inputs: int, filters: int, stride: int, layers: Layers, bias: bool) -> nn.Module:
    """The identity where the shape stays, else option A or B of He et al. (2016), §3.3."""
    if inputs == filters and stride == 1:
        return nn.Identity()
    if kind == "a":
        return _PaddedShortcut(filters - inputs, stride)
    return ProjectionShortcut(inputs, filters, stride, layers, bias)


class _PaddedShortcut(nn.Module):
    """Option A: every `stride`-th pixel, and `more` channels of zeros behind those of x; no parameters."""

    def __init__(self, more: int, stride: int) -> None:
        super().__init__()
        self.more, self.stride = more, stride

    def forward(self, x: Tensor) -> Tensor:
        return pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))

    def extra_repr(self) -> str:
        return f"more={self.more}, stride={self.stride}"


class ProjectionShortcut(nn.Module):
    """Option B: a 1×1 convolution of every `stride`-th pixel → (norm).

    The pixels are picked first: oneDNN 3.12 writes past its memory in the backward pass of a 1×1
    convolution with a stride, in channels_last with few channels (its issue 6035), and crashes the process.
    """

    def __init__(self, inputs: int, filters: int, stride: int, layers: Layers, bias: bool) -> None:
        super().__init__()
        self.stride = stride
        self.conv = layers.conv(inputs, filters, kernel=1, bias=bias)
        self.norm = layers.after_conv(filters)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(x[:, :, :: self.stride, :: self.stride]))
        return out

    def extra_repr(self) -> str:
        return f"stride={self.stride}"


class StochasticDepth(nn.Module):
    """A branch times b ~ Bernoulli(p), one draw for the whole mini-batch: Huang et al. (2016), eq. 2.

    In eval mode the branch times p (eq. 5). A skipped branch is computed and multiplied by 0, so that its
    gradients are exact zeros and every step runs the same operations, as a CUDA graph must: the paper's time
    is not saved, and BatchNorm's running statistics see skipped mini-batches too.

    Args:
        survival: p, in 0…1.

    Example:
        >>> StochasticDepth(0.5).eval()(torch.ones(3))
        tensor([0.5000, 0.5000, 0.5000])
    """

    def __init__(self, survival: float) -> None:
        super().__init__()
        self.survival = survival

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training:
            return branch * self.survival
        return branch * branch.new_empty(()).bernoulli_(self.survival)

    def extra_repr(self) -> str:
        return f"survival={self.survival:g}"


def stochastic(survival: float) -> nn.Module:
    return StochasticDepth(survival) if survival < 1 else nn.Identity()


def survivals(branches: int, share: float) -> list[float]:
    """Of each of L branches: p_l = 1 - l/L · (1 - p_L), l = 1 … L: Huang et al. (2016), eq. 4.

    Args:
        branches: L.
        share: 1 - p_L, how often the last one is skipped.

    Example:
        >>> survivals(2, 0.5)
        [0.75, 0.5]
    """
    return [1 - branch / branches * share for branch in range(1, branches + 1)]
