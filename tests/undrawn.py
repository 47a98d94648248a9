"""Reports with empty pictures, for tests of all the rest: rendering is most of a small study's time.

`python undrawn.py …` is `gradscape …` in a process of its own.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradscape.report.build
from gradscape.__main__ import run

PICTURES = {"svg": b'<svg viewBox="0 0 1 1"></svg>', "png": b"", "pdf": b""}


@contextmanager
def rendering(*_: Any) -> Iterator[Callable[[Any], dict[str, bytes]]]:
    yield lambda figure: PICTURES


if __name__ == "__main__":
    gradscape.report.build.rendering = rendering
    sys.exit(run())
