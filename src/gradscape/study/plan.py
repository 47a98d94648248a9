"""Plan of a study: its runs, and the contents of its `study.json`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from gradscape.config.run import RunConfig
from gradscape.storage.study_folder import StudyFolder


class Plan(Protocol):
    """Runs of a study and their roles; plain values, planned before anything runs."""

    @property
    def name(self) -> str:
        """Name of a folder for it."""

    @property
    def together(self) -> int:
        """Number of runs that are trained as one network, at most; 1 for each by itself."""

    def runs(self) -> Mapping[str, RunConfig]:
        """Return the configuration per identity of every distinct run, in the order to run them in."""

    def names(self) -> Mapping[str, str]:
        """Return the name of each run for people, per identity."""

    def merged(self, asked: Mapping[str, Any] | None, folder: Path) -> dict[str, Any]:
        """Return `study.json`'s contents: `study`, `title`, `preset`, `seeds`, `notes`, `roles` and more.

        Args:
            asked: Its contents now, or None; the runs that an earlier command planned stay in the study.
            folder: Folder of the study, for messages.

        Raises:
            StoreError: It holds another study.
        """


def ask(folder: StudyFolder, plan: Plan) -> None:
    """Write a plan into the study's folder, or extend the one that is there.

    Args:
        folder: Folder of the study.
        plan: Runs of the study.

    Raises:
        StoreError: The folder holds another study.
    """
    folder.ask(plan.merged(folder.asked(), folder.path))
