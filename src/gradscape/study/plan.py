"""What a command asks of a study's folder: which runs there are to be, and what `study.json` is to say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from gradscape.config.run import RunConfig
from gradscape.storage.study_folder import StudyFolder


class Plan(Protocol):
    """The runs of a study and what they are for; plain values, planned before anything runs."""

    @property
    def name(self) -> str:
        """Of a folder for it."""

    def runs(self) -> Mapping[str, RunConfig]:
        """Identity → configuration of every distinct run, in the order to run them in."""

    def names(self) -> Mapping[str, str]:
        """Identity → what a person calls the run."""

    def merged(self, asked: Mapping[str, Any] | None, folder: Path) -> dict[str, Any]:
        """What `study.json` is to hold: `study`, `title`, `preset`, `seeds`, `notes`, `roles`, and more.

        Args:
            asked: what it holds now, or None; what an earlier command asked for stays in the study.
            folder: where, for messages.

        Raises:
            StoreError: it holds another study.
        """


def ask(folder: StudyFolder, plan: Plan) -> None:
    """Write what is asked into the study's folder, or extend what was asked there before.

    Raises:
        StoreError: the folder holds another study.
    """
    folder.ask(plan.merged(folder.asked(), folder.path))
