"""In which precision a run computes: what was asked for, if the device does it well.

`bf16` means mixed precision: convolutions, and the activations between them, in bfloat16; master weights,
BatchNorm's statistics, logits, loss, gradients of the weights and Adam in float32. bfloat16 has float32's
exponent, so gradients of 1e-20 survive; float16, whose smallest normal number is 6e-5, erases them.
"""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from gradscape.errors import ConfigError
from gradscape.train.fusion import fusing_pays

PROBE = (64, 32, 16, 16)  # images, channels, height, width: a layer of the middle of VGG38
REPEATS, ENOUGH = 20, 3
CLEARLY = 1.3
TOLERANCE = 0.02  # of the largest value: bfloat16 rounds to 2^-9, a sum of 288 products to a few of these


def settle(wanted: str, device: torch.device) -> tuple[str, str]:
    """The precision to compute in, and why it is not the one wanted (empty if it is).

    bf16 on a CPU is tried first: without the processor's bfloat16 instructions it is emulated, several times
    slower than float32. Then float32 is used instead, which is what the user would do.

    Args:
        wanted: fp32, tf32 or bf16.
        device: where the run computes.

    Raises:
        ConfigError: the device does not have it and float32 is not what was meant.

    Example:
        >>> settle("fp32", torch.device("cpu"))
        ('fp32', '')
    """
    if device.type == "cuda":
        _require_on_gpu(wanted, device)
        return wanted, ""
    if wanted == "tf32":
        raise ConfigError("precision: tf32 is of NVIDIA GPUs, and this run is on a CPU; give fp32 or bf16")
    reason = bf16_fault(*measure_convolution()) if wanted == "bf16" else ""
    return ("fp32", f"{reason}: computing in fp32") if reason else (wanted, "")


def _require_on_gpu(wanted: str, device: torch.device) -> None:
    name, (major, _) = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
    if wanted in ("tf32", "bf16") and major < 8:  # Ampere brought both
        raise ConfigError(f"precision: {name} has no {wanted}; give --precision fp32")


def measure_convolution() -> tuple[float, float, float]:
    """Seconds of a convolution, forward and backward, in float32 and bfloat16, and their largest difference.

    Each is the fastest of repeats that take turns, for what disturbs a timing only ever adds to it; there are
    fewer of them where bfloat16 is soon seen to be faster. The difference is relative to the largest value of
    each of output, input gradient and weight gradient.
    """
    generator = torch.Generator().manual_seed(0)
    channels = PROBE[1]
    x = torch.randn(PROBE, generator=generator).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(channels, channels, 3, 3, generator=generator) / (9 * channels) ** 0.5
    full, low = (
        (x.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_())
        for dtype in (torch.float32, torch.bfloat16)
    )
    errors = [
        ((rounded.float() - exact).abs().max() / exact.abs().max()).item()
        for exact, rounded in zip(_convolution(*full), _convolution(*low), strict=True)
    ]
    full_seconds = low_seconds = math.inf
    for repeat in range(REPEATS):
        full_seconds = min(full_seconds, _seconds(*full))
        low_seconds = min(low_seconds, _seconds(*low))
        if repeat >= ENOUGH and low_seconds < full_seconds / CLEARLY:
            break
    return full_seconds, low_seconds, max(errors)


def _convolution(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Output, and the gradients that a cotangent equal to the output gives x and weight."""
    out = conv2d(x, weight, padding=1)
    of_x, of_weight = torch.autograd.grad(out, (x, weight), out.detach())
    return out.detach(), of_x, of_weight


def _seconds(x: Tensor, weight: Tensor) -> float:
    start = time.perf_counter()
    _convolution(x, weight)
    return time.perf_counter() - start


def bf16_fault(full_seconds: float, low_seconds: float, error: float) -> str:
    """What speaks against bf16 on this machine, or nothing."""
    if not error <= TOLERANCE:  # NaN too
        return f"bf16 convolutions are wrong here (off by {error:.1%} of the largest value)"
    if low_seconds > full_seconds:
        return f"bf16 convolutions are slow here ({low_seconds / full_seconds:.1f} times fp32's time)"
    return ""


def low_precision(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Where the forward pass runs: autocast to bfloat16, or nothing at all."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


@dataclass(frozen=True)
class Arithmetic:
    """What was decided, and what there is to say of it.

    Attributes:
        precision: fp32, tf32 or bf16.
        fallback: why it is not the one wanted; empty if it is.
        fused: whether BatchNorm and LeakyReLU are one operation.
        fusing: why, or why not; empty where there was no choice.
    """

    precision: str
    fallback: str = ""
    fused: bool = False
    fusing: str = ""


def decide(wanted: str, device: torch.device) -> Arithmetic:
    """For all runs that want this precision on this device.

    Raises:
        ConfigError: the device does not have the precision.
    """
    precision, fallback = settle(wanted, device)
    return Arithmetic(precision, fallback, *fusing_pays(device, precision))
