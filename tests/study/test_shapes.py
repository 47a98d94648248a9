"""Costs follow from a network's convolutions: held against the networks themselves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gradscape.config.network import NetConfig
from gradscape.config.run import DataConfig, RunConfig
from gradscape.study.network_cost import macs_per_image
from gradscape.study.shapes import convolutions
from gradscape.train.model import build_net

NETS: list[dict[str, Any]] = [
    {"depth": 14},
    {"depth": 14, "skip": True, "norm": "none", "head": "flatten"},
    {"depth": 14, "stages": 2, "filters": 5, "norm_where": "everywhere"},
    {"family": "resnet", "depth": 14},
    {"family": "resnet", "depth": 14, "shortcut": "b"},
    {"family": "plain", "depth": 20, "filters": 8},
    {"family": "densenet", "depth": 13},
    {"family": "densenet", "depth": 9, "stages": 2, "growth": 5},
    {"family": "densenet_bc", "depth": 16, "growth": 6},
]


@pytest.mark.parametrize("net", NETS, ids=str)
def test_multiply_adds_are_those_that_torch_counts(net: dict[str, Any]) -> None:
    config = RunConfig(net=NetConfig(**net), data=DataConfig(name="digits"))
    with FlopCounterMode(display=False) as counter:
        build_net(config).eval()(torch.zeros(1, 3, 16, 16))
    assert counter.get_total_flops() == 2 * macs_per_image(config)


@pytest.mark.parametrize("net", NETS, ids=str)
def test_the_convolutions_are_the_networks_own(net: dict[str, Any]) -> None:
    config = RunConfig(net=NetConfig(**net), data=DataConfig(name="digits"))
    convs = [m for m in build_net(config).modules() if isinstance(m, nn.Conv2d)]
    made = sorted((m.in_channels, m.out_channels, m.kernel_size[0]) for m in convs)
    assert sorted((c.inputs, c.outputs, c.kernel) for c in convolutions(config.net, 16)) == made
