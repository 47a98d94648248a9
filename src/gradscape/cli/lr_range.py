"""Command that finds the learning rates which train a factory's network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from gradscape.cli.app import FLAT
from gradscape.cli.files import require_folder
from gradscape.cli.noise_batch import NoiseBatch
from gradscape.cli.output import print_record, prints_aside, save_page
from gradscape.config.fields import option
from gradscape.config.options import FilePath
from gradscape.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class LrRangeOptions(NoiseBatch):
    """Rates, and optimizer that they are of."""

    optimizer: Literal["sgd", "adam", "adamw"] = option("sgd", "optimizer")
    momentum: float | None = option(None, "momentum of sgd (default: none)", 0, 1)
    rates: tuple[float, float] = option((1e-7, 10.0), "first and last learning rate")
    steps: int = option(100, "number of rates, a training step for each", 10, 10_000)
    seeds: int = option(3, "number of seeds, a network for each", 1, 1_000)
    page: FilePath | None = option(None, "file for an HTML page with a figure")
    json: bool = option(False, "everything as JSON")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_folder("--page", self.page, ".html")
        if self.momentum is not None and self.optimizer != "sgd":
            raise ConfigError(f"--momentum: expected with --optimizer sgd alone; got {self.optimizer}")


def lr_range(
    factory: Annotated[str, Parameter(name="FACTORY", help="FILE.py:FACTORY or package.module:FACTORY")],
    /,
    *,
    options: Annotated[LrRangeOptions, FLAT] = LrRangeOptions(),
) -> None:
    """Raise the learning rate of a factory's network step by step, on a batch of noise with random labels.

    Args:
        factory: FILE.py:FACTORY, or package.module:FACTORY.
        options: Batch, optimizer and rates.

    Raises:
        ConfigError: The factory cannot be read, or makes no classifier of such samples.
    """
    from gradscape.cli.import_object import load_factory
    from gradscape.measure.lr_range.lr_range import lr_range_on_noise

    with prints_aside():
        record = lr_range_on_noise(
            load_factory(factory),
            options.shape,
            optimizer=options.optimizer,
            momentum=options.momentum or 0.0,
            rates=options.rates,
            steps=options.steps,
            seeds=options.seeds,
        )
    print_record(record, options.json)
    save_page(record, options.page)
