"""Sweep of one training setup, varied along any of its fields, over seeds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from gradscape._printing import print_stderr
from gradscape._text import count_noun
from gradscape.config.arguments import fitted
from gradscape.config.fields import MOST_RUNS, MOST_SEEDS, checked, require
from gradscape.config.paths import CONTROLS, DEFAULTS, Scaling, Value, flat, value_of
from gradscape.config.plain_yaml import read_as, to_yaml
from gradscape.config.run import RunConfig
from gradscape.config.serialize import from_dict, to_dict
from gradscape.config.text import nested
from gradscape.errors import ConfigError, brief, cut, nearest
from gradscape.records.role import Role
from gradscape.records.run import StudyRecord
from gradscape.stats.paired import planned_looks
from gradscape.storage.files import replace_bytes
from gradscape.study.execution_options import Execution
from gradscape.study.sweep.axes import (
    Axis,
    Condition,
    Settings,
    condition_of,
    condition_values,
    label,
    matches,
)
from gradscape.study.sweep.batch_size_controls import configure
from gradscape.study.sweep.grid import combined, listed, read_axes, require_excluded
from gradscape.study.sweep.study_json import default_title, merge

KEYS = ("name", "title", "base", "axes", "exclude", "seeds", "seeds_at_most", "equal_updates", "scale_lr")


@dataclass(frozen=True, init=False, repr=False)
class Sweep:
    """A sweep over any fields of a run's configuration; checked once, when it is made.

    Args:
        name: Name of its folder, `runs/NAME`.
        base: Values that all runs have in common: a mapping of `RunConfig`'s fields, nested or dotted (the
            others have their defaults, or follow from these), or a `RunConfig`, whose values count that are
            not the default and do not follow. No seed.
        axes: Mappings of fields to their values, as in a study file (`gradscape.study.sweep.axes` has
            the forms);
            the fields of one axis vary together. All combinations are run.
        seeds: Number of seeds of every point, from 0.
        seeds_at_most: Number of seeds up to which more are added, one by one, to points whose comparisons are
            undecided (`gradscape.study.sweep.sequential`); 0 to add none.
        exclude: Mappings of fields to a value or values; points that match all of one are left out.
        equal_updates: Choose epochs so that every batch size makes as many updates as the base's would.
        scale_lr: `linear` or `sqrt`: learning rates scale with the batch size or its root, from the base's.
        title: Title of the report (default: the fields that vary).

    Raises:
        ConfigError: A setting is not possible; the message names it, its value and what is allowed.

    Example:
        >>> sweep = gs.Sweep("rates", {"epochs": 2}, [{"optim.lr": {"log": [1e-4, 1e-2], "points": 3}}])
        >>> list(sweep.points())
        ['optim.lr=0.0001', 'optim.lr=0.001', 'optim.lr=0.01']
        >>> record = sweep.run("runs/rates")  # from a script: under `if __name__ == "__main__":`
    """

    name: str
    base: Mapping[str, Any]
    axes: tuple[Axis, ...]
    seeds: int
    seeds_at_most: int
    exclude: tuple[Condition, ...]
    equal_updates: bool
    scale_lr: Scaling
    title: str

    def __init__(
        self,
        name: str,
        base: RunConfig | Mapping[str, Any],
        axes: Sequence[Axis | Mapping[str, Any]],
        seeds: int = 1,
        seeds_at_most: int = 0,
        exclude: Sequence[Mapping[str, Any]] = (),
        equal_updates: bool = False,
        scale_lr: str = "none",
        title: str = "",
    ) -> None:
        values: dict[str, Any] = {
            "name": _read_name(name),
            "base": nested(dict(_base_given(base))),
            "axes": read_axes(axes),
            "seeds": _read_seeds(seeds),
            "seeds_at_most": _read_most(seeds_at_most, seeds),
            "exclude": tuple(condition_of(each, "exclude") for each in listed(exclude, "exclude")),
            "equal_updates": checked(equal_updates, bool, "equal_updates"),
            "scale_lr": value_of("scale_lr", scale_lr, ""),
        }
        fields = [field for axis in values["axes"] for field in axis.fields]
        values["title"] = checked(title, str, "title") or default_title(fields)
        for key, value in values.items():
            object.__setattr__(self, key, value)
        _require_sizes(self, fields)
        runs = len(self.configs) * max(self.seeds, self.seeds_at_most)  # every point is checked now
        require(runs <= MOST_RUNS, "seeds", self.seeds, f"at most {MOST_RUNS:,} runs, not {runs:,}")

    def __repr__(self) -> str:
        points, seeds = count_noun(len(self.configs), "point"), count_noun(self.seeds, "seed")
        return f"<Sweep {self.name}: {points} of {cut(', '.join(self.fields), 100) or 'no field'}, {seeds}>"

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields that vary, in order."""
        return tuple(field for axis in self.axes for field in axis.fields)

    @property
    def given(self) -> dict[str, Value]:
        """Value per field that the base sets, controls among them."""
        controls = {"equal_updates": self.equal_updates, "scale_lr": self.scale_lr}
        return {**dict(_base_given(self.base)), **controls}

    @cached_property
    def configs(self) -> dict[str, RunConfig]:
        """Configuration per label, at seed 0."""
        base, configs = self.given, {}
        for name, point in self.points().items():
            try:
                configs[name] = configure(base, point)
            except ConfigError as error:
                raise ConfigError(f"{name}: {error}") from error
        return configs

    def points(self) -> dict[str, Settings]:
        """Return the value of every field that varies, per label; the last axis varies fastest."""
        base: Settings = {**DEFAULTS, **self.given}
        points = combined(self.axes, base)
        for condition in self.exclude:
            require_excluded(condition, points)
        left = [point for point in points if not any(matches(each, point) for each in self.exclude)]
        if not left:
            raise ConfigError(f"exclude: no point of {len(points)} is left; leave out fewer")
        return {label(point): point for point in left}

    def runs(self) -> dict[str, RunConfig]:
        """Return the configuration per identity: all points at seed 0, then 1, …; equal ones once."""
        planned = [
            replace(config, seed=seed) for seed in range(self.seeds) for config in self.configs.values()
        ]
        return {config.identity: config for config in planned}

    @property
    def together(self) -> int:
        """Number of runs that are trained as one network: each is trained by itself."""
        return 1

    def names(self) -> dict[str, str]:
        """Return the name of each run for people, per identity: its point's label and its seed."""
        return {
            replace(config, seed=seed).identity: f"{name} seed {seed}"
            for seed in reversed(range(self.seeds))
            for name, config in reversed(self.configs.items())
        }

    def roles(self) -> dict[str, Role]:
        """Return the role of each point per label: its settings are the parameters."""
        points, seeds = self.points(), range(self.seeds)
        return {
            name: Role(
                name,
                parameters=points[name],
                runs=tuple(replace(config, seed=seed).identity for seed in seeds),
            )
            for name, config in self.configs.items()
        }

    def merged(self, asked: Mapping[str, Any] | None, folder: Path) -> dict[str, Any]:
        """Return the contents of `study.json`; points and seeds of earlier plans stay in the study.

        Args:
            asked: Its contents now, or None.
            folder: Folder of the study, for messages.

        Raises:
            StoreError: The folder holds another study, sweep or base.
        """
        new = {
            "study": "sweep",
            "preset": self.name,
            "title": self.title,
            "seeds": list(range(self.seeds)),
            "looks": planned_looks(self.seeds, self.seeds_at_most) if self.seeds_at_most else 1,
            "looked": list(range(self.seeds, self.seeds_at_most + 1)) if self.seeds_at_most else [],
            "base": self.base,
            "equal_updates": self.equal_updates,
            "scale_lr": self.scale_lr,
            "axes": list(self.fields),
            "roles": self.roles(),
        }
        return merge(asked, new, folder)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as a study file has them."""
        values = {key: getattr(self, key) for key in KEYS}
        values["axes"] = [axis.to_dict() for axis in self.axes]
        values["exclude"] = [condition_values(each) for each in self.exclude]
        if self.title == default_title(self.fields):
            del values["title"]
        if not self.seeds_at_most:
            del values["seeds_at_most"]
        return values

    @classmethod
    def from_dict(cls, values: object) -> Sweep:
        """Return the sweep of a study file's values.

        Args:
            values: Mapping of keys to values.

        Raises:
            ConfigError: A key is unknown, or a setting is not possible.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"a study: expected keys and values; got {brief(values)}")
        for key in values:
            if key not in KEYS:
                known = ", ".join(KEYS)
                raise ConfigError(f"{cut(key)}: no such key; known here: {known}{nearest(key, KEYS)}")
        return cls(**{"name": "sweep", "base": {}, "axes": (), **values})

    @classmethod
    def read(cls, path: str | Path, change: Callable[[object], object] | None = None) -> Sweep:
        """Return the sweep of a YAML or JSON study file.

        Args:
            path: Path of the file.
            change: Function of the file's values that gives those to take instead.

        Raises:
            ConfigError: The file is missing, is not YAML, or holds what cannot be used.
        """
        if change is None:
            return read_as(Path(path), "study file", cls.from_dict)
        return read_as(Path(path), "study file", lambda values: cls.from_dict(change(values)), alone=False)

    def save(self, path: str | Path) -> None:
        """Write a file that `Sweep.read` reads as this sweep: JSON if it is named .json, else YAML.

        Args:
            path: Path of the file.

        Raises:
            ConfigError: The file cannot be written.
        """
        values, path = self.to_dict(), Path(path)
        as_json = path.suffix == ".json"
        text = json.dumps(values, indent=1, ensure_ascii=False) + "\n" if as_json else to_yaml(values)
        try:
            replace_bytes(path, text.encode())
        except OSError as error:
            raise ConfigError(f"cannot write study file {path}: {error.strerror}") from error

    def run(self, out: str | Path, execution: Execution = Execution()) -> StudyRecord:
        """Run what is missing in the folder `out`, build its report, and read it.

        Args:
            out: Path of the study's folder; with more values, axes or seeds than it holds, only the new ones
                are run.
            execution: Place and manner, as the flags of `gradscape sweep` give them.

        Raises:
            ConfigError: The device is not available, or the cluster is out of reach.
            DataError: The images are not available; nothing has been run.
            StoreError: The folder is another study's, busy, or cannot be written.
            RunFailed: Some runs failed; the others were run and the report was built.

        Example:
            >>> sweep.run("runs/rates", Execution(workers=2))
        """
        from gradscape.storage.study_folder import StudyFolder
        from gradscape.study.sweep.sequential import run_until_decided

        folder = StudyFolder(Path(out))
        run_until_decided(self, folder, fitted(execution, Execution, "execution"), print_stderr)
        return folder.record()


