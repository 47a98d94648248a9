"""Options of what the measuring commands measure on, and of what they show.

Annotations are types, not text: what inherits them in another module has other names at hand.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gradscape.cli.files import require_folder
from gradscape.config.fields import MOST_IMAGES, option
from gradscape.config.options import FilePath, Options, checked_path
from gradscape.study.execution import DataSource

if TYPE_CHECKING:
    from gradscape.cli.target import Subject


@dataclass(frozen=True, kw_only=True)
class ImageSource(DataSource):
    """The images that a network sees."""

    data: str = option("digits", "data set of a factory; a run has its own")
    images: int | None = option(
        None,
        "how many (default: 1000 for a landscape, 500 for a curvature, 100 for a smoothness, or all)",
        1,
        MOST_IMAGES,
    )
    batch_size: int | None = option(None, "of a mini-batch (default: the run's, or all)", 1, MOST_IMAGES)


@dataclass(frozen=True, kw_only=True)
class Showing(Options):
    """How a record is shown."""

    figure: FilePath | None = option(None, "draw it: .png, .svg or .pdf")
    json: bool = option(False, "everything as JSON")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_folder("--figure", self.figure, ".png", ".svg", ".pdf")


def subject(target: str, source: ImageSource, usual: int, statistics: bool) -> "Subject":
    """The network and images that a command line names; all cores at work.

    Args:
        target: a run's folder or a factory.
        source: of the images.
        usual: how many of them by default.
        statistics: whether BatchNorm takes those of each mini-batch. Where it does not, samples do not act
            together: fewer and larger mini-batches are quicker.
    """
    from gradscape._machine import cores
    from gradscape.cli.target import subject_of
    from gradscape.train.process import prepare_process

    if target.startswith("~") or not target.strip():
        target = str(checked_path(target, "RUN"))
    if source.batch_size is None and not statistics:
        source = replace(source, batch_size=source.images or usual)
    prepare_process(cores())
    return subject_of(target, source, usual)
