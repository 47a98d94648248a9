"""Commands that measure a trained run, or a factory's network on named images."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from gradscape._printing import print_stderr
from gradscape.cli.app import EXECUTION, FLAT
from gradscape.cli.files import save_figure
from gradscape.cli.images import ImageSource, Showing
from gradscape.cli.output import print_record, prints_aside
from gradscape.config.fields import option
from gradscape.config.options import MOST_SECONDS, Options
from gradscape.errors import ConfigError

if TYPE_CHECKING:
    from gradscape.records.curvature import CurvatureRecord
    from gradscape.records.smoothness import SmoothnessRecord

MOST_POINTS = 1_000  # along an axis: a plane of a million
TARGET = Parameter(name="RUN", help="a run's folder, or FILE.py:FACTORY on --data")


@dataclass(frozen=True, kw_only=True)
class SmoothnessOptions(Options):
    """Arguments of `gradscape.smoothness`."""

    lr: float | None = option(None, "learning rate (default: the run's)", 0, inf)
    points: int = option(8, "number of rates", 2, MOST_POINTS)
    bn: Literal["batch", "running"] = option("batch", "statistics of BatchNorm")


@dataclass(frozen=True, kw_only=True)
class CurvatureOptions(Options):
    """Arguments of `gradscape.curvature`."""

    k: int = option(
        5, "number of eigenvalues at each end; 1 for the largest and the smallest alone", 1, MOST_POINTS
    )
    matrix: Literal["hessian", "ggn"] = option("hessian", "matrix of second derivatives")
    bn: Literal["running", "batch"] = option("running", "statistics of BatchNorm")
    probes: int = option(0, "number of random vectors for the spectral density", 0, MOST_POINTS)
    layers: bool = option(False, "measure each layer's block too")
    time_limit: float | None = option(
        None, "seconds after which the best estimate so far is returned", 0, MOST_SECONDS
    )


def smoothness(
    target: Annotated[str, TARGET],
    /,
    *,
    options: Annotated[SmoothnessOptions, FLAT] = SmoothnessOptions(),
    showing: Annotated[Showing, FLAT] = Showing(),
    source: Annotated[ImageSource, EXECUTION] = ImageSource(),
) -> None:
    """Measure along the gradient, and for a run along its optimizer's next step.

    Args:
        target: Path of a run's folder, or FILE.py:FACTORY.
        options: Arguments of `gradscape.smoothness`.
        showing: Form of what is printed and drawn.
        source: Images of the network.

    Raises:
        ConfigError: A factory was named without a learning rate, or the target cannot be read.
    """
    from gradscape.cli.target import load_target
    from gradscape.measure.smoothness.smoothness import smoothness as measure

    with prints_aside():
        measured = load_target(target, source, 100, options.bn == "batch")
        if measured.optimizer is None and options.lr is None:
            raise ConfigError(f"--lr: expected a learning rate, for {target} has no optimizer; type --lr 0.1")
        record = measure(
            measured.model, measured.loss, measured.batches, optimizer=measured.optimizer, **vars(options)
        )
    _show(showing, record)


def curvature(
    target: Annotated[str, TARGET],
    /,
    *,
    options: Annotated[CurvatureOptions, FLAT] = CurvatureOptions(),
    showing: Annotated[Showing, FLAT] = Showing(),
    source: Annotated[ImageSource, EXECUTION] = ImageSource(),
) -> None:
    """Measure second derivatives of a run's last epoch, or of a factory's network.

    Args:
        target: Path of a run's folder, or FILE.py:FACTORY.
        options: Arguments of `gradscape.curvature`.
        showing: Form of what is printed and drawn.
        source: Images of the network.

    Raises:
        ConfigError: The target cannot be read.
    """
    from gradscape.cli.target import load_target
    from gradscape.measure.curvature.curvature import curvature as measure

    with prints_aside():
        measured = load_target(target, source, 500, options.bn == "batch")
        record = measure(
            measured.model,
            measured.loss,
            measured.batches,
            optimizer=measured.optimizer,
            report=print_stderr,
            **vars(options),
        )
    _show(showing, record)


def _show(showing: Showing, record: SmoothnessRecord | CurvatureRecord) -> None:
    """Print a record, and draw it if asked to."""
    print_record(record, showing.json)
    if showing.figure:
        drawing = record.plot().get_figure(root=True)
        assert drawing is not None
        save_figure(drawing, showing.figure)
