"""`python -m gradscape` and the `gradscape` command."""

import signal
import sys
from _thread import interrupt_main
from threading import Timer
from types import FrameType

AGAIN = 0.05  # seconds until an interrupt that came at a bad moment comes again


def run() -> int:
    """Run the command line, interruptible while it is still being imported."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        from gradscape.cli.main import main
    except KeyboardInterrupt:
        return 130
    return main()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, or let it come again soon where Python would lose it."""
    while frame is not None:
        if _loses_exceptions(frame):
            Timer(AGAIN, interrupt_main).start()
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def _loses_exceptions(frame: FrameType) -> bool:
    """Tell a C extension's import, which may be left half made, and ends of objects, which ignore errors."""
    code = frame.f_code
    if code.co_name == "__del__" or (code.co_name == "cb" and "importlib._bootstrap" in code.co_filename):
        return True  # `cb` ends the lock of each module that is imported
    return type(frame.f_locals.get("self")).__name__ == "ExtensionFileLoader"


if __name__ == "__main__":
    sys.exit(run())
