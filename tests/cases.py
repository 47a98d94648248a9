"""Small problems that several tests share."""

from __future__ import annotations

from dataclasses import replace

from gradscape.config.network import NetConfig
from gradscape.config.run import DataConfig, OptimConfig, RunConfig
from gradscape.data import ImageSet, load_images

# A whole run in a second: VGG08 with 4 filters on 60 digits.
TINY = RunConfig(
    net=NetConfig(depth=8, filters=4, norm="batch", norm_where="everywhere"),  # VGG08 has no blocks
    data=DataConfig(name="digits", train=60, valid=20, crop_pad=1),
    optim=OptimConfig(lr=0.01),
    batch_size=25,
    epochs=3,
    seed=1,
)


def digits() -> ImageSet:
    return load_images("digits")


def tiny(**changes: object) -> RunConfig:
    return replace(TINY, **changes)  # type: ignore[arg-type]
