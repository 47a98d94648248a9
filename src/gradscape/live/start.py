"""Begin a live page from within a training."""

from __future__ import annotations

import atexit
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from gradscape.config.arguments import typed
from gradscape.errors import StoreError
from gradscape.integrations.folder import Folder
from gradscape.live.listen import refuse_without_libraries
from gradscape.measure.watch.alerts import is_first_process
from gradscape.measure.watch.watch import Watch
from gradscape.storage.files import explained, make_folder

FOLDER = Path("watches")


class LivePage:
    """Live page of a training, served by a process of its own.

    Args:
        path: Path of the training's folder.
        server: Process that serves the page; None where another process shows it.
    """

    def __init__(self, path: Path, server: subprocess.Popen[bytes] | None) -> None:
        self.path, self.server = path, server
        self._address = ""
        self._said = threading.Event()
        if server is None:
            self._said.set()
        else:
            threading.Thread(target=self._hear, daemon=True).start()  # training begins meanwhile

    def _hear(self) -> None:
        """Print the address that the server says."""
        assert self.server is not None
        assert self.server.stdout is not None
        with self.server.stdout as lines:
            self._address = next((line.decode().strip() for line in lines if line.startswith(b"http")), "")
        self._said.set()
        again = f"could not be served; to see why type: gradscape live {self.path.parent}"
        print(f"live page: {self._address or again}", flush=True)

    @property
    def address(self) -> str:
        """Address of the page, as soon as it is known; empty where another process shows it."""
        self._said.wait()
        return self._address

    def close(self) -> None:
        """End the server; the training goes on, and its folder stays."""
        if self.server is not None:
            assert self.server.stdin is not None
            self.server.stdin.close()  # it ends with its input
            self.server.wait()


_pages: dict[Path, LivePage] = {}  # per folder that is served by a process of ours


@typed()
def start_live(flow: Watch, path: str | Path | None = None) -> LivePage:
    """Write a watched training to a folder, serve a page that follows it, and print the address.

    The page is on this machine alone and ends with this process; afterwards `gradscape live` shows the folder
    again. In distributed training only the first process does so. Writing takes less than 1 % of the time.

    Args:
        flow: Watch returned by `gradscape.watch`.
        path: Path of a new folder for the training; by default one in `watches`, named after model and time.

    Raises:
        ConfigError: The extra `live` is not installed, or the watch has ended.
        StoreError: The folder is not empty.

    Example:
        >>> flow = gs.watch(model, optimizer)
        >>> page = gs.start_live(flow)
        live page: http://127.0.0.1:8765/
    """
    refuse_without_libraries("live: the page needs")
    folder = _new_folder(flow) if path is None else Path(path)
    Folder(folder).follow(flow)
    if not is_first_process():
        return LivePage(folder, None)
    parent = folder.parent.resolve()
    page = _pages.get(parent)
    if page is None or page.server is None or page.server.poll() is not None:
        _pages[parent] = page = LivePage(folder, _served(parent))
        atexit.register(page.close)
    else:
        print(f"live page: {page.address}", flush=True)
    return page


def _new_folder(flow: Watch) -> Path:
    """Make a folder that was not there, and return its path; trainings may begin in the same second."""
    stem = f"{flow.model_name}-{time.strftime('%Y%m%d-%H%M%S')}"
    if not is_first_process():  # it writes nothing
        return FOLDER / stem
    make_folder(FOLDER)
    for name in [stem, *(f"{stem}-{number}" for number in range(2, 1_000))]:
        with explained(FOLDER / name), suppress(FileExistsError):
            (FOLDER / name).mkdir()
            return FOLDER / name
    raise StoreError(f"{FOLDER} holds {stem} and 998 more of that name; give live the path of a new folder")


def _served(parent: Path) -> subprocess.Popen[bytes]:
    """Begin a process that serves a folder."""
    parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "gradscape", "live", str(parent), "--end-with-input"]
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    # A session of its own: Ctrl-C in a terminal is the training's.
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere, start_new_session=True)
