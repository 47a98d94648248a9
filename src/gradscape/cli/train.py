"""Command that trains one run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from gradscape._printing import heard_or_not
from gradscape._text import strip_controls
from gradscape.cli.app import EXECUTION, FLAT
from gradscape.cli.diagnose import print_run
from gradscape.cli.settings import RunFlags, settings_given
from gradscape.config.fields import MOST_WORKERS, option
from gradscape.config.options import FilePath, Options
from gradscape.config.run import RunConfig
from gradscape.config.serialize import from_dict, read_config, to_dict
from gradscape.config.text import nested
from gradscape.study.execution_options import DataSource


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Options):
    """Configuration and folder of a run, and its threads."""

    config: FilePath | None = option(None, "YAML or JSON of the run's settings; flags override it")
    out: FilePath | None = option(None, "the run's folder (default: runs/IDENTITY)")
    threads: int | None = option(
        None, "number of threads (default: OMP_NUM_THREADS, else one per core)", 1, MOST_WORKERS
    )


def train(
    *,
    options: Annotated[TrainOptions, FLAT] = TrainOptions(),
    source: Annotated[DataSource, EXECUTION] = DataSource(),
    flags: Annotated[RunFlags, FLAT] = RunFlags(),
) -> None:
    """Train one run in this process, print its diagnosis, and write its page.

    Args:
        options: Configuration and folder of the run.
        source: Device and images.
        flags: Settings of the run.

    Raises:
        ConfigError: A setting or the device cannot be used.
        DataError: The images are not available.
        StoreError: The folder cannot be written, or holds another run.
    """
    config = train_config(options.config, settings_given(flags))
    from gradscape.data import load_images
    from gradscape.storage.run_folder import RunFolder

    folder = RunFolder(Path(options.out or Path("runs") / config.identity))
    images = load_images(
        config.data.name, source.data_root, download=source.download, mirrors=source.mirrors or None
    )
    from gradscape._machine import default_threads
    from gradscape.executors.base import Event
    from gradscape.study.progress import ProgressView
    from gradscape.train.loop import train_run
    from gradscape.train.process import prepare_process

    prepare_process(options.threads or default_threads())
    name = config.identity
    with ProgressView({name: config}, done=0) as view:
        view.show(Event(name, "started"))
        record = train_run(
            config,
            folder,
            images,
            source.device,
            lambda progress: view.show(Event(name, "progress", progress)),
        )
        view.show(Event(name, "finished", record))
    with heard_or_not(sys.stdout):
        print(strip_controls(f"run: {folder.path}"))
        print_run(record, folder.path / "report")


def train_config(file: FilePath | None, settings: Mapping[str, Any]) -> RunConfig:
    """Return the configuration of a file, with settings in place of its own.

    Args:
        file: Path of a YAML or JSON file; None for the defaults.
        settings: Value per dotted name.

    Raises:
        ConfigError: The file cannot be read, or a setting cannot be used.
    """
    values = to_dict(read_config(Path(file))) if file else {}
    for section, value in nested(settings).items():
        values[section] = {**values.get(section, {}), **value} if isinstance(value, dict) else value
    return from_dict(RunConfig, values)
