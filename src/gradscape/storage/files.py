"""Files that are whole or not there: written aside, fsynced and renamed; checksums; locks.

Every file of a run's or study's folder says what it is and ends in a checksum, so that no changed bit is read
as a value. Every failure names the file, the reason and a way out.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import socket
import stat
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from gradscape.errors import Busy, GradscapeError, StoreError, first_line

FORMAT = 3  # of all that is kept; a reader refuses any other
LONGEST_LINE = 2**26  # bytes; the epoch of a network of a hundred thousand tensors has 2 · 10^7
LARGEST_JSON = 2**28  # bytes; a landscape of a million points has 10^8
AGAIN = "delete it and give the same command again"
# What the writing of an own file leaves aside when its process is killed: name, machine and process.
PART = re.compile(r"\..+\.([0-9a-f]{8})\.(\d+)\.part")
HERE = f"{zlib.crc32(socket.gethostname().encode()):08x}"
CHECK = b',\n "crc32": "'  # begins what a JSON file ends in


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an `OSError` in writing `path` into the one line users get."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        cure = "free space or give another folder" if full else "give another folder"
        raise StoreError(f"cannot write {path}: {error.strerror}; {cure} with --out") from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an `OSError` in reading `path` into the one line users get."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error


@contextmanager
def decoding(path: Path, cure: str = AGAIN) -> Iterator[None]:
    """Turn what values of another shape raise into the one line users get."""
    try:
        yield
    except GradscapeError:
        raise
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        OverflowError,
        RecursionError,
    ) as error:
        raise StoreError(f"{path} is damaged ({first_line(error)}); {cure}") from error


def there(path: Path) -> bool:
    """Whether there is something of this name.

    Raises:
        StoreError: its folder cannot be looked into, or the name is too long.
    """
    with reading(path):
        return path.exists()


def make_folder(path: Path) -> None:
    with explained(path):
        path.mkdir(parents=True, exist_ok=True)


def make_inner(path: Path) -> None:
    """Make a folder within an own one; a link would have us write, and tidy up, somewhere else.

    Raises:
        StoreError: it is a link, or cannot be made.
    """
    refuse_link(path)
    make_folder(path)


def refuse_link(path: Path) -> None:
    with reading(path):
        linked = path.is_symlink()
    if linked:
        raise StoreError(
            f"{path} is a link; expected a folder or file of gradscape's own: "
            "remove the link, or give another folder with --out"
        )


def write_bytes(path: Path, data: bytes) -> None:
    """`replace_bytes` in a study's or run's folder."""
    with explained(path):
        replace_bytes(path, data)


def replace_bytes(path: Path, data: bytes) -> None:
    """Write aside, fsync, rename: `path` holds the old bytes or the new, never a part."""
    aside = path.with_name(f".{path.name}.{HERE}.{os.getpid()}.part")
    aside.unlink(missing_ok=True)  # of a process before, with our number
    try:
        with open(aside, "xb") as file:
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


def refuse_foreign(folder: Path, what: str) -> None:
    """Refuse a folder that holds anything at all, but for what killed commands leave behind.

    Args:
        folder: that nothing shows to be gradscape's.
        what: would be written there, for the message.

    Raises:
        StoreError: it is not empty, or no folder.
    """
    with explained(folder):
        names = [path.name for path in folder.iterdir()] if folder.exists() else []
    if any(name != ".lock" and not PART.fullmatch(name) for name in names):
        raise StoreError(
            f"{folder} is not empty and holds no {what} of gradscape's; "
            "give a new or an empty folder with --out"
        )


def sweep_parts(folder: Path) -> None:
    """Remove what killed processes of this machine have left half-written in an own folder."""
    if folder.is_symlink() or not folder.is_dir():
        return
    with explained(folder):
        for path in folder.iterdir():
            if (part := PART.fullmatch(path.name)) and part[1] == HERE and not alive(int(part[2])):
                path.unlink(missing_ok=True)


def alive(process: int) -> bool:
    """Whether there is such a process; True where the system does not say."""
    if os.name != "posix":
        return True  # there `os.kill` would end it
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's
        return True
    return True


def read_bytes(path: Path, largest: int) -> bytes:
    """A file's bytes.

    Raises:
        StoreError: it cannot be read, is a pipe, a device or a folder, or larger than such a file can be.
    """
    require_file(path, largest)
    with reading(path):
        return path.read_bytes()


def require_file(path: Path, largest: float) -> None:
    """Refuse what reading would wait for, or never end."""
    with reading(path):
        found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"cannot read {path}: expected a file; got a folder, a pipe or a device; remove it")
    if found.st_size > largest:
        raise StoreError(f"{path} is damaged: it has {found.st_size:,} bytes; {AGAIN}")


def whole_lines(path: Path) -> Iterator[bytes]:
    """A file's lines without their newlines; a torn last one is left out, an endless one is cut.

    Raises:
        StoreError: it cannot be read, or is no file.
    """
    require_file(path, math.inf)
    with reading(path), open(path, "rb") as file:
        while line := file.readline(LONGEST_LINE):
            if line.endswith(b"\n") or len(line) == LONGEST_LINE:
                yield line.removesuffix(b"\n")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write plain values with a format number first and a checksum of all that stands before it last."""
    text = json.dumps({"format": FORMAT, **values}, indent=1, ensure_ascii=False, allow_nan=False)
    body = text.removesuffix("\n}").encode()
    write_bytes(path, body + CHECK + b'%08x"\n}\n' % zlib.crc32(body))


