"""Files that are whole or not there: written aside, fsynced and renamed; lines with checksums; locks.

Every failure to write names the file, the reason and a way out.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from gradscape.errors import Busy, StoreError

FORMAT = 2  # of all that is kept; a reader refuses a newer one


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an `OSError` on `path` into the one line users get."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        cure = "free space or give another folder" if full else "give another folder"
        raise StoreError(f"cannot write {path}: {error.strerror}; {cure} with --out") from error


def make_folder(path: Path) -> None:
    with explained(path):
        path.mkdir(parents=True, exist_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """`replace_bytes` in a study's or run's folder."""
    with explained(path):
        replace_bytes(path, data)


def replace_bytes(path: Path, data: bytes) -> None:
    """Write aside, fsync, rename: `path` holds the old bytes or the new, never a part."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(aside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make a rename durable; Windows has no folder handles and needs none."""
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    text = json.dumps({"format": FORMAT, **values}, indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(path, text.encode() + b"\n")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's values without its format number.

    Raises:
        StoreError: it is missing, damaged, or written by a newer gradscape.
    """
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise StoreError(f"{path} is damaged: {error}; delete it and give the same command again") from error
    if not isinstance(values, dict) or not isinstance(values.get("format"), int):
        raise StoreError(f"{path} is not gradscape's: it has no format number")
    refuse_newer(values.pop("format"), path)
    return values


def refuse_newer(found: int, path: Path) -> None:
    if found > FORMAT:
        raise StoreError(
            f"{path} was written by a newer gradscape (format {found}, this one reads {FORMAT}); "
            "type: pip install --upgrade gradscape"
        )


@contextmanager
def locked(folder: Path, what: str, patience: float) -> Iterator[None]:
    """Hold `folder/.lock`, waiting `patience` seconds; the system frees it when its holder dies.

    Raises:
        Busy: it is still held.
    """
    lock = FileLock(folder / ".lock")
    with explained(folder):
        try:
            lock.acquire(timeout=patience)
        except Timeout as error:
            raise Busy(
                f"another gradscape command is at work on {what}; wait for it or give another --out folder"
            ) from error
    try:
        yield
    finally:
        lock.release()


def with_checksum(values: Mapping[str, Any]) -> bytes:
    """One JSON line ending in the CRC-32 of what stands before it."""
    text = json.dumps(values, allow_nan=False)
    return f'{text[:-1]}, "crc32": "{zlib.crc32(text.encode()):08x}"}}\n'.encode()


def without_checksum(line: bytes, cut: tuple[bytes, bytes] | None = None) -> dict[str, Any] | None:
    """The values of a checksummed line, or None if it is damaged.

    Args:
        line: as `with_checksum` wrote it.
        cut: what an entry begins with, from its comma, and what it ends with, from its brace to the next
            entry's colon: that entry is not parsed, which takes most of a long line's time.
    """
    if not checksum_holds(line):
        return None
    text = line.rpartition(b', "crc32": "')[0]
    if cut:
        before, _, rest = text.partition(cut[0])
        _, found, after = rest.partition(cut[1])
        text = before + cut[1][1:] + after if found else text
    values: dict[str, Any] = json.loads(text + b"}")
    return values


def checksum_holds(line: bytes) -> bool:
    """Whether a line, without its newline, is as it was written."""
    text, _, check = line.rpartition(b', "crc32": "')
    return check == b'%08x"}' % zlib.crc32(text + b"}")


def save_tensors(
    folder: Path, name: str, arrays: Mapping[str, np.ndarray], values: Mapping[str, str]
) -> Path:
    """Write `NAME.<sha256>.safetensors`, whose name holds the checksum of its bytes."""
    from safetensors.numpy import save

    make_folder(folder)
    header = {"format": str(FORMAT), **values}
    data = save({key: np.asarray(array, order="C") for key, array in arrays.items()}, header)
    path = folder / f"{name}.{hashlib.sha256(data).hexdigest()}.safetensors"
    write_bytes(path, data)
    return path


def load_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]] | None:
    """Arrays and values of such a file, or None if its bytes do not match its name.

    Raises:
        StoreError: it was written by a newer gradscape.
    """
    from safetensors.numpy import load

    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != path.name.split(".")[1]:
        return None
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    refuse_newer(int(header.pop("format")), path)
    return load(data), header
