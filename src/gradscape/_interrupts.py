"""Ctrl-C and SIGTERM, raised where a command can end well."""

from __future__ import annotations

import signal
from _thread import interrupt_main
from threading import Timer
from types import FrameType

AGAIN = 0.05  # seconds until a signal that came at a bad moment comes again
# Ends of objects, whose errors Python ignores, and makings of a class, whose errors 3.11 replaces.
LOSING = ("__del__", "__set_name__")


class Terminated(KeyboardInterrupt):
    """SIGTERM, as batch systems and `kill` send it: like Ctrl-C, and the text says what it was."""


def raise_signals() -> None:
    """Let Ctrl-C raise KeyboardInterrupt and SIGTERM `Terminated`, unless somebody else handles them."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _raise)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _raise)


def _raise(number: int, frame: FrameType | None) -> None:
    """Raise the signal's exception, or let it come again soon where Python would lose it."""
    while frame is not None:
        if _loses_exceptions(frame):
            Timer(AGAIN, interrupt_main, (number,)).start()
            return
        frame = frame.f_back
    raise Terminated("told to end by SIGTERM") if number == signal.SIGTERM else KeyboardInterrupt


def _loses_exceptions(frame: FrameType) -> bool:
    """Tell a C extension's import, which may be left half made, and methods of `LOSING`."""
    code = frame.f_code
    if code.co_name in LOSING or (code.co_name == "cb" and "importlib._bootstrap" in code.co_filename):
        return True  # `cb` ends the lock of each module that is imported
    return type(frame.f_locals.get("self")).__name__ == "ExtensionFileLoader"
