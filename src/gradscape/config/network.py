"""Configuration of a network, and the settings that go together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from gradscape.config.fields import option, require, settle
from gradscape.errors import ConfigError

GROUPS = 8  # of group normalization: 4 of a VGG's 32 channels each
FAMILIES = {
    "vgg": "VGG",
    "resnet": "ResNet",
    "plain": "plain net",
    "densenet": "DenseNet",
    "densenet_bc": "DenseNet-BC",
}
# Settings that not all families have → those that do.
OF_FAMILIES = {
    "growth": ("densenet", "densenet_bc"),
    "skip": ("vgg",),
    "shortcut": ("resnet",),
    "norm_where": ("vgg",),
    "entry_norm": ("vgg",),
    "conv_bias": ("vgg",),
    "head": ("vgg",),
}


@dataclass(frozen=True)
class NetConfig:
    """A network: the paper's VGG, or one of those that its literature section names.

    `depth` counts convolutions and the linear layer, as the papers do; `_require_sense` says which
    settings go together.
    """

    family: Literal["vgg", "resnet", "plain", "densenet", "densenet_bc"] = option(
        "vgg",
        "the paper's VGG, He et al. 2016's ResNet for CIFAR and its plain counterpart, Huang et al. 2017's "
        "DenseNet and DenseNet-BC",
    )
    depth: int = option(
        38,
        "layers with weights: VGG 2 + stages × (2 × blocks + 2), ResNet 6n + 2, DenseNet 3n + 4, BC 6n + 4",
    )
    filters: int | None = option(
        None, "channels of the first convolution (default: 32, ResNet 16, DenseNet 16, BC 2 × growth)"
    )
    stages: int = option(3, "stages; each ends by halving height and width, the last one of a VGG alone")
    growth: int = option(12, "channels that each DenseNet layer adds")
    skip: bool = option(False, "the VGG's blocks add their input to their output (He et al. 2016, eq. 1)")
    shortcut: Literal["a", "b"] = option(
        "a", "where a ResNet's shape changes: a pads with zeros, b projects (He et al. 2016, §3.3)"
    )
    norm: Literal["none", "batch", "algorithm1", "renorm", "group", "layer", "instance", "weight"] = option(
        "batch", "normalization; algorithm1 is BatchNorm written as the paper's Algorithm 1"
    )
    groups: int = option(GROUPS, "groups of channels of norm group")
    norm_where: Literal["blocks", "everywhere"] = option(
        "blocks", "normalize the VGG's blocks (the paper) or every convolution (recommended)"
    )
    entry_norm: bool = option(
        False, "normalize the VGG's entry convolution whatever norm says (the course code does)"
    )
    conv_bias: Literal["reduction", "unnormalized"] = option(
        "reduction", "VGG: biases in reduction blocks only (the course code), or wherever no norm follows"
    )
    head: Literal["average", "flatten"] = option(
        "average", "VGG: global average pooling, or all pixels, before the linear layer"
    )
    activation: Literal["leaky_relu", "relu", "tanh", "sigmoid", "gelu", "selu"] = option(
        "leaky_relu", "activation after every convolution"
    )
    slope: float = option(0.01, "leaky_relu's slope for negative inputs")
    init: Literal["default", "he", "glorot", "orthogonal", "delta_orthogonal", "lsuv", "fixup"] = option(
        "default",
        "weights: torch's default (the paper), He et al. 2015, Glorot & Bengio 2010, Saxe et al. 2014, "
        "Xiao et al. 2018, LSUV (Mishkin & Matas 2016), Fixup (Zhang et al. 2019)",
    )
    dropout: float = option(
        0.0,
        "share of values dropped within blocks, after activations (DenseNet: after convolutions)",
    )
    stochastic_depth: float = option(
        0.0,
        "share of steps that skip the last residual block, earlier ones less (Huang et al. 2016: 0.5)",
    )

    def __post_init__(self) -> None:
        settle(self, "net.")
        require(1 <= self.growth <= 4_096, "net.growth", self.growth, "1 … 4096")
        if self.filters is None:
            known = {"vgg": 32, "densenet_bc": 2 * self.growth}
            object.__setattr__(self, "filters", known.get(self.family, 16))
        assert self.filters is not None
        require(1 <= self.filters <= 4_096, "net.filters", self.filters, "1 … 4096")
        require(self.depth <= 2_000, "net.depth", self.depth, "at most 2000")
        require(1 <= self.stages <= 10, "net.stages", self.stages, "1 … 10")  # images halve 5 times at most
        require(0 <= self.slope < 1, "net.slope", self.slope, "0 ≤ slope < 1")
        require(1 <= self.groups <= 4_096, "net.groups", self.groups, "1 … 4096")
        for name in ("dropout", "stochastic_depth"):
            value = getattr(self, name)
            require(0 <= value < 1, f"net.{name}", value, "a share from 0 to below 1")
        self._require_depth()
        self._require_sense()

    def _require_depth(self) -> None:
        """Raise unless the family has a network of this depth."""
        first, step = self.depths
        if self.depth < first or (self.depth - first) % step:
            below = max(first, self.depth - (self.depth - first) % step)
            options = str(below) if self.depth < first else f"{below} or {below + step}"
            raise ConfigError(
                f"net.depth: no {FAMILIES[self.family]} of {self.stages} stages has {self.depth} layers; "
                f"depths are {first} + {step}k: try --net.depth {options}"
            )

    def _require_sense(self) -> None:
        """Raise where two settings exclude each other, or one is of another family."""
        for name, families in OF_FAMILIES.items():
            value, default = getattr(self, name), type(self).__dataclass_fields__[name].default
            if value != default and self.family not in families:
                raise ConfigError(
                    f"net.{name}: {value!r} is of family {' and '.join(families)}, not of {self.family}; "
                    f"leave it at {default!r} or try --net.family {families[0]}"
                )
        if self.groups != GROUPS and self.norm != "group":
            raise ConfigError(
                f"net.groups: {self.groups} are of norm group, not of {self.norm}; try --net.norm group"
            )
        if self.entry_norm and self.norm == "weight":
            raise ConfigError(
                "net.entry_norm: BatchNorm on the entry and norm weight do not go together; leave out one"
            )
        if self.norm == "group":
            common = math.gcd(*self.widths)
            require(
                common % self.groups == 0,
                "net.groups",
                self.groups,
                f"a divisor of {common}, of which all layers' channels are multiples",
            )
        if self.init == "fixup":
            self._require_fixup()
        if self.init == "delta_orthogonal" and self.family.startswith("densenet"):
            raise ConfigError(
                "net.init: 'delta_orthogonal' needs convolutions that have no more inputs than outputs, "
                "a DenseNet's have more; try --net.init orthogonal"
            )
        if self.stochastic_depth and not self.residual:
            raise ConfigError(
                f"net.stochastic_depth: {self.stochastic_depth} skips residual blocks, of which this "
                f"{self.family} has none; add --net.skip yes for a VGG, or try --net.family resnet"
            )

    def _require_fixup(self) -> None:
        """Raise if Fixup has no residual network without norms to be used in (Zhang et al. 2019, §3)."""
        if not self.residual:
            raise ConfigError(
                f"net.init: 'fixup' is for residual networks, and this {self.family} has no skips; "
                "add --net.skip yes for a VGG, or try --net.family resnet, or --net.init he"
            )
        if self.norm != "none" or self.entry_norm:
            which = "entry_norm" if self.norm == "none" else f"norm {self.norm}"
            raise ConfigError(
                f"net.init: 'fixup' takes the place of normalization, and {which} is given; "
                "add --net.norm none --net.entry-norm no"
            )

    @property
    def depths(self) -> tuple[int, int]:
        """Least depth of the family, and distance from one depth to the next."""
        if self.family.startswith("densenet"):
            each = self.stages * (2 if self.family == "densenet_bc" else 1)
            return 1 + self.stages + each, each
        return 2 + 2 * self.stages, 2 * self.stages

    @property
    def blocks(self) -> int:
        """Blocks per stage: a VGG's convolutional ones, a ResNet's residual ones, a DenseNet's layers."""
        first, step = self.depths
        return (self.depth - first) // step + (self.family != "vgg")

    @property
    def unnormalized(self) -> str:
        """Message on a norm that normalizes nothing, as in a VGG without blocks; empty if it does."""
        if self.norm == "none" or self.entry_norm or self.norm_where == "everywhere" or self.blocks:
            return ""
        first, step = self.depths
        return (
            f"net.norm: {self.norm} normalizes nothing: a VGG of depth {self.depth} has no blocks, and "
            f"nothing else is normalized; try --net.norm-where everywhere, or --net.depth {first + step}"
        )

    @property
    def halvings(self) -> int:
        """Number of times that height and width halve."""
        return self.stages if self.family == "vgg" else self.stages - 1

    @property
    def name(self) -> str:
        """Name in that of a run's folder, such as `vgg38-bn` or `resnet20-plain-fixup`."""
        kind = f"{self.family.replace('_', '-')}{self.depth:02d}"
        marks = [{"none": "plain", "batch": "bn", "algorithm1": "alg1"}.get(self.norm, self.norm)]
        marks += ["skip"] if self.skip else []
        marks += [self.init.replace("_", "-")] if self.init not in ("default", "he", "glorot") else []
        return "-".join([kind, *marks])

    @property
    def label(self) -> str:
        """Name for people, such as `vgg38+skip+bn he-init`; leaky_relu goes without saying."""
        norm = {"none": "", "batch": "+bn", "algorithm1": "+alg1"}.get(self.norm, f"+{self.norm}")
        skip = "+skip" if self.skip else ""
        words = [f"{self.family.replace('_', '-')}{self.depth:02d}{skip}{norm}"]
        words += ["everywhere"] if norm and self.norm_where == "everywhere" else []
        words += ["nowhere"] if self.unnormalized else []
        words += [] if self.activation == "leaky_relu" else [self.activation]
        words += [] if self.init == "default" else [f"{self.init.replace('_', '-')}-init"]
        words += [f"dropout {self.dropout:g}"] if self.dropout else []
        words += [f"stochastic-depth {self.stochastic_depth:g}"] if self.stochastic_depth else []
        return " ".join(words)

    @property
    def residual(self) -> bool:
        """True if blocks add their input to their output."""
        return self.family == "resnet" or self.skip

    @property
    def random(self) -> bool:
        """True if training draws random numbers in the forward pass."""
        return self.dropout > 0 or self.stochastic_depth > 0

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the layers that are normalized, each number once."""
        assert self.filters is not None
        if self.family == "vgg":
            return (self.filters,)
        if self.family in ("resnet", "plain"):
            return tuple(self.filters * 2**stage for stage in range(self.stages))
        inside = (4 * self.growth,) if self.family == "densenet_bc" else ()
        return tuple(sorted({*inside, *(width for stage in self.dense_stages for width in stage)}))

    @property
    def dense_stages(self) -> tuple[tuple[int, ...], ...]:
        """Channels before each layer of each stage of a DenseNet, and after the stage's last."""
        assert self.filters is not None
        channels, stages = self.filters, []
        for _ in range(self.stages):
            stages.append(tuple(channels + self.growth * layer for layer in range(self.blocks + 1)))
            # Compression θ = ½ between the blocks of a DenseNet-BC (Huang et al. 2017, §3).
            channels = stages[-1][-1] // 2 if self.family == "densenet_bc" else stages[-1][-1]
        return tuple(stages)