def read_json(path: Path, cure: str = AGAIN) -> dict[str, Any]:
    """A JSON file's values without its format number and checksum.

    Args:
        path: of the file.
        cure: what to do if it is damaged.

    Raises:
        StoreError: it is missing, damaged, or of another format.
    """
    data = read_bytes(path, LARGEST_JSON)
    with decoding(path, cure):
        values = json.loads(data)
    if not isinstance(values, dict) or type(values.get("format")) is not int:
        raise StoreError(f"{path} is not gradscape's: it has no format number")
    refuse_newer(values["format"], path)  # first: another format's checksum may be another one
    refuse_older(values["format"], path, cure)
    body, _, check = data.rpartition(CHECK)
    if check != b'%08x"\n}\n' % zlib.crc32(body):
        raise StoreError(f"{path} is damaged or was edited: its checksum does not hold; {cure}")
    return {name: value for name, value in values.items() if name not in ("format", "crc32")}


def refuse_newer(found: int, path: Path) -> None:
    if found > FORMAT:
        raise StoreError(
            f"{path} was written by a newer gradscape (format {found}, this one reads {FORMAT}); "
            "type: pip install --upgrade gradscape"
        )


def refuse_older(found: int, path: Path, cure: str = AGAIN) -> None:
    if found < FORMAT:
        raise StoreError(
            f"{path} was written by an older gradscape (format {found}, this one reads {FORMAT}); {cure}"
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


def checked_head(values: Mapping[str, Any]) -> dict[str, Any]:
    """The first entries of a line, with a checksum of their own: they can be read without the rest."""
    text = json.dumps(values, allow_nan=False)
    return {**values, "head": f"{zlib.crc32(text[:-1].encode()):08x}"}


def head_holds(text: bytes) -> bool:
    """Whether a line's beginning, up to the checksum of its head, is as it was written."""
    values, _, check = text.rpartition(b', "head": "')
    return check == b'%08x"' % zlib.crc32(values)


def with_checksum(values: Mapping[str, Any], finite: bool = True) -> bytes:
    """One JSON line ending in the CRC-32 of what stands before it; if `finite`, of no infinite values."""
    text = json.dumps(values, allow_nan=not finite)
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
    values = json.loads(text + b"}")
    return values if isinstance(values, dict) else None


def checksum_holds(line: bytes) -> bool:
    """Whether a line, without its newline, is as it was written."""
    text, _, check = line.rpartition(b', "crc32": "')
    return check == b'%08x"}' % zlib.crc32(text + b"}")


def save_tensors(
    folder: Path, name: str, arrays: Mapping[str, np.ndarray], values: Mapping[str, str]
) -> Path:
    """Write `NAME.<sha256>.safetensors`, whose name holds the checksum of its bytes."""
    from safetensors.numpy import save

    make_inner(folder)
    header = {"format": str(FORMAT), **values}
    data = save({key: np.asarray(array, order="C") for key, array in arrays.items()}, header)
    path = folder / f"{name}.{hashlib.sha256(data).hexdigest()}.safetensors"
    write_bytes(path, data)
    return path


def load_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]] | None:
    """Arrays and values of such a file, or None if its bytes do not match its name, or are no such file's.

    Raises:
        StoreError: it was written by another gradscape, or is no file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    require_file(path, math.inf)
    with reading(path), open(path, "rb") as file:  # in pieces: what is not ours may be of any size
        if hashlib.file_digest(file, "sha256").hexdigest() != path.name.split(".")[1]:
            return None
    with reading(path):
        data = path.read_bytes()
    with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError):
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        written = int(header.pop("format"))
        refuse_newer(written, path)
        refuse_older(written, path)
        return load(data), header
    return None
