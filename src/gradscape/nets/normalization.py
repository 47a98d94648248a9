"""Normalizations by name; BatchNorm written out as the paper's Algorithm 1, and Batch Renormalization."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Algorithm1(nn.Module):
    """Batch Normalizing Transform of Ioffe & Szegedy (2015), Algorithm 1, line by line.

    The backward pass is autograd's, through these lines. Parameters, buffers, eval mode and the
    running statistics' momentum are those of `torch.nn.BatchNorm2d`; both agree to 1e-6 in float64.

    Args:
        channels: C of an input of shape (N, C, H, W).
        eps: ε of Algorithm 1.
        momentum: Weight of the newest mini-batch in the running statistics.
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
        """Return the normalized activations, of the input's shape and dtype.

        Args:
            activations: Features (N, C, H, W).
        """
        x = activations.to(self.weight.dtype)  # in mixed precision, statistics stay float32
        if self.training:
            mean = x.mean(dim=(0, 2, 3))  # mini-batch mean μ_B
            variance = (x - _per_channel(mean)).square().mean(dim=(0, 2, 3))  # mini-batch variance σ²_B
            self._remember(mean.detach(), variance.detach(), x.numel() // x.shape[1])
        else:
            mean, variance = self.running_mean, self.running_var
        normalized = (x - _per_channel(mean)) / _per_channel(torch.sqrt(variance + self.eps))  # equation (4)
        out = _per_channel(self.weight) * normalized + _per_channel(self.bias)  # equation (5)
        return out.to(activations.dtype)

    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Update the running statistics; their variance is the unbiased one (§3.1 of the paper)."""
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)


PAPER_STEPS = 130_000  # of training in Ioffe (2017), §4.1; the next three are steps of these
PLAIN_STEPS = 5_000  # as BatchNorm
R_STEPS, R_MAX = 40_000, 3.0
D_STEPS, D_MAX = 25_000, 5.0


class BatchRenorm2d(nn.Module):
    """Batch Renormalization of Ioffe (2017), Algorithm 1, line by line.

    Normalizes by the mini-batch's statistics, as BatchNorm does, and corrects them towards the moving
    averages, which eval mode uses: r corrects σ and d corrects μ, both without gradient. The paper's schedule
    bounds them (§4.1): r_max = 1 and d_max = 0, which is BatchNorm, for 5,000 of its 130,000 steps, then
    linearly to r_max = 3 at 40,000 and d_max = 5 at 25,000. Here these scale with `steps`, since a short run
    would never leave BatchNorm otherwise. α scales too, up to BatchNorm's 0.1: averages over the paper's 100
    mini-batches would lag far behind in a short run. They begin as plain means; the paper's long warm-up
    needs no such start.

    Args:
        channels: C of an input of shape (N, C, H, W).
        steps: Mini-batches of the whole training.
        eps: ε of Algorithm 1, in σ_B and therefore in the moving σ.
        momentum: α, the weight of the newest mini-batch in the moving averages; by default the paper's 0.01
            (§4.1) × 130,000 / steps, 0.1 at most.

    Example:
        >>> BatchRenorm2d(32, steps=45_000)
        BatchRenorm2d()
    """

    running_mean: Tensor
    running_deviation: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self, channels: int, steps: int = PAPER_STEPS, eps: float = 1e-5, momentum: float | None = None
    ) -> None:
        super().__init__()
        self.steps, self.eps = steps, eps
        shared = min(0.1, 0.01 * PAPER_STEPS / steps)
        self.momentum: float | None = shared if momentum is None else momentum  # None for plain means
        self.weight = nn.Parameter(torch.ones(channels))  # γ
        self.bias = nn.Parameter(torch.zeros(channels))  # β
        self.register_buffer("running_mean", torch.zeros(channels))  # μ
        self.register_buffer("running_deviation", torch.ones(channels))  # σ: the paper averages it, not σ²
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, activations: Tensor) -> Tensor:
        """Return the normalized activations, of the input's shape and dtype.

        Args:
            activations: Features (N, C, H, W).
        """
        x = activations.to(self.weight.dtype)  # in mixed precision, statistics stay float32
        if self.training:
            mean = x.mean(dim=(0, 2, 3))  # μ_B
            deviation = torch.sqrt(self.eps + (x - _per_channel(mean)).square().mean(dim=(0, 2, 3)))  # σ_B
            r, d = self._corrections(mean.detach(), deviation.detach())
            self._remember(mean.detach(), deviation.detach())
            unit = (x - _per_channel(mean)) / _per_channel(deviation)
            normalized = unit * _per_channel(r) + _per_channel(d)
        else:
            normalized = (x - _per_channel(self.running_mean)) / _per_channel(self.running_deviation)
        out = _per_channel(self.weight) * normalized + _per_channel(self.bias)
        return out.to(activations.dtype)

    def _corrections(self, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        """Return r = σ_B / σ clipped to 1/r_max … r_max, d = (μ_B − μ) / σ clipped to −d_max … d_max."""
        r_max, d_max = self._bounds()
        r = (deviation / self.running_deviation).clamp(1 / r_max, r_max)
        d = ((mean - self.running_mean) / self.running_deviation).clamp(-d_max, d_max)
        return r, d

    def _bounds(self) -> tuple[Tensor, Tensor]:
        """Return r_max and d_max of this step, as tensors: within a CUDA graph the host knows no step."""
        step = self._seen() * (PAPER_STEPS / self.steps)
        r_share = ((step - PLAIN_STEPS) / (R_STEPS - PLAIN_STEPS)).clamp(0, 1)
        d_share = ((step - PLAIN_STEPS) / (D_STEPS - PLAIN_STEPS)).clamp(0, 1)
        return 1 + r_share * (R_MAX - 1), d_share * D_MAX

    def _remember(self, mean: Tensor, deviation: Tensor) -> None:
        """Update the moving averages and count the step."""
        rate = (1 / (self._seen() + 1)).clamp(min=self.momentum or 0)
        self.running_mean.lerp_(mean, rate)
        self.running_deviation.lerp_(deviation, rate)
        self.num_batches_tracked.add_(1)

    def _seen(self) -> Tensor:
        return self.num_batches_tracked.to(self.running_mean.dtype)

    def reset_running_stats(self) -> None:
        """Forget every mini-batch, as torch's norms do by the same name."""
        self.running_mean.zero_()
        self.running_deviation.fill_(1)
        self.num_batches_tracked.zero_()


def _per_channel(values: Tensor) -> Tensor:
    """View (C,) as (1, C, 1, 1), to broadcast over (N, C, H, W)."""
    return values[None, :, None, None]


# A dict of callables: channels, groups, steps of training → the module after a convolution.
NORMS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "none": lambda channels, groups, steps: nn.Identity(),
    "batch": lambda channels, groups, steps: nn.BatchNorm2d(channels),
    "algorithm1": lambda channels, groups, steps: Algorithm1(channels),
    "renorm": lambda channels, groups, steps: BatchRenorm2d(channels, steps),
    # Wu & He (2018), §3.1, with a gain and a bias per channel; layer has one group, over C, H and W
    # (Ba et al. 2016); instance has one channel per group (Ulyanov et al. 2016).
    "group": lambda channels, groups, steps: nn.GroupNorm(groups, channels),
    "layer": lambda channels, groups, steps: nn.GroupNorm(1, channels),
    "instance": lambda channels, groups, steps: nn.InstanceNorm2d(channels, affine=True),
    "weight": lambda channels, groups, steps: nn.Identity(),  # part of the convolution: `Layers.conv`
}
