"""Roles of the smoothing study: networks with BatchNorm and without, each at several learning rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gradscape.analysis.equal_loss import RolePair
from gradscape.config.network import NetConfig
from gradscape.config.paths import Value
from gradscape.records.role import Role
from gradscape.records.run import StudyRecord

BASE = 0.001  # the paper's learning rate, at which pairs are compared at the same rate
DEPTHS = (8, 14, 20)


@dataclass(frozen=True)
class Network:
    """One network of a pair.

    Attributes:
        label: Label in figures and tables.
        pair: Name of its pair.
        net: Configuration.
    """

    label: str
    pair: str
    net: NetConfig


def _pair(depth: int, init: Literal["default", "lsuv"]) -> dict[str, Network]:
    """Return a VGG with BatchNorm and without, by name; they differ in nothing else."""
    vgg, weights = f"VGG{depth:02}", "" if init == "lsuv" else ", default weights"
    name, ending = vgg.lower(), "-lsuv" if init == "lsuv" else ""
    # Everywhere: VGG08 has no blocks to normalize, and so all convolutions are free of scale.
    normed = NetConfig(depth=depth, norm="batch", norm_where="everywhere", init=init)
    plain = NetConfig(depth=depth, norm="none", init=init)
    return {
        f"{name}-bn{ending}": Network(f"{vgg} + BatchNorm{weights}", f"{vgg}{weights}", normed),
        f"{name}{ending}": Network(f"{vgg}{weights}", f"{vgg}{weights}", plain),
    }


# Depth 20 trains without a norm from LSUV's weights; VGG08 from PyTorch's is the BatchNorm study's own pair.
STARTS: dict[str, Network] = _pair(8, "default")
NETWORKS: dict[str, Network] = {
    name: network for depth in DEPTHS for name, network in _pair(depth, "lsuv").items()
}
DEFAULT_PAIR: RolePair = ("vgg08-bn", "vgg08")
PAIRS: tuple[RolePair, ...] = tuple((f"vgg{depth:02}-bn-lsuv", f"vgg{depth:02}-lsuv") for depth in DEPTHS)


def role_of(name: str, rate: float = BASE) -> Role:
    """Return the role of a network's runs at one learning rate.

    Args:
        name: Key of `STARTS` or `NETWORKS`.
        rate: Learning rate.
    """
    network = (STARTS | NETWORKS)[name]
    parameters: dict[str, Value] = {"network": name, "lr": rate}
    if rate == BASE:
        return Role(name, network.label, network.pair, parameters)
    return Role(f"{name}@{rate:g}", f"{network.label}, lr {rate:g}", network.pair, parameters)


def rated(study: StudyRecord, name: str) -> dict[float, str]:
    """Return the name of a network's role at each learning rate that the study tries, rising.

    Args:
        study: Record of a study.
        name: Key of `NETWORKS`.
    """
    roles = study.where(network=name)
    return dict(
        sorted((rate, role.name) for role in roles if isinstance(rate := role.parameters["lr"], float))
    )
