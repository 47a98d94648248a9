"""How a run computes: decided once, by trying, and kept when the run goes on."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gradscape.train.fusion import fusing_pays
from gradscape.train.precision import settle


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
