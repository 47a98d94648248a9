"""Options of the images that commands measure on, and of what they show.

Annotations are types, not text: what inherits them in another module has other names at hand.
"""

from dataclasses import dataclass

from gradscape.cli.files import require_folder
from gradscape.config.fields import MOST_IMAGES, option
from gradscape.config.options import FilePath, Options
from gradscape.study.execution_options import DataSource


@dataclass(frozen=True, kw_only=True)
class ImageSource(DataSource):
    """Images that a network sees."""

    data: str = option("digits", "data set of a factory; a run has its own")
    images: int | None = option(
        None,
        "number of images (default: 1000 for a landscape, 500 for a curvature, 100 for a smoothness, or all)",
        1,
        MOST_IMAGES,
    )
    batch_size: int | None = option(
        None, "images of a mini-batch (default: the run's, or all)", 1, MOST_IMAGES
    )


@dataclass(frozen=True, kw_only=True)
class Showing(Options):
    """Form in which a record is shown."""

    figure: FilePath | None = option(None, "draw it: .png, .svg or .pdf")
    json: bool = option(False, "everything as JSON")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_folder("--figure", self.figure, ".png", ".svg", ".pdf")
