"""Commands that run a published study or a user's own, and build its report again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from gradscape.cli.app import EXECUTION, FLAT
from gradscape.cli.files import FOLDER, folder_of
from gradscape.cli.study import run_study, say_verdicts
from gradscape.config.fields import MOST_SEEDS, option
from gradscape.config.options import FilePath, Options
from gradscape.config.run import Precision
from gradscape.errors import ConfigError, brief, nearest
from gradscape.study.execution import Execution

if TYPE_CHECKING:
    from gradscape.study.reproduction import Reproduction


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions(Options):
    """Which runs of a study, and where they go."""

    list: bool = option(False, "name the studies and stop")
    preset: str = option("quick", "quick, small or paper")
    data: str | None = option(None, "digits, cifar10 or cifar100 (default: the preset's)")
    out: FilePath | None = option(None, "the study's folder (default: runs/STUDY-PRESET-DATA)")
    seeds: int | None = option(None, "seeds of every run (default: the preset's)", 1, MOST_SEEDS)
    precision: Precision = option(
        "fp32", "of every run, fp32 as published; bf16 is faster on GPUs that compute in it"
    )
    dry_run: bool = option(False, "list the runs and estimate their time")


STUDY = Parameter(name="STUDY", help="a name that --list lists, or one of your own as FILE.py:STUDY")


def reproduce(
    study: Annotated[str, STUDY] = "batchnorm",
    /,
    *,
    options: Annotated[ReproduceOptions, FLAT] = ReproduceOptions(),
    execution: Annotated[Execution, EXECUTION] = Execution(),
) -> None:
    """Run what is missing of a study, then build its report."""
    from gradscape.studies.catalogue import STUDIES
    from gradscape.study.execute import execute

    if options.list:
        for each in STUDIES.values():
            print(f"{each.name:<12} {each.title}  presets: {', '.join(each.presets)}")
        return
    if ":" not in study and study not in STUDIES:
        raise ConfigError(
            f"STUDY: expected one of {', '.join(STUDIES)}, or FILE.py:STUDY; got {brief(study)}"
            f"{nearest(study, STUDIES)}"
        )
    chosen = _own_study(study) if ":" in study else STUDIES[study]
    plan = chosen.plan(options.preset, options.data, options.seeds, options.precision)
    run_study(
        plan,
        options.out,
        options.dry_run,
        execution,
        lambda folder, execution: execute(plan, folder, execution, chosen.parts),
    )


def _own_study(name: str) -> Reproduction[Any]:
    """The study that FILE.py:STUDY names."""
    from gradscape.cli.import_object import load_value
    from gradscape.studies.catalogue import STUDIES
    from gradscape.study.reproduction import Reproduction

    study = load_value(name, Reproduction, "study")
    if study.name in STUDIES:
        raise ConfigError(f"{name}: its name {study.name!r} is that of a study here; give it another")
    return study


@dataclass(frozen=True, kw_only=True)
class ReportOptions(Options):
    """Study and place of a report."""

    study: Annotated[str | None, Parameter(metavar="FILE.py:STUDY")] = option(
        None, "where the folder's study is one of your own"
    )
    out: FilePath | None = option(None, "folder of the report (default: DIR/report)")


def report(
    folder: Annotated[str, Parameter(name="DIR", help=FOLDER)],
    /,
    *,
    options: Annotated[ReportOptions, FLAT] = ReportOptions(),
) -> None:
    """Build figures, tables and page from the run folders alone."""
    from gradscape.storage.study_folder import SingleRun, folder_at

    found, out = folder_at(folder_of(folder)), Path(options.out) if options.out else None
    if isinstance(found, SingleRun):
        from gradscape.cli.diagnose import print_run
        from gradscape.storage.run_folder import RunFolder

        print_run(RunFolder(found.path).record(), out or found.path / "report")
        return
    from gradscape.studies.catalogue import rebuild

    say_verdicts(rebuild(found, _own_study(options.study) if options.study else None, out))
