"""View of a running watch in a notebook: one output, updated in place."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gradscape.errors import ConfigError

if TYPE_CHECKING:
    from gradscape.measure.watch.watch import Watch

SHARE = 0.01  # of the training's time that drawing may take


class NotebookView:
    """Diagnosis so far and map of gradients in a cell's output, drawn again while the training goes on.

    Args:
        flow: Watch to show.
        seconds: Number of seconds from one drawing to the next, at least; more where drawing would take more
            than 1 % of the time.

    Raises:
        ConfigError: IPython is not installed.
    """

    def __init__(self, flow: Watch, seconds: float) -> None:
        try:
            from IPython.display import HTML, display
        except ImportError:
            raise ConfigError("live: a notebook's display needs ipython; type: pip install ipython") from None
        self.flow, self.seconds = flow, seconds
        self.clock: Callable[[], float] = time.monotonic
        self.html: Callable[[str], Any] = HTML
        self.handle: Any = display(HTML(flow._repr_html_()), display_id=True)
        self.due = self.clock() + seconds
        flow.on_step(self._on_step)
        flow.on_close(self.draw)

    def _on_step(self) -> None:
        began = self.clock()
        if began >= self.due:
            self.draw()
            now = self.clock()
            self.due = now + max(self.seconds, (now - began) / SHARE)

    def draw(self) -> None:
        """Draw the watch as it is now."""
        if self.handle is not None:  # None outside of a notebook
            self.handle.update(self.html(self.flow._repr_html_()))
