"""Fetch one file over HTTP: mirrors, resumption, a checksum, one process at a time."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from gradscape.errors import DataError

TIMEOUT = 30.0  # seconds without a byte; the whole may take an hour: the host serves 55-85 kB/s
PAUSE = 1.0  # seconds before a cut connection is taken up again
BLOCK = 1 << 16  # bytes per read: about a second at that rate, so the bar moves
Advance = Callable[[int, int | None], None]


class _MirrorFailed(Exception):
    """Why one mirror did not give the file; the next is tried."""


def download(urls: Sequence[str], target: Path, md5: str) -> Path:
    """Fetch `target` from the first of `urls` that gives a file with checksum `md5`.

    What arrives is kept in `target` + `.part`, so that a cut connection, or the same command given
    again, continues where it stopped. Nothing is fetched where `target` is already right.

    Args:
        urls: mirrors, `http` or `https`, tried in order.
        target: the file to write; its folder is made.
        md5: the expected checksum, 32 hexadecimal digits.

    Returns:
        `target`.

    Raises:
        DataError: every mirror failed (each is named with its reason), or `target` is unwritable.

    Example:
        download(["https://example.org/a.bin"], Path("a.bin"), "c32a1d4ab5d03f1284b67883e8d87530")
    """
    part = target.with_name(target.name + ".part")
    with _local_files(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(target.name + ".lock")):
            held = target.is_file() and _md5(target) == md5  # another process may have been first
            if not held:
                _from_any(urls, part, md5)
                os.replace(part, target)
    return target


@contextmanager
def _local_files(target: Path) -> Iterator[None]:
    """Name the folder in the system's refusals; the network's never come this far."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot write {target} ({error.strerror or error}); free or permit that folder, or "
            "choose another with --data-root DIR or GRADSCAPE_CACHE=DIR"
        ) from error


def _from_any(urls: Sequence[str], part: Path, md5: str) -> None:
    reasons = []
    for url in urls:
        try:
            with _progress(part.stem) as advance:
                _from_mirror(url, part, md5, advance)
            return
        except _MirrorFailed as error:
            reasons.append(f"{url}: {error}")
    raise DataError(
        f"could not download {part.stem}: {'; '.join(reasons) or 'no mirror is given'}; "
        "give the same command again to continue, or fetch the file yourself and name its folder "
        "with --data-root DIR"
    )


def _from_mirror(url: str, part: Path, md5: str, advance: Advance) -> None:
    """Leave the verified file in `part`, or raise `_MirrorFailed`."""
    resumed = _size(part) > 0
    _complete(url, part, advance)
    found = _md5(part)
    if found != md5 and resumed:  # the older bytes may be to blame: once more, from the start
        part.unlink()
        _complete(url, part, advance)
        found = _md5(part)
    if found != md5:
        size = _size(part)
        part.unlink()
        raise _MirrorFailed(f"expected md5 {md5}, found {found} ({size:,} bytes)")


def _complete(url: str, part: Path, advance: Advance) -> None:
    """Connect until the whole has arrived, while each connection gets further than the last."""
    furthest = -1
    while True:
        total = _connect(url, part, advance)
        size = _size(part)
        if total is None or size >= total:
            return
        if size <= furthest:
            raise _MirrorFailed(f"connection cut at {size:,} of {total:,} bytes")
        furthest = size
        time.sleep(PAUSE)


def _connect(url: str, part: Path, advance: Advance) -> int | None:
    """One connection: add to `part` what comes; the whole file's size in bytes, if told."""
    have = _size(part)
    headers = {"User-Agent": "gradscape (python-urllib)"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        answer = _opener().open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return None  # nothing after what we have: the checksum decides
        raise _MirrorFailed(f"HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _MirrorFailed(str(getattr(error, "reason", error)) or type(error).__name__) from error
    with answer:
        start, total = _extent(answer.headers, answer.status)
        # A server that ignores Range sends the whole: what we have must not be kept in front of it.
        with part.open("ab" if have and start == have else "wb") as file:
            for block in _blocks(answer):
                file.write(block)
                advance(file.tell(), total)
            file.flush()
            os.fsync(file.fileno())
    return total


def _extent(headers: Any, status: int) -> tuple[int, int | None]:
    """Where the answer's bytes begin in the file, and the file's size if told."""
    if status == http.client.PARTIAL_CONTENT:
        told = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
        if told is None:
            raise _MirrorFailed("answered a range request without saying which range")
        return int(told[1]), None if told[2] == "*" else int(told[2])
    length = headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _blocks(answer: Any) -> Iterator[bytes]:
    """What arrives until the end or the cut: `_complete` tells them apart by the size."""
    while True:
        try:
            block = answer.read(BLOCK)
        except (OSError, http.client.HTTPException):
            return
        if not block:
            return
        yield block


def _opener() -> urllib.request.OpenerDirector:
    """Only http and https: the default opener reads `file:` too, and follows to `ftp:`."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _new_md5() -> Any:
    return hashlib.md5(usedforsecurity=False)  # so that it runs where FIPS forbids MD5


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, _new_md5).hexdigest()


@contextmanager
def _progress(name: str) -> Iterator[Advance]:
    """A progress bar on standard error, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn
    from rich.progress import TransferSpeedColumn as Speed

    columns = ("{task.description}", BarColumn(), DownloadColumn(), Speed(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
