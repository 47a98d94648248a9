"""Which networks there are, and what is said of those that cannot be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gradscape.config.network import NetConfig
from gradscape.config.run import RunConfig
from gradscape.config.serialize import from_dict, to_dict
from gradscape.errors import ConfigError
from gradscape.train.model import build_net


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"init": "fixup"}, r"net.init: 'fixup' is for residual networks, .*add --net.skip yes for a VGG"),
        (
            {"init": "fixup", "family": "plain"},
            "for residual networks, and this plain has no skips",
        ),
        (
            {"init": "fixup", "skip": True},
            r"norm batch is given; add --net.norm none --net.entry-norm no",
        ),
        (
            {"init": "fixup", "skip": True, "norm": "none", "entry_norm": True},
            r"'fixup' takes the place of normalization, and entry_norm is given",
        ),
        (
            {"norm": "weight+algorithm1"},
            r"net.norm: expected one of none, batch",
        ),
        ({"norm": "weight", "entry_norm": True}, r"net.entry_norm: .*norm weight do not go together"),
        (
            {"family": "densenet", "depth": 41},
            r"net.depth: no DenseNet of 3 stages has 41 layers; depths are 7 \+ 3k: try --net.depth 40 or 43",
        ),
        (
            {"family": "densenet_bc", "depth": 99},
            r"no DenseNet-BC of 3 stages has 99 layers; depths are 10 \+ 6k: try --net.depth 94 or 100",
        ),
        (
            {"family": "resnet", "depth": 18},
            r"no ResNet of 3 stages has 18 layers; depths are 8 \+ 6k: try --net.depth 14 or 20",
        ),
        (
            {"norm": "group", "groups": 5},
            r"net.groups: expected a divisor of 32, of which all layers' channels are multiples; got 5",
        ),
        (
            {"family": "densenet", "depth": 40, "norm": "group"},
            r"net.groups: expected a divisor of 4, of which all layers' channels are multiples; got 8",
        ),
        ({"groups": 4}, r"net.groups: 4 are of norm group, not of batch; try --net.norm group"),
        ({"groups": 0, "norm": "group"}, r"net.groups: expected 1 … 4096; got 0"),
        (
            {"family": "resnet", "skip": True},
            r"net.skip: True is of family vgg, not of resnet; leave it at False or try --net.family vgg",
        ),
        ({"shortcut": "b"}, r"net.shortcut: 'b' is of family resnet, not of vgg; leave it at 'a'"),
        ({"growth": 24}, r"net.growth: 24 is of family densenet and densenet_bc, not of vgg"),
        ({"growth": 0, "family": "densenet"}, r"net.growth: expected 1 … 4096; got 0"),
        ({"family": "resnet", "head": "flatten"}, r"net.head: 'flatten' is of family vgg"),
        (
            {"stochastic_depth": 0.5},
            r"0.5 skips residual blocks, of which this vgg has none",
        ),
        ({"dropout": 1.0}, r"net.dropout: expected a share from 0 to below 1; got 1.0"),
        (
            {"family": "densenet", "depth": 40, "init": "delta_orthogonal"},
            r"net.init: 'delta_orthogonal' needs convolutions that have no more inputs than outputs",
        ),
        ({"family": "vg"}, r"net.family: expected one of vgg, resnet, .*; got 'vg'; did you mean 'vgg'"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_with_what_is_allowed(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        NetConfig(**values)
    assert "\n" not in str(caught.value)


def test_instance_norm_needs_more_than_one_pixel() -> None:
    net = {"family": "vgg", "depth": 10, "stages": 4, "norm": "instance", "norm_where": "everywhere"}
    with pytest.raises(ConfigError, match="instance normalizes over pixels, and 4 stages leave one"):
        from_dict(RunConfig, {"net": net})
    assert from_dict(RunConfig, {"net": {**net, "norm_where": "blocks"}})


@pytest.mark.parametrize(
    ("values", "name", "label"),
    [
        ({}, "vgg38-bn", "vgg38+bn"),
        ({"norm": "none", "init": "he"}, "vgg38-plain", "vgg38 he-init"),
        ({"norm": "none", "skip": True, "init": "fixup"}, "vgg38-plain-skip-fixup", "vgg38+skip fixup-init"),
        ({"family": "densenet_bc", "depth": 40}, "densenet-bc40-bn", "densenet-bc40+bn"),
        (
            {"family": "resnet", "depth": 20, "norm": "group", "activation": "gelu", "stochastic_depth": 0.5},
            "resnet20-group",
            "resnet20+group gelu stochastic-depth 0.5",
        ),
    ],
)
def test_names_and_labels(values: dict[str, Any], name: str, label: str) -> None:
    net = NetConfig(**values)
    assert (net.name, net.label) == (name, label)


@pytest.mark.parametrize(
    ("family", "filters"), [("vgg", 32), ("resnet", 16), ("densenet", 16), ("densenet_bc", 24)]
)
def test_the_channels_of_the_first_convolution_are_the_familys(family: Any, filters: int) -> None:
    assert NetConfig(family=family, depth=40 if "dense" in family else 38).filters == filters


def test_runs_from_before_there_was_a_choice_keep_their_names() -> None:
    """Identities of runs that an earlier version made, whose folders are to be gone on with."""
    known = {
        "vgg38-bn-lr0.001-b20-s0-cbf91b26": {"net": {"norm": "batch"}},
        "vgg38-plain-lr0.001-b20-s0-3ae1b7de": {"net": {"norm": "none", "init": "he"}},
    }
    data = {
        "name": "cifar100", "train": 3_500, "valid": 500, "statistics": "cifar10",
    }  # fmt: skip
    measured = {
        "smoothness_every": 50, "curvature_images": 100, "landscape_images": 300, "keep_every": 1,
    }  # fmt: skip
    for name, values in known.items():
        run = {**values, "data": data, "batch_size": 20, "epochs": 6, **measured}
        assert from_dict(RunConfig, run).identity == name


def test_a_later_setting_makes_another_run() -> None:
    plain = RunConfig()
    changes: list[dict[str, Any]] = [
        {"net": {"skip": True}},
        {"net": {"dropout": 0.1}},
        {"net": {"norm": "group", "groups": 4}},
        {"optim": {"name": "sgd"}},
        {"optim": {"momentum": 0.5}},
        {"optim": {"decayed": "weights"}},
        {"noise_batches": 2},
    ]
    found = {from_dict(RunConfig, change).identity for change in changes}
    assert len(found | {plain.identity}) == 8
    assert from_dict(RunConfig, to_dict(plain)) == plain


@pytest.mark.parametrize(
    ("changes", "idle"),
    [
        ({"depth": 8}, True),
        ({"depth": 8, "norm": "weight"}, True),
        ({"depth": 4, "stages": 1, "norm": "layer"}, True),
        ({"depth": 8, "norm": "none"}, False),
        ({"depth": 8, "entry_norm": True}, False),
        ({"depth": 8, "norm_where": "everywhere"}, False),
        ({"depth": 14}, False),
        ({"depth": 8, "family": "resnet"}, False),
    ],
)
def test_a_norm_that_normalizes_nothing_is_said(changes: dict[str, Any], idle: bool) -> None:
    config = NetConfig(**changes)
    plain = replace(config, norm="none", entry_norm=False)
    made = [[type(each) for each in build_net(RunConfig(net=net)).modules()] for net in (config, plain)]
    assert idle == (config.norm != "none" and made[0] == made[1])
    assert bool(config.unnormalized) == ("nowhere" in config.label) == idle
