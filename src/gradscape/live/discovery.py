"""Studies, runs and watches within a folder, found by their files and never through a link."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

DEPTH = 3  # folders below the one that was given
MOST = 5_000  # folders that are looked into

Kind = Literal["study", "run", "watch"]
MARKS: dict[str, Kind] = {"study.json": "study", "config.json": "run", "watch.json": "watch"}
BEGINNING = b'{\n "format": '  # of a run's configuration: many programs have a file of this name


@dataclass(frozen=True)
class Place:
    """Folder of something to show.

    Attributes:
        kind: `study`, `run` or `watch`.
        path: Path of the folder.
        name: Path within the folder that was given, as text that can be sent; empty for this one itself.
    """

    kind: Kind
    path: Path
    name: str


def places(root: Path, most: int = MOST) -> tuple[list[Place], bool]:
    """Return what is within a folder, sorted by name, and True if that is all of it.

    Args:
        root: Path of the folder.
        most: Number of folders that are looked into.
    """
    looked = [most]
    found = sorted(_within(root, "", DEPTH, looked), key=lambda place: place.name)
    return found, looked[0] >= 0


def _within(folder: Path, name: str, depth: int, looked: list[int]) -> Iterator[Place]:
    looked[0] -= 1
    try:
        entries = list(os.scandir(folder)) if looked[0] >= 0 else []
    except OSError:  # gone meanwhile, or not ours to read
        return
    files = {entry.name for entry in entries if entry.is_file(follow_symlinks=False)}
    if "config.json" in files and not _is_runs(folder, files):
        files.remove("config.json")
    kind = next((kind for mark, kind in MARKS.items() if mark in files), None)
    if kind is not None:
        yield Place(kind, folder, name)
    elif depth:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                own = os.fsencode(entry.name).decode("utf-8", "backslashreplace")  # JSON holds no other text
                inner = f"{name}/{own}" if name else own
                yield from _within(folder / entry.name, inner, depth - 1, looked)


def _is_runs(folder: Path, files: set[str]) -> bool:
    """Return True if a folder's `config.json` is a run's, be it damaged."""
    if "status.json" in files:
        return True
    try:
        with open(folder / "config.json", "rb") as file:
            return file.read(len(BEGINNING)) == BEGINNING
    except OSError:
        return False
