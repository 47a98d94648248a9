"""Serving the live page until Ctrl-C, or until the process that asked for it has ended."""

from __future__ import annotations

import secrets
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from gradscape.errors import ConfigError
from gradscape.live.alarms import Alarms
from gradscape.live.hub import Hub
from gradscape.live.server import HOME, Listeners, application
from gradscape.measure.watch.alert_delivery import Delivery

if TYPE_CHECKING:
    import uvicorn

PORTS = 50  # further ports to try where one is taken


def serve(
    root: Path,
    host: str,
    port: int,
    say: Callable[[str], None],
    alerts: Delivery | None = None,
    until_eof: bool = False,
) -> None:
    """Serve the page of a folder.

    Args:
        root: Path of the folder.
        host: Address to listen on; of another than this machine's own, a token is asked for.
        port: Port to listen on; if it is taken, the next free one.
        say: Function that prints a line.
        alerts: Delivery of what trainings come to: faults, failures, deaths; None for none.
        until_eof: Whether to end when standard input ends, as it does with the process that holds it.

    Raises:
        ConfigError: The address is none of this machine, or no port is free.
    """
    import uvicorn

    class Server(uvicorn.Server):
        """Server that ends the streams of browsers first: they never end by themselves."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            listeners.end()
            super().handle_exit(sig, frame)

    own = host in HOME
    token = "" if own else secrets.token_urlsafe(16)
    listeners = Listeners()
    hub = Hub(root, listeners.tell)
    if alerts is not None:
        hub.on_change = Alarms(alerts).hear
    with _socket(host, port) as listening:
        taken = listening.getsockname()[1]
        if port not in (0, taken):
            say(f"port {port} is taken, the next free one is {taken}")
        shown = "127.0.0.1" if own else host
        say(f"http://{shown}:{taken}/{f'?token={token}' if token else ''}")
        app = application(hub, listeners, token, HOME if own else ("*",))
        server = Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
        if until_eof:
            threading.Thread(target=_end_with_input, args=(server,), daemon=True).start()
        server.run([listening])


def _socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for each in range(port, port + PORTS + 1):
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((host.strip("[]"), each))
            found.listen(128)
        except OSError as error:
            found.close()
            if error.errno != 98:
                raise ConfigError(f"--host: cannot listen on {host}: {error.strerror}") from None
            continue
        return found
    raise ConfigError(f"--port: {port} to {port + PORTS} are all taken; give another")


def _end_with_input(server: uvicorn.Server) -> None:
    sys.stdin.buffer.read()
    server.handle_exit(0, None)
