"""The commands that measure: of a trained run's folder, or of a factory's network on named images."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradscape.errors import ConfigError
from gradscape.flags import (
    add_execution_flags,
    count,
    number,
    path,
    place,
    positive,
    require_folder,
    seconds,
)
from gradscape.options import MOST_IMAGES
from gradscape.printing import say
from gradscape.words import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gradscape.curved import CurvatureRecord
    from gradscape.landscaped import LandscapeRecord
    from gradscape.smoothed import SmoothnessRecord
    from gradscape.subject import Subject


MOST_POINTS = 1_000  # along an axis: a plane of a million


def add_measures(commands: Any) -> None:
    """`smoothness`, `curvature` and `landscape`, to the parsers of all commands."""
    add_smoothness(commands)
    add_curvature(commands)
    add_landscape(commands)


def add_smoothness(commands: Any) -> None:
    smoothness_ = commands.add_parser("smoothness", help="how smooth is the loss along the next step?")
    add_subject_flags(smoothness_, images=100)
    smoothness_.add_argument("--lr", metavar="X", type=positive, help="learning rate (default: the run's)")
    smoothness_.add_argument(
        "--points", metavar="N", type=count(2, MOST_POINTS), default=8, help="rates (default: 8)"
    )
    smoothness_.set_defaults(command=smoothness, parser=smoothness_, bn="batch")


def add_curvature(commands: Any) -> None:
    curvature_ = commands.add_parser("curvature", help="eigenvalues, trace and density of the Hessian")
    add_subject_flags(curvature_, images=500)
    curvature_.add_argument(
        "--k", metavar="N", type=count(1, MOST_POINTS), default=5, help="eigenvalues at each end (5)"
    )
    curvature_.add_argument(
        "--matrix", default="hessian", choices=("hessian", "ggn"), help="hessian (default)"
    )
    curvature_.add_argument(
        "--probes", metavar="N", type=count(0, MOST_POINTS), default=0, help="of the density (default: 0)"
    )
    curvature_.add_argument("--layers", action="store_true", help="each layer's block too")
    curvature_.add_argument(
        "--time-limit", metavar="S", type=seconds, help="seconds; then what is known so far"
    )
    curvature_.set_defaults(command=curvature, parser=curvature_, bn="running")


def add_landscape(commands: Any) -> None:
    landscape_ = commands.add_parser("landscape", help="the loss over a plane or line of parameters, drawn")
    add_subject_flags(landscape_, images=1000, several=True)
    landscape_.add_argument(
        "--points", metavar="N", type=count(2, MOST_POINTS), default=25, help="along an axis (25)"
    )
    landscape_.add_argument(
        "--dims", metavar="1|2", type=count(1, 2), default=2, help="2 for a plane (default), 1 for a slice"
    )
    landscape_.add_argument(
        "--kind",
        metavar="filter|layer|gaussian|hessian|gradient",
        default="filter",
        help="of directions (default: filter-normalised)",
    )
    landscape_.add_argument(
        "--directions", metavar="N", type=count(1, MOST_POINTS), default=1, help="random pairs (default: 1)"
    )
    landscape_.add_argument(
        "--span", metavar=("A", "B"), type=number, nargs=2, help="first and last coordinate (default: -1 1)"
    )
    landscape_.add_argument(
        "--between",
        action="store_true",
        help="a line through two runs, a plane through three; with --dims 1 a line from the first to each",
    )
    landscape_.add_argument(
        "--path", action="store_true", help="the plane nearest to the weights kept along a run's training"
    )
    landscape_.add_argument(
        "--convexity",
        metavar="N",
        type=count(0, MOST_POINTS),
        default=0,
        help="|λmin/λmax| at N points along an axis (0)",
    )
    landscape_.add_argument(
        "--accuracy",
        metavar="X",
        type=positive,
        help="refine only where interpolation is off by more, as 0.02",
    )
    landscape_.add_argument(
        "--checks",
        metavar="N",
        type=count(0, 100_000),
        default=0,
        help="points between, to check interpolation (0)",
    )
    landscape_.add_argument("--bf16", action="store_true", help="compute in bfloat16")
    landscape_.add_argument("--keep", metavar="DIR", type=path, help="keep points here, and go on with them")
    landscape_.add_argument("--surface", action="store_true", help="draw --figure in three dimensions")
    landscape_.add_argument(
        "--animate", metavar="FILE", type=path, help="the surface through a run's training: .gif"
    )
    landscape_.add_argument("--turn", metavar="FILE", type=path, help="a page to turn it on: .html")
    landscape_.add_argument(
        "--time-limit", metavar="S", type=seconds, help="seconds for each; then what is known so far"
    )
    landscape_.set_defaults(command=landscape, parser=landscape_, bn=["running"])


def add_subject_flags(command: argparse.ArgumentParser, images: int, several: bool = False) -> None:
    what = "a run's folder, or FILE.py:FACTORY on --data"
    if several:
        command.add_argument(
            "target", metavar="RUN", type=place, nargs="+", help=f"{what}; several are drawn side by side"
        )
        command.add_argument(
            "--bn", nargs="+", choices=("running", "batch", "recalibrated"), help="BatchNorm's statistics"
        )
    else:
        command.add_argument("target", metavar="RUN", type=place, help=what)
        command.add_argument("--bn", choices=("batch", "running"), help="statistics that BatchNorm takes")
    command.add_argument(
        "--images", metavar="N", type=count(1, MOST_IMAGES), help=f"default: {images}, or all"
    )
    command.set_defaults(usual=images)
    command.add_argument(
        "--batch",
        metavar="N",
        type=count(1, MOST_IMAGES),
        help="of a mini-batch (default: the run's, or all)",
    )
    command.add_argument("--data", metavar="NAME", default="digits", help="for a factory (default: digits)")
    command.add_argument("--figure", metavar="FILE", type=path, help="draw it: .png, .svg or .pdf")
    command.add_argument("--json", action="store_true", help="everything as JSON")
    add_execution_flags(command)


def smoothness(values: argparse.Namespace) -> None:
    """gradscape smoothness: along the gradient, and for a run along its optimiser's next step."""
    from gradscape.measure.smoothness import smoothness as measure

    found = subject(values, values.target)
    if found.optimizer is None and values.lr is None:
        raise ConfigError(f"--lr: {values.target} is trained by none yet; type --lr 0.1")
    show(
        values,
        measure(
            found.model,
            found.loss,
            found.batches,
            values.lr,
            optimizer=found.optimizer,
            points=values.points,
            bn=values.bn,
        ),
    )


