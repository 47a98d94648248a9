"""Published studies and their reproduction: presets, the runs that answer a study, and its report.

A study is one file that fills in `Reproduction`. Its runs are planned as plain values and written to
`study.json`, so that the report needs nothing but the folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from gradscape.config.fields import MOST_SEEDS, checked, require
from gradscape.config.run import DataConfig, Precision, RunConfig
from gradscape.errors import ConfigError, StoreError, nearest
from gradscape.records.role import Role
from gradscape.report.build import ReportParts
from gradscape.study.presets import Preset, departures, plan_data


@dataclass(frozen=True)
class PresetPlan:
    """Runs of a study under one preset.

    Attributes:
        study, preset, data, precision: Names that were chosen.
        title: Question of the study.
        roles: Role per name, with its runs, one per seed from 0; two roles may share runs.
        configs: Configuration at seed 0 per role's name.
        notes: Sentences for the report on how the preset departs from the paper.
        together: Number of runs that are trained as one network, at most.
    """

    study: str
    preset: str
    data: str
    precision: Precision
    title: str
    roles: Mapping[str, Role]
    configs: Mapping[str, RunConfig]
    notes: tuple[str, ...]
    together: int = 1

    @property
    def name(self) -> str:
        """Name of a folder for it, such as `batchnorm-quick-digits`; precision is in it unless it is fp32."""
        asked = (self.study, self.preset, self.data, *({self.precision} - {"fp32"}))
        return "-".join(asked)

    def runs(self) -> dict[str, RunConfig]:
        """Return the configuration per identity of every distinct run: roles at seed 0, then 1, and so on."""
        planned = [
            replace(config, seed=seed)
            for seed in range(self._most_seeds())
            for name, config in self.configs.items()
            if seed < len(self.roles[name].runs)
        ]
        return {config.identity: config for config in planned}

    def names(self) -> dict[str, str]:
        """Return the name of each run for people, per identity."""
        return {name: config.label for name, config in self.runs().items()}

    def _most_seeds(self) -> int:
        return max(len(role.runs) for role in self.roles.values())

    def merged(self, asked: Mapping[str, Any] | None, folder: Path) -> dict[str, Any]:
        """Return the contents of `study.json`; seeds that an earlier command planned stay in the study.

        Args:
            asked: Its contents now, or None.
            folder: Folder of the study, for messages.

        Raises:
            StoreError: The folder holds another study, preset, data set or precision, or a role's runs of
                another configuration: a preset that was changed since.
        """
        roles, seeds = dict(self.roles), set(range(self._most_seeds()))
        if asked is not None:
            for name in ("study", "preset", "data", "precision"):
                found, wanted = asked.get(name), getattr(self, name)
                if found != wanted:
                    raise StoreError(
                        f"{folder} holds {name} {found!r}, not {wanted!r}; give another folder with --out"
                    )
            seeds |= set(asked["seeds"])
            self._require_same_runs(asked, seeds, folder)
            roles |= {
                name: roles[name].after(role.runs) for name, role in asked["roles"].items() if name in roles
            }
        return {
            "study": self.study,
            "title": self.title,
            "preset": self.preset,
            "data": self.data,
            "precision": self.precision,
            "seeds": sorted(seeds),
            "notes": list(self.notes),
            "roles": roles,
        }

    def _require_same_runs(self, asked: Mapping[str, Any], seeds: Iterable[int], folder: Path) -> None:
        """Raise if a role has runs that differ from the planned ones in more than their seeds."""
        for name, config in self.configs.items():
            known = {replace(config, seed=seed).identity for seed in seeds}
            before = asked["roles"][name].runs if name in asked["roles"] else ()
            if others := [run for run in before if run not in known]:
                raise StoreError(
                    f"{folder} was planned by another version of the study: its run {others[0]} of role "
                    f"{name!r} has another configuration now, {config.identity}, and the two do not compare; "
                    "give another folder with --out"
                )


P = TypeVar("P", bound=Preset)


@dataclass(frozen=True)
class Reproduction(Generic[P]):
    """A question and how it is answered.

    Attributes:
        name: Name after `gradscape reproduce`.
        title: Question of the study.
        presets: Preset per name.
        roles: Function of preset and data that returns the configuration at seed 0 per role; two roles may
            share a run.
        key: Names of the roles with the preset's `key_seeds`, on which most claims rest.
        parts: Contents of the report.
        notes: Function of the preset that returns sentences for the report, beside those on how it departs
            from the paper.
    """

    name: str
    title: str
    presets: Mapping[str, P]
    roles: Callable[[P, DataConfig], Mapping[Role, RunConfig]]
    key: tuple[str, ...]
    parts: ReportParts
    notes: Callable[[P], tuple[str, ...]] = lambda preset: ()

    def plan(
        self, preset: str, data: str | None = None, seeds: int | None = None, precision: Precision = "fp32"
    ) -> PresetPlan:
        """Return the runs of a preset.

        Args:
            preset: Key of `presets`.
            data: Name of the data set, or None for the preset's.
            seeds: Number of seeds of every role, or None for the preset's.
            precision: Precision of every run.

        Raises:
            ConfigError: There is no such preset, data set or precision; `seeds` is below 1; a key is not a
                role.

        Example:
            >>> len(BATCHNORM.plan("paper", seeds=1).runs())
            14
        """
        if preset not in self.presets:
            raise ConfigError(
                f"--preset: expected one of {', '.join(self.presets)}; got {preset!r}"
                f"{nearest(preset, self.presets)}"
            )
        if seeds is not None:
            checked(seeds, int, "--seeds")
            require(1 <= seeds <= MOST_SEEDS, "--seeds", seeds, f"1 … {MOST_SEEDS}")
        chosen = self.presets[preset]
        data = chosen.data if data is None else data
        planned = self.roles(chosen, plan_data(chosen, data))
        self._check_roles(planned)
        configs = {role.name: replace(run, precision=precision) for role, run in planned.items()}
        key = [configs[name] for name in self.key]
        return PresetPlan(
            study=self.name,
            preset=preset,
            data=data,
            precision=precision,
            title=self.title,
            roles={
                role.name: _with_runs(role, run, seeds or (chosen.key_seeds if run in key else chosen.seeds))
                for role, run in zip(planned, configs.values(), strict=True)
            },
            configs=configs,
            notes=(*departures(chosen, next(iter(configs.values()))), *self.notes(chosen)),
            together=chosen.together,
        )

    def _check_roles(self, roles: Iterable[Role]) -> None:
        """Raise unless there are roles, with names of their own, and those that `key` names among them."""
        names = []
        for role in roles:
            if not isinstance(role, Role):
                raise ConfigError(f"study {self.name}: roles: expected Role({role!r}) as a key; got {role!r}")
            names.append(role.name)
        if not names:
            raise ConfigError(f"study {self.name}: `roles` gave none; give one run at least")
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise ConfigError(f"study {self.name}: {twice[0]!r} names two roles; give each a name of its own")
        for name in self.key:
            if name not in names:
                raise ConfigError(
                    f"study {self.name}: key: {name!r} is not one of its roles, {', '.join(names)}"
                    f"{nearest(name, names)}"
                )


def _with_runs(role: Role, config: RunConfig, seeds: int) -> Role:
    """Return the role with the identities of its runs."""
    return replace(role, runs=tuple(replace(config, seed=seed).identity for seed in range(seeds)))
