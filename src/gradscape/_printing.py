"""Printing that no work depends on: terminals go away, pipes end, disks with logs fill up."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from gradscape._text import strip_controls

# ValueError: the stream was closed.
FAILURES = (OSError, ValueError)


def print_stderr(text: str) -> None:
    """Print to stderr what a person is to know; where nobody can, go on without.

    Args:
        text: Sentences.
    """
    if sys.stderr is not None:  # else it would be printed to stdout
        with forgiven(sys.stderr):
            print(strip_controls(text), file=sys.stderr, flush=True)


@contextmanager
def heard_or_not(stream: TextIO | None) -> Iterator[None]:
    """Swallow that a command's own stream cannot be written; what follows is sent nowhere.

    Args:
        stream: Stream of the process; None if it has none, as a daemon.
    """
    try:
        yield
        if stream is not None:
            stream.flush()
    except FAILURES:
        silence(stream)


@contextmanager
def forgiven(stream: TextIO) -> Iterator[None]:
    """Swallow that a stream cannot be written, and drop what it holds; it stays as open as it was.

    It may belong to a program that goes on, on a disk that is full for a while.

    Args:
        stream: Stream with a file descriptor.
    """
    try:
        yield
    except FAILURES:
        with suppress(*FAILURES):
            kept = os.dup(stream.fileno())
            try:
                silence(stream)
                stream.flush()
            finally:
                os.dup2(kept, stream.fileno())
                os.close(kept)


def silence(stream: TextIO | None) -> None:
    """Send what a stream holds and all that is to come nowhere: also what Python flushes when it ends.

    Args:
        stream: Stream of the process; None if it has none.
    """
    if stream is None:
        return
    with suppress(*FAILURES):  # closed, or no file: then nothing of it is flushed
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)


class Forgiving(io.TextIOBase):
    """Text stream on another one, whose failures it swallows.

    Args:
        stream: Stream to print to; None if the process has none, as a daemon.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Return the other stream's encoding."""
        return getattr(self.stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Return True if the other stream is a terminal."""
        try:
            return self.stream is not None and self.stream.isatty()
        except FAILURES:
            return False

    def fileno(self) -> int:
        """Return the other stream's file descriptor."""
        if self.stream is None:
            raise io.UnsupportedOperation("fileno")
        return self.stream.fileno()

    def write(self, text: str) -> int:
        """Write a text if that is possible; return its length.

        Args:
            text: Text to write.
        """
        if self.stream is not None:
            with forgiven(self.stream):
                self.stream.write(text)
                self.stream.flush()
        return len(text)

    def flush(self) -> None:
        """Flush the other stream if that is possible."""
        if self.stream is not None:
            with forgiven(self.stream):
                self.stream.flush()
