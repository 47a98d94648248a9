"""Phases of a command on stderr: one line that is rewritten on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import IO, TYPE_CHECKING, cast

from rich.console import Console
from rich.live import Live
from rich.text import Text

from gradscape._printing import Forgiving
from gradscape._text import strip_controls

if TYPE_CHECKING:
    from gradscape.records.check_progress import CheckProgress


class PhaseView:
    """Display of what a check is at, and since how many seconds; a context manager.

    On a terminal the line disappears at the end. A pipe, or a terminal that says TERM=dumb, gets a line for
    each phase; the first one's waits for the second, because what is wrong with the input ends the first.
    """

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.at = self.phase = ""
        self.waiting = ""  # line of the first phase
        self.console = Console(file=cast(IO[str], Forgiving(sys.stderr)), highlight=False)
        self.live = Live(
            console=self.console, get_renderable=self._render, refresh_per_second=4, transient=True
        )
        self.is_rewritten = self.console.is_terminal and not self.console.is_dumb_terminal

    def __enter__(self) -> PhaseView:
        if self.is_rewritten:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_rewritten:
            self.live.stop()

    def show(self, progress: CheckProgress) -> None:
        """Show what begins.

        Args:
            progress: Report of the check.
        """
        self.at = strip_controls(str(progress))
        if self.is_rewritten:
            self.live.refresh()
        elif progress.phase != self.phase:
            self._print(progress)
        self.phase = progress.phase

    def _print(self, progress: CheckProgress) -> None:
        """Print a phase's line; of parts only how many there are."""
        what = f"{progress.of} {progress.phase}" if progress.of else self.at
        line = f"{self._seconds():>4}  {what}"
        if not self.phase:
            self.waiting = line
            return
        for each in filter(None, (self.waiting, line)):
            self.console.print(each, soft_wrap=True, markup=False)
        self.waiting = ""

    def _seconds(self) -> str:
        return f"{time.monotonic() - self.start:.0f} s"

    def _render(self) -> Text:
        return Text(f"{self._seconds():>4}  {self.at}" if self.at else "")
