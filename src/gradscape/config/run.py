"""Configuration of a run: frozen, validated once, with a canonical form and an identity.

The field comments are the help texts of the command line's flags; the defaults are the paper's set-up
unless a comment says otherwise. Nothing here says where or how fast a run is executed: a run's identity
is its result's identity.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gradscape.config.fields import MOST_EPOCHS, option, require, settle
from gradscape.config.network import GROUPS, NetConfig
from gradscape.errors import ConfigError

Precision = Literal["fp32", "tf32", "bf16"]
MOST_EVERY = 1_000_000_000


@dataclass(frozen=True)
class Dataset:
    """Facts on a data set before it is read: counts of images, edge in pixels, defaults."""

    classes: int
    pool: int
    valid: int
    size: int
    crop_pad: int
    flip: bool


DATASETS = {
    # The paper's shares, 47,500/2,500/10,000; digits in like shares. A flipped digit is no digit.
    "digits": Dataset(classes=10, pool=1_497, valid=75, size=16, crop_pad=2, flip=False),
    "cifar10": Dataset(classes=10, pool=50_000, valid=2_500, size=32, crop_pad=4, flip=True),
    "cifar100": Dataset(classes=100, pool=50_000, valid=2_500, size=32, crop_pad=4, flip=True),
}


@dataclass(frozen=True)
class DataConfig:
    """Images of a run, their split and augmentation; None stands for the data set's default."""

    name: Literal["digits", "cifar10", "cifar100"] = option("digits", "data set")
    train: int | None = option(None, "training images, the first so many of the split (default: all)")
    valid: int | None = option(
        None, "validation images split off the training pool (default: the paper's share)"
    )
    split_seed: int = option(0, "seed of the train/validation split")
    stratified: bool = option(False, "split every class in equal shares")
    size: int | None = option(
        None, "edge in pixels that images are averaged down to (default: 32, digits 16, as they are)"
    )
    crop_pad: int | None = option(
        None, "black pixels around an image before its random crop (default: an eighth of its edge)"
    )
    flip: bool | None = option(None, "mirror half of the training images (default: yes, digits no)")
    statistics: Literal["own", "cifar10"] = option(
        "own",
        "channel mean and deviation to normalize with: the data set's own, or CIFAR-10's (the course code)",
    )

    def __post_init__(self) -> None:
        settle(self, "data.")
        self._settle_size()
        known = self.dataset
        for name in ("valid", "crop_pad", "flip"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(known, name))
        assert self.valid is not None
        assert self.crop_pad is not None
        require(1 <= self.valid < known.pool, "data.valid", self.valid, f"1 … {known.pool - 1}")
        left = known.pool - self.valid
        if self.train is None:
            object.__setattr__(self, "train", left)
        assert self.train is not None
        require(1 <= self.train <= left, "data.train", self.train, f"1 … {left}, what validation leaves")
        require(0 <= self.crop_pad < known.size, "data.crop_pad", self.crop_pad, f"0 … {known.size - 1}")
        require(0 <= self.split_seed < 2**32, "data.split_seed", self.split_seed, "0 … 4294967295")

    def _settle_size(self) -> None:
        """Check the edge; that of the published images is None, as if it had not been given."""
        published = DATASETS[self.name].size
        if self.size is None:
            return
        sizes = [edge for edge in range(1, published + 1) if published % edge == 0]
        require(self.size in sizes, "data.size", self.size, f"one of {', '.join(map(str, sizes))}")
        if self.size == published:
            object.__setattr__(self, "size", None)

    @property
    def dataset(self) -> Dataset:
        """Facts on the data set; on its images as they are averaged down, if they are."""
        published = DATASETS[self.name]
        if self.size is None:
            return published
        pad = published.crop_pad * self.size // published.size
        return dataclasses.replace(published, size=self.size, crop_pad=pad)

    @property
    def normalized_as(self) -> str:
        """Data set whose channel statistics are used: a key of `gradscape.data.STATISTICS`."""
        return self.name if self.statistics == "own" else "cifar10"


@dataclass(frozen=True)
class OptimConfig:
    """Adam (Kingma & Ba 2015), or SGD with momentum as in the papers on ResNet and DenseNet.

    Cosine annealing per epoch without restarts (Loshchilov & Hutter 2017).
    """

    name: Literal["adam", "sgd"] = option("adam", "optimizer")
    lr: float = option(1e-3, "learning rate of the first epoch")
    min_lr: float = option(2e-5, "learning rate the cosine ends at")
    period: int | None = option(None, "epochs from lr to min_lr (default: the run's epochs)")
    weight_decay: float = option(0.0, "L2 penalty in the gradient")
    decayed: Literal["all", "weights"] = option(
        "all", "parameters with a penalty: all (the paper), or weights of convolutions and linear layers"
    )
    momentum: float = option(0.9, "decay of SGD's sum of gradients")
    beta1: float = option(0.9, "decay of Adam's first moment")
    beta2: float = option(0.999, "decay of Adam's second moment")
    eps: float = option(1e-8, "Adam's epsilon: gradients far below it give no step")

    def __post_init__(self) -> None:
        settle(self, "optim.")
        for name in ("lr", "min_lr", "weight_decay", "eps"):
            value = getattr(self, name)
            require(math.isfinite(value) and value >= 0, f"optim.{name}", value, "a finite number ≥ 0")
        require(self.lr > 0, "optim.lr", self.lr, "a number above 0")
        require(self.min_lr <= self.lr, "optim.min_lr", self.min_lr, f"at most optim.lr, which is {self.lr}")
        for name in ("beta1", "beta2", "momentum"):
            require(0 <= getattr(self, name) < 1, f"optim.{name}", getattr(self, name), f"0 ≤ {name} < 1")
        require(
            self.period is None or 1 <= self.period <= MOST_EPOCHS,
            "optim.period",
            self.period,
            f"1 … {MOST_EPOCHS} epochs",
        )


