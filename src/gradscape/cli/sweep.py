"""Command that sweeps over any fields of a run's configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter, Token

from gradscape._printing import print_stderr
from gradscape.cli.app import EXECUTION, FLAT
from gradscape.cli.files import require_folder
from gradscape.cli.settings import SharedFlags, settings_given
from gradscape.cli.study import run_study
from gradscape.config.fields import MOST_SEEDS, option
from gradscape.config.options import FilePath, Options, checked_path
from gradscape.config.paths import Value
from gradscape.errors import ConfigError
from gradscape.study.execution_options import Execution

if TYPE_CHECKING:
    from gradscape.study.sweep.axes import Axis, Condition
    from gradscape.study.sweep.sweep import Sweep

_OVERRIDING = ("name", "seeds", "seeds_at_most", "equal_updates", "scale_lr")
MANY = 200  # runs, that one asks for on purpose


def _grouped(_: Any, tokens: Sequence[Token]) -> tuple[tuple[str, ...], ...]:
    """Return the texts of each occurrence of a flag."""
    groups: list[list[str]] = []
    for token in tokens:
        if token.index == 0:
            groups.append([])
        groups[-1].append(token.value)
    return tuple(map(tuple, groups))


Texts = tuple[tuple[str, ...], ...]
_SEVERAL = Parameter(consume_multiple=True, converter=_grouped, metavar="FIELD=VALUES …")
_AXIS = Parameter(metavar="FIELD=VALUES")


@dataclass(frozen=True, kw_only=True)
class SweepOptions(Options):
    """Fields and seeds that a sweep varies, and its folder."""

    axis: Annotated[tuple[str, ...], _AXIS] = option(
        (),
        "optim.lr=1e-4,1e-3 or optim.lr=log:1e-4:1e-1:4 (low, high, how many) or "
        "net.depth=range:8:38:6 (low, high, step); may be repeated",
    )
    zip: Annotated[Texts, _SEVERAL] = option(
        (), "fields that vary together, as batch_size=50,100 optim.lr=1e-3,2e-3; may be repeated"
    )
    exclude: Annotated[Texts, _SEVERAL] = option(
        (), "leave out the points that match all of these, as net.depth=38 optim.lr=0.01; may be repeated"
    )
    seeds: int | None = option(None, "number of seeds of every point (default: 1)", 1, MOST_SEEDS)
    seeds_at_most: int | None = option(
        None,
        "add seeds up to so many, one by one, to points whose comparisons are undecided",
        2,
        MOST_SEEDS,
    )
    name: str | None = option(None, "name of the sweep and its folder (default: sweep)")
    equal_updates: Annotated[bool | None, Parameter(negative="--no-equal-updates")] = option(
        None, "choose epochs so that all batch sizes make as many updates as the base's; may be an axis too"
    )
    scale_lr: Literal["none", "linear", "sqrt"] | None = option(
        None, "learning rates go with the batch size or its root, from the base's; may be an axis too"
    )
    out: FilePath | None = option(None, "the sweep's folder (default: runs/NAME)")
    save: FilePath | None = option(None, "write the study file of this command, and stop")
    yes: bool = option(False, f"run even more than {MANY} runs")
    dry_run: bool = option(False, "list the runs and estimate their time")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_folder("--save", self.save, ".yaml", ".yml", ".json")


def sweep(
    file: Annotated[str | None, Parameter(name="FILE", help="a study: YAML or JSON")] = None,
    /,
    *,
    options: Annotated[SweepOptions, FLAT] = SweepOptions(),
    execution: Annotated[Execution, EXECUTION] = Execution(),
    flags: Annotated[SharedFlags, FLAT] = SharedFlags(),
) -> None:
    """Run what is missing of a sweep, then build its report.

    Args:
        file: Path of a study file: YAML or JSON.
        options: Fields and seeds to vary.
        execution: Place and manner.
        flags: Settings that all runs have in common.

    Raises:
        ConfigError: A setting cannot be used, or there are more runs than `--yes` must confirm.
        DataError: The images are not available.
        StoreError: The folder is another study's, or cannot be written.
        RunFailed: Some runs failed.
    """
    study = study_of(file, options, settings_given(flags))
    if options.save:
        study.save(Path(options.save))
        print_stderr(f"study file: {options.save}")
        return
    runs = len(study.runs())
    if runs > MANY and not (options.yes or options.dry_run):
        raise ConfigError(
            f"expected at most {MANY} runs; got {runs:,}; type --yes to run them, or --dry-run to see them"
        )

    from gradscape.study.sweep.sequential import run_until_decided

    run_study(
        study,
        options.out,
        options.dry_run,
        execution,
        lambda folder, execution: run_until_decided(study, folder, execution, print_stderr),
    )


def study_of(file: str | None, options: SweepOptions, base: Mapping[str, Value]) -> Sweep:
    """Return the sweep of a file, overridden and extended by options and by settings of its base.

    Args:
        file: Path of a study file; None for a sweep by flags alone.
        options: Fields and seeds to vary.
        base: Value per dotted name of the settings that all runs have in common.

    Raises:
        ConfigError: The file cannot be read, or a setting cannot be used.
    """
    from gradscape.study.sweep.axes import axis_in, condition_in
    from gradscape.study.sweep.sweep import Sweep

    axes = [axis_in([text], "--axis") for text in options.axis]
    axes += [axis_in(texts, "--zip") for texts in options.zip]
    excluded = [condition_in(texts, "--exclude") for texts in options.exclude]
    named = {name: getattr(options, name) for name in _OVERRIDING}
    overriding = {name: value for name, value in named.items() if value is not None}
    if file is None:
        return Sweep.from_dict({**overriding, "base": base, "axes": axes, "exclude": excluded})
    path = checked_path(file, "FILE")
    if not (overriding or base or axes or excluded):
        return Sweep.read(path)
    return Sweep.read(path, lambda values: _overridden(values, overriding, base, axes, excluded))


def _overridden(
    file: object,
    overriding: Mapping[str, Any],
    base: Mapping[str, Any],
    axes: Sequence[Axis],
    excluded: Sequence[Condition],
) -> object:
    """Return a study file's values, joined by the flags' as `gradscape sweep --help` says."""
    from gradscape.config.paths import flat
    from gradscape.study.sweep.axes import axis_of, condition_of
    from gradscape.study.sweep.grid import listed

    if not isinstance(file, Mapping):
        return file  # and `Sweep.from_dict` says what is wrong
    joined = {**file, **overriding}
    if base:
        joined["base"] = {**flat(file.get("base", {}), "base"), **base}
    if axes:
        joined["axes"] = _replaced([axis_of(axis) for axis in listed(file.get("axes", []), "axes")], axes)
    if axes or excluded:
        known = {name: values for axis in axes for name, values in axis.values().items()}
        before = [condition_of(each, "exclude") for each in listed(file.get("exclude", []), "exclude")]
        joined["exclude"] = [*(each for each in before if _possible(each, known)), *excluded]
    return joined


def _replaced(before: Sequence[Axis], axes: Sequence[Axis]) -> list[Axis]:
    """Return the axes with new ones in the places of those that vary the same fields, the others behind."""
    joined: list[Axis] = []
    for old in before:
        instead = [axis for axis in axes if set(axis.fields) & set(old.fields)]
        joined += [axis for axis in instead if axis not in joined] if instead else [old]
    return joined + [axis for axis in axes if axis not in joined]


def _possible(condition: Condition, known: Mapping[str, Sequence[Any]]) -> bool:
    """Check that the fields whose values are known can have all that a condition asks for."""
    return all(set(values) <= set(known[name]) for name, values in condition.items() if name in known)
