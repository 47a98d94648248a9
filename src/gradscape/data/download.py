"""Fetch one file over HTTP: mirrors, resumption, a checksum, one process at a time.

Mirrors are not trusted: their headers and bodies are bounded, in bytes and in time.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from filelock import FileLock

from gradscape.errors import DataError, cut, one_line

TIMEOUT = 30.0  # seconds without a byte; a whole file may take an hour: the host serves 55-85 kB/s
PATIENCE = 60.0  # seconds for a response's headers, and between two checks of the rate
SLOWEST = 1_000.0  # bytes per second, below which another mirror is tried
HOPS = 5  # redirections
PAUSE = 1.0  # seconds before a cut connection is resumed
BLOCK = 1 << 16  # bytes per read: about a second at the host's rate, so that the bar moves
Advance = Callable[[int, int | None], None]


class _MirrorFailed(Exception):
    """Failure of one mirror, with the reason; the next one is tried."""


def download(urls: Sequence[str], target: Path, md5: str, size: int) -> Path:
    """Fetch `target` from the first of `urls` that serves a file with checksum `md5`.

    Data are written to `target` + `.part`: after a cut connection, or when the same command is repeated, the
    download resumes where it stopped. Nothing is fetched if `target` already has the checksum.

    Args:
        urls: URLs of mirrors, `http` or `https`, tried in order.
        target: Path to write; its folder is created.
        md5: Expected checksum, 32 hexadecimal digits.
        size: Bytes of the file; a mirror that has or sends more is abandoned.

    Returns:
        `target`.

    Raises:
        DataError: If every mirror failed (the message has each one's reason), or `target` is unwritable.

    Example:
        download(["https://example.org/a.bin"], Path("a.bin"), "c32a1d4ab5d03f1284b67883e8d87530", 12_345)
    """
    part = target.with_name(target.name + ".part")
    with _local_files(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(target.name + ".lock")):
            complete = target.is_file() and _md5(target) == md5  # another process may have been first
            if not complete:
                _from_any(urls, part, md5, size)
                os.replace(part, target)
    return target


@contextmanager
def _local_files(target: Path) -> Iterator[None]:
    """Turn OSErrors of the disk into a DataError with the path; those of the network are caught before."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot write {target} ({error.strerror or error}); free or permit that folder, or "
            "choose another with --data-root DIR or GRADSCAPE_CACHE=DIR"
        ) from error


def _from_any(urls: Sequence[str], part: Path, md5: str, size: int) -> None:
    reasons = []
    for url in urls:
        try:
            with _progress(part.stem) as advance:
                _from_mirror(url, part, md5, size, advance)
            return
        except _MirrorFailed as error:
            reasons.append(f"{one_line(url)}: {cut(one_line(error), 200)}")
    raise DataError(
        f"could not download {part.stem}: {'; '.join(reasons) or 'there is no mirror'}; "
        "repeat the same command to resume, or fetch the file yourself and name its folder "
        "with --data-root DIR"
    )


def _from_mirror(url: str, part: Path, md5: str, size: int, advance: Advance) -> None:
    """Leave the verified file in `part`, or raise `_MirrorFailed`."""
    if _size(part) > size:
        part.unlink()  # of no use to any mirror
    resumed = _size(part) > 0
    _complete(url, part, size, advance)
    checksum = _md5(part)
    if checksum != md5 and resumed:  # the older bytes may be to blame: once more, from the start
        part.unlink()
        _complete(url, part, size, advance)
        checksum = _md5(part)
    if checksum != md5:
        part.unlink()
        raise _MirrorFailed(f"expected md5 {md5}; got {checksum} ({size:,} bytes)")


def _complete(url: str, part: Path, size: int, advance: Advance) -> None:
    """Connect until the file is complete, as long as each connection gets further than the last."""
    furthest = -1
    while (have := _size(part)) < size:
        if furthest >= 0:
            if have <= furthest:
                raise _MirrorFailed(f"connection cut at {have:,} of {size:,} bytes")
            time.sleep(PAUSE)
        furthest = have
        _connect(url, part, size, advance)


