"""Notes that ranks leave for each other in the store of the process group; no rank ever waits for another."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

PATIENCE = timedelta(seconds=5)  # for the host of the store to answer
_numbers = itertools.count()


class Board:
    """Notes under names of their own, which every rank of the default process group can read.

    A collective operation would wait for every rank, and those may disagree about the number of steps or be
    gone: that is just what is looked for.

    Args:
        store: Store of the default process group.
        prefix: Beginning of all names.
    """

    def __init__(self, store: Any, prefix: str) -> None:
        from torch.distributed.distributed_c10d import PrefixStore

        self._owner = store  # the server of a TCPStore ends with the last reference to it
        made: Any = PrefixStore(prefix, _own_connection(store))
        self._store = made
        self._at_once = bool(self._store.has_extended_api())  # a FileStore has no `multi_get`

    def put(self, name: str, note: bytes) -> None:
        """Leave a note, or replace it.

        Args:
            name: Name of the note.
            note: The note.
        """
        self._store.set(name, note)

    def take(self, names: Sequence[str]) -> list[bytes | None]:
        """Return notes, None for those that are not there.

        Args:
            names: Names of the notes.
        """
        # A single question where all are there, which is the rule.
        if self._at_once and names and self._store.check(list(names)):
            return list(self._store.multi_get(list(names)))
        return [self._store.get(name) if self._store.check([name]) else None for name in names]

    def drop(self, name: str) -> None:
        """Remove a note.

        Args:
            name: Name of the note.
        """
        self._store.delete_key(name)


def board_of_group() -> Board | None:
    """Return a board of the default process group, the same on each rank for its n-th call; None without one.

    A process group that is not there, or has no store (MPI), has no board.
    """
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() < 2:
        return None
    try:
        store = dist.distributed_c10d._get_default_store()
    except (KeyError, RuntimeError):
        return None
    return None if store is None else Board(store, f"gradscape/ranks/{next(_numbers)}")


def _own_connection(store: Any) -> Any:
    """Return the same store by a connection of its own, so that a wait on the other one holds up nothing.

    A FileStore has no connection, and a copy of it would end the file too early.
    """
    from torch._C._distributed_c10d import FileStore, HashStore

    innermost = store
    while hasattr(innermost, "underlying_store"):
        innermost = innermost.underlying_store
    if isinstance(innermost, FileStore | HashStore):
        return store
    own = store.clone()
    own.set_timeout(PATIENCE)
    return own
