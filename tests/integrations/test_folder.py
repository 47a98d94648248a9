"""The sink that writes a watch's folder: all is there, seldom enough, and the training is as it was."""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.cli.main import main
from gradscape.errors import StoreError
from gradscape.integrations import Folder
from gradscape.integrations.watching import Watching
from gradscape.measure.watch.watch import Watch
from gradscape.storage.watch_folder import WatchReader, WatchWriter


def trained(
    path: Path | None, steps: int = 20, clock: list[float] | None = None
) -> tuple[list[Tensor], Watch]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Dropout(0.1), nn.Linear(5, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    with gs.watch(model, optimizer, activations=True) as flow:
        if path is not None:
            sink = Folder(path)
            if clock is not None:
                sink.clock = lambda: clock[0]
            sink.follow(flow)
        for _ in range(steps):
            optimizer.zero_grad()
            cross_entropy(model(torch.randn(8, 6)), torch.arange(8) % 3).backward()
            optimizer.step()
            if clock is not None:
                clock[0] += 0.3
    return [parameter.detach().clone() for parameter in model.parameters()], flow


def read(path: Path) -> WatchReader:
    reader = WatchReader(path)
    reader.poll()
    return reader


def test_its_folder_has_the_history_and_the_end(tmp_path: Path) -> None:
    _, flow = trained(tmp_path / "w")
    reader = read(tmp_path / "w")
    assert reader.history == flow.history()
    assert (reader.info.state, reader.info.step, reader.info.name) == ("ended", 20, "Sequential")


SCRIPT = """
import torch
from torch import nn
import gradscape as gs
from gradscape.integrations import Folder

model = nn.Linear(6, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
flow = gs.watch(model, optimizer)
Folder("w").follow(flow)
for step in range(20):
    optimizer.zero_grad()
    model(torch.randn(8, 6)).square().mean().backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("end", "state", "error"),
    [("", "ended", ""), ("raise ValueError('no more data')", "failed", "ValueError: no more data")],
)
def test_a_script_that_closes_nothing_leaves_all_rows_and_its_end(
    end: str, state: str, error: str, tmp_path: Path
) -> None:
    subprocess.run([sys.executable, "-c", SCRIPT + end], cwd=tmp_path, capture_output=True)
    reader = read(tmp_path / "w")
    assert len(reader.history.steps) == reader.info.step == 20
    assert (reader.info.state, reader.info.error) == (state, error)


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (RuntimeError("CUDA out of memory\nand more"), "failed", "RuntimeError: CUDA out of memory"),
        (KeyboardInterrupt(), "failed", "KeyboardInterrupt"),
        (SystemExit(0), "ended", ""),
    ],
)
@pytest.mark.parametrize("block", ["watch", "folder", "callback"])
def test_an_error_that_leaves_the_training_is_kept(
    block: str, error: BaseException, state: str, reason: str, tmp_path: Path
) -> None:
    """A live page and its alerts would take a training that ran out of memory for one that has ended well."""
    model = nn.Linear(6, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def train() -> None:
        model(torch.randn(8, 6)).square().mean().backward()
        optimizer.step()
        raise error

    folder = Folder(tmp_path / "w")
    with contextlib.suppress(type(error)):
        if block == "watch":
            with gs.watch(model, optimizer) as flow:
                folder.follow(flow)
                train()
        elif block == "folder":
            with folder.follow(gs.watch(model, optimizer)):
                train()
        else:
            seen = Watching(sinks=[folder])
            seen._begin(model, optimizer, 0)
            try:
                train()
            except BaseException as raised:
                seen._end(raised)
    reader = read(tmp_path / "w")
    assert (reader.info.state, reader.info.error) == (state, reason)
    assert len(reader.history.steps) == 1


def test_a_function_that_returns_leaves_all_rows(tmp_path: Path) -> None:
    def train() -> None:
        model = nn.Linear(6, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        Folder(tmp_path / "w").follow(gs.watch(model, optimizer))
        for _ in range(20):
            optimizer.zero_grad()
            model(torch.randn(8, 6)).square().mean().backward()
            optimizer.step()

    train()
    gc.collect()
    reader = read(tmp_path / "w")
    assert (reader.info.state, len(reader.history.steps)) == ("ended", 20)


def test_other_commands_read_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, flow = trained(tmp_path / "a")
    trained(tmp_path / "b")
    assert gs.load(tmp_path / "a") == flow.history()
    assert main(["diagnose", str(tmp_path / "a")]) == 0
    assert gs.diagnose(flow).verdict in capsys.readouterr().out
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "equal bit for bit" in capsys.readouterr().out


def test_losses_that_are_cut_off_leave_the_rest_to_be_diagnosed(tmp_path: Path) -> None:
    _, flow = trained(tmp_path / "w")
    (losses,) = (tmp_path / "w").glob("loss-*")
    losses.write_bytes(losses.read_bytes()[:50])
    found = gs.load(tmp_path / "w")
    assert len(found.steps) == len(flow.history().steps)
    assert not len(found.loss.steps)
    without = replace(flow.history(), loss=None)
    assert gs.diagnose(found).verdict == gs.diagnose(without).verdict


def test_a_folder_with_a_watch_is_not_written_to(tmp_path: Path) -> None:
    trained(tmp_path / "w")
    with pytest.raises(StoreError, match=r"w holds a watch already; give the path of a new folder$"):
        trained(tmp_path / "w")


def test_the_weights_are_as_without_it(tmp_path: Path) -> None:
    with_it, without = trained(tmp_path / "w")[0], trained(None)[0]
    assert all(torch.equal(a, b) for a, b in zip(with_it, without, strict=True))


def test_it_writes_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writings: list[float] = []
    clock = [0.0]
    original = WatchWriter.write

    def counted(self: WatchWriter, *arguments: object, **named: object) -> None:
        writings.append(clock[0])
        original(self, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(WatchWriter, "write", counted)
    trained(tmp_path / "w", 20, clock)
    *within, _ = writings  # the last is the rest
    assert len(within) == 5
    assert all(later - earlier >= 1.0 for earlier, later in pairwise(within))


def test_a_folder_that_is_taken_is_refused_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "mine.txt").write_text("mine")
    with pytest.raises(StoreError, match="is not empty and holds no watch"):
        trained(tmp_path / "w")
    assert [path.name for path in (tmp_path / "w").iterdir()] == ["mine.txt"]


def test_a_disk_that_fails_later_ends_the_sink_and_not_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StoreError("no space left on device")

    monkeypatch.setattr(WatchWriter, "write", full)
    assert trained(tmp_path / "w")[1].steps == 20
    (record,) = caplog.records
    assert "is left out from now on: StoreError: no space left on device" in record.getMessage()
