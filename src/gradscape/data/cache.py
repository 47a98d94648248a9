"""Decoded images kept as memory-mapped arrays, so that processes share one copy and parse once.

FOLDER/record.json      what is held and what it was made from; written last, so it commits
FOLDER/arrays-…/*.npy   train_images, train_labels, test_images, test_labels
FOLDER/lock             held by the one process that writes
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock
from platformdirs import user_cache_dir

from gradscape.data.images import ImageSet
from gradscape.errors import DataError
from gradscape.storage.files import sync_folder

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
FORMAT = 1
Record = dict[str, Any]


def cache_folder(cache: Path | None = None) -> Path:
    """Where decoded sets are kept: `cache`, `$GRADSCAPE_CACHE` or the user's cache folder."""
    if cache is not None:
        return Path(cache).expanduser()
    chosen = os.environ.get("GRADSCAPE_CACHE")
    return Path(chosen).expanduser() if chosen else Path(user_cache_dir("gradscape"))


def cached(folder: Path, sources: Sequence[Path], decode: Callable[[], ImageSet]) -> ImageSet:
    """The set held in `folder` if it was made from `sources` as they are now, else made anew.

    Args:
        folder: this set's own cache folder; made if need be.
        sources: files that `decode` reads; changed if path, size or modification time differ.
        decode: verifies and decodes the sources; called by one process at a time.

    Raises:
        DataError: the folder cannot be written, the disk is full, or whatever `decode` raises.
    """
    held = open_held(folder, sources)  # without the lock: a folder that is full may be read-only
    if held is not None:
        return held
    with _writable(folder), FileLock(folder / "lock"):
        held = open_held(folder, sources)  # another process may have been first
        if held is None:
            stamps = _stamps(sources)  # before reading: a file that changes meanwhile is read again
            _write(folder, decode(), stamps)
            held = open_held(folder, sources)
    if held is None:
        raise DataError(
            f"the image cache {folder} does not give back what was written; "
            "check that disk, or choose another folder with GRADSCAPE_CACHE=DIR"
        )
    return held


def open_held(folder: Path, sources: Sequence[Path] | None = None) -> ImageSet | None:
    """The set held in `folder`, memory-mapped and its checksums verified; None where it is no use.

    None: nothing is held, it is damaged, or it was not made from `sources` as they are now.
    Without `sources`, whatever is held will do.
    """
    try:
        record = _record(folder)
        if sources is not None and record["sources"] != _stamps(sources):
            return None
        return _open(folder, record)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def held_sources(folder: Path) -> tuple[Path, ...]:
    """The files from which the set in `folder` was made; none where no set is held."""
    try:
        return tuple(Path(source["path"]) for source in _record(folder)["sources"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Make `folder`, and turn the system's refusals inside the block into what the user can do."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise DataError(
            f"cannot write to the image cache {folder} ({error.strerror or error}); "
            "free or permit that folder, or choose another with GRADSCAPE_CACHE=DIR"
        ) from error


def _stamps(sources: Sequence[Path]) -> list[Record]:
    stats = [(path.resolve(), path.stat()) for path in sources]
    return [{"path": str(p), "size": s.st_size, "mtime_ns": s.st_mtime_ns} for p, s in stats]


def _digest(record: Record) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _record(folder: Path) -> Record:
    """The record, or a ValueError where it is altered or of another format."""
    content: Record = json.loads((folder / "record.json").read_text("utf-8"))
    record: Record = content["record"]
    if content["sha256"] != _digest(record) or record["format"] != FORMAT:
        raise ValueError("altered record, or one of another version")
    return record


def _open(folder: Path, record: Record) -> ImageSet:
    """Map the arrays the record names, or a ValueError where their bytes are not those written."""
    arrays = {}
    for name in ARRAYS:
        path = folder / record["arrays"] / f"{name}.npy"
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != record["sha256"][name]:
                raise ValueError(f"{path} is damaged")
        # A plain ndarray over the map: the memmap subclass slows every slice taken of it.
        arrays[name] = np.load(path, mmap_mode="r").view(np.ndarray)
    return ImageSet(
        name=record["name"],
        classes=tuple(record["classes"]),
        checksums=record["checksums"],
        **arrays,
    )


def _write(folder: Path, images: ImageSet, stamps: list[Record]) -> None:
    """Write the arrays into a new folder, then the record that names it: the one atomic step."""
    place = folder / f"arrays-{uuid.uuid4().hex[:12]}"
    try:
        place.mkdir()
        digests = {name: _write_array(place / f"{name}.npy", getattr(images, name)) for name in ARRAYS}
        sync_folder(place)
        _write_record(
            folder,
            {
                "format": FORMAT,
                "name": images.name,
                "classes": list(images.classes),
                "checksums": images.checksums,
                "sources": stamps,
                "arrays": place.name,
                "sha256": digests,
            },
        )
    except BaseException:  # also when interrupted: leave nothing half-written
        shutil.rmtree(place, ignore_errors=True)
        raise
    for old in folder.glob("arrays-*"):  # replaced, or left by a killed process; we hold the lock
        if old != place:
            shutil.rmtree(old, ignore_errors=True)


def _write_record(folder: Path, record: Record) -> None:
    content = json.dumps({"sha256": _digest(record), "record": record}, indent=1)
    aside = folder / "record.json.new"
    try:
        with aside.open("w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, folder / "record.json")
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(folder)


class _Hashed:
    """A file that hashes what is written. numpy writes to it in plain `write` calls, which report a
    full disk as such; into a real file it writes past Python and reports only a byte count."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sha256 = file, hashlib.sha256()

    def write(self, content: bytes) -> int:
        self.sha256.update(content)
        return self.file.write(content)


def _write_array(path: Path, array: np.ndarray[Any, Any]) -> str:
    """Save one array durably; its file's SHA-256."""
    with path.open("wb") as file:
        hashed = _Hashed(file)
        np.save(hashed, array, allow_pickle=False)  # only `write` is used
        file.flush()
        os.fsync(file.fileno())
    return hashed.sha256.hexdigest()
