"""The command that sweeps over any fields of a run's configuration."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gradscape._printing import say
from gradscape.cli.execution import add_study_flags, run_study
from gradscape.config.fields import MOST_SEEDS
from gradscape.config.flags import Parser, add_config_flags, count, path, require_folder
from gradscape.config.plain_yaml import read_as
from gradscape.config.run import RunConfig
from gradscape.errors import ConfigError

if TYPE_CHECKING:
    from gradscape.study.sweep.axes import Axis, Condition
    from gradscape.study.sweep.sweep import Study

GIVEN = ("name", "seeds", "seeds_at_most", "equal_updates", "scale_lr")
MANY = 200  # runs, that one asks for on purpose
ABOUT = """
Runs every combination of the axes' values, over seeds, and builds a report. The other flags of `train`,
such as --epochs 6, set what all runs have in common. Given together with a study FILE: these flags override
its base; an axis of a field takes the place of the file's axis of that field (the whole axis, where fields
vary together), other axes come after the file's; exclusions are added to the file's, of which those of
values that a replaced axis no longer has are dropped; --seeds, --until-decided, --name, --equal-updates
and --scale-lr override. Asked again in the same folder with more values, axes or seeds, only what is new
is run.
"""


def add_sweep(commands: Any) -> None:
    """`sweep`, to the parsers of all commands."""
    sweep_: Parser = commands.add_parser(
        "sweep", help="vary any fields of a run, over seeds", description=ABOUT
    )
    sweep_.add_argument("file", metavar="FILE", nargs="?", type=path, help="a study: YAML or JSON")
    sweep_.add_argument(
        "--axis",
        metavar="FIELD=VALUES",
        action="append",
        default=[],
        help="optim.lr=1e-4,1e-3 or optim.lr=log:1e-4:1e-1:4 (low, high, how many) or "
        "net.depth=range:8:38:6 (low, high, step); may be repeated",
    )
    sweep_.add_argument(
        "--zip",
        metavar="FIELD=VALUES",
        action="append",
        nargs="+",
        default=[],
        help="fields that vary together, as batch_size=50,100 optim.lr=1e-3,2e-3; may be repeated",
    )
    sweep_.add_argument(
        "--exclude",
        metavar="FIELD=VALUE",
        action="append",
        nargs="+",
        default=[],
        help="leave out the points that match all of these, as net.depth=38 optim.lr=0.01; may be repeated",
    )
    sweep_.add_argument("--seeds", metavar="N", type=count(1, MOST_SEEDS), help="of every point (default: 1)")
    sweep_.add_argument(
        "--until-decided",
        metavar="N",
        dest="seeds_at_most",
        type=count(2, MOST_SEEDS),
        help="add seeds up to N, one by one, to points whose comparisons are undecided",
    )
    sweep_.add_argument("--name", help="of the sweep and its folder (default: sweep)")
    sweep_.add_argument(
        "--equal-updates",
        action=argparse.BooleanOptionalAction,
        help="choose epochs so that all batch sizes make as many updates as the base's; may be an axis too",
    )
    sweep_.add_argument(
        "--scale-lr",
        metavar="none|linear|sqrt",
        help="learning rates go with the batch size or its root, from the base's; may be an axis too",
    )
    sweep_.add_argument("--out", metavar="DIR", type=path, help="default: runs/NAME")
    sweep_.add_argument("--yes", action="store_true", help=f"run even more than {MANY} runs")
    sweep_.add_argument(
        "--save", metavar="FILE", type=path, help="write the study file that this amounts to, and stop"
    )
    add_study_flags(sweep_)
    add_config_flags(sweep_, RunConfig)
    sweep_.set_defaults(command=sweep, parser=sweep_)


def sweep(values: argparse.Namespace) -> None:
    """gradscape sweep: run what is missing, then build the report."""
    require_folder("--save", values.save, ".yaml", ".yml", ".json")
    study = study_of(values)
    if values.save:
        study.save(values.save)
        say(f"study file: {values.save}")
        return
    runs = len(study.runs())
    if runs > MANY and not (values.yes or values.dry_run):
        raise ConfigError(
            f"{runs:,} runs are more than {MANY}; type --yes to run them, or --dry-run to see them"
        )

    from gradscape.study.sweep.sequential import run_until_decided

    run_study(study, values, lambda folder, execution: run_until_decided(study, folder, execution, say))


def study_of(values: argparse.Namespace) -> Study:
    """The file's study, overridden and extended by the flags that were given."""
    from gradscape.config.paths import SETTINGS
    from gradscape.study.sweep.axes import axis_in, condition_in
    from gradscape.study.sweep.sweep import Study

    axes = [axis_in([text], "--axis") for text in values.axis]
    axes += [axis_in(texts, "--zip") for texts in values.zip]
    excluded = [condition_in(texts, "--exclude") for texts in values.exclude]
    base = {name: value for name, value in vars(values).items() if name in {*SETTINGS, "seed"}}
    named = {name: getattr(values, name) for name in GIVEN}
    given = {name: value for name, value in named.items() if value is not None}
    if not values.file:
        return Study.from_dict({**given, "base": base, "axes": axes, "exclude": excluded})
    return read_as(
        values.file,
        "study file",
        lambda file: Study.from_dict(overridden(file, given, base, axes, excluded)),
        alone=not (given or base or axes or excluded),
    )


def overridden(
    file: object,
    given: Mapping[str, Any],
    base: Mapping[str, Any],
    axes: Sequence[Axis],
    excluded: Sequence[Condition],
) -> object:
    """A study file's values, joined by the flags' as `ABOUT` says."""
    from gradscape.config.paths import flat
    from gradscape.study.sweep.axes import axis_of, condition_of
    from gradscape.study.sweep.grid import listed

    if not isinstance(file, Mapping):
        return file  # and `Study.from_dict` says what is wrong
    joined = {**file, **given}
    if base:
        joined["base"] = {**flat(file.get("base", {}), "base"), **base}
    if axes:
        joined["axes"] = replaced([axis_of(each) for each in listed(file.get("axes", []), "axes")], axes)
    if axes or excluded:
        known = {name: values for axis in axes for name, values in axis.values().items()}
        before = [condition_of(each, "exclude") for each in listed(file.get("exclude", []), "exclude")]
        joined["exclude"] = [*(each for each in before if possible(each, known)), *excluded]
    return joined


def replaced(before: Sequence[Axis], axes: Sequence[Axis]) -> list[Axis]:
    """Axes with new ones in the places of those that vary the same fields, and the others behind."""
    found: list[Axis] = []
    for old in before:
        instead = [axis for axis in axes if set(axis.fields) & set(old.fields)]
        found += [axis for axis in instead if axis not in found] if instead else [old]
    return found + [axis for axis in axes if axis not in found]


def possible(condition: Condition, known: Mapping[str, Sequence[Any]]) -> bool:
    """Whether the fields whose values are known can have all that a condition asks for."""
    return all(set(values) <= set(known[name]) for name, values in condition.items() if name in known)