@dataclass(frozen=True)
class RunConfig:
    """Complete configuration of a training run: equal configurations give equal results."""

    net: NetConfig = field(default_factory=NetConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    batch_size: int = option(100, "images per step; the last batch of an epoch may be smaller")
    epochs: int = option(100, "passes over the training images")
    seed: int = option(0, "seed of initial weights, order and augmentation")
    smoothness_every: int = option(
        0, "steps from one measure of smoothness to the next, each at the price of two gradients; 0 for none"
    )
    curvature_images: int = option(
        0, "training images on which the Hessian's spectrum is measured before and after training; 0 for none"
    )
    landscape_images: int = option(
        0, "training images on which the loss is measured over a plane around the trained weights; 0 for none"
    )
    noise_batches: int = option(
        0, "training mini-batches over which the gradient's noise is measured after training; 0 for none"
    )
    keep_every: int = option(
        0, "epochs from one kept set of weights to the next, from before the first; 0 to keep none"
    )
    precision: Precision = option(
        "fp32", "fp32, tf32 (NVIDIA GPUs) or bf16 (mixed; faster where the device computes in it)"
    )

    def __post_init__(self) -> None:
        if str(self.precision) == "fp16":
            raise ConfigError(
                "precision: 'fp16' is refused: its smallest normal number, 6e-5, erases vanishing gradients; "
                "bf16 is as fast and has float32's exponent"
            )
        settle(self)
        require(1 <= self.epochs <= MOST_EPOCHS, "epochs", self.epochs, f"1 … {MOST_EPOCHS}")
        require(0 <= self.seed < 2**32, "seed", self.seed, "0 … 4294967295")
        for name, unit in (("smoothness_every", "steps"), ("keep_every", "epochs")):
            every = getattr(self, name)
            require(0 <= every <= MOST_EVERY, name, every, f"0 … {MOST_EVERY} {unit}")
        assert self.data.train is not None
        for name in ("curvature_images", "landscape_images"):
            images = getattr(self, name)
            require(
                0 <= images <= self.data.train,
                name,
                images,
                f"0 … {self.data.train}, the number of training images",
            )
        require(
            1 <= self.batch_size <= self.data.train,
            "batch_size",
            self.batch_size,
            f"1 … {self.data.train}, the number of training images",
        )
        steps = math.ceil(self.data.train / self.batch_size)
        require(
            self.noise_batches in (0, *range(2, steps + 1)),
            "noise_batches",
            self.noise_batches,
            f"0, or 2 … {steps}, the mini-batches of an epoch",
        )
        size, halvings = self.data.dataset.size, self.net.halvings
        require(
            size % 2**halvings == 0,
            "net.stages",
            self.net.stages,
            f"stages that halve {size}-pixel images {halvings} times without remainder",
        )
        inside = self.net.family == "vgg" and self.net.norm_where == "blocks"  # before the last halving
        if self.net.norm == "instance" and size >> (halvings - inside) == 1:
            raise ConfigError(
                f"net.norm: instance normalizes over pixels, and {self.net.stages} stages leave one; "
                "give fewer --net.stages or another --net.norm"
            )
        if self.optim.period is None:
            object.__setattr__(self, "optim", dataclasses.replace(self.optim, period=self.epochs))

    @property
    def identity(self) -> str:
        """Readable name and short hash of the canonical form; the name of the run's folder in a study."""
        name = f"{self.net.name}-lr{self.optim.lr:g}-b{self.batch_size}-s{self.seed}"
        name += "" if self.optim.name == "adam" else f"-{self.optim.name}"
        name += "" if self.precision == "fp32" else f"-{self.precision}"
        canonical = json.dumps(_without_later(self), sort_keys=True, separators=(",", ":"))
        return f"{name}-{hashlib.sha256(canonical.encode()).hexdigest()[:8]}"

    @property
    def label(self) -> str:
        """Name for people, such as `vgg38+bn lr 0.001 batch 100 seed 0`."""
        words = [self.net.label, f"lr {self.optim.lr:g}", f"batch {self.batch_size}", f"seed {self.seed}"]
        if self.optim.weight_decay:
            words.insert(2, f"L2 {self.optim.weight_decay:g}")
        if self.optim.name != "adam":
            words.insert(1, self.optim.name)
        if self.precision != "fp32":
            words.append(self.precision)
        return " ".join(words)


# Settings that came later, and what runs from before them had: those keep their names.
LATER: Mapping[str, Mapping[str, object]] = {
    "": {
        "smoothness_every": 0,
        "curvature_images": 0,
        "landscape_images": 0,
        "noise_batches": 0,
        "keep_every": 0,
        "precision": "fp32",
    },
    "net": {
        "growth": 12,
        "skip": False,
        "shortcut": "a",
        "groups": GROUPS,
        "dropout": 0.0,
        "stochastic_depth": 0.0,
    },
    "data": {"size": None},
    "optim": {"name": "adam", "momentum": 0.9, "decayed": "all"},
}


def _without_later(config: RunConfig) -> dict[str, Any]:
    """Return plain nested values without later settings that are as before there was a choice."""
    values = dataclasses.asdict(config)
    for section, defaults in LATER.items():
        held = values[section] if section else values
        for name, default in defaults.items():
            if held[name] == default:
                del held[name]
    return values
