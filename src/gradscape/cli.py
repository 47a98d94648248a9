"""The command line: one function per command; each imports torch and matplotlib only if it needs them."""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradscape.config import RunConfig, from_dict, read_config, to_dict
from gradscape.errors import ConfigError, GradscapeError, brief, nearest
from gradscape.flags import (
    Parser,
    add_config_flags,
    add_execution_flags,
    count,
    nested,
    path,
    require_folder,
)
from gradscape.measuring import add_measures
from gradscape.options import MOST_IMAGES, MOST_NUMBERS, MOST_SEEDS, MOST_WORKERS
from gradscape.printing import heard_or_not, say, silence
from gradscape.running import add_study_flags, run_study, say_verdicts
from gradscape.seeing import STUDY_FOLDER, add_seeing
from gradscape.sweeping import add_sweep, sweep
from gradscape.version import __version__
from gradscape.words import plain

if TYPE_CHECKING:
    from gradscape.study.reproduction import Reproduction

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 well, 1 some run failed, 2 wrong input, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show × still gets the rest
            stream.reconfigure(errors="replace")
    command = None
    os.environ["MPLBACKEND"] = "agg"  # figures go to files, whatever the user's own setting
    try:
        values = parser().parse_all(sys.argv[1:] if arguments is None else arguments)
        command = values.command
        command(values)
        if sys.stdout is not None:
            sys.stdout.flush()
    except GradscapeError as error:
        say(f"gradscape: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        again = "give the same command again"
        kept = f"every finished epoch is kept: {again} to go on"
        say(f"gradscape: stopped; {kept if command in (train, reproduce, sweep) else again}")
        return INTERRUPTED
    except BrokenPipeError:  # `gradscape runs DIR | head`
        silence(sys.stdout)
        return 0
    except OSError as error:  # of a file with a name, or of what is printed to
        silence(sys.stdout)
        say(f"gradscape: {error.filename or 'output'}: {error.strerror or error}")
        return GradscapeError.exit_code
    finally:
        with heard_or_not(sys.stderr):  # what Python cannot flush at its end would change the exit code
            pass
    return 0


def parser() -> Parser:
    top = Parser(prog="gradscape", description="Tells why a deep network trains or does not, and shows it.")
    top.add_argument("--version", action="version", version=f"gradscape {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", parser_class=Parser)
    top.set_defaults(command=lambda values: top.print_help())

    reproduce_ = commands.add_parser("reproduce", help="run a whole study and check its claims")
    reproduce_.add_argument(
        "study",
        metavar="STUDY",
        nargs="?",
        default="batchnorm",
        help="a name that --list lists, or one of your own as FILE.py:STUDY (default: batchnorm)",
    )
    reproduce_.add_argument("--list", action="store_true", help="name the studies and stop")
    reproduce_.add_argument("--preset", default="quick", help="quick (default), small or paper")
    reproduce_.add_argument(
        "--data", metavar="NAME", help="digits, cifar10 or cifar100 (default: the preset's)"
    )
    reproduce_.add_argument("--out", metavar="DIR", type=path, help="default: runs/STUDY-PRESET-DATA")
    reproduce_.add_argument(
        "--seeds", metavar="N", type=count(1, MOST_SEEDS), help="seeds of every run (default: the preset's)"
    )
    reproduce_.add_argument(
        "--precision",
        metavar="fp32|tf32|bf16",
        default="fp32",
        help="of every run (default: fp32, as published); bf16 is faster on GPUs that compute in it",
    )
    add_study_flags(reproduce_)
    reproduce_.set_defaults(command=reproduce, parser=reproduce_)

    train_ = commands.add_parser("train", help="train one run")
    train_.add_argument("--config", metavar="FILE", type=path, help="YAML or JSON; flags override it")
    train_.add_argument("--out", metavar="DIR", type=path, help="the run's folder (default: runs/IDENTITY)")
    train_.add_argument("--threads", metavar="N", type=count(1, MOST_WORKERS), help="default: all cores")
    add_execution_flags(train_)
    add_config_flags(train_, RunConfig)
    train_.set_defaults(command=train, parser=train_)

    check_ = commands.add_parser("check", help="will a network train? why not? what would help?")
    check_.add_argument("factory", metavar="FACTORY", help="FILE.py:FACTORY or package.module:FACTORY")
    check_.add_argument(
        "--input",
        metavar="C,H,W",
        default="3,32,32",
        help="numbers of a sample (default: 3,32,32); for tokens use gradscape.check in Python",
    )
    check_.add_argument(
        "--batch", metavar="N", type=count(1, MOST_IMAGES), default=32, help="samples (default: 32)"
    )
    check_.add_argument(
        "--seeds", metavar="N", type=count(1, 1_000), default=3, help="of the signal (default: 3)"
    )
    check_.add_argument(
        "--confirm",
        metavar="N",
        type=count(0, 100_000),
        default=0,
        help="real steps that remedies are ranked by",
    )
    check_.add_argument("--no-remedies", action="store_true", help="the verdict alone")
    check_.add_argument("--page", metavar="FILE", type=path, help="an HTML page with figures too")
    check_.add_argument("--json", action="store_true", help="everything as JSON")
    check_.set_defaults(command=check, parser=check_)

    add_sweep(commands)
    add_measures(commands)

    add_seeing(commands)

    report_ = commands.add_parser("report", help="build figures, tables and page again from a study's folder")
    report_.add_argument("folder", metavar="DIR", type=path, help=STUDY_FOLDER)
    report_.add_argument(
        "--study", metavar="FILE.py:STUDY", help="where the folder's study is one of your own"
    )
    report_.set_defaults(command=report, parser=report_)
    return top


def reproduce(values: argparse.Namespace) -> None:
    """gradscape reproduce: run what is missing, then build the report."""
    from gradscape.study.run import STUDIES, execute

    if values.list:
        for study in STUDIES.values():
            print(f"{study.name:<12} {study.title}  presets: {', '.join(study.presets)}")
        return
    if ":" not in values.study and values.study not in STUDIES:
        raise ConfigError(
            f"STUDY: {brief(values.study)} is not one of {', '.join(STUDIES)}, nor FILE.py:STUDY"
            f"{nearest(values.study, STUDIES)}"
        )
    own = own_study(values.study) if ":" in values.study else None
    study = own or STUDIES[values.study]
    plan = study.plan(values.preset, values.data, values.seeds, values.precision)
    run_study(plan, values, lambda folder, execution: execute(plan, folder, execution, own))


def own_study(name: str) -> Reproduction[Any]:
    """The study that FILE.py:STUDY names."""
    from gradscape.factories import load_value
    from gradscape.study.reproduction import Reproduction
    from gradscape.study.run import STUDIES

    found = load_value(name, Reproduction, "study")
    if found.name in STUDIES:
        raise ConfigError(f"{name}: its name {found.name!r} is that of a study here; give it another")
    return found


def train(values: argparse.Namespace) -> None:
    """gradscape train: one run, in this process."""
    config = train_config(values)
    from gradscape.data import load_images
    from gradscape.store import RunFolder

    folder = RunFolder(values.out or Path("runs") / config.identity)
    images = load_images(
        config.data.name, values.data_root, download=values.download, mirrors=tuple(values.mirror) or None
    )
    from gradscape.executors.face import Event
    from gradscape.machine import cores
    from gradscape.study.console import ProgressView
    from gradscape.train.loop import train_run
    from gradscape.train.process import prepare_process

    prepare_process(values.threads or cores())
    name = config.identity
    with ProgressView({name: config}, done=0) as view:
        view.show(Event(name, "started"))
        record = train_run(
            config,
            folder,
            images,
            values.device,
            lambda progress: view.show(Event(name, "progress", progress)),
        )
        view.show(Event(name, "finished", record))
    with heard_or_not(sys.stdout):
        for weights, result in record.test.items():
            print(f"test accuracy {result['accuracy']:.3f}, loss {result['loss']:.3f} ({weights} weights)")
        print(plain(f"run: {folder.path}"))


def train_config(values: argparse.Namespace) -> RunConfig:
    """The file's values, overridden by the flags that were given."""
    given = to_dict(read_config(values.config)) if values.config else {}
    flags = {name: value for name, value in vars(values).items() if name in config_names()}
    for section, value in nested(flags).items():
        given[section] = {**given.get(section, {}), **value} if isinstance(value, dict) else value
    return from_dict(RunConfig, given)


def config_names() -> set[str]:
    names = to_dict(RunConfig())
    inner = {f"{key}.{name}" for key, value in names.items() if isinstance(value, dict) for name in value}
    return inner | {key for key, value in names.items() if not isinstance(value, dict)}


def check(values: argparse.Namespace) -> None:
    """gradscape check: a verdict on a factory's network, on a batch of noise of the given shape."""
    from gradscape.factories import load_factory
    from gradscape.measure.check import check_on_noise

    try:
        shape = tuple(int(size) for size in values.input.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise ConfigError(f"--input: {brief(values.input)} is not a shape; give sizes such as 3,32,32")
    if (numbers := values.batch * math.prod(shape)) > MOST_NUMBERS:
        raise ConfigError(
            f"--input, --batch: {brief(numbers)} numbers are too many; "
            f"give shapes of {MOST_NUMBERS:,} at most"
        )
    require_folder("--page", values.page, ".html")
    found = check_on_noise(
        load_factory(values.factory),
        (values.batch, *shape),
        seeds=values.seeds,
        confirm=values.confirm,
        remedies=not values.no_remedies,
    )
    print(json.dumps(found.to_dict(), indent=1, ensure_ascii=False) if values.json else plain(str(found)))
    if values.page:
        from gradscape.report.checked_page import save_check_page

        say(f"page: {save_check_page(found, values.page)}")


def report(values: argparse.Namespace) -> None:
    """gradscape report: figures, tables and page from the run folders alone."""
    from gradscape.store import StudyFolder
    from gradscape.study.run import rebuild

    own = own_study(values.study) if values.study else None
    say_verdicts(rebuild(StudyFolder(values.folder), own))
