"""A watch's folder: what is written comes back as it was, whatever happens to the files meanwhile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.errors import StoreError
from gradscape.records.gradients import FlowHistory, slice_rows
from gradscape.storage.watch_folder import WatchReader, WatchWriter


def history(steps: int = 12, activations: bool = True) -> FlowHistory:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    with gs.watch(model, optimizer, activations=activations, distributions=True) as flow:
        for _ in range(steps):
            optimizer.zero_grad()
            cross_entropy(model(torch.randn(8, 6)), torch.arange(8) % 3).backward()
            optimizer.step()
    return flow.history()


def added(writer: WatchWriter, whole: FlowHistory, first: int, last: int) -> None:
    """Write some rows, with all losses so far, as a sink does."""
    so_far = slice_rows(whole, slice(last))
    new = replace(slice_rows(whole, slice(first, last)), loss=so_far.loss, distributions=so_far.distributions)
    writer.write(new, lambda: so_far, step=last, written=float(last))


@pytest.mark.parametrize("activations", [True, False])
def test_what_was_written_part_by_part_is_read_as_it_was(tmp_path: Path, activations: bool) -> None:
    whole = history(activations=activations)
    writer, reader = WatchWriter(tmp_path / "w", "Net", 1.0), WatchReader(tmp_path / "w")
    for first, last in ((0, 1), (1, 5), (5, 5), (5, 12)):
        added(writer, whole, first, last)
        assert reader.poll()
        assert reader.history == slice_rows(whole, slice(last))
        assert not reader.poll()
    late = WatchReader(tmp_path / "w")
    late.poll()
    assert late.history == whole
    assert gs.diagnose(late.history) == gs.diagnose(whole)
    assert (late.info.name, late.info.step, late.info.began, late.info.state) == ("Net", 12, 1.0, "running")


def test_what_is_not_finite_or_tiny_comes_back(tmp_path: Path) -> None:
    whole = history()
    values = whole.mean_abs.copy()
    values[2, 0], values[3, 1], values[4, 2] = np.nan, np.inf, 1e-290
    assert whole.clipped is not None
    whole = replace(whole, mean_abs=values, last_mean_abs=values, clipped=np.full_like(whole.clipped, np.nan))
    writer, reader = WatchWriter(tmp_path / "w", "Net", 1.0), WatchReader(tmp_path / "w")
    added(writer, whole, 0, 12)
    reader.poll()
    assert np.array_equal(reader.history.mean_abs, values, equal_nan=True)
    assert reader.history == whole


@pytest.mark.parametrize("part", [4, 30])
def test_a_large_file_is_thinned_where_it_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    monkeypatch.setattr("gradscape.storage.watch_folder.FEWEST", 10)
    whole = history(60)
    writer, reader = WatchWriter(tmp_path / "w", "Net", 1.0, largest=12_000), WatchReader(tmp_path / "w")
    for last in range(part, 61, part):
        added(writer, whole, last - part, last)
        reader.poll()
    found = reader.history
    assert list(found.steps) == sorted(set(found.steps.tolist()))
    assert list(found.steps[-4:]) == [56, 57, 58, 59]
    assert found == slice_rows(whole, found.steps)
    assert found.loss == whole.loss  # losses are small: all of them stay
    assert sum(path.stat().st_size for path in (tmp_path / "w").glob("rows-*")) <= 12_000
    assert len(list((tmp_path / "w").glob("rows-*"))) == 1


def test_losses_begin_anew_with_those_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradscape.storage.watch_folder.LOSSES", 300)
    whole = history(40)
    assert whole.loss is not None
    writer, reader = WatchWriter(tmp_path / "w", "Net", 1.0), WatchReader(tmp_path / "w")
    for last in range(1, 41):
        first = max(0, last - 10)  # of the losses that are in memory
        loss = replace(whole.loss, steps=whole.loss.steps[first:last], values=whole.loss.values[first:last])
        rows = replace(slice_rows(whole, slice(last - 1, last)), loss=loss)
        writer.write(rows, lambda rows=rows: rows)
        assert sum(path.stat().st_size for path in (tmp_path / "w").glob("loss-*")) <= 800
        reader.poll()
    found = reader.history
    assert found.steps.tolist() == list(range(40))
    assert found.loss is not None
    assert found.loss.steps[-10:].tolist() == list(range(30, 40))
    assert len(found.loss.steps) < 40


def test_more_layers_begin_new_files_with_all_that_is_in_memory(tmp_path: Path) -> None:
    whole = history()
    few = replace(slice_rows(whole, slice(4)), activations=None, distributions=None)
    writer, reader = WatchWriter(tmp_path / "w", "Net", 1.0), WatchReader(tmp_path / "w")
    writer.write(few, lambda: few)
    reader.poll()
    assert reader.history == few
    writer.write(slice_rows(whole, slice(4, 12)), lambda: whole)
    reader.poll()
    assert reader.history == whole


def test_a_torn_last_line_does_not_count_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    whole = history()
    writer = WatchWriter(tmp_path / "w", "Net", 1.0)
    added(writer, whole, 0, 12)
    rows = next((tmp_path / "w").glob("rows-*"))
    intact = rows.read_bytes()
    rows.write_bytes(intact[:-30])
    reader = WatchReader(tmp_path / "w")
    reader.poll()
    assert list(reader.history.steps) == list(range(11))
    flipped = bytearray(intact)
    flipped[len(intact) // 2] ^= 1
    rows.write_bytes(bytes(flipped))
    with pytest.raises(StoreError, match=r"rows-1\.jsonl is damaged.*the training is not touched"):
        WatchReader(tmp_path / "w").poll()


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(StoreError, match="is not empty and holds no watch"):
        WatchWriter(tmp_path, "Net", 1.0)
    assert (tmp_path / "mine.txt").read_text() == "mine"
    with pytest.raises(StoreError, match=r"cannot read .*watch\.json"):
        WatchReader(tmp_path).poll()


def test_half_a_surrogate_pair_in_a_name_is_a_question_mark(tmp_path: Path) -> None:
    whole = history()
    whole = replace(whole, layers=("a\udc80", *whole.layers[1:]))
    added(WatchWriter(tmp_path / "w", "Net", 1.0), whole, 0, 12)
    reader = WatchReader(tmp_path / "w")
    reader.poll()
    assert reader.history.layers[0] == "a?"


def test_two_that_begin_at_once_do_not_share_a_folder(tmp_path: Path) -> None:
    """Neither has written anything yet, as before the first step of a training."""
    WatchWriter(tmp_path / "w", "Net", 1.0)
    with pytest.raises(StoreError, match="w is not empty and holds no watch of gradscape's"):
        WatchWriter(tmp_path / "w", "Net", 1.0)