def _connect(url: str, part: Path, size: int, advance: Advance) -> None:
    """Make one connection and append what it sends to `part`."""
    have = _size(part)
    with _request(url, have) as response:
        start = _start(response.headers, response.status, have, size)
        # A server that ignores Range sends the whole file: it replaces what was there.
        with part.open("ab" if start else "wb") as file:
            for block in _blocks(response):
                file.write(block)
                advance(file.tell(), size)
                if file.tell() > size:
                    break
            file.flush()
            os.fsync(file.fileno())
    if _size(part) > size:
        part.unlink()
        raise _MirrorFailed(f"sends more than the file's {size:,} bytes")


def _request(url: str, have: int) -> Any:
    """Request the bytes from `have` on and return the open response.

    Redirections are followed here: urllib would read the body of a redirection to its end, which may never
    come.
    """
    headers = {"User-Agent": "gradscape (python-urllib)"} | ({"Range": f"bytes={have}-"} if have else {})
    opener, to = _opener(), ""
    for _ in range(HOPS + 1):
        try:
            url = urljoin(url, to)
            return opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            error.close()
            to = error.headers.get("Location", "")
            if error.code not in (301, 302, 303, 307, 308) or not to:
                raise _MirrorFailed(f"HTTP {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _MirrorFailed(str(getattr(error, "reason", error)) or type(error).__name__) from error
    raise _MirrorFailed(f"redirects more than {HOPS} times")


def _start(headers: Any, status: int, have: int, size: int) -> int:
    """Return the offset of the response in the file; raise if its headers are those of another file."""
    if status == http.client.PARTIAL_CONTENT:
        span = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]+/([0-9]{1,18}|\*)", headers.get("Content-Range", ""))
        if span is None:
            raise _MirrorFailed("answered a range request without saying which range")
        start, total = int(span[1]), span[2]
        if start != have:
            raise _MirrorFailed(f"expected bytes from {have:,}; got those from {start:,}")
    else:
        start, total = 0, headers.get("Content-Length", "*")
    if re.fullmatch("[0-9]+", total) and total.lstrip("0") != str(size):
        raise _MirrorFailed(f"expected {size:,} bytes; its file has {cut(total, 20)}")
    return start


def _blocks(response: Any) -> Iterator[bytes]:
    """Yield what arrives until the end or a cut; `_complete` tells them apart by the size."""
    since, got = time.monotonic(), 0
    while True:
        try:
            block = response.read1(BLOCK)  # what has arrived; `read` would wait for a whole block
        except (OSError, http.client.HTTPException, ValueError):
            return
        if not block:
            return
        yield block
        got += len(block)
        if (passed := time.monotonic() - since) > PATIENCE:
            if got / passed < SLOWEST:
                raise _MirrorFailed(f"slower than {SLOWEST:,.0f} bytes a second")
            since, got = time.monotonic(), 0


class _Bounded(http.client.HTTPConnection):
    """Connection that limits all of a response's headers to `PATIENCE`; `TIMEOUT` limits each byte only."""

    def connect(self) -> None:
        self.late = False
        self.timer = threading.Timer(PATIENCE, self.hang_up)
        self.timer.daemon = True
        self.timer.start()
        super().connect()

    def hang_up(self) -> None:
        self.late = True
        with suppress(OSError, AttributeError):  # closed already
            self.sock.shutdown(socket.SHUT_RDWR)

    def getresponse(self) -> http.client.HTTPResponse:
        try:
            return super().getresponse()
        finally:
            self.timer.cancel()
            if self.late:
                raise TimeoutError(f"no answer within {PATIENCE:g} s")

    def close(self) -> None:
        if timer := vars(self).get("timer"):
            timer.cancel()
        super().close()


class _BoundedTLS(_Bounded, http.client.HTTPSConnection):
    """Encrypted `_Bounded` connection."""


class _HTTP(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(_Bounded, request)


class _HTTPS(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(_BoundedTLS, request)


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener for http and https alone: the default one reads `file:` and redirects to `ftp:`."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        _HTTP,
        _HTTPS,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _new_md5() -> Any:
    return hashlib.md5(usedforsecurity=False)  # allowed where FIPS forbids MD5 for security


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, _new_md5).hexdigest()


@contextmanager
def _progress(name: str) -> Iterator[Advance]:
    """Show a progress bar on standard error, if that is a terminal."""
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
