"""`python -m gradscape` and the `gradscape` command."""

import sys


def run() -> int:
    """The command line, interruptible while it is still being imported."""
    try:
        from gradscape.cli.main import main
    except KeyboardInterrupt:
        return 130
    return main()


if __name__ == "__main__":
    sys.exit(run())
