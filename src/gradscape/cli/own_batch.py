"""Batch and loss that a command line names for a check, in place of noise and random labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from gradscape.cli.import_object import load_functions
from gradscape.errors import ConfigError, cut, with_place
from gradscape.measure.check.check import check, check_on_noise, cross_entropy_of_each
from gradscape.records.check import CheckRecord

Checked = Callable[..., CheckRecord]


def check_of(
    factory: str, batch: str | None, loss: str | None, shape: Sequence[int]
) -> tuple[Callable[..., Any], Checked]:
    """Return a factory, and the check of what it makes, to be called with its further arguments.

    Args:
        factory: FILE.py:FACTORY, or package.module:FACTORY.
        batch: Name of a function beside it that returns a batch; None for noise.
        loss: Name of a loss of torch.nn.functional, or of a function beside the factory; None for
            cross_entropy.
        shape: Shape of the noise, (N, …).

    Raises:
        ConfigError: There are no such functions, the batch cannot be made, or it needs a loss.
    """
    if batch is None:
        made = load_functions(factory, {})[0]
        return made, partial(check_on_noise, made, shape)
    known = getattr(nn.functional, loss, None) if loss else None
    beside = {"--batch": batch} | ({"--loss": loss} if loss and not callable(known) else {})
    made, found = load_functions(factory, beside)
    samples = _samples_of(found["--batch"], batch)
    return made, partial(check, made, samples, found.get("--loss", known) or _usual_loss(samples))


def _samples_of(function: Callable[[], Any], name: str) -> Any:
    """Return the batch that a user's function makes."""
    try:
        return function()
    except Exception as error:
        raise ConfigError(f"--batch: {name}() raised {cut(with_place(error), 400)}") from error


def _usual_loss(samples: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the cross-entropy of class numbers.

    Raises:
        ConfigError: Targets are none.
    """
    y = samples[1] if isinstance(samples, tuple | list) and len(samples) == 2 else None
    if not isinstance(y, Tensor) or y.is_floating_point() or y.is_complex():
        raise ConfigError(
            "--loss: expected with a --batch that is not (x, class numbers); type --loss mse_loss, another "
            "function of torch.nn.functional, or one of the factory's file"
        )
    return cross_entropy_of_each
