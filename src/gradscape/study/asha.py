"""Asynchronous successive halving by Optuna's pruner: runs that fall behind are ended early."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from gradscape.config.run import RunConfig
from gradscape.errors import ConfigError
from gradscape.records.run import Progress
from gradscape.storage.study_folder import StudyFolder

REDUCTION = 3  # one in three runs that reach a rung goes on to the next, three times as far
FIRST = 9  # the first rung is after a ninth of the epochs, the next after a third, the last after all


class Halving:
    """Successive halving: stops runs whose validation accuracy is not among the best third at a rung.

    The runs that it stops depend on the order in which runs reach a rung: such a sweep cannot be repeated to
    the bit. A stopped run continues when the study is run again without halving.

    Args:
        runs: Configuration per identity, of the whole study.
        folder: Folder of the study, from which the runs' epochs are read.

    Raises:
        ConfigError: Optuna is not installed.

    Source: Li et al. (2020), A system for massively parallel hyperparameter tuning, algorithm 2.
    """

    def __init__(self, runs: Mapping[str, RunConfig], folder: StudyFolder) -> None:
        try:
            import optuna
        except ImportError as error:
            raise ConfigError("--asha needs Optuna; type: pip install optuna") from error
        optuna.logging.set_verbosity(logging.WARNING)
        first = max(1, min(config.epochs for config in runs.values()) // FIRST)
        self.study = optuna.create_study(
            direction="maximize",
            pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=REDUCTION),
        )
        self.folder = folder
        self.trials: dict[str, Any] = {}
        self.seen: dict[str, int] = {}

    def update(self, name: str, progress: Progress) -> None:
        """Judge the epochs that a run has finished since its last report; ask it to stop if it falls behind.

        Args:
            name: Identity of the run.
            progress: Its report.
        """
        seen = self.seen.get(name, 0)
        if progress.epoch - 1 <= seen:
            return
        run = self.folder.run(name)
        if name not in self.trials:
            self.trials[name] = self.study.ask()
        trial = self.trials[name]
        for epoch in run.epochs(after=seen)[: progress.epoch - 1 - seen]:
            trial.report(epoch.valid_accuracy, epoch.epoch)
            if trial.should_prune():
                run.ask_stop(
                    f"ASHA: accuracy {epoch.valid_accuracy:.3f} after {epoch.epoch} epochs is not among the "
                    f"best in {REDUCTION} so far"
                )
        self.seen[name] = progress.epoch - 1
