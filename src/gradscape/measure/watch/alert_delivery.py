"""Deliver alerts to their receivers, none of which can stop a training or hold it up for long.

Each receiver has a daemon thread and a short queue. The training waits for plain functions only, and for none
longer than a second; what is still on its way when the process ends has a few seconds.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context

from gradscape.errors import cut, first_line, one_line
from gradscape.records.alert import Alert

Receiver = Callable[[Alert], object]
PATIENCE = 1.0  # seconds that a training waits for a function
WAITING = 16  # alerts in a queue
IDLE = 5.0  # seconds after which a thread without work ends
AT_EXIT = 5.0  # seconds for what is on its way when the process ends

log = logging.getLogger("gradscape")  # not `warnings`: those can be made errors, which would end the training


class Delivery:
    """Delivery of alerts to receivers.

    Args:
        receivers: Functions that take an alert. One with a true attribute `is_slow` is not waited for.
    """

    def __init__(self, receivers: Sequence[Receiver] = ()) -> None:
        self._lines = [_Line(receiver) for receiver in receivers]

    @property
    def receivers(self) -> list[Receiver]:
        """Receivers, in the order in which they are told."""
        return [line.receiver for line in self._lines]

    def add(self, receiver: Receiver) -> None:
        """Add a receiver of later alerts.

        Args:
            receiver: Function that takes an alert.
        """
        self._lines.append(_Line(receiver))

    def send(self, alert: Alert) -> None:
        """Hand an alert to all receivers; return at once, or after `PATIENCE` of a function that hangs.

        Args:
            alert: Alert to deliver.
        """
        for line in self._lines:
            line.put(alert)

    def finish(self, seconds: float = AT_EXIT, receiver: Receiver | None = None) -> bool:
        """Wait for what is on its way; return True if all was delivered, or failed.

        Args:
            seconds: Time to wait, at most.
            receiver: Receiver to wait for; None for all.
        """
        end = time.monotonic() + seconds
        lines = [line for line in self._lines if receiver is None or line.receiver is receiver]
        return all(line.wait(max(0.0, end - time.monotonic())) for line in lines)


class _Line:
    """A receiver, its queue and its thread."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.is_slow = bool(getattr(receiver, "is_slow", False))
        self.waiting: deque[tuple[Alert, Context]] = deque()
        self.changed = threading.Condition()
        self.is_busy = self.has_thread = False
        self.said: set[str] = set()

    def put(self, alert: Alert) -> None:
        """Queue an alert, and wait for a function to return."""
        with self.changed:
            if len(self.waiting) == WAITING:
                self._say("full", f"{WAITING} alerts are waiting for it, later ones are left out")
                return
            self.waiting.append((alert, copy_context()))
            if not self.has_thread:
                self.has_thread = True
                _at_work.add(self)
                threading.Thread(target=self._work, name="gradscape alerts", daemon=True).start()
            self.changed.notify_all()
        if not self.is_slow and not self.wait(PATIENCE):
            self.is_slow = True
            self._say("slow", f"it took more than {PATIENCE:g} s, and is not waited for any more")

    def wait(self, seconds: float) -> bool:
        """Wait until nothing is on its way; return whether that is so."""
        with self.changed:
            return self.changed.wait_for(lambda: not self.waiting and not self.is_busy, seconds)

    def _work(self) -> None:
        while (work := self._next()) is not None:
            alert, context = work
            try:
                context.run(self.receiver, alert)
            except BaseException as error:  # a SystemExit would end the thread without a word
                self._say("error", f"an alert was not delivered: {_described(error)}")
            finally:
                with self.changed:
                    self.is_busy = False
                    self.changed.notify_all()

    def _next(self) -> tuple[Alert, Context] | None:
        """Return the next alert; None, after which the thread ends, if there is none for a while."""
        with self.changed:
            if not self.changed.wait_for(lambda: bool(self.waiting), IDLE):
                self.has_thread = False
                _at_work.discard(self)
                return None
            self.is_busy = True
            return self.waiting.popleft()

    def _say(self, what: str, text: str) -> None:
        """Log a line of each kind once."""
        if what not in self.said:
            self.said.add(what)
            log.warning("%s: %s", _name_of(self.receiver), text)


def _described(error: BaseException) -> str:
    return cut(one_line(first_line(error)), 300)


def _name_of(receiver: Receiver) -> str:
    name = getattr(receiver, "__qualname__", "")
    try:
        return f"on_finding {cut(name or repr(receiver), 160)}"
    except Exception:  # a foreign object's own repr
        return f"on_finding {type(receiver).__name__}"


_at_work: set[_Line] = set()


@atexit.register
def _finish_all() -> None:
    """Give what is on its way a few seconds in all, when the process ends."""
    end = time.monotonic() + AT_EXIT
    for line in tuple(_at_work):
        line.wait(max(0.0, end - time.monotonic()))
