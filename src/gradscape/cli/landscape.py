"""The command that measures and draws the loss around trained runs, and between them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from gradscape._printing import say
from gradscape._text import plain
from gradscape.cli.app import EXECUTION, FLAT
from gradscape.cli.files import require_folder, save_figure
from gradscape.cli.images import ImageSource, Showing
from gradscape.cli.measure import MOST_POINTS, TARGET
from gradscape.config.fields import option
from gradscape.config.options import MOST_SECONDS, FilePath, Options
from gradscape.errors import ConfigError

if TYPE_CHECKING:
    from gradscape.cli.target import Subject
    from gradscape.records.landscape import LandscapeRecord

USUAL = 1_000  # images
Statistics = Literal["running", "batch", "recalibrated"]


@dataclass(frozen=True, kw_only=True)
class Grid(Options):
    """Arguments of `gradscape.landscape` that are the same for each run."""

    directions: str = option("filter", "filter, layer, gaussian, hessian or gradient")
    dims: int = option(2, "2 for a plane, 1 for a slice", 1, 2)
    pairs: int = option(1, "pairs of random directions, a surface for each", 1, MOST_POINTS)
    points: int = option(25, "points along an axis", 2, MOST_POINTS)
    span: tuple[float, float] | None = option(None, "first and last coordinate (default: -1 1)")
    accuracy: float | None = option(None, "refine only where interpolation is off by more, as 0.02", 0, 1)
    checks: int = option(0, "points between, to check interpolation", 0, 100_000)
    convexity: int = option(0, "|λmin/λmax| at so many points along an axis", 0, MOST_POINTS)
    bf16: bool = option(False, "compute in bfloat16")
    time_limit: float | None = option(None, "seconds for each; then what is known so far", 0, MOST_SECONDS)


@dataclass(frozen=True, kw_only=True)
class LandscapeOptions(Options):
    """Which landscapes of the runs are measured, and where their points are kept."""

    bn: Annotated[tuple[Statistics, ...], Parameter(consume_multiple=True)] = option(
        ("running",), "BatchNorm's statistics; several are drawn side by side"
    )
    through: bool = option(
        False,
        "a line through two runs, a plane through three; with --dims 1 a line from the first to each",
    )
    path: bool = option(False, "the plane nearest to the weights kept along a run's training")
    keep: FilePath | None = option(None, "folder to keep points in, and go on with them")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_folder("--keep", self.keep)


@dataclass(frozen=True, kw_only=True)
class Drawing(Showing):
    """How landscapes are shown."""

    surface: bool = option(False, "draw --figure in three dimensions")
    animate: FilePath | None = option(None, "the surface through a run's training: .gif")
    turn: FilePath | None = option(None, "a page to turn it on: .html")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_folder("--turn", self.turn, ".html")
        require_folder("--animate", self.animate, ".gif")


def landscape(
    targets: Annotated[tuple[str, ...], TARGET],
    /,
    *,
    options: Annotated[LandscapeOptions, FLAT] = LandscapeOptions(),
    grid: Annotated[Grid, Parameter(name="*", group=Group("Grid", sort_key=10))] = Grid(),
    drawing: Annotated[Drawing, Parameter(name="*", group=Group("Drawing", sort_key=12))] = Drawing(),
    source: Annotated[ImageSource, EXECUTION] = ImageSource(),
) -> None:
    """Measure around each run, or through them all, with each kind of statistics."""
    if drawing.animate and (len(targets) > 1 or grid.dims != 2):
        raise ConfigError("--animate: only of one run's plane; give one RUN, and no --dims")
    from gradscape.cli.target import subject

    together = options.bn != ("running",)
    subjects = [subject(target, source, USUAL, together) for target in targets]
    if options.through and len(subjects) < 2:
        raise ConfigError("--through: got 1 run; give two for a line, three for a plane")
    if drawing.turn and (grid.dims == 1 or (options.through and len(subjects) == 2)):
        raise ConfigError("--turn: a line has no surface to turn; leave out --dims 1, or give --figure")
    others: list[Any] = [one.model for one in subjects[1:]] if options.through else []
    if drawing.animate:
        kept_along(subjects[0])
    views = named(targets, options.bn, subjects[:1] if options.through else subjects)
    records: dict[str, LandscapeRecord] = {}
    for name, (one, bn) in views.items():
        if len(views) > 1:
            say(name)
        path = kept_along(one) if options.path else None
        file = points_file(options.keep, len(records))
        records[name] = evaluated(grid, one, bn, keep=file, through=others or None, path=path)
    if drawing.json:
        print(json.dumps({n: r.to_dict() for n, r in records.items()}, indent=1, ensure_ascii=False))
    else:
        print(plain("\n\n".join(f"{name}: {record}" for name, record in records.items())))
    draw_landscapes(drawing, records)
    if drawing.animate:
        animate(drawing.animate, grid, options, subjects[0])


def named(
    targets: Sequence[str], statistics: Sequence[Statistics], subjects: Sequence[Subject]
) -> dict[str, tuple[Subject, Statistics]]:
    """What is evaluated, by its name: of runs that share one, as of two studies, the folder.

    Raises:
        ConfigError: a run or kind of statistics is given twice.
    """
    names: Sequence[str] = [one.name for one in subjects]
    if len(set(names)) < len(names):
        names = targets
    for flag, given in (("RUN", names), ("--bn", statistics)):
        if twice := [each for place, each in enumerate(given) if each in given[:place]]:
            raise ConfigError(f"{flag}: {twice[0]} is given twice; give it once")
    many = len(statistics) > 1
    return {
        f"{name}, {bn}" if many else name: (one, bn)
        for name, one in zip(names, subjects, strict=True)
        for bn in statistics
    }


def points_file(folder: FilePath | None, number: int) -> Path | None:
    """Where the so-manieth landscape of a command keeps its points."""
    return Path(folder) / f"{number}.jsonl" if folder else None


def evaluated(grid: Grid, one: Subject, bn: Statistics, **further: Any) -> LandscapeRecord:
    """One landscape as the options have it."""
    from gradscape.measure.landscape.landscape import landscape as measure

    return measure(one.model, one.loss, one.batches, bn=bn, report=say, **vars(grid), **further)


def kept_along(one: Subject) -> list[Mapping[str, Any]]:
    """The weights that a run kept along its training.

    Raises:
        ConfigError: fewer than two.
    """
    if len(one.path) < 2:
        raise ConfigError(f"{one.name} kept no weights along its training; train it with --keep-every 1")
    return list(one.path.values())


def animate(file: FilePath, grid: Grid, options: LandscapeOptions, one: Subject) -> None:
    """The surface around each kept set of weights, along directions that are drawn alike."""
    from gradscape.report.figures.landscape import save_animation

    moments = {}
    for step, (epoch, weights) in enumerate(one.path.items()):
        one.model.load_state_dict(weights)
        say(f"epoch {epoch}")
        keep = points_file(options.keep, 1_000 + step)
        moments[f"epoch {epoch}"] = evaluated(grid, one, options.bn[0], keep=keep)
    say(f"animation: {save_animation(moments, file)}")


def draw_landscapes(drawing: Drawing, records: Mapping[str, LandscapeRecord]) -> None:
    """Side by side on one scale, where it was asked for."""
    if not drawing.figure and not drawing.turn:
        return
    from gradscape.report.figures.landscape import contours, slices, surfaces
    from gradscape.report.pages.save import save_html

    flat = next(iter(records.values())).dims == 1
    if drawing.figure:
        draw = slices if flat else surfaces if drawing.surface else contours
        save_figure(draw(records), drawing.figure)
    if drawing.turn:
        say(f"page: {save_html(records, drawing.turn)}")
