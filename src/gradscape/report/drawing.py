"""Figures drawn by processes beside this one, while it goes on.

Matplotlib draws in Python, which runs one thread at a time. A process is fed through pipes: `multiprocessing`
would run the user's script again in it, or fork threads of torch.
"""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue

from gradscape._machine import cores
from gradscape.report.figures.base import Figure, render

FIGURES_EACH = 4  # figures that are worth a process: its imports take as long as two of them
SERVE = "from gradscape.report.drawing import serve; serve()"

Files = dict[str, bytes]  # bytes per ending


@contextmanager
def rendering(figures: Sequence[Figure]) -> Iterator[Callable[[Figure], Files]]:
    """Begin to draw figures, by a process per core if there are many, and yield a function to their files.

    Args:
        figures: Figures, whose names differ.
    """
    count = min(cores(), len(figures) // FIGURES_EACH)
    if count < 2:
        yield render
        return
    artists: SimpleQueue[_Artist] = SimpleQueue()
    started = [_Artist() for _ in range(count)]
    for artist in started:
        artists.put(artist)

    def draw(figure: Figure) -> Files | None:
        artist = artists.get()
        try:
            return artist.draw(figure)
        finally:
            artists.put(artist)

    pool = ThreadPoolExecutor(count)
    try:
        drawn = {figure.name: pool.submit(draw, figure) for figure in figures}
        yield lambda figure: drawn[figure.name].result() or render(figure)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for artist in started:
            artist.end()


class _Artist:
    """Process that draws one figure after another."""

    def __init__(self) -> None:
        found = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=found,
        )  # fmt: skip

    def draw(self, figure: Figure) -> Files | None:
        """Return a figure's files; None if it cannot be sent, or the process has ended."""
        given, taken = self.process.stdin, self.process.stdout
        assert given is not None
        assert taken is not None
        try:
            given.write(pickle.dumps(figure))
            given.flush()
            files: Files = pickle.load(taken)
        except Exception:  # of any type: what a figure holds may refuse to be pickled in its own way
            return None
        return files

    def end(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()


def serve() -> None:
    """Draw the figures that come in, in pickles, until there are no more; the work of a process.

    Garbage is collected between figures: within one, that alone would take a fifth of the time.
    """
    given, taken = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # whatever is printed is not an answer
    gc.freeze()
    gc.disable()
    while True:
        try:
            figure = pickle.load(given)
        except EOFError:
            return
        pickle.dump(render(figure), taken)
        taken.flush()
        del figure
        gc.collect()
