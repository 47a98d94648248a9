"""Normalisations by name; BatchNorm written out as the paper's Algorithm 1, and Batch Renormalization."""

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


PAPER_STEPS = 130_000  # of training in Ioffe (2017), §4.1, which the following are of
PLAIN_STEPS = 5_000  # as BatchNorm
R_STEPS, R_MAX = 40_000, 3.0
D_STEPS, D_MAX = 25_000, 5.0


class BatchRenorm2d(nn.Module):
    """Batch Renormalization of Ioffe (2017), Algorithm 1, line by line.

    Normalises by the mini-batch's statistics, as BatchNorm does, and corrects them towards the moving ones,
    which evaluation takes: by r, of σ, and d, of μ, both without gradient. The paper's schedule bounds them
    (§4.1): r_max = 1 and d_max = 0, which is BatchNorm, for 5,000 of its 130,000 steps, then linearly to
    r_max = 3 at 40,000 and d_max = 5 at 25,000. Here these are shares of `steps`, or a short run would never
    leave BatchNorm. So is α, up to BatchNorm's 0.1: over the paper's 100 mini-batches a short run's averages
    would be far behind. They begin as plain means, which the paper's long beginning does without.

    Args:
        channels: C of an input of shape (N, C, H, W).
        steps: mini-batches of the whole training.
        eps: ε of Algorithm 1, in σ_B and so in the moving σ.
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
        x = activations.to(self.weight.dtype)  # in mixed precision, statistics stay float32
        if self.training:
            mean = x.mean(dim=(0, 2, 3))  # μ_B
            deviation = torch.sqrt(self.eps + (x - per_channel(mean)).square().mean(dim=(0, 2, 3)))  # σ_B
            r, d = self.corrections(mean.detach(), deviation.detach())
            self.remember(mean.detach(), deviation.detach())
            normalised = (x - per_channel(mean)) / per_channel(deviation) * per_channel(r) + per_channel(d)
        else:
            normalised = (x - per_channel(self.running_mean)) / per_channel(self.running_deviation)
        out = per_channel(self.weight) * normalised + per_channel(self.bias)
        return out.to(activations.dtype)

    def corrections(self, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        """(C,) r = clip(σ_B / σ) to 1/r_max … r_max, and d = clip((μ_B − μ) / σ) to −d_max … d_max."""
        r_max, d_max = self.bounds()
        r = (deviation / self.running_deviation).clamp(1 / r_max, r_max)
        d = ((mean - self.running_mean) / self.running_deviation).clamp(-d_max, d_max)
        return r, d

    def bounds(self) -> tuple[Tensor, Tensor]:
        """r_max and d_max at this step; tensors, for the host knows no step within a CUDA graph."""
        step = self.seen() * (PAPER_STEPS / self.steps)
        r_share = ((step - PLAIN_STEPS) / (R_STEPS - PLAIN_STEPS)).clamp(0, 1)
        d_share = ((step - PLAIN_STEPS) / (D_STEPS - PLAIN_STEPS)).clamp(0, 1)
        return 1 + r_share * (R_MAX - 1), d_share * D_MAX

    def remember(self, mean: Tensor, deviation: Tensor) -> None:
        """Moving averages, and one step more."""
        rate = (1 / (self.seen() + 1)).clamp(min=self.momentum or 0)
        self.running_mean.lerp_(mean, rate)
        self.running_deviation.lerp_(deviation, rate)
        self.num_batches_tracked.add_(1)

    def seen(self) -> Tensor:
        return self.num_batches_tracked.to(self.running_mean.dtype)

    def reset_running_stats(self) -> None:
        """Forget every mini-batch, as torch's norms do by the same name."""
        self.running_mean.zero_()
        self.running_deviation.fill_(1)
        self.num_batches_tracked.zero_()


def per_channel(values: Tensor) -> Tensor:
    """(C,) as (1, C, 1, 1), to broadcast over (N, C, H, W)."""
    return values[None, :, None, None]


# A dict of callables: channels, groups and steps of training → the module after a convolution.
NORMS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "none": lambda channels, groups, steps: nn.Identity(),
    "batch": lambda channels, groups, steps: nn.BatchNorm2d(channels),
    "algorithm1": lambda channels, groups, steps: Algorithm1(channels),
    "renorm": lambda channels, groups, steps: BatchRenorm2d(channels, steps),
    # Wu & He (2018), §3.1, with a gain and a bias per channel; layer has one group, so it is over C, H and W
    # (Ba et al. 2016), and instance has one channel in each (Ulyanov et al. 2016).
    "group": lambda channels, groups, steps: nn.GroupNorm(groups, channels),
    "layer": lambda channels, groups, steps: nn.GroupNorm(1, channels),
    "instance": lambda channels, groups, steps: nn.InstanceNorm2d(channels, affine=True),
    "weight": lambda channels, groups, steps: nn.Identity(),  # it is of the convolution: `Layers.conv`
}
