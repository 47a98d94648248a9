"""A network whose initial weights are a seed's alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from gradscape.nets.backbone import Staged
from gradscape.nets.fixup import fixup
from gradscape.nets.initialization import initialise
from gradscape.nets.layers import Layers

M = TypeVar("M", bound=nn.Module)


def drawn(make: Callable[[], M], seed: int, init: str, layers: Layers) -> M:
    """What `make` builds, initialised; torch's generators are left as found, those of GPUs too.

    Args:
        make: builds the network, drawing from torch's generator on the CPU.
        seed: of the weights.
        init: `fixup`, for residual networks, or as of `initialise`.
        layers: whose activation sets the gain.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU's too
        model = make()
        if init == "fixup":
            assert isinstance(model, Staged)
            fixup(model, layers.activation, layers.slope)
        else:
            initialise(model, init, layers.activation, layers.slope)
    return model
