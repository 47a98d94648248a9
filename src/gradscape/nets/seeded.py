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


def build_seeded(make: Callable[[], M], seed: int | None, init: str, layers: Layers) -> M:
    """Return the network that `make` builds, initialized; a seed preserves the state of torch's generators.

    Args:
        make: Builder of the network, which draws from torch's generator on the CPU.
        seed: Seed of the initial weights; by default torch's generator draws them.
        init: `fixup`, for residual networks, or a name of `initialize`.
        layers: Layers of the network; their activation sets the gain.
    """
    if seed is None:
        return _build(make, init, layers)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU's too
        return _build(make, init, layers)


def _build(make: Callable[[], M], init: str, layers: Layers) -> M:
    model = make()
    if init == "fixup":
        assert isinstance(model, StagedNet)
        fixup(model, layers.activation, layers.slope)
    else:
        initialize(model, init, layers.activation, layers.slope)
    return model
