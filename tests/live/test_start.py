"""A page begun from within a training: its address is printed, and it ends with the training."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import gradscape as gs
from gradscape.errors import ConfigError, StoreError
from gradscape.live.start import _new_folder
from gradscape.storage.watch_folder import WatchReader, WatchWriter
from libraries import skip_without
from live.test_server import started
from live.watching import watch_in

skip_without("starlette")
TRAINING = """
import sys, torch
from torch import nn
import gradscape as gs
model = nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
flow = gs.watch(model, optimizer, live=sys.argv[1])
for _ in range(5):
    optimizer.zero_grad()
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
input()
flow.close()
"""


def pair() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(3, 2)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


@pytest.mark.slow
def test_the_page_lives_as_long_as_the_training_and_its_folder_stays(tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", TRAINING, str(tmp_path / "first")]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as training:
        assert training.stdout is not None
        found = re.fullmatch(r"live page: (http://127\.0\.0\.1:\d+/)\n", training.stdout.readline())
        assert found is not None
        assert urllib.request.urlopen(found[1]).status == 200
        training.communicate("\n", timeout=60)
    assert training.returncode == 0
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(found[1])
    reader = WatchReader(tmp_path / "first")
    reader.poll()
    assert (reader.info.state, reader.info.step) == ("ended", 5)


def test_a_folder_that_is_taken_and_a_library_that_is_missing_are_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(StoreError, match="is not empty and holds no watch"):
        gs.watch(*pair(), live=tmp_path)
    monkeypatch.setattr("gradscape.live.listen.importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match="live: the page needs starlette; type: pip install starlette uvicorn"
    ):
        gs.watch(*pair(), live=tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_webhook_is_told_when_a_training_comes_to_have_a_fault(tmp_path: Path) -> None:
    watch_in(tmp_path.parent / "other", 30, deep=True)
    reader = WatchReader(tmp_path.parent / "other")
    reader.poll()
    ill, told, heard = reader.history, list[dict[str, Any]](), threading.Event()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            heard.set()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{receiver.server_port}/hook"
        process, page = started(tmp_path, "--port", "0", "--end-with-input", "--alert", address)
        with process:
            urllib.request.urlopen(page)
            writer = WatchWriter(tmp_path / "w", "Net", time.time())
            writer.write(ill, lambda: ill, step=30, written=time.time())
            assert heard.wait(60)
            process.communicate(timeout=30)
        receiver.shutdown()
    (alert,) = told
    assert (alert["source"], alert["verdict"], alert["run"], alert["step"]) == (
        "gradscape",
        "vanishing",
        "w",
        29,
    )


def test_trainings_of_one_second_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of `for seed in 1 2 3; do python train.py $seed & done`, before any has made its first step."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gradscape.live.start.time.strftime", lambda form: "20260101-000000")
    with gs.watch(*pair()) as flow:
        folders = [_new_folder(flow) for _ in range(3)]
        assert [folder.name.removeprefix("Linear-20260101-000000") for folder in folders] == ["", "-2", "-3"]
        monkeypatch.setattr("gradscape.live.start.is_first_process", lambda: False)
        assert not _new_folder(flow).with_name("Linear-20260101-000000-4").exists()
        assert len(list((tmp_path / "watches").iterdir())) == 3
