"""The command that checks a network before it is trained."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from gradscape._printing import say
from gradscape._text import plain
from gradscape.cli.app import FLAT
from gradscape.cli.files import require_folder
from gradscape.config.fields import MOST_IMAGES, MOST_NUMBERS, option
from gradscape.config.options import FilePath, Options
from gradscape.errors import ConfigError, brief


@dataclass(frozen=True, kw_only=True)
class CheckOptions(Options):
    """The batch of noise that a network is checked on, and what is wanted of it."""

    input: str = option("3,32,32", "numbers of a sample; for tokens use gradscape.check in Python")
    batch_size: int = option(32, "samples", 1, MOST_IMAGES)
    seeds: int = option(3, "seeds of the signal", 1, 1_000)
    confirm: int = option(0, "real steps that remedies are ranked by", 0, 100_000)
    remedies: Annotated[bool, Parameter(negative="--no-remedies")] = option(
        True, "try remedies, or give the verdict alone"
    )
    page: FilePath | None = option(None, "an HTML page with figures too")
    json: bool = option(False, "everything as JSON")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_folder("--page", self.page, ".html")
        if (numbers := math.prod(self.shape)) > MOST_NUMBERS:
            raise ConfigError(
                f"--input, --batch-size: {brief(numbers)} numbers are too many; "
                f"give shapes of {MOST_NUMBERS:,} at most"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the batch."""
        try:
            sample = tuple(int(size) for size in self.input.split(","))
        except ValueError:
            sample = ()
        if not sample or min(sample) < 1:
            raise ConfigError(f"--input: {brief(self.input)} is not a shape; give sizes such as 3,32,32")
        return (self.batch_size, *sample)


def check(
    factory: Annotated[str, Parameter(name="FACTORY", help="FILE.py:FACTORY or package.module:FACTORY")],
    /,
    *,
    options: Annotated[CheckOptions, FLAT] = CheckOptions(),
) -> None:
    """Give a verdict on a factory's network, on a batch of noise of the given shape."""
    from gradscape.cli.import_object import load_factory
    from gradscape.measure.check.check import check_on_noise

    record = check_on_noise(
        load_factory(factory),
        options.shape,
        seeds=options.seeds,
        confirm=options.confirm,
        remedies=options.remedies,
    )
    print(json.dumps(record.to_dict(), indent=1, ensure_ascii=False) if options.json else plain(str(record)))
    if options.page:
        from gradscape.report.pages.save import save_html

        say(f"page: {save_html(record, options.page)}")
