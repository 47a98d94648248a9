"""Mirrors that send too much, too slowly, or nonsense: one clean line each, and no disk or hour lost."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gradscape.data import download as module
from gradscape.data.download import download
from gradscape.errors import DataError

SIZE = 200_000
Answer = Callable[[socket.socket], object]


class Mirror:
    """A server of raw bytes on this machine; every connection gets `answer`."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}/a"
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        self.listening.settimeout(0.05)
        while not self.stopped.is_set():
            with contextlib.suppress(OSError):
                connection, _ = self.listening.accept()
                with connection:
                    connection.settimeout(5)
                    connection.recv(9_999)
                    self.answer(connection)

    def close(self) -> None:
        self.stopped.set()
        self.thread.join()
        self.listening.close()


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], Mirror]]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(module, "PAUSE", 0.0)
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    made: list[Mirror] = []

    def make(answer: Answer) -> Mirror:
        made.append(Mirror(answer))
        return made[-1]

    yield make
    for each in made:
        each.close()


def sends(*pieces: bytes) -> Answer:
    return lambda connection: connection.sendall(b"".join(pieces))


def head(*lines: bytes, status: bytes = b"200 OK") -> bytes:
    return b"\r\n".join([b"HTTP/1.1 " + status, *lines, b"", b""])


def endless(first: bytes) -> Answer:
    def answer(connection: socket.socket) -> None:
        connection.sendall(first)
        while True:  # until the other side closes
            connection.sendall(bytes(1 << 16))

    return answer


def dripping(first: bytes, drop: bytes = b"x") -> Answer:
    def answer(connection: socket.socket) -> None:
        connection.sendall(first)
        while True:
            connection.sendall(drop)
            time.sleep(0.02)

    return answer


def refused(url: str, target: Path) -> str:
    with pytest.raises(DataError) as caught:
        download([url], target, "0" * 32, SIZE)
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 700
    return text


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (endless(head()), "sends more than the file's 200,000 bytes"),
        (endless(head(b"Transfer-Encoding: chunked") + b"fffffff\r\n"), "sends more than the file's 200,000"),
        (sends(head(b"Content-Length: 12345")), "expected 200,000 bytes; its file has 12345"),
        (sends(head(b"Content-Length: " + b"9" * 5_000)), "its file has 9999999999…99999"),
        (sends(head("Content-Length: ²".encode("latin1")), b"x"), "connection cut at 1 of 200,000 bytes"),
        (sends(head(b"Content-Length: -5"), b"x"), "connection cut at 1 of 200,000 bytes"),
        (sends(head(b"Location: /a", status=b"302 Found")), "redirects more than 5 times"),
        (endless(head(b"Location: /a", status=b"302 Found")), "redirects more than 5 times"),
        (sends(head(b"Location: file:///etc/passwd", status=b"302 F")), "unknown url type: file"),
        (sends(head(b"Location: http://[", status=b"302 F")), "Invalid IPv6 URL"),
        (sends(head(status=b"302 Found")), "HTTP 302 Found"),
        (sends(head(status=b"404 \x1b]0;owned\x07")), "HTTP 404 �]0;owned�"),
        (sends(head(status=b"404 " + b"x" * 60_000)), "HTTP 404 xxxx"),
        (sends(b"no such thing\r\n\x1b[2J\r\n\r\n"), "no such thing"),
        (sends(b"HTTP/1.1 99999 OK\r\n\r\n"), "HTTP/1.1 99999 OK"),
        (sends(b""), "Remote end closed connection without response"),
        (sends(head(*[b"a: b"] * 200)), "got more than 100 headers"),
        (sends(head(b"a: " + b"b" * 70_000)), "got more than 65536 bytes when reading header line"),
        (sends(head(status=b"416 No")), "HTTP 416 No"),
        (sends(head(b"Content-Range: bytes 5-9/10", status=b"206 P")), "expected bytes from 0; got"),
        (sends(head("Content-Range: bytes ²-9/9".encode("latin1"), status=b"206 P")), "without saying which"),
        (sends(head(b"Transfer-Encoding: chunked"), b"zz\r\n"), "connection cut at 0 of 200,000 bytes"),
        (sends(head(), bytes(SIZE)), "expected md5 00000000000000000000000000000000; got"),
        (dripping(head()), "slower than 1,000 bytes a second"),
        (dripping(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"), "no answer within 0.5 s"),
        (dripping(b"HTTP/1.1 200 OK\r\na: "), "no answer within 0.5 s"),
        (dripping(b""), "no answer within 0.5 s"),
    ],
)  # fmt: skip
def test_what_a_mirror_does_wrong_is_said_in_one_clean_line(
    mirror: Callable[[Answer], Mirror], tmp_path: Path, answer: Answer, said: str
) -> None:
    begun = time.monotonic()
    assert said in refused(mirror(answer).url, tmp_path / "a.tar.gz")
    assert time.monotonic() - begun < 10
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= SIZE
    assert not (tmp_path / "a.tar.gz").exists()


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:1/a\rb", "http://a b/", "http://[::1", "http://127.0.0.1:x/", "http://é..x/", ""],
)
def test_an_address_that_is_none_is_said_in_one_clean_line(tmp_path: Path, url: str) -> None:
    assert "could not download a.tar.gz: " in refused(url, tmp_path / "a.tar.gz")


def test_what_came_slowly_is_kept_and_what_was_too_much_is_not(
    mirror: Callable[[Answer], Mirror], tmp_path: Path
) -> None:
    part = tmp_path / "a.tar.gz.part"
    refused(mirror(dripping(head())).url, tmp_path / "a.tar.gz")
    assert 0 < part.stat().st_size < 1_000
    refused(mirror(endless(head())).url, tmp_path / "a.tar.gz")
    assert not part.exists()
    part.write_bytes(bytes(SIZE + 1))  # of an earlier version, or of another file
    refused(mirror(sends(head(status=b"404 N"))).url, tmp_path / "a.tar.gz")
    assert not part.exists()
