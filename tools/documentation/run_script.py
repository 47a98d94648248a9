"""Run of a script for the site: what it prints, and its figures as pictures for light and dark pages."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import re
import runpy
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from dark import DARK

mpl.use("Agg")

import matplotlib.pyplot as plt
import matplotlib.style
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure

from gradscape.report.figures.style import DPI, GRID, INK, RC

SECONDS = 300  # after which a script hangs: each takes seconds
_LINE = re.compile(r"\n{3,}")


@dataclass(frozen=True)
class Ran:
    """What a script did.

    Attributes:
        printed: Its standard output.
        pictures: Number of figures; each is `STEM-1-light.png`, `STEM-1-dark.png` and so on.
        seconds: Time that it took.
    """

    printed: str
    pictures: int
    seconds: float


def run(script: Path, pictures: Path) -> Ran:
    """Run a script in a folder of its own, with warnings as errors.

    Args:
        script: Path of the script.
        pictures: Folder that its figures are drawn to.
    """
    started, out = time.perf_counter(), io.StringIO()
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    plt.close("all")  # figures of before are none of the script's
    styled = matplotlib.style.context(["default", RC])
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), styled, _strict():
        with contextlib.redirect_stdout(out):
            runpy.run_path(str(script), run_name="__main__")
        numbers = plt.get_fignums()
        for place, number in enumerate(numbers, 1):
            save(plt.figure(number), pictures / f"{script.stem}-{place}")
        plt.close("all")
    faulthandler.cancel_dump_traceback_later()
    return Ran(_LINE.sub("\n\n", out.getvalue()).rstrip(), len(numbers), time.perf_counter() - started)


@contextlib.contextmanager
def _strict() -> Any:
    """Make errors of warnings, but of those that Lightning gives its own code; leave stderr to errors."""
    with warnings.catch_warnings(), open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module="pytorch_lightning|lightning|typing_extensions")
        yield


def save(figure: Figure, path: Path) -> None:
    """Draw a figure for light pages and for dark ones, on no ground: that is the page's.

    Args:
        figure: Figure, which has the dark colors afterwards.
        path: Path, to which `-light.png` and `-dark.png` are added.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(f"{path}-light.png", dpi=DPI, transparent=True)
    recolor(figure, DARK)
    figure.savefig(f"{path}-dark.png", dpi=DPI, transparent=True)


def recolor(figure: Figure, colors: Mapping[str, str]) -> None:
    """Replace colors of all that is drawn.

    Args:
        figure: Figure.
        colors: Color, as `#rrggbb`, per color to replace.
    """
    for axes in figure.axes:  # ticks that are not made yet
        axes.tick_params(which="both", colors=colors[INK], grid_color=colors[GRID])
    for artist in figure.findobj():
        for name in ("color", "facecolor", "edgecolor"):
            get, put = getattr(artist, f"get_{name}", None), getattr(artist, f"set_{name}", None)
            if get is None or put is None:
                continue
            with contextlib.suppress(ValueError, TypeError):  # several colors: those of data
                *_, alpha = to_rgba(get())
                if alpha and (color := to_hex(get())) in colors:
                    put(colors[color])


if __name__ == "__main__":
    print(run(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()).printed)
