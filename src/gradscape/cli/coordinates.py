"""Command that checks how the activations of a factory's networks go with their width."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter

from gradscape.cli.app import FLAT
from gradscape.cli.files import require_folder
from gradscape.cli.noise_batch import NoiseBatch
from gradscape.cli.output import print_record, prints_aside, save_page
from gradscape.config.fields import option
from gradscape.config.options import FilePath
from gradscape.errors import ConfigError, brief, nearest

NAMED = ("sgd", "adam", "adamw")
FAULTS = ("grows", "shrinks", "diverges")


@dataclass(frozen=True, kw_only=True)
class CoordinatesOptions(NoiseBatch):
    """Widths, and optimizer that trains them."""

    widths: Annotated[tuple[int, ...], Parameter(consume_multiple=True)] = option(
        (64, 128, 256, 512), "three widths or more, in increasing order"
    )
    optimizer: str = option(
        "adam", "sgd, adam, adamw, or FILE.py:FUNCTION from parameters, or from the model, to an optimizer"
    )
    lr: float | None = option(None, "learning rate of a named optimizer (default: its own)", 0, 1e6)
    steps: int = option(3, "number of training steps", 1, 1_000)
    seeds: int = option(5, "number of seeds, a network of each width for each", 2, 1_000)
    page: FilePath | None = option(None, "file for an HTML page with figures")
    json: bool = option(False, "everything as JSON")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_folder("--page", self.page, ".html")
        if self.optimizer not in NAMED and ":" not in self.optimizer:
            known = ", ".join(NAMED)
            raise ConfigError(
                f"--optimizer: expected one of {known}, or FILE.py:FUNCTION; got {brief(self.optimizer)}"
                f"{nearest(self.optimizer, NAMED)}"
            )
        if self.lr is not None and self.optimizer not in NAMED:
            raise ConfigError("--lr: expected with a named optimizer alone; set it in the function")

    def made(self) -> str | Callable[..., Any]:
        """Return the name of the optimizer, or the function that makes it."""
        from gradscape.cli.import_object import load_factory

        return self.optimizer if self.optimizer in NAMED else load_factory(self.optimizer)


def coordinates(
    factory: Annotated[str, Parameter(name="FACTORY", help="FILE.py:FACTORY or package.module:FACTORY")],
    /,
    *,
    options: Annotated[CoordinatesOptions, FLAT] = CoordinatesOptions(),
) -> int:
    """Train a factory's networks of several widths for a few steps on noise, and compare their activations.

    Args:
        factory: FILE.py:FACTORY, or package.module:FACTORY, from a width to a network.
        options: Batch, widths and optimizer.

    Returns:
        1 if coordinates grow or shrink with width, or training diverges, else 0.

    Raises:
        ConfigError: The factory cannot be read, or makes no classifier of such samples.
    """
    from gradscape.cli.import_object import load_factory
    from gradscape.measure.coordinates.coordinate_check import coordinate_check_on_noise

    with prints_aside():
        record = coordinate_check_on_noise(
            load_factory(factory),
            options.widths,
            options.shape,
            optimizer=options.made(),
            lr=options.lr,
            steps=options.steps,
            seeds=options.seeds,
        )
    print_record(record, options.json)
    save_page(record, options.page)
    return int(record.verdict in FAULTS)
