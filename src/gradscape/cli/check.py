"""Command that checks a network before it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from gradscape.cli.app import FLAT
from gradscape.cli.files import require_folder
from gradscape.cli.noise_batch import NoiseBatch
from gradscape.cli.output import print_record, save_page
from gradscape.config.fields import option
from gradscape.config.options import FilePath


@dataclass(frozen=True, kw_only=True)
class CheckOptions(NoiseBatch):
    """Extent of the check of a network on a batch of noise."""

    seeds: int = option(3, "number of seeds of the signal", 1, 1_000)
    confirm: int = option(0, "number of real steps that remedies are ranked by", 0, 100_000)
    remedies: Annotated[bool, Parameter(negative="--no-remedies")] = option(
        True, "try remedies, or give the verdict alone"
    )
    fit: int | None = option(None, "number of steps to fit the batch in, 0 for none", 0, 100_000)
    causal: Annotated[bool, Parameter(negative=())] = option(
        False, "a position's output, of (N, T, classes), must not depend on later input"
    )
    page: FilePath | None = option(None, "file for an HTML page with figures")
    json: bool = option(False, "everything as JSON")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_folder("--page", self.page, ".html")


def check(
    factory: Annotated[str, Parameter(name="FACTORY", help="FILE.py:FACTORY or package.module:FACTORY")],
    /,
    *,
    options: Annotated[CheckOptions, FLAT] = CheckOptions(),
) -> None:
    """Diagnose a factory's network on a batch of noise, before it is trained.

    Args:
        factory: FILE.py:FACTORY, or package.module:FACTORY.
        options: Batch and extent of the check.

    Raises:
        ConfigError: The factory cannot be read, or makes no classifier of such samples.
    """
    from gradscape.cli.import_object import load_factory
    from gradscape.measure.check.check import check_on_noise

    record = check_on_noise(
        load_factory(factory),
        options.shape,
        seeds=options.seeds,
        confirm=options.confirm,
        remedies=options.remedies,
        fit=options.fit,
        causal=options.causal,
    )
    print_record(record, options.json)
    save_page(record, options.page)
