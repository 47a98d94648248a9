"""Options of the batch of noise that a factory's network is looked at with.

Annotations are types, not text: what inherits them in another module has other names at hand.
"""

import math
from dataclasses import dataclass

from gradscape.config.fields import MOST_IMAGES, MOST_NUMBERS, option
from gradscape.config.options import Options
from gradscape.errors import ConfigError, brief


@dataclass(frozen=True, kw_only=True)
class NoiseBatch(Options):
    """Shape of a batch of noise."""

    input: str = option("3,32,32", "shape of a sample; for tokens use gradscape in Python")
    batch_size: int = option(32, "number of samples", 1, MOST_IMAGES)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (numbers := math.prod(self.shape)) > MOST_NUMBERS:
            raise ConfigError(
                f"--input, --batch-size: expected at most {MOST_NUMBERS:,} numbers in all; "
                f"got {brief(numbers)}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the batch."""
        try:
            sample = tuple(int(size) for size in self.input.split(","))
        except ValueError:
            sample = ()
        if not sample or min(sample) < 1:
            raise ConfigError(f"--input: expected sizes such as 3,32,32; got {brief(self.input)}")
        return (self.batch_size, *sample)
