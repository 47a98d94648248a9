"""Command that measures and draws the loss around trained runs, and between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from gradscape._printing import print_stderr
from gradscape._text import strip_controls
from gradscape.cli.app import EXECUTION, FLAT
from gradscape.cli.files import require_folder, save_figure
from gradscape.cli.images import ImageSource, Showing
from gradscape.cli.measure import MOST_POINTS, TARGET
from gradscape.cli.output import prints_aside, to_json
from gradscape.config.fields import option
from gradscape.config.options import MOST_SECONDS, FilePath, LandscapeStatistics, Options
from gradscape.errors import ConfigError

if TYPE_CHECKING:
    from gradscape.cli.target import Target
    from gradscape.records.landscape import LandscapeRecord

_USUAL = 1_000  # images


@dataclass(frozen=True, kw_only=True)
class Grid(Options):
    """Arguments of `gradscape.landscape` that all runs have in common."""

    directions: str = option("filter", "filter, layer, gaussian, hessian or gradient")
    dims: int = option(2, "2 for a plane, 1 for a slice", 1, 2)
    pairs: int = option(1, "number of pairs of random directions, a surface for each", 1, MOST_POINTS)
    points: int = option(25, "number of points along an axis", 2, MOST_POINTS)
    span: tuple[float, float] | None = option(None, "first and last coordinate (default: -1 1)")
    accuracy: float | None = option(
        None, "error of interpolation above which the grid is refined, such as 0.02", 0, 1
    )
    checks: int = option(0, "number of points in between that check the interpolation", 0, 100_000)
    convexity: int = option(
        0, "number of points along an axis at which |λmin/λmax| is measured", 0, MOST_POINTS
    )
    bf16: bool = option(False, "compute in bfloat16")
    time_limit: float | None = option(
        None, "seconds for each, after which the points so far are returned", 0, MOST_SECONDS
    )


@dataclass(frozen=True, kw_only=True)
class LandscapeOptions(Options):
    """Choice of the landscapes that are measured, and place of their points."""

    bn: Annotated[tuple[LandscapeStatistics, ...], Parameter(consume_multiple=True)] = option(
        ("running",), "statistics of BatchNorm; several are drawn side by side"
    )
    through: bool = option(
        False,
        "measure a line through two runs, a plane through three; with --dims 1 a line from the first to each",
    )
    path: bool = option(False, "measure the plane nearest to the weights kept along a run's training")
    keep: FilePath | None = option(None, "folder for the points, from which an interrupted command continues")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_folder("--keep", self.keep)


@dataclass(frozen=True, kw_only=True)
class DrawingOptions(Showing):
    """Form in which landscapes are shown."""

    surface: bool = option(False, "draw --figure in three dimensions")
    animate: FilePath | None = option(None, "file for the surface through a run's training: .gif")
    turn: FilePath | None = option(None, "file for a page on which the surface turns: .html")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_folder("--turn", self.turn, ".html")
        require_folder("--animate", self.animate, ".gif")


def landscape(
    runs: Annotated[tuple[str, ...], TARGET],
    /,
    *,
    options: Annotated[LandscapeOptions, FLAT] = LandscapeOptions(),
    grid: Annotated[Grid, Parameter(name="*", group=Group("Grid", sort_key=10))] = Grid(),
    drawing: Annotated[
        DrawingOptions, Parameter(name="*", group=Group("Drawing", sort_key=12))
    ] = DrawingOptions(),
    source: Annotated[ImageSource, EXECUTION] = ImageSource(),
) -> None:
    """Measure around each run, or through them all, with each kind of statistics.

    Args:
        runs: Path of each run's folder, or FILE.py:FACTORY.
        options: Choice of landscapes, and place of their points.
        grid: Arguments of `gradscape.landscape`.
        drawing: Form of what is printed and drawn.
        source: Images of the networks.

    Raises:
        ConfigError: Options exclude each other, or a run cannot be read.
    """
    if drawing.animate and (len(runs) > 1 or grid.dims != 2):
        raise ConfigError("--animate: expected one RUN and its plane; leave out other runs, and --dims 1")
    from gradscape.cli.target import load_target

    together = options.bn != ("running",)
    with prints_aside():
        targets = [load_target(run, source, _USUAL, together) for run in runs]
    if options.through and len(targets) < 2:
        raise ConfigError("--through: expected two runs for a line, or three for a plane; got 1")
    if drawing.turn and (grid.dims == 1 or (options.through and len(targets) == 2)):
        raise ConfigError("--turn: expected a plane, for a line has no surface to turn; leave out --dims 1")
    others: list[Any] = [target.model for target in targets[1:]] if options.through else []
    if drawing.animate:
        _kept_along(targets[0])
    views = _named(runs, options.bn, targets[:1] if options.through else targets)
    records: dict[str, LandscapeRecord] = {}
    for name, (target, bn) in views.items():
        if len(views) > 1:
            print_stderr(name)
        path = _kept_along(target) if options.path else None
        file = _points_file(options.keep, len(records))
        records[name] = _evaluate(grid, target, bn, keep=file, through=others or None, path=path)
    if drawing.json:
        print(to_json({name: record.to_dict() for name, record in records.items()}))
    else:
        print(strip_controls("\n\n".join(f"{name}: {record}" for name, record in records.items())))
    _draw_landscapes(drawing, records)
    if drawing.animate:
        _animate(drawing.animate, grid, options, targets[0])


def _named(
    runs: Sequence[str], statistics: Sequence[LandscapeStatistics], targets: Sequence[Target]
) -> dict[str, tuple[Target, LandscapeStatistics]]:
    """Return target and statistics per name of a landscape; runs that share a name are named by their folder.

    Raises:
        ConfigError: A run or kind of statistics is there twice.
    """
    names: Sequence[str] = [target.name for target in targets]
    if len(set(names)) < len(names):
        names = runs
    for flag, given in (("RUN", names), ("--bn", statistics)):
        if twice := [each for place, each in enumerate(given) if each in given[:place]]:
            raise ConfigError(f"{flag}: expected each once; got {twice[0]} twice")
    many = len(statistics) > 1
    return {
        f"{name}, {bn}" if many else name: (target, bn)
        for name, target in zip(names, targets, strict=True)
        for bn in statistics
    }


def _points_file(folder: FilePath | None, number: int) -> Path | None:
    """Return the path of the file that the points of a command's landscape are kept in."""
    return Path(folder) / f"{number}.jsonl" if folder else None


