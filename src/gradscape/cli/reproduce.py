"""Commands that run a published study or a user's own, and build reports again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from gradscape.cli.app import EXECUTION, FLAT
from gradscape.cli.files import FOLDER, folder_of
from gradscape.cli.study import print_verdicts, run_study
from gradscape.config.fields import MOST_SEEDS, option
from gradscape.config.options import FilePath, Options
from gradscape.config.run import Precision
from gradscape.errors import ConfigError, brief, nearest
from gradscape.study.execution_options import Execution

if TYPE_CHECKING:
    from gradscape.study.reproduction import Reproduction


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions(Options):
    """Choice of a study's runs, and their folder."""

    list: bool = option(False, "list the studies and stop")
    preset: str = option("quick", "quick, small or paper")
    data: str | None = option(None, "digits, cifar10 or cifar100 (default: the preset's)")
    out: FilePath | None = option(None, "the study's folder (default: runs/STUDY-PRESET-DATA)")
    seeds: int | None = option(None, "number of seeds of every run (default: the preset's)", 1, MOST_SEEDS)
    precision: Precision = option(
        "fp32", "precision of every run, fp32 as published; bf16 is faster where the device computes in it"
    )
    dry_run: bool = option(False, "list the runs and estimate their time")


STUDY = Parameter(
    name="STUDY", help="name of a study that --list lists, or FILE.py:STUDY for one of your own"
)


def reproduce(
    study: Annotated[str, STUDY] = "batchnorm",
    /,
    *,
    options: Annotated[ReproduceOptions, FLAT] = ReproduceOptions(),
    execution: Annotated[Execution, EXECUTION] = Execution(),
) -> None:
    """Run what is missing of a study, then build its report.

    Args:
        study: Name of a published study, or FILE.py:STUDY.
        options: Choice of the study's runs.
        execution: Place and manner.

    Raises:
        ConfigError: There is no such study or preset, or an option cannot be used.
        DataError: The images are not available.
        StoreError: The folder is another study's, or cannot be written.
        RunFailed: Some runs failed.
    """
    from gradscape.studies.catalogue import STUDIES
    from gradscape.study.execute import execute

    if options.list:
        for known in STUDIES.values():
            print(f"{known.name:<12} {known.title}  presets: {', '.join(known.presets)}")
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
    """Return the study that FILE.py:STUDY names."""
    from gradscape.cli.import_object import load_value
    from gradscape.studies.catalogue import STUDIES
    from gradscape.study.reproduction import Reproduction

    study = load_value(name, Reproduction, "study")
    if study.name in STUDIES:
        raise ConfigError(f"{name}: expected a name that no published study has; got {study.name!r}")
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
    """Build the report of a study, or the page of a run, from its folder alone.

    Args:
        folder: Path of a study's or a run's folder.
        options: Study and place of the report.

    Raises:
        ConfigError: The folder holds an unknown study, or a run without an epoch.
        StoreError: The folder holds neither, is damaged, or the report cannot be written.
    """
    from gradscape.storage.study_folder import SingleRun, folder_at

    source, out = folder_at(folder_of(folder)), Path(options.out) if options.out else None
    if isinstance(source, SingleRun):
        if options.study:
            raise ConfigError(f"--study: expected a study's folder; got {source.path}, a run's; leave it out")
        from gradscape.cli.diagnose import print_run

        print_run(source.only.record(), out or source.path / "report")
        return
    from gradscape.studies.catalogue import rebuild

    print_verdicts(rebuild(source, _own_study(options.study) if options.study else None, out))
