"""A published study and how it is reproduced: presets, the runs that answer it, and what is made of them.

A study is one file that fills in `Reproduction`; `STUDIES` lists them. Its runs are planned as plain values
and kept in `study.json`, so that the report needs nothing but the folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gradscape.config import Precision, RunConfig
from gradscape.errors import StoreError
from gradscape.report.build import ReportParts


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
            asked = {"precision": "fp32"} | dict(asked)  # studies from before there was a choice
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


@dataclass(frozen=True)
class Reproduction:
    """A question and how it is answered.

    Attributes:
        name: what follows `gradscape reproduce`.
        title: the question.
        presets: preset → the data set it runs on by default.
        plan: (preset, data or None, seeds or None, precision) → the runs.
        parts: what its report draws, tabulates and claims.
    """

    name: str
    title: str
    presets: Mapping[str, str]
    plan: Callable[[str, str | None, int | None, Precision], PresetPlan]
    parts: ReportParts
