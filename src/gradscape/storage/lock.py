"""Lock of a folder, so that one command at a time writes there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from gradscape.errors import Busy
from gradscape.storage.files import explained, refuse_link


@contextmanager
def locked(folder: Path, what: str, patience: float) -> Iterator[None]:
    """Hold a folder's `.lock`; the system frees it when its holder dies.

    Args:
        folder: Path of the folder.
        what: Thing that is locked, for the message.
        patience: Seconds to wait for another holder.

    Raises:
        Busy: Another process still holds it.
        StoreError: It is a link, or cannot be made.
    """
    refuse_link(folder / ".lock")
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


def is_held(path: Path) -> bool:
    """Check that a process holds a lock.

    Several readers may look at once, and without the right to write: two of them never take each other for
    the holder.

    Args:
        path: Path of the `.lock` file.
    """
    try:
        if fcntl is None:
            with FileLock(path, timeout=0):
                return False
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except (Timeout, BlockingIOError):
        return True
    except OSError:  # a copy that cannot be read: nobody works on it
        return False
