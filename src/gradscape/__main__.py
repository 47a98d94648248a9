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
    """Raise KeyboardInterrupt, though not within the import of a C extension: that may leave it half made."""
    while frame is not None:
        if type(frame.f_locals.get("self")).__name__ == "ExtensionFileLoader":
            Timer(AGAIN, interrupt_main).start()
            return
        frame = frame.f_back
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(run())
