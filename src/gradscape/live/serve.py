"""Serving the live page until Ctrl-C, or until the process that asked for it has ended."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import FrameType

import uvicorn

from gradscape.live.alarms import Alarms
from gradscape.live.hub import Hub
from gradscape.live.listen import Listening
from gradscape.live.server import Listeners, application
from gradscape.measure.watch.alert_delivery import Delivery


def serve(root: Path, door: Listening, alerts: Delivery | None = None, until_eof: bool = False) -> None:
    """Serve the page of a folder.

    Args:
        root: Path of the folder.
        door: Port that is listened on.
        alerts: Delivery of what trainings come to: faults, failures, deaths; None for none.
        until_eof: Whether to end when standard input ends, as it does with the process that holds it.
    """
    listeners = Listeners()

    class Server(uvicorn.Server):
        """Server that ends the streams of browsers first: they never end by themselves."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            listeners.end()
            super().handle_exit(sig, frame)

    hub = Hub(root, listeners.tell)
    if alerts is not None:
        hub.on_change = Alarms(alerts).hear
    app = application(hub, listeners, door.token, door.hosts)
    server = Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
    if until_eof:
        threading.Thread(target=_end_with_input, args=(server,), daemon=True).start()
    server.run([door.socket])


def _end_with_input(server: uvicorn.Server) -> None:
    sys.stdin.buffer.read()
    server.handle_exit(0, None)
