"""`python -m gradscape` and the `gradscape` command."""

import sys

from gradscape._interrupts import Terminated, raise_signals


def run() -> int:
    """Run the command line, interruptible while it is still being imported."""
    raise_signals()
    try:
        from gradscape.cli.main import main
    except Terminated:
        return 143
    except KeyboardInterrupt:
        return 130
    return main()


if __name__ == "__main__":
    sys.exit(run())
