"""Printing that no work depends on: terminals go away, pipes end, disks with logs fill up."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from gradscape._text import plain

# ValueError: the stream was closed.
FAILURES = (OSError, ValueError)


def say(text: str) -> None:
    """Print to stderr what a person is to know; where nobody can, go on without."""
    if sys.stderr is not None:  # else it would be printed to stdout
        with forgiven(sys.stderr):
            print(plain(text), file=sys.stderr, flush=True)


@contextmanager
def heard_or_not(stream: TextIO | None) -> Iterator[None]:
    """Swallow that a command's own stream cannot be written; what follows is sent nowhere."""
    try:
        yield
        if stream is not None:
            stream.flush()
    except FAILURES:
        silence(stream)


@contextmanager
def forgiven(stream: TextIO) -> Iterator[None]:
    """Swallow that a stream cannot be written, and drop what it holds; it stays as open as it was.

    It may be of a program that goes on, and a disk be full for a while.
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
    """Send what a stream holds and all that is to come nowhere: also what Python flushes when it ends."""
    if stream is None:
        return
    with suppress(*FAILURES):  # closed, or no file: then nothing of it is flushed
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)


class Forgiving(io.TextIOBase):
    """A text stream on another one whose failures are nobody's.

    Args:
        stream: to print to; None where the process has none, as of a daemon.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self.stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        try:
            return self.stream is not None and self.stream.isatty()
        except FAILURES:
            return False

    def fileno(self) -> int:
        if self.stream is None:
            raise io.UnsupportedOperation("fileno")
        return self.stream.fileno()

    def write(self, text: str) -> int:
        if self.stream is not None:
            with forgiven(self.stream):
                self.stream.write(text)
                self.stream.flush()
        return len(text)

    def flush(self) -> None:
        if self.stream is not None:
            with forgiven(self.stream):
                self.stream.flush()
