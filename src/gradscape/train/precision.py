"""Precision that a run computes in: the requested one, if the device computes it correctly and fast.

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

PROBE = (64, 32, 16, 16)  # images, channels, height, width: a layer in the middle of VGG38
REPEATS, ENOUGH = 20, 3
CLEARLY = 1.3
TOLERANCE = 0.02  # of the largest value: bfloat16 rounds to 2^-9, a sum of 288 products to a few times that


def settle(wanted: str, device: torch.device) -> tuple[str, str]:
    """Return the precision to compute in, and the reason if it is not the requested one.

    bf16 on a CPU is measured first: without bfloat16 instructions the processor emulates it, several times
    slower than float32. In that case float32 is used instead.

    Args:
        wanted: Requested precision: fp32, tf32 or bf16.
        device: Device of the run.

    Raises:
        ConfigError: If the device lacks the precision and fp32 is no substitute.

    Example:
        >>> settle("fp32", torch.device("cpu"))
        ('fp32', '')
    """
    if device.type == "cuda":
        _require_on_gpu(wanted, device)
        return wanted, ""
    if wanted == "tf32":
        raise ConfigError("precision: expected fp32 or bf16 on a CPU; got tf32, which needs an NVIDIA GPU")
    reason = bf16_fault(*measure_convolution()) if wanted == "bf16" else ""
    return ("fp32", f"{reason}: computing in fp32") if reason else (wanted, "")


def _require_on_gpu(wanted: str, device: torch.device) -> None:
    name, (major, _) = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
    if wanted in ("tf32", "bf16") and major < 8:  # both came with Ampere
        raise ConfigError(f"precision: {name} has no {wanted}; give --precision fp32")


def measure_convolution() -> tuple[float, float, float]:
    """Return seconds of a convolution in float32 and in bfloat16, and the largest relative error of bfloat16.

    A time covers forward and backward pass and is the fastest of alternating repeats, since disturbances only
    ever add to it; the repeats end early if bfloat16 is clearly faster. The error is relative to the largest
    value of output, input gradient and weight gradient, each.
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
    """Return the output, and the gradients of x and weight for a cotangent equal to the output."""
    out = conv2d(x, weight, padding=1)
    of_x, of_weight = torch.autograd.grad(out, (x, weight), out.detach())
    return out.detach(), of_x, of_weight


def _seconds(x: Tensor, weight: Tensor) -> float:
    start = time.perf_counter()
    _convolution(x, weight)
    return time.perf_counter() - start


def bf16_fault(full_seconds: float, low_seconds: float, error: float) -> str:
    """Return the reason against bf16 on this machine, or an empty string.

    Args:
        full_seconds, low_seconds: Seconds in float32 and in bfloat16.
        error: Largest relative error of bfloat16.
    """
    if not error <= TOLERANCE:  # NaN too
        return f"bf16 convolutions are wrong here (off by {error:.1%} of the largest value)"
    if low_seconds > full_seconds:
        return f"bf16 convolutions are slow here ({low_seconds / full_seconds:.1f} times fp32's time)"
    return ""


def low_precision(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context of the forward pass: autocast to bfloat16 for bf16, else one without effect.

    Args:
        device: Device of the run.
        precision: Precision from `settle`.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


@dataclass(frozen=True)
class Arithmetic:
    """Precision and fusion of a run, with the reasons.

    Attributes:
        precision: fp32, tf32 or bf16.
        fallback: Reason why it is not the requested one, or empty.
        fused: Whether BatchNorm and LeakyReLU are one operation.
        fusing: Reason for or against fusion; empty if there was no choice.
    """

    precision: str
    fallback: str = ""
    fused: bool = False
    fusing: str = ""


def decide(wanted: str, device: torch.device) -> Arithmetic:
    """Decide precision and fusion for all runs of a requested precision on a device.

    Args:
        wanted: Requested precision: fp32, tf32 or bf16.
        device: Device of the runs.

    Raises:
        ConfigError: If the device lacks the precision.
    """
    precision, fallback = settle(wanted, device)
    return Arithmetic(precision, fallback, *fusing_pays(device, precision))