def curvature(values: argparse.Namespace) -> None:
    """gradscape curvature: of a run's last epoch, or of a factory's network."""
    from gradscape.measure.curvature import curvature as measure

    found = subject(values, values.target)
    record = measure(
        found.model,
        found.loss,
        found.batches,
        values.k,
        matrix=values.matrix,
        bn=values.bn,
        probes=values.probes,
        layers=values.layers,
        optimizer=found.optimizer,
        time_limit=values.time_limit,
        report=say,
    )
    show(values, record)


def landscape(values: argparse.Namespace) -> None:
    """gradscape landscape: of each run (or through them all) with each kind of statistics."""
    require_folder("--turn", values.turn, ".html")
    require_folder("--animate", values.animate, ".gif")
    require_folder("--keep", values.keep)
    if values.animate and (len(values.target) > 1 or values.dims != 2):
        raise ConfigError("--animate: only of one run's plane; give one RUN, and no --dims")
    found = [subject(values, target) for target in values.target]
    if values.between and len(found) < 2:
        raise ConfigError("--between: got 1 run; give two for a line, three for a plane")
    if values.turn and (values.dims == 1 or (values.between and len(found) == 2)):
        raise ConfigError("--turn: a line has no surface to turn; leave out --dims 1, or give --figure")
    others: list[Any] = [one.model for one in found[1:]] if values.between else []
    if values.animate:
        kept_along(found[0])
    of = named(values, found[:1] if values.between else found)
    records: dict[str, LandscapeRecord] = {}
    for name, (one, bn) in of.items():
        if len(of) > 1:
            say(name)
        path = kept_along(one) if values.path else None
        records[name] = evaluated(values, one, bn, len(records), through=others or None, path=path)
    if values.json:
        print(json.dumps({n: r.to_dict() for n, r in records.items()}, indent=1, ensure_ascii=False))
    else:
        print(plain("\n\n".join(f"{name}: {record}" for name, record in records.items())))
    draw_landscapes(values, records)
    if values.animate:
        animate(values, found[0])


