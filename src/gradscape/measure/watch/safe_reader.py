"""Common part of the readers of a training: an error ends their reading, and their time is counted."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from gradscape.errors import first_line


class SafeReader(ABC):
    """Reader whose errors do not stop a training.

    Args:
        on_error: Callback with what went wrong; nothing of the kind is read any more.

    Attributes:
        began: Time when it was made, in seconds.
        spent: Seconds spent on reading, without waiting for the device.
    """

    def __init__(self, on_error: Callable[[str], None]) -> None:
        self.on_error = on_error
        self.began, self.spent = time.perf_counter(), 0.0

    @abstractmethod
    def close(self) -> None:
        """End the reading; what was read remains."""

    def _safely(self, act: Callable[[], None]) -> None:
        """Read something; an error ends this reading, but no other."""
        start = time.perf_counter()
        try:
            act()
        except Exception as error:  # any type: a watch must not stop a training
            self.close()
            self.on_error(first_line(error))
        self.spent += time.perf_counter() - start
