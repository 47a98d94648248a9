"""Cache of decoded images as memory-mapped arrays: processes share one copy and parse once.

FOLDER/record.json      contents and sources of the set; written last, which commits it
FOLDER/arrays-…/*.npy   train_images, train_labels, test_images, test_labels
FOLDER/lock             lock of the one process that writes
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

from gradscape.config.options import checked_path
from gradscape.data.images import ImageSet
from gradscape.errors import DataError
from gradscape.storage.files import sync_folder

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
FORMAT = 1
CacheRecord = dict[str, Any]


def cache_folder(cache: Path | None = None) -> Path:
    """Return the folder of decoded sets: `cache`, `$GRADSCAPE_CACHE` or the user's cache folder.

    Args:
        cache: Folder to use instead of the default.

    Raises:
        ConfigError: No folder can have that name.
    """
    if cache is not None:
        return checked_path(cache, "cache")
    chosen = os.environ.get("GRADSCAPE_CACHE")
    return checked_path(chosen, "GRADSCAPE_CACHE") if chosen else Path(user_cache_dir("gradscape"))


def open_or_decode(folder: Path, sources: Sequence[Path], decode: Callable[[], ImageSet]) -> ImageSet:
    """Return the set cached in `folder` if `sources` are unchanged, else decode and cache it.

    Args:
        folder: Cache folder of this set; created if missing.
        sources: Files that `decode` reads; a new path, size or modification time counts as a change.
        decode: Function that verifies and decodes the sources; called by one process at a time.

    Raises:
        DataError: If the folder cannot be written or the disk is full; also the errors of `decode`.
    """
    images = open_cached(folder, sources)  # without the lock: a complete cache may be read-only
    if images is not None:
        return images
    with _writable(folder), FileLock(folder / "lock"):
        images = open_cached(folder, sources)  # another process may have been first
        if images is None:
            stamps = _stamps(sources)  # before decoding: a file that changes meanwhile is read again
            _write(folder, decode(), stamps)
            images = open_cached(folder, sources)
    if images is None:
        raise DataError(
            f"the image cache {folder} differs from what was written; "
            "check that disk, or choose another folder with GRADSCAPE_CACHE=DIR"
        )
    return images


def open_cached(folder: Path, sources: Sequence[Path] | None = None) -> ImageSet | None:
    """Return the set cached in `folder`, memory-mapped, with verified checksums.

    Args:
        folder: Cache folder of the set.
        sources: Files that it has to be decoded from, unchanged; None accepts any.

    Returns:
        The set, or None if it is missing, damaged or decoded from other sources.
    """
    try:
        record = _record(folder)
        if sources is not None and record["sources"] != _stamps(sources):
            return None
        return _open(folder, record)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def cached_sources(folder: Path) -> tuple[Path, ...]:
    """Return the files that the set in `folder` was decoded from; empty without a set.

    Args:
        folder: Cache folder of the set.
    """
    try:
        return tuple(Path(source["path"]) for source in _record(folder)["sources"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Make `folder`, and turn OSErrors inside the block into a DataError that says what to do."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise DataError(
            f"cannot write to the image cache {folder} ({error.strerror or error}); "
            "free or permit that folder, or choose another with GRADSCAPE_CACHE=DIR"
        ) from error


def _stamps(sources: Sequence[Path]) -> list[CacheRecord]:
    stats = [(path.resolve(), path.stat()) for path in sources]
    return [{"path": str(p), "size": s.st_size, "mtime_ns": s.st_mtime_ns} for p, s in stats]


def _digest(record: CacheRecord) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _record(folder: Path) -> CacheRecord:
    """Return the record; raise ValueError if it is altered or of another format."""
    content: CacheRecord = json.loads((folder / "record.json").read_text("utf-8"))
    record: CacheRecord = content["record"]
    if content["sha256"] != _digest(record) or record["format"] != FORMAT:
        raise ValueError("altered record, or one of another version")
    return record


def _open(folder: Path, record: CacheRecord) -> ImageSet:
    """Map the arrays that the record names; raise ValueError if their bytes have changed."""
    arrays = {}
    for name in ARRAYS:
        path = folder / record["arrays"] / f"{name}.npy"
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != record["sha256"][name]:
                raise ValueError(f"{path} is damaged")
        # A plain ndarray view: the memmap subclass slows every slice.
        arrays[name] = np.load(path, mmap_mode="r").view(np.ndarray)
    return ImageSet(
        name=record["name"],
        classes=tuple(record["classes"]),
        checksums=record["checksums"],
        **arrays,
    )


def _write(folder: Path, images: ImageSet, stamps: list[CacheRecord]) -> None:
    """Write the arrays into a new folder, then the record that names it, which is the one atomic step."""
    arrays = folder / f"arrays-{uuid.uuid4().hex[:12]}"
    try:
        arrays.mkdir()
        digests = {name: _write_array(arrays / f"{name}.npy", getattr(images, name)) for name in ARRAYS}
        sync_folder(arrays)
        _write_record(
            folder,
            {
                "format": FORMAT,
                "name": images.name,
                "classes": list(images.classes),
                "checksums": images.checksums,
                "sources": stamps,
                "arrays": arrays.name,
                "sha256": digests,
            },
        )
    except BaseException:  # KeyboardInterrupt too: leave nothing half-written
        shutil.rmtree(arrays, ignore_errors=True)
        raise
    for old in folder.glob("arrays-*"):  # replaced, or left by a killed process; the lock is ours
        if old != arrays:
            shutil.rmtree(old, ignore_errors=True)


def _write_record(folder: Path, record: CacheRecord) -> None:
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
    """File that hashes what is written.

    numpy calls its `write`, which reports a full disk as such; into a real file it writes past Python and
    reports only a byte count.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sha256 = file, hashlib.sha256()

    def write(self, content: bytes) -> int:
        self.sha256.update(content)
        return self.file.write(content)


def _write_array(path: Path, array: np.ndarray[Any, Any]) -> str:
    """Save one array durably and return its file's SHA-256."""
    with path.open("wb") as file:
        hashed = _Hashed(file)
        np.save(hashed, array, allow_pickle=False)  # only `write` is used
        file.flush()
        os.fsync(file.fileno())
    return hashed.sha256.hexdigest()
