"""Sequential sweeps: seeds are added until the comparisons are decided, or their limit is reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from gradscape.analysis.comparisons import undecided
from gradscape.config.run import RunConfig
from gradscape.report.build import Report
from gradscape.storage.study_folder import StudyFolder
from gradscape.study.execute import execute
from gradscape.study.execution_options import Execution
from gradscape.study.plan import Plan
from gradscape.study.sweep.batch_size_controls import configure
from gradscape.study.sweep.report import PARTS
from gradscape.study.sweep.study_json import given_base


class Sequential(Plan, Protocol):
    """Plan of a sweep that seeds may be added to.

    Attributes:
        seeds: Number of seeds of every point to begin with.
        seeds_at_most: Number of seeds not to exceed; 0 to add none.
    """

    @property
    def seeds(self) -> int:
        """Number of seeds of every point."""

    @property
    def seeds_at_most(self) -> int:
        """Number of seeds up to which more are added."""


@dataclass(frozen=True)
class _Further:
    """One more seed of some points of a sweep that its folder holds.

    Attributes:
        name: Name of the sweep.
        points: Configuration per label, with the seed.
        seed: Seed that is added.
        together: Number of runs that are trained as one network.
    """

    name: str
    points: Mapping[str, RunConfig]
    seed: int
    together: int = 1

    def runs(self) -> dict[str, RunConfig]:
        return {config.identity: config for config in self.points.values()}

    def names(self) -> dict[str, str]:
        return {config.identity: f"{label} seed {self.seed}" for label, config in self.points.items()}

    def merged(self, asked: Mapping[str, Any] | None, folder: Path) -> dict[str, Any]:
        assert asked is not None, f"{folder} holds no sweep"
        new = {
            label: replace(asked["roles"][label], runs=(config.identity,)).after(asked["roles"][label].runs)
            for label, config in self.points.items()
        }
        return {
            **asked,
            "seeds": sorted({*asked["seeds"], self.seed}),
            "roles": {**asked["roles"], **new},
        }


def run_until_decided(
    study: Sequential, folder: StudyFolder, execution: Execution, say: Callable[[str], None]
) -> Report:
    """Run a sweep, then more seeds of the points whose comparisons are undecided, and build its report.

    After every seed each comparison is looked at, at a level that makes up for looking that often
    (`gradscape.stats.paired.look_level`): the chance to ever see a difference where there is none stays
    5 % for each. Where `study.seeds_at_most` is 0 the sweep is run and no seed added.

    Args:
        study: Plan of the sweep.
        folder: Folder of the study.
        execution: Place and manner, see `gradscape.study.execute.Execution`.
        say: Function called with a sentence before each further seed.

    Raises:
        GradscapeError: See `gradscape.study.execute.execute`.
    """
    report = execute(study, folder, execution, PARTS)
    for seed in range(study.seeds, study.seeds_at_most):
        left = undecided(folder.record("last"), study.seeds, study.seeds_at_most)
        if not left:
            say("every comparison is decided, or no further seed can decide it")
            break
        labels = dict.fromkeys(point.label for each in left for point in (each.reference, each.other))
        say(f"{len(left)} comparisons are undecided: seed {seed} of {len(labels)} points")
        asked = folder.asked()
        assert asked is not None
        base = given_base(asked)
        points = {
            label: replace(configure(base, asked["roles"][label].parameters), seed=seed) for label in labels
        }
        report = execute(_Further(study.name, points, seed), folder, execution, PARTS)
    return report
