"""Controls for a sweep over batch sizes: as many updates, or a learning rate that goes with the size."""

from __future__ import annotations

import math
from collections.abc import Mapping

from gradscape.config.paths import CONTROLS, DEFAULTS, Value
from gradscape.config.run import RunConfig
from gradscape.config.serialize import from_dict
from gradscape.config.text import nested

RATES = ("optim.lr", "optim.min_lr")


def configure(base: Mapping[str, Value], settings: Mapping[str, Value]) -> RunConfig:
    """The run at one point of a sweep, with seed 0.

    Args:
        base: field → value of the base configuration, controls among them; only what was given.
        settings: field → value of the point.

    Raises:
        ConfigError: such a run cannot be.

    Example:
        >>> configure({"optim.lr": 0.1}, {"batch_size": 50, "scale_lr": "linear"}).optim.lr
        0.05
    """
    point = {**base, **settings}
    values = {name: value for name, value in point.items() if name not in CONTROLS}
    plain = from_dict(RunConfig, nested(values))
    size = base.get("batch_size", DEFAULTS["batch_size"])
    assert isinstance(size, int)
    factor = _rate_factor(plain.batch_size, size, str(point.get("scale_lr", "none")))
    if not point.get("equal_updates") and factor == 1:
        return plain
    if point.get("equal_updates"):
        values["epochs"] = _equal_epochs(plain, size)
    if factor != 1:
        for name, rate in zip(RATES, (plain.optim.lr, plain.optim.min_lr), strict=True):
            values[name] = float(f"{rate * factor:.12g}")  # 0.3, not 0.30000000000000004: it names the run
    return from_dict(RunConfig, nested(values))  # what follows from the epochs, as the cosine's period, does


def _equal_epochs(config: RunConfig, base_size: int) -> int:
    """Epochs, 1 at least, whose optimiser steps are nearest to the configuration's at the base batch size."""
    assert config.data.train is not None
    wanted = config.epochs * math.ceil(config.data.train / base_size)
    each = math.ceil(config.data.train / config.batch_size)
    return max(1, (2 * wanted + each) // (2 * each))


def _rate_factor(size: int, base_size: int, scaling: str) -> float:
    """What learning rates are multiplied by at a batch size.

    `linear`: by batch over base batch (Goyal et al. 2017, §2.1, for SGD). `sqrt`: by its root, which keeps
    the variance of the steps (Krizhevsky 2014, §5; Malladi et al. 2022 for Adam).
    """
    ratio = size / base_size
    return {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[scaling]
