"""`python -m gradscape` and the `gradscape` command."""

import sys

from gradscape.cli import main

if __name__ == "__main__":
    sys.exit(main())
