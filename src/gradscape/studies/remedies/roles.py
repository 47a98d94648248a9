"""Remedies that the study compares: each cure of the literature alone, and cures together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gradscape.config.network import NetConfig
from gradscape.config.paths import Value
from gradscape.records.role import Role

BASE = 0.001  # the paper's learning rate
PLAIN = "plain"
HE, NORMED, BOTH = "he", "bn", "bn+he"  # claims rest on these
KEY = (PLAIN, HE, NORMED, BOTH, "skip")  # with more seeds in the quick preset; drawn in figures of few


# A network with BatchNorm and the same without: where both train their smoothness compares.
PAIRS = (
    ("bn+skip", "skip"),
    ("bn+dense", "dense"),
    ("bn+selu", "selu"),
    ("bn+lsuv", "lsuv"),
    (BOTH, HE),
)


@dataclass(frozen=True)
class Remedy:
    """A network with a remedy.

    Attributes:
        label: Label in figures and tables.
        group: Group that it belongs to.
        net: Configuration of the network.
    """

    label: str
    group: str
    net: NetConfig


def vgg38(**changes: Any) -> NetConfig:
    """Return the paper's network, without a norm by default.

    Args:
        changes: Fields of `NetConfig` that differ from the paper's.
    """
    return NetConfig(**{"depth": 38, "norm": "none", **changes})


def densenet40(**changes: Any) -> NetConfig:
    """Return DenseNet-40-12 as published (Huang et al. 2017); there is none of 38 layers.

    Args:
        changes: Fields of `NetConfig` that differ from the published ones.
    """
    return NetConfig(**{"family": "densenet", "depth": 40, "norm": "none", **changes})


NOTHING = "nothing"
INIT = "initialization"
NORM = "normalization"
CONNECTION = "connections"
ACTIVATION = "activation"
TOGETHER = "together"

# In the order of figures and tables. What a remedy does not change is as in the paper's VGG38.
REMEDIES: dict[str, Remedy] = {
    PLAIN: Remedy("VGG38", NOTHING, vgg38()),
    "vgg08": Remedy("VGG08", NOTHING, vgg38(depth=8)),
    HE: Remedy("He", INIT, vgg38(init="he")),
    "glorot": Remedy("Glorot", INIT, vgg38(init="glorot")),
    "orthogonal": Remedy("orthogonal", INIT, vgg38(init="orthogonal")),
    "delta-orthogonal": Remedy("delta-orthogonal", INIT, vgg38(init="delta_orthogonal")),
    "lsuv": Remedy("LSUV", INIT, vgg38(init="lsuv")),
    NORMED: Remedy("BatchNorm", NORM, vgg38(norm="batch")),
    "bn-everywhere": Remedy("BatchNorm everywhere", NORM, vgg38(norm="batch", norm_where="everywhere")),
    "renorm": Remedy("Batch Renormalization", NORM, vgg38(norm="renorm")),
    "group": Remedy("GroupNorm", NORM, vgg38(norm="group")),
    "layer": Remedy("LayerNorm", NORM, vgg38(norm="layer")),
    "instance": Remedy("InstanceNorm", NORM, vgg38(norm="instance")),
    "weight": Remedy("weight normalization", NORM, vgg38(norm="weight")),
    "skip": Remedy("skips", CONNECTION, vgg38(skip=True)),
    "stochastic-depth": Remedy(
        "skips + stochastic depth", CONNECTION, vgg38(skip=True, stochastic_depth=0.5)
    ),
    "fixup": Remedy("skips + Fixup", CONNECTION, vgg38(skip=True, init="fixup")),
    "dense": Remedy("DenseNet-40", CONNECTION, densenet40()),
    "relu": Remedy("ReLU", ACTIVATION, vgg38(activation="relu")),
    "tanh": Remedy("tanh", ACTIVATION, vgg38(activation="tanh")),
    "sigmoid": Remedy("sigmoid", ACTIVATION, vgg38(activation="sigmoid")),
    "gelu": Remedy("GELU", ACTIVATION, vgg38(activation="gelu")),
    # Klambauer et al. (2017) ask for weights of variance 1/fan_in: He's with SELU's gain, 1.
    "selu": Remedy("SELU + its init", ACTIVATION, vgg38(activation="selu", init="he")),
    BOTH: Remedy("BatchNorm + He", TOGETHER, vgg38(norm="batch", init="he")),
    "bn+lsuv": Remedy("BatchNorm + LSUV", TOGETHER, vgg38(norm="batch", init="lsuv")),
    "bn+selu": Remedy(
        "BatchNorm + SELU + its init", TOGETHER, vgg38(norm="batch", activation="selu", init="he")
    ),
    "bn+skip": Remedy("BatchNorm + skips", TOGETHER, vgg38(norm="batch", skip=True)),
    "he+skip": Remedy("He + skips", TOGETHER, vgg38(init="he", skip=True)),
    # Salimans & Kingma (2016), §3, scale by data too, each channel where LSUV scales a layer.
    "weight+lsuv": Remedy("weight normalization + LSUV", TOGETHER, vgg38(norm="weight", init="lsuv")),
    "bn+dropout": Remedy("BatchNorm + dropout", TOGETHER, vgg38(norm="batch", dropout=0.1)),
    "bn+stochastic-depth": Remedy(
        "BatchNorm + skips + stochastic depth", TOGETHER, vgg38(norm="batch", skip=True, stochastic_depth=0.5)
    ),
    "bn+dense": Remedy("BatchNorm + DenseNet-40", TOGETHER, densenet40(norm="batch")),
}


# Of every kind the best known, and VGG08, which trains without any: few enough for many images.
CORE = (PLAIN, "vgg08", HE, "lsuv", NORMED, "bn-everywhere", "skip", "fixup", BOTH)


def role_of(remedy: str, rate: float = BASE) -> Role:
    """Return the role of a remedy's runs at one learning rate.

    Args:
        remedy: Key of `REMEDIES`.
        rate: Learning rate.
    """
    label, group = REMEDIES[remedy].label, REMEDIES[remedy].group
    parameters: dict[str, Value] = {"remedy": remedy, "lr": rate}
    if rate == BASE:
        return Role(remedy, label, group, parameters)
    return Role(f"{remedy}@{rate:g}", f"{label}, lr {rate:g}", group, parameters)