def _read_name(name: object) -> str:
    """Check that a folder can have the name."""
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name) or len(name.encode()) > 200:
        raise ConfigError(f"name: expected up to 200 letters, digits, '-', '_' and '.'; got {brief(name)}")
    return name


def _read_most(most: object, seeds: int) -> int:
    """Return the limit of seeds, which must allow a look after each; 0 for no looks."""
    if count := checked(most, int, "seeds_at_most"):
        assert isinstance(count, int)
        require(count <= MOST_SEEDS, "seeds_at_most", count, f"{MOST_SEEDS} at most")
        if seeds < 2 or count <= seeds:
            raise ConfigError(
                f"seeds_at_most: expected more seeds than the {seeds} to begin with, of which one decides "
                f"nothing; got {count}"
            )
        return count
    return 0


def _read_seeds(seeds: object) -> int:
    count = checked(seeds, int, "seeds")
    assert isinstance(count, int)
    require(1 <= count <= MOST_SEEDS, "seeds", count, f"1 … {MOST_SEEDS}")
    return count


def _base_given(base: RunConfig | Mapping[str, Any]) -> dict[str, Value]:
    """Return the value per field that a base sets; of a `RunConfig`, what is neither default nor follows."""
    if not isinstance(base, RunConfig):
        return {name: value_of(name, value, "base") for name, value in flat(base, "base").items()}
    if base.seed:
        raise ConfigError(f"base: seed: expected none; got {base.seed}; give seeds, with --seeds")
    whole = to_dict(base)
    del whole["seed"]
    given: dict[str, Any] = flat(whole, "base")
    for name in list(given):
        rest = {other: value for other, value in given.items() if other != name}
        if _gives(rest, base):
            given = rest
    return given


def _gives(values: dict[str, Any], config: RunConfig) -> bool:
    try:
        return from_dict(RunConfig, nested(values)) == config
    except ConfigError:  # batch size alone, say, without the number of images it needs
        return False


def _require_sizes(sweep: Sweep, fields: Sequence[str]) -> None:
    """Check that an axis varies the batch size if a control of it is set."""
    asked = [name for name in CONTROLS if name in fields]
    asked += ["equal_updates"] * sweep.equal_updates + ["scale_lr"] * (sweep.scale_lr != "none")
    if asked and "batch_size" not in fields:
        flag = f"--{asked[0].replace('_', '-')}"
        raise ConfigError(
            f"{asked[0]} ({flag}): no axis varies batch_size; add one, such as --axis batch_size=50,100,200"
        )
