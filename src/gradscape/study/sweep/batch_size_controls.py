"""Controls for a sweep over batch sizes: equal updates, or a learning rate scaled with the size."""

from __future__ import annotations

import math
from collections.abc import Mapping

from gradscape.config.paths import CONTROLS, DEFAULTS, Value
from gradscape.config.run import RunConfig
from gradscape.config.serialize import from_dict
from gradscape.config.text import nested

RATES = ("optim.lr", "optim.min_lr")


def configure(base: Mapping[str, Value], settings: Mapping[str, Value]) -> RunConfig:
    """Return the configuration at one point of a sweep, with seed 0.

    Args:
        base: Value per field that the base sets, controls among them.
        settings: Value per field of the point.

    Raises:
        ConfigError: A value is not possible.

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
    return from_dict(RunConfig, nested(values))  # the cosine's period and others follow from the epochs


def _equal_epochs(config: RunConfig, base_size: int) -> int:
    """Number of epochs, 1 at least, with the optimizer steps nearest to those at the base batch size."""
    assert config.data.train is not None
    wanted = config.epochs * math.ceil(config.data.train / base_size)
    each = math.ceil(config.data.train / config.batch_size)
    return max(1, (2 * wanted + each) // (2 * each))


def _rate_factor(size: int, base_size: int, scaling: str) -> float:
    """Factor of the learning rates at a batch size.

    `linear`: batch over base batch (Goyal et al. 2017, §2.1, for SGD). `sqrt`: its root, which keeps the
    variance of the steps (Krizhevsky 2014, §5; Malladi et al. 2022 for Adam).
    """
    ratio = size / base_size
    return {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[scaling]
