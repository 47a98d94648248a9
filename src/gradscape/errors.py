"""Errors that gradscape raises for its users.

    GradscapeError            one line that says what is wrong and what to do
    ├── ConfigError           a setting: unknown, of the wrong type, out of range
    ├── DataError             the images: missing, damaged, untrusted, out of reach
    ├── StoreError            a run's or study's folder: unwritable, damaged, newer
    │   └── Busy              … at work on in another process
    ├── JobFailed             a job of an executor ended in an error
    ├── RunFailed             one or more runs of a study ended in an error
    ├── TrainingStopped       a watch ended a training that does not work
    └── NotDelivered          an alert did not reach its receiver

Every one of them means "the user can put this right"; the command line prints it without a
traceback. Mistakes of our own are assertions and are never caught.
"""

from __future__ import annotations

import difflib
import reprlib
import traceback
from collections.abc import Iterable
from pathlib import Path

NOT_THE_USERS = (
    str(Path(__file__).parent),
    str(Path(traceback.__file__).parent),
    "site-packages",
    "dist-packages",
    "<",
)


class GradscapeError(Exception):
    """Base of all errors a user can put right; its text is one line."""

    exit_code = 2

    def __str__(self) -> str:
        return one_line(super().__str__())  # a file's name in it can hold anything


class ConfigError(GradscapeError, ValueError):
    """A setting that cannot be used; names the setting, the value and what is allowed."""


class DataError(GradscapeError):
    """Images that cannot be read or must not be trusted."""


class StoreError(GradscapeError):
    """A run's or study's folder that cannot be read or written."""


class Busy(StoreError):
    """Another process is at work on the folder."""


class JobFailed(GradscapeError):
    """A job that an executor was given ended in an error, or its workers died of it."""

    exit_code = 1


class RunFailed(GradscapeError):
    """One run of a study or more failed; the others were finished."""

    exit_code = 1


class TrainingStopped(GradscapeError):
    """A watch with `stop_on` ended a training; the text is verdict, place, cause and what would help."""

    exit_code = 1


class NotDelivered(GradscapeError):
    """An alert that did not reach its receiver; the text names no secret of an address."""

    exit_code = 1


def first_line(error: BaseException) -> str:
    """Return an error's type and the first line of its text.

    Args:
        error: Any error.

    Example:
        >>> first_line(KeyError("depth"))
        "KeyError: 'depth'"
    """
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def failure_of(error: BaseException | None) -> str:
    """Return the first line of an error that ends a training; empty for none, and for an exit that was meant.

    Args:
        error: What left a `with` block.

    Example:
        >>> failure_of(MemoryError()), failure_of(SystemExit(0))
        ('MemoryError', '')
    """
    return first_line(error) if isinstance(error, Exception | KeyboardInterrupt) else ""


def with_place(error: BaseException) -> str:
    """Return an error's first line, and the place in a user's own file where it was raised, if it was.

    Args:
        error: Error with its traceback.
    """
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not any(part in frame.filename for part in NOT_THE_USERS)]
    place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return first_line(error) + place


SHORT = reprlib.Repr()
SHORT.maxlevel = 3
SHORT.maxstring = SHORT.maxlong = SHORT.maxother = 80


def brief(value: object) -> str:
    """Return `repr(value)` on one line, cut where it is long or deep.

    A few bytes of YAML can be gigabytes of it.

    Args:
        value: Anything that somebody gave.
    """
    try:
        return cut(SHORT.repr(value), 160)
    except Exception:  # a foreign object's own repr, or more digits than Python shows
        return f"a value of type {type(value).__name__}"


def cut(word: object, most: int = 80) -> str:
    """Return a name on one line for a message, its middle left out where it is long.

    Args:
        word: Name that somebody gave.
        most: Number of characters from which on it is cut.

    Example:
        >>> cut("abcdefghijklmnop", 8)
        'abcd…op'
    """
    text = " ".join(str(word).split())
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-most // 4 :]}"


def one_line(text: object) -> str:
    """Return a text on one line and without control characters.

    Args:
        text: Text, in which a name or a server's answer can hold anything.
    """
    text = " ".join(str(text).split())
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def nearest(word: object, known: Iterable[str]) -> str:
    """Return the end of a message that names the nearest word, or an empty string.

    Args:
        word: Word that is unknown.
        known: Known words.

    Example:
        >>> nearest("dept", ["depth", "filters"])
        "; did you mean 'depth'?"
    """
    if not isinstance(word, str) or len(word) > 80:  # no slip of the pen, and long to compare
        return ""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
