"""Gallery: each script of examples/gallery is run, and shown with what it prints and draws."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from gallery_entries import Entry, entries
from places import DOCS, STAGE
from run_script import Ran, run
from staging import destinations, rewritten, write
from verdict_pages import slug

PICTURES = Path("gallery") / "pictures"  # within the stage
LOG = STAGE / "gallery.log"


def make() -> None:
    """Run all scripts, two or more side by side, and write their pages and the one that lists them.

    Raises:
        SystemExit: A script does not print what it must.
    """
    cores = len(os.sched_getaffinity(0))
    order = sorted(entries(), key=lambda entry: entry.about != "Studies")  # the longest first
    # Processes of their own: a script that hangs can be ended, and the site's builder keeps its state.
    with ProcessPoolExecutor(cores, get_context("spawn"), _quiet) as pool:
        jobs = {entry: pool.submit(run, entry.path, STAGE / PICTURES) for entry in order}
        ran = {entry: job.result() for entry, job in jobs.items()}
    if lines := [line for entry in entries() for line in missing(entry, ran[entry].printed)]:
        sys.exit("\n".join(lines))
    for entry in entries():
        place = Path("gallery") / f"{entry.slug}.md"
        text = rewritten(_page(entry, ran[entry]), DOCS / place, place, destinations())
        write(place, text)
    write("gallery/index.md", _index())


def _quiet() -> None:
    """Send what a process and those that it starts write to stderr, such as their progress, to a file."""
    os.dup2(os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)


def missing(entry: Entry, printed: str) -> list[str]:
    """Return a line for each text that a script does not print and must.

    Args:
        entry: The script.
        printed: What it prints.
    """
    return [
        f"{entry.path.name}: does not print {text!r}:\n{printed}"
        for text in entry.prints
        if text not in printed
    ]


def _both(stem: str, alt: str, classes: str = "") -> str:
    """Return the light and the dark form of a picture; a page shows one."""
    return "\n".join(
        f"```{{image}} pictures/{stem}-{scheme}.png\n:class: only-{scheme} {classes}\n:alt: {alt}\n```\n"
        for scheme in ("light", "dark")
    )


def _page(entry: Entry, ran: Ran) -> str:
    body = entry.docstring.partition("\n")[2].strip()
    pictures = "\n".join(
        _both(f"{entry.path.stem}-{place}", f"Drawing of the script: {entry.title}")
        for place in range(1, ran.pictures + 1)
    )
    links = ", ".join(f"[{each}](../verdicts/{slug(each)}.md)" for each in entry.verdicts)
    named = f"The verdict: {links}. " if links else ""
    return (
        f"# {entry.title}\n\n{body}\n\n{pictures}\n```python\n{entry.code}\n```\n\nIt prints:\n\n"
        f"```text\n{ran.printed}\n```\n\n{named}[All of the gallery](index.md).\n"
    )


_INDEX = """# Gallery

Scripts of at most thirty lines: a network and a loop as one writes them, what gradscape says of them, and
what helped. All are run when this site is built, on a CPU and in seconds, and shown with what they print and
draw. They lie in `examples/gallery`.
"""


def _index() -> str:
    text = _INDEX
    for about in dict.fromkeys(entry.about for entry in entries()):
        cards = "".join(_card(entry) for entry in entries() if entry.about == about)
        text += f"\n## {about}\n\n::::{{grid}} 1 2 2 3\n:gutter: 2\n\n{cards}::::\n"
    return text + _contents(entries())


def _card(entry: Entry) -> str:
    picture = _both(f"{entry.path.stem}-1", entry.title, "thumbnail")
    return f":::{{grid-item-card}} {entry.title}\n:link: {entry.slug}\n:link-type: doc\n\n{picture}:::\n"


def _contents(shown: Iterable[Entry]) -> str:
    return "\n```{toctree}\n:hidden:\n\n" + "\n".join(entry.slug for entry in shown) + "\n```\n"