def named(values: argparse.Namespace, found: Sequence[Subject]) -> dict[str, tuple[Subject, str]]:
    """What is evaluated, by its name: of runs that share one, as of two studies, the folder.

    Raises:
        ConfigError: a run or kind of statistics is given twice.
    """
    names = [one.name for one in found]
    if len(set(names)) < len(names):
        names = values.target
    for flag, given in (("RUN", names), ("--bn", values.bn)):
        if twice := [each for place, each in enumerate(given) if each in given[:place]]:
            raise ConfigError(f"{flag}: {twice[0]} is given twice; give it once")
    many = len(values.bn) > 1
    return {
        f"{name}, {bn}" if many else name: (one, bn)
        for name, one in zip(names, found, strict=True)
        for bn in values.bn
    }


def evaluated(
    values: argparse.Namespace, one: Subject, bn: str, number: int, **asked: Any
) -> LandscapeRecord:
    """One landscape as the flags have it, the so-manieth of this command."""
    from gradscape.measure.landscape import landscape as measure

    return measure(
        one.model,
        one.loss,
        one.batches,
        values.kind,
        dims=values.dims,
        points=values.points,
        span=values.span,
        pairs=values.directions,
        bn=bn,  # type: ignore[arg-type]
        bf16=values.bf16,
        accuracy=values.accuracy,
        checks=values.checks,
        convexity=values.convexity,
        keep=values.keep and values.keep / f"{number}.jsonl",
        time_limit=values.time_limit,
        report=say,
        **asked,
    )


def kept_along(one: Subject) -> list[Mapping[str, Any]]:
    """The weights that a run kept along its training.

    Raises:
        ConfigError: fewer than two.
    """
    if len(one.path) < 2:
        raise ConfigError(f"{one.name} kept no weights along its training; train it with --keep-every 1")
    return list(one.path.values())


def animate(values: argparse.Namespace, one: Subject) -> None:
    """The surface around each kept set of weights, along directions that are drawn alike."""
    from gradscape.report.landscapes import save_animation

    moments = {}
    for step, (epoch, weights) in enumerate(one.path.items()):
        one.model.load_state_dict(weights)
        say(f"epoch {epoch}")
        moments[f"epoch {epoch}"] = evaluated(values, one, values.bn[0], 1_000 + step)
    say(f"animation: {save_animation(moments, values.animate)}")


def draw_landscapes(values: argparse.Namespace, records: Mapping[str, LandscapeRecord]) -> None:
    """Side by side on one scale, where it was asked for."""
    if not values.figure and not values.turn:
        return
    from gradscape.report.landscapes import contours, save_turning, slices, surfaces

    flat = next(iter(records.values())).dims == 1
    if values.figure:
        draw = slices if flat else surfaces if values.surface else contours
        save_figure(draw(records), values.figure)
    if values.turn:
        say(f"page: {save_turning(records, values.turn)}")


def save_figure(drawing: Figure, file: Path) -> None:
    """Draw into memory, then write all of it: what was there stays where the disk is full."""
    from gradscape.files import replace_bytes

    drawn = io.BytesIO()
    drawing.savefig(drawn, format=file.suffix[1:], dpi=150)
    try:
        replace_bytes(file, drawn.getvalue())
    except OSError as error:
        raise ConfigError(f"--figure: cannot write {file}: {error.strerror}; give another place") from error
    say(f"figure: {file}")


def subject(values: argparse.Namespace, target: str) -> Subject:
    """The network and images that the flags name; all cores at work."""
    from gradscape.machine import cores
    from gradscape.subject import Source, subject_of
    from gradscape.train.process import prepare_process

    require_folder("--figure", values.figure, ".png", ".svg", ".pdf")
    if values.batch is None and values.bn in ("running", ["running"]):
        values.batch = (
            values.images or values.usual
        )  # samples do not act together: fewer and larger are quicker
    prepare_process(cores())
    source = Source(
        values.data,
        values.data_root,
        values.download,
        values.mirror,
        values.images,
        values.batch,
        values.usual,
    )
    return subject_of(target, source, values.device)


def show(values: argparse.Namespace, record: SmoothnessRecord | CurvatureRecord) -> None:
    """Print a record, and draw it if asked to."""
    print(json.dumps(record.to_dict(), indent=1, ensure_ascii=False) if values.json else plain(str(record)))
    if values.figure:
        drawing = record.plot().get_figure(root=True)
        assert drawing is not None
        save_figure(drawing, values.figure)
