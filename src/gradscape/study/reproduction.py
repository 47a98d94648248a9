"""A published study and how it is reproduced: presets, the runs that answer it, and what is made of them.

A study is one file that fills in `Reproduction`. Its runs are planned as plain values
and kept in `study.json`, so that the report needs nothing but the folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from gradscape.config.fields import MOST_SEEDS, checked, require
from gradscape.config.run import DataConfig, Precision, RunConfig
from gradscape.errors import ConfigError, StoreError, nearest
from gradscape.report.build import ReportParts
from gradscape.study.presets import Preset, departures, plan_data


@dataclass(frozen=True)
class PresetPlan:
    """The runs of a study under one preset.

    Attributes:
        study, preset, data, precision: what was asked for.
        title: the study's question.
        roles: what a run is for → its configuration at seed 0; two roles may share one run.
        seeds: seeds of each role, from 0: claims rest on roles with several.
        notes: how the preset departs from the paper, a sentence each, for the report.
    """

    study: str
    preset: str
    data: str
    precision: Precision
    title: str
    roles: Mapping[str, RunConfig]
    seeds: Mapping[str, int]
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of a folder for it, such as `batchnorm-quick-digits`; precision is named where it is not fp32."""
        asked = (self.study, self.preset, self.data, *({self.precision} - {"fp32"}))
        return "-".join(asked)

    def runs(self) -> dict[str, RunConfig]:
        """Identity → configuration of every distinct run: all roles at seed 0, then at seed 1, …"""
        planned = [
            replace(config, seed=seed)
            for seed in range(max(self.seeds.values()))
            for role, config in self.roles.items()
            if seed < self.seeds[role]
        ]
        return {config.identity: config for config in planned}

    def names(self) -> dict[str, str]:
        """Identity → what a person calls the run."""
        return {name: config.label for name, config in self.runs().items()}

    def identities(self) -> dict[str, list[str]]:
        """Role → identities of its runs, one per seed."""
        return {
            role: [replace(config, seed=seed).identity for seed in range(self.seeds[role])]
            for role, config in self.roles.items()
        }

    def merged(self, asked: Mapping[str, Any] | None, folder: Path) -> dict[str, Any]:
        """What `study.json` is to hold; seeds that an earlier command asked for stay in the study.

        Raises:
            StoreError: the folder holds another study, preset, data set or precision.
        """
        roles = self.identities()
        seeds = set(range(max(self.seeds.values())))
        if asked is not None:
            for name in ("study", "preset", "data", "precision"):
                found, wanted = asked.get(name), getattr(self, name)
                if found != wanted:
                    raise StoreError(
                        f"{folder} holds {name} {found!r}, not {wanted!r}; give another folder with --out"
                    )
            seeds |= set(asked["seeds"])
            roles = {
                role: list(dict.fromkeys([*asked["roles"].get(role, []), *new]))
                for role, new in roles.items()
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


P = TypeVar("P", bound=Preset)


@dataclass(frozen=True)
class Reproduction(Generic[P]):
    """A question and how it is answered.

    Attributes:
        name: what follows `gradscape reproduce`.
        title: the question.
        presets: name → how far the study is cut down; `Preset`, or more where a study asks for more.
        roles: (preset, data) → what each run is for → its configuration at seed 0; two roles may share a run.
        key: roles with the preset's `key_seeds`, on which most claims rest.
        parts: what its report draws, tabulates and claims.
        notes: beside how a preset departs from the paper, a sentence each, for the report.
    """

    name: str
    title: str
    presets: Mapping[str, P]
    roles: Callable[[P, DataConfig], Mapping[str, RunConfig]]
    key: tuple[str, ...]
    parts: ReportParts
    notes: Callable[[P], tuple[str, ...]] = lambda preset: ()

    def plan(
        self, preset: str, data: str | None = None, seeds: int | None = None, precision: Precision = "fp32"
    ) -> PresetPlan:
        """Its runs.

        Args:
            preset: a key of `presets`.
            data: data set, or None for the preset's.
            seeds: seeds of every role, or None for the preset's.
            precision: that every run asks for.

        Raises:
            ConfigError: no such preset, data set or precision, fewer than one seed, a key that is no role.

        Example:
            >>> len(BATCHNORM.plan("paper", seeds=1).runs())
            14
        """
        if preset not in self.presets:
            raise ConfigError(
                f"--preset: {preset!r} is not one of {', '.join(self.presets)}{nearest(preset, self.presets)}"
            )
        if seeds is not None:
            checked(seeds, int, "--seeds")
            require(1 <= seeds <= MOST_SEEDS, "--seeds", seeds, f"give 1 … {MOST_SEEDS}")
        chosen = self.presets[preset]
        data = chosen.data if data is None else data
        planned = self.roles(chosen, plan_data(chosen, data))
        roles = {role: replace(run, precision=precision) for role, run in planned.items()}
        self.check_key(roles)
        key = [roles[role] for role in self.key]
        return PresetPlan(
            study=self.name,
            preset=preset,
            data=data,
            precision=precision,
            title=self.title,
            roles=roles,
            seeds={
                role: seeds or (chosen.key_seeds if run in key else chosen.seeds)
                for role, run in roles.items()
            },
            notes=(*departures(chosen, next(iter(roles.values()))), *self.notes(chosen)),
        )

    def check_key(self, roles: Mapping[str, RunConfig]) -> None:
        """Raise unless there are roles, and those that `key` names among them."""
        if not roles:
            raise ConfigError(f"study {self.name}: `roles` gave none; give one run at least")
        for role in self.key:
            if role not in roles:
                raise ConfigError(
                    f"study {self.name}: key: {role!r} is not one of its roles, {', '.join(roles)}"
                    f"{nearest(role, roles)}"
                )
