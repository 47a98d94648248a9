"""Lock of a folder, so that one command at a time writes there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

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
