"""Residual blocks of He et al. (2016), their shortcuts, and stochastic depth of Huang et al. (2016)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import pad

from gradscape.nets.layers import Layers


class ResidualBlock(nn.Module):
    """y = σ(F(x) + shortcut(x)), F = conv1 → norm1 → σ → conv2 → norm2: He et al. (2016), eq. 1-2, Fig. 2.

    Dropout, if any, comes between the convolutions (Zagoruyko & Komodakis 2016, §2.4).

    Args:
        inputs, filters: Channels of x and of y.
        layers: Maker of convolutions, norms and σ; σ may work in place, since its inputs are new tensors.
        bias: Whether the convolutions have a bias.
        stride: Stride of conv1 and of the shortcut.
        kind: Option `a` or `b` of the shortcut where the shape changes, see `make_shortcut`.
        survival: Probability that the branch F is present, see `StochasticDepth`.
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
        self.depth = make_stochastic(survival)
        self.shortcut = make_shortcut(kind, inputs, filters, stride, layers, bias)
        self.activation = layers.act()

    def forward(self, x: Tensor) -> Tensor:
        """Return y (N, filters, H / stride, W / stride).

        Args:
            x: Features (N, inputs, H, W).
        """
        branch = self.activation(self.norm1(self.conv1(x)))
        branch = self.depth(self.norm2(self.conv2(self.drop(branch))))
        out: Tensor = self.activation(branch + self.shortcut(x))
        return out


def make_shortcut(kind: str, inputs: int, filters: int, stride: int, layers: Layers, bias: bool) -> nn.Module:
    """Return the identity where the shape is unchanged, else option A or B of He et al. (2016), §3.3.

    Args:
        kind: `a`, zero padding, or `b`, a projection.
        inputs, filters: Channels of x and of y.
        stride: Step between the pixels that are passed on.
        layers: Maker of the projection's layers.
        bias: Whether the projection has a bias.
    """
    if inputs == filters and stride == 1:
        return nn.Identity()
    if kind == "a":
        return _PaddedShortcut(filters - inputs, stride)
    return ProjectionShortcut(inputs, filters, stride, layers, bias)


class _PaddedShortcut(nn.Module):
    """Option A: every `stride`-th pixel, with `more` channels of zeros appended; no parameters."""

    def __init__(self, more: int, stride: int) -> None:
        super().__init__()
        self.more, self.stride = more, stride

    def forward(self, x: Tensor) -> Tensor:
        return pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))

    def extra_repr(self) -> str:
        """Return what `print` shows in brackets."""
        return f"more={self.more}, stride={self.stride}"


class ProjectionShortcut(nn.Module):
    """Option B: a 1×1 convolution of every `stride`-th pixel → (norm).

    Pixels are selected before the convolution: oneDNN 3.12 writes past its memory in the backward pass of a
    1×1 convolution with a stride, in channels_last with few channels (its issue 6035), and crashes the
    process.
    """

    def __init__(self, inputs: int, filters: int, stride: int, layers: Layers, bias: bool) -> None:
        super().__init__()
        self.stride = stride
        self.conv = layers.conv(inputs, filters, kernel=1, bias=bias)
        self.norm = layers.after_conv(filters)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, filters, H / stride, W / stride).

        Args:
            x: Features (N, inputs, H, W).
        """
        out: Tensor = self.norm(self.conv(x[:, :, :: self.stride, :: self.stride]))
        return out

    def extra_repr(self) -> str:
        """Return what `print` shows in brackets."""
        return f"stride={self.stride}"


class StochasticDepth(nn.Module):
    """Product of a branch and b ~ Bernoulli(p), one draw per mini-batch: Huang et al. (2016), eq. 2.

    In eval mode, the branch is multiplied by p (eq. 5). A skipped branch is computed and multiplied by 0:
    its gradients are exact zeros, and every step runs the same operations, as a CUDA graph requires. This
    saves no time, unlike the paper's, and BatchNorm's running statistics include skipped mini-batches.

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
        """Return b · branch, or p · branch in eval mode.

        Args:
            branch: Output of the branch, of any shape.
        """
        if not self.training:
            return branch * self.survival
        return branch * branch.new_empty(()).bernoulli_(self.survival)

    def extra_repr(self) -> str:
        """Return what `print` shows in brackets."""
        return f"survival={self.survival:g}"


def make_stochastic(survival: float) -> nn.Module:
    """Return `StochasticDepth`, or the identity at survival 1.

    Args:
        survival: Probability that the branch is present, in 0…1.
    """
    return StochasticDepth(survival) if survival < 1 else nn.Identity()


def survival_probabilities(branches: int, share: float) -> list[float]:
    """Return p_l = 1 - l/L · (1 - p_L) of the branches l = 1 … L: Huang et al. (2016), eq. 4.

    Args:
        branches: L, the number of branches.
        share: 1 - p_L, the probability that the last branch is skipped.

    Example:
        >>> survival_probabilities(2, 0.5)
        [0.75, 0.5]
    """
    return [1 - branch / branches * share for branch in range(1, branches + 1)]
