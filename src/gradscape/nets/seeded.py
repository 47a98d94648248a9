"""Build a network whose initial weights a seed alone decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from gradscape.nets.backbone import StagedNet
from gradscape.nets.fixup import fixup
from gradscape.nets.initialization import initialize
from gradscape.nets.layers import Layers

M = TypeVar("M", bound=nn.Module)


def build_seeded(make: Callable[[], M], seed: int, init: str, layers: Layers) -> M:
    """Return the network that `make` builds, initialized; the state of torch's generators is preserved.

    Args:
        make: Builder of the network, which draws from torch's generator on the CPU.
        seed: Seed of the initial weights.
        init: `fixup`, for residual networks, or a name of `initialize`.
        layers: Layers of the network; their activation sets the gain.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU's too
        model = make()
        if init == "fixup":
            assert isinstance(model, StagedNet)
            fixup(model, layers.activation, layers.slope)
        else:
            initialize(model, init, layers.activation, layers.slope)
    return model
