"""Normalisations by name, and BatchNorm written out as the paper's Algorithm 1."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Algorithm1(nn.Module):
    """Batch Normalizing Transform of Ioffe & Szegedy (2015), Algorithm 1, line by line.

    The backward pass is autograd's, through these very lines. Parameters, buffers, eval mode and the
    running statistics' momentum are those of `torch.nn.BatchNorm2d`, with which it agrees to 1e-6 in
    float64.

    Args:
        channels: C of an input of shape (N, C, H, W).
        eps: ε of Algorithm 1.
        momentum: weight of the newest mini-batch in the running statistics.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))  # γ
        self.bias = nn.Parameter(torch.zeros(channels))  # β
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, activations: Tensor) -> Tensor:
        x = activations.to(self.weight.dtype)  # in mixed precision, statistics stay float32
        if self.training:
            mean = x.mean(dim=(0, 2, 3))  # mini-batch mean μ_B
            variance = (x - per_channel(mean)).square().mean(dim=(0, 2, 3))  # mini-batch variance σ²_B
            self.remember(mean.detach(), variance.detach(), x.numel() // x.shape[1])
        else:
            mean, variance = self.running_mean, self.running_var
        normalised = (x - per_channel(mean)) / per_channel(torch.sqrt(variance + self.eps))  # equation (4)
        out = per_channel(self.weight) * normalised + per_channel(self.bias)  # equation (5)
        return out.to(activations.dtype)

    def remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Running statistics; their variance is the unbiased one, as in the paper's §3.1."""
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)


def per_channel(values: Tensor) -> Tensor:
    """(C,) as (1, C, 1, 1), to broadcast over (N, C, H, W)."""
    return values[None, :, None, None]


# A dict of callables: channels → the module after a convolution.
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda channels: nn.Identity(),
    "batch": nn.BatchNorm2d,
    "algorithm1": Algorithm1,
}