def _evaluate(grid: Grid, target: Target, bn: LandscapeStatistics, **further: Any) -> LandscapeRecord:
    """Measure a landscape."""
    from gradscape.measure.landscape.landscape import landscape as measure

    with prints_aside():
        return measure(
            target.model, target.loss, target.batches, bn=bn, report=print_stderr, **vars(grid), **further
        )


def _kept_along(target: Target) -> list[Mapping[str, Any]]:
    """Return the weights that a run kept along its training.

    Raises:
        ConfigError: There are fewer than two.
    """
    if len(target.path) < 2:
        raise ConfigError(
            f"RUN: expected a run that kept weights along its training; got {target.name}; train it with "
            "--keep-every 1"
        )
    return list(target.path.values())


def _animate(file: FilePath, grid: Grid, options: LandscapeOptions, target: Target) -> None:
    """Write the animation of the surface around each kept set of weights, along the same directions."""
    from gradscape.report.figures.landscape import save_animation

    moments = {}
    for step, (epoch, weights) in enumerate(target.path.items()):
        target.model.load_state_dict(weights)
        print_stderr(f"epoch {epoch}")
        keep = _points_file(options.keep, 1_000 + step)
        moments[f"epoch {epoch}"] = _evaluate(grid, target, options.bn[0], keep=keep)
    print_stderr(f"animation: {save_animation(moments, file)}")


def _draw_landscapes(drawing: DrawingOptions, records: Mapping[str, LandscapeRecord]) -> None:
    """Draw landscapes side by side on one scale, if a file for it is named."""
    if not drawing.figure and not drawing.turn:
        return
    from gradscape.report.figures.landscape import contours, slices, surfaces
    from gradscape.report.pages.save import save_html

    flat = next(iter(records.values())).dims == 1
    if drawing.figure:
        draw = slices if flat else surfaces if drawing.surface else contours
        save_figure(draw(records), drawing.figure)
    if drawing.turn:
        print_stderr(f"page: {save_html(records, drawing.turn)}")
