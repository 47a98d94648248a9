"""Files that are complete or not there: written aside, fsynced and renamed.

Every failure names the file, the reason and a way out.
"""

from __future__ import annotations

import errno
import math
import os
import re
import socket
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from gradscape.errors import GradscapeError, StoreError, first_line

LONGEST_LINE = 2**26  # bytes; an epoch's gradient flow of a hundred thousand tensors has 10^7
AGAIN = "delete it and give the same command again"
# What the writing of an own file leaves aside when its process is killed: name, machine and process.
PART = re.compile(r"\..+\.([0-9a-f]{8})\.(\d+)\.part")
HERE = f"{zlib.crc32(socket.gethostname().encode()):08x}"


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an `OSError` in writing a file into the one line that users get.

    Args:
        path: Path of the file, for the message.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        cure = "free space or give another folder" if full else "give another folder"
        raise StoreError(f"cannot write {path}: {error.strerror}; {cure} with --out") from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an `OSError` in reading a file into the one line that users get.

    Args:
        path: Path of the file, for the message.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error


@contextmanager
def decoding(path: Path, cure: str = AGAIN) -> Iterator[None]:
    """Turn the errors that values of another shape raise into the one line that users get.

    Args:
        path: Path of the file, for the message.
        cure: Way out, for the message.
    """
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
    """Check that there is something of this name.

    Args:
        path: Path to look at.

    Raises:
        StoreError: Its folder cannot be looked into, or the name is too long.
    """
    with reading(path):
        return path.exists()


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, unless it is there.

    Args:
        path: Path of the folder.
    """
    with explained(path):
        path.mkdir(parents=True, exist_ok=True)


def make_inner(path: Path) -> None:
    """Make a folder within an own one; a link would have us write, and tidy up, somewhere else.

    Args:
        path: Path of the folder.

    Raises:
        StoreError: It is a link, or cannot be made.
    """
    refuse_link(path)
    make_folder(path)


def refuse_link(path: Path) -> None:
    """Raise if a path is a link.

    Args:
        path: Path of an own file or folder.

    Raises:
        StoreError: It is one.
    """
    with reading(path):
        linked = path.is_symlink()
    if linked:
        raise StoreError(
            f"{path} is a link; expected a folder or file of gradscape's own: "
            "remove the link, or give another folder with --out"
        )


def write_bytes(path: Path, data: bytes, durable: bool = True) -> None:
    """Write a file of a study's or run's folder, see `replace_bytes`.

    Args:
        path: Path of the file.
        data: Contents.
        durable: Whether to wait for the disk.

    Raises:
        StoreError: It cannot be written.
    """
    with explained(path):
        replace_bytes(path, data, durable)


def replace_bytes(path: Path, data: bytes, durable: bool = True) -> None:
    """Write aside, fsync, rename: the file holds the old bytes or the new, never a part.

    Args:
        path: Path of the file.
        data: Contents.
        durable: Whether to wait for the disk, so that it holds after a power cut too.
    """
    aside = path.with_name(f".{path.name}.{HERE}.{os.getpid()}.part")
    aside.unlink(missing_ok=True)  # left by an earlier process with our number
    try:
        with open(aside, "xb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make a rename durable; Windows has no folder handles and needs none.

    Args:
        path: Path of the folder.
    """
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def refuse_foreign(folder: Path, what: str) -> None:
    """Refuse a folder that holds anything but the leavings of killed commands.

    Args:
        folder: Path of a folder that nothing shows to be gradscape's.
        what: Thing to be written there, for the message.

    Raises:
        StoreError: It is not empty, or no folder.
    """
    with explained(folder):
        names = [path.name for path in folder.iterdir()] if folder.exists() else []
    if any(name != ".lock" and not PART.fullmatch(name) for name in names):
        raise StoreError(
            f"{folder} is not empty and holds no {what} of gradscape's; "
            "give a new or an empty folder with --out"
        )


def sweep_parts(folder: Path) -> None:
    """Remove the half-written files of killed processes of this machine from an own folder.

    Args:
        folder: Path of the folder.
    """
    if folder.is_symlink() or not folder.is_dir():
        return
    with explained(folder):
        for path in folder.iterdir():
            if (part := PART.fullmatch(path.name)) and part[1] == HERE and not _alive(int(part[2])):
                path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    """Check that there is such a process; True where the system does not say."""
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
    """Return a file's bytes.

    Args:
        path: Path of the file.
        largest: Number of bytes that such a file can have.

    Raises:
        StoreError: It cannot be read, is a pipe, a device or a folder, or larger than such a file can be.
    """
    require_file(path, largest)
    with reading(path):
        return path.read_bytes()


def require_file(path: Path, largest: float) -> None:
    """Refuse a path whose reading would wait, or never end.

    Args:
        path: Path of the file.
        largest: Number of bytes that such a file can have.

    Raises:
        StoreError: It is no file, or larger.
    """
    with reading(path):
        status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise StoreError(f"cannot read {path}: expected a file; got a folder, a pipe or a device; remove it")
    if status.st_size > largest:
        raise StoreError(f"{path} is damaged: it has {status.st_size:,} bytes; {AGAIN}")


def whole_lines(path: Path) -> Iterator[bytes]:
    """Yield a file's lines without their newlines; a torn last one is left out, an endless one is cut.

    Args:
        path: Path of the file.

    Raises:
        StoreError: It cannot be read, or is no file.
    """
    require_file(path, math.inf)
    with reading(path), open(path, "rb") as file:
        while line := file.readline(LONGEST_LINE):
            if line.endswith(b"\n") or len(line) == LONGEST_LINE:
                yield line.removesuffix(b"\n")


def append_bytes(path: Path, data: bytes, durable: bool = True) -> None:
    """Add to the end of a file, and to the disk; or leave it as it was.

    Args:
        path: Path of the file.
        data: Bytes to add.
        durable: Whether to wait for the disk.

    Raises:
        StoreError: It is a link, or cannot be written.
    """
    refuse_link(path)
    # Unbuffered: a buffer would be written once more when the file is closed, after the cut.
    with explained(path), open(path, "ab", buffering=0) as file:
        before = file.tell()
        try:
            while data:
                data = data[file.write(data) :]
            if durable:
                os.fsync(file.fileno())
        except OSError:
            os.truncate(path, before)
            raise


def keep_lines(path: Path, count: int) -> None:
    """Cut a file back to its first lines.

    Args:
        path: Path of the file.
        count: Number of lines to keep, all of them intact.
    """
    if there(path):
        refuse_link(path)
        lines = b"".join(line + b"\n" for line in islice(whole_lines(path), count))
        if len(lines) != path.stat().st_size:
            write_bytes(path, lines)
