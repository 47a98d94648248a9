"""Address of the live page, taken and told before anything that takes time is loaded."""

from __future__ import annotations

import errno
import importlib.util
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gradscape.errors import ConfigError

LIBRARIES = ("starlette", "uvicorn")
PORTS = 50  # further ports to try where one is taken
LAST_PORT = 65_535
HOME = ("127.0.0.1", "localhost", "[::1]", "::1")


@dataclass(frozen=True)
class Listening:
    """Port that is listened on.

    Attributes:
        socket: Socket; who connects waits until the server takes it.
        token: Word that every request must give; empty on this machine's own address.
        hosts: Names by which the server may be asked for.
    """

    socket: socket.socket
    token: str
    hosts: tuple[str, ...]


@contextmanager
def listening(host: str, port: int, say: Callable[[str], None]) -> Iterator[Listening]:
    """Listen on a port, and tell the page's address.

    Args:
        host: Address to listen on; of another than this machine's own, a token is asked for.
        port: Port to listen on; if it is taken, the next free one.
        say: Function that prints a line.

    Raises:
        ConfigError: The address is none of this machine, or no port is free.
    """
    own = host in HOME
    token = "" if own else secrets.token_urlsafe(16)
    with _bound(host, port) as found:
        taken = found.getsockname()[1]
        if port not in (0, taken):
            say(f"port {port} is taken, the next free one is {taken}")
        say(f"http://{_shown(host, own)}:{taken}/{f'?token={token}' if token else ''}")
        yield Listening(found, token, HOME if own else ("*",))


def refuse_without_libraries(who: str) -> None:
    """Tell, before anything is begun, that the extra `live` is not installed.

    Args:
        who: First words of the message.

    Raises:
        ConfigError: A library is not there.
    """
    for library in LIBRARIES:
        if importlib.util.find_spec(library) is None:
            raise ConfigError(f"{who} {library}; type: pip install {' '.join(LIBRARIES)}")


def _shown(host: str, own: bool) -> str:
    """Return the host of the page's address, that of IPv6 in brackets."""
    if ":" in host:
        return f"[{host.strip('[]')}]"
    return "127.0.0.1" if own else host


def _bound(host: str, port: int) -> socket.socket:
    if not host.strip("[] "):  # for a socket that is every address there is
        raise ConfigError("--host: expected an address; got none; type 0.0.0.0 for all of this machine's")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    last = min(port + PORTS, LAST_PORT)
    for each in range(port, last + 1):
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((host.strip("[]"), each))
            found.listen(128)
        except OSError as error:
            found.close()
            if error.errno != errno.EADDRINUSE:
                raise ConfigError(f"--host: cannot listen on {host}: {error.strerror}") from None
            continue
        return found
    raise ConfigError(f"--port: {port} to {last} are all taken; give another")
