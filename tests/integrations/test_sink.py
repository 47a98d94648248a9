"""Sinks: each row once, by the first process, and whatever breaks, the training goes on as without them."""

from __future__ import annotations

import json
import logging
import multiprocessing as mp
import random
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gradscape as gs
from gradscape.errors import ConfigError, StoreError
from gradscape.integrations.jsonl import JsonLines, read_jsonl
from gradscape.integrations.sink import Row, Sink, rows
from gradscape.measure.watch.watch import Watch
from gradscape.records.gradients import FlowHistory
from small_nets import mlp, train


class Kept(Sink):
    """Keeps rows; or draws random numbers and fails, from its second writing on."""

    def __init__(self, breaks: bool = False) -> None:
        super().__init__(("mean_abs",))
        self.breaks, self.rows, self.ends = breaks, [], 0

    def _begin(self) -> None:
        pass

    def _put(self, rows: Sequence[Row]) -> None:
        random.random()
        if self.breaks and self.rows:
            raise OSError("the line\nis dead")
        self.rows.extend(rows)

    def _end(self) -> None:

        self.ends += 1


def watched(sinks: Sequence[Sink], every: int = 3, **settings: Any) -> tuple[torch.nn.Module, FlowHistory]:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with gs.watch(model, optimizer, **settings) as flow:
        for sink in sinks:
            sink.follow(flow, every)
        train(model, optimizer)
        for sink in sinks:
            sink.close()
    return model, flow.history()


def alone() -> torch.nn.Module:
    model = mlp()
    train(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    return model


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_each_row_is_written_once_and_the_rest_at_the_end() -> None:
    sink = Kept()
    model, history = watched([sink])
    assert [step for step, _ in sink.rows] == list(range(8))
    assert sink.ends == 1
    assert history.loss is not None
    for (_, values), row, loss in zip(sink.rows, history.mean_abs, history.loss.values, strict=True):
        assert values == {
            "gradient/skipped": 0.0,
            "loss": loss,
            **{f"gradient/{layer}/mean_abs": row[i] for i, layer in enumerate(history.layers)},
        }
    assert same(model, alone())


def test_rows_are_written_when_said_and_of_a_new_watch_from_its_first() -> None:
    sink, model = Kept(), mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        with gs.watch(model, optimizer) as flow:
            train(model, optimizer)
            sink.write(flow)
            sink.write(flow)
    assert [step for step, _ in sink.rows] == [*range(8), *range(8)]


def test_steps_go_on_from_a_checkpoint() -> None:
    sink, model = Kept(), mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gs.watch(model, optimizer) as flow, sink.follow(flow, first=100):
        train(model, optimizer)
    assert [step for step, _ in sink.rows] == list(range(100, 108))


def test_rows_lost_to_the_ring_are_said(caplog: pytest.LogCaptureFixture) -> None:
    sink = Kept()
    watched([sink], every=5, capacity=3)
    assert [step for step, _ in sink.rows] == [2, 3, 4, 5, 6, 7]
    assert caplog.messages == ["Kept: 2 rows were overwritten before they were written; write more often"]


def test_a_sink_that_raises_is_left_out_and_the_training_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    broken, good = Kept(breaks=True), Kept()
    random.seed(0)
    before = random.getstate()
    model, _ = watched([broken, good])
    assert random.getstate() == before
    assert same(model, alone())
    assert len(broken.rows) == 3
    assert broken.ends == 1
    assert len(good.rows) == 8
    assert caplog.messages == ["Kept is left out from now on: OSError: the line is dead"]
    assert caplog.records[0].levelno == logging.WARNING


def history_loss(flow: Watch) -> float:
    loss = flow.history().loss
    assert loss is not None
    return float(loss.values[0])


def test_parameters_without_a_gradient_are_left_out_and_broken_ones_are_not(tmp_path: Path) -> None:
    model = mlp()
    model[0].weight.register_hook(lambda gradient: gradient * torch.inf)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with gs.watch(model, optimizer) as flow, JsonLines(tmp_path / "rows.jsonl").follow(flow):
        model[0](torch.ones(2, 6)).sum().backward()
        optimizer.step()
    (row,) = read_jsonl(tmp_path / "rows.jsonl")
    assert row["gradient/0.weight/max_abs"] == np.inf
    assert np.isnan(row["gradient/0.weight/rms"])
    assert "gradient/2.weight/mean_abs" not in row
    (plain,) = rows(flow.history(), ("mean_abs",))
    assert plain[1] == {
        "gradient/skipped": 0.0,
        "loss": pytest.approx(float(history_loss(flow))),
        "gradient/0.weight/mean_abs": np.inf,
        "gradient/0.bias/mean_abs": 2,
    }


def test_json_lines_are_what_was_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    _, history = watched([JsonLines(path)])
    found = read_jsonl(path)
    assert [row["step"] for row in found] == list(range(8))
    for name in ("mean_abs", "rms", "zeros", "weight", "update", "relative_update"):
        written = [[row[f"gradient/{layer}/{name}"] for layer in history.layers] for row in found]
        assert np.array_equal(written, getattr(history, name)), name
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_a_torn_last_line_is_left_out_and_cut_off_before_more_is_added(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    watched([JsonLines(path)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert len(read_jsonl(path)) == 7
    watched([JsonLines(path)])
    assert [row["step"] for row in read_jsonl(path)] == [*range(7), *range(8)]
    assert path.read_bytes().endswith(whole)


def test_a_torn_line_longer_than_a_block_is_cut_off_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradscape.integrations.jsonl.BLOCK", 7)
    path = tmp_path / "rows.jsonl"
    for before, whole in (
        (b"", 0),
        (b'{"ste', 0),
        (b'{"step": 0, "loss": 1.0', 0),
        (b'{"step": 0}\n{"st', 1),
    ):
        path.write_bytes(before)
        watched([JsonLines(path)])
        assert [row["step"] for row in read_jsonl(path)] == [*range(whole), *range(8)]


@pytest.mark.parametrize("text", ['{"name": "mine"}', "# Notes\n\n- and more", "step,loss\n0,1.0\n"])
def test_a_file_that_is_not_of_its_lines_is_left_alone(
    text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "package.json"
    path.write_text(text)
    model, _ = watched([JsonLines(path)])
    assert path.read_text() == text
    assert "holds something else than rows of JsonLines; give the path of a new file" in caplog.text
    assert same(model, alone())


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "rows.jsonl"
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, old[1]))
    try:
        model, _ = watched([JsonLines(path)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert len(read_jsonl(path)) in (3, 6)
    assert path.read_bytes().endswith(b"\n")
    assert "is left out from now on: OSError: no room for" in caplog.text
    assert same(model, alone())


def test_a_damaged_or_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no\.jsonl cannot be read: No such file or directory; give a file"):
        read_jsonl(tmp_path / "no.jsonl")
    (tmp_path / "bad.jsonl").write_text('{"step": 0}\n{"st\n{"step": 2}\n')
    with pytest.raises(StoreError, match=r"bad\.jsonl: line 2 is damaged; delete that line"):
        read_jsonl(tmp_path / "bad.jsonl")


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"statistics: expected some of .*; got 'mean_ab'; did you mean 'mean_abs'\?"
    ):
        JsonLines(tmp_path / "rows.jsonl", statistics=["mean_ab"])
    model = mlp()
    flow = gs.watch(model, torch.optim.SGD(model.parameters()))
    with pytest.raises(ConfigError, match="every: expected a number of steps, 1 or more; got 0"):
        Kept().follow(flow, every=0)
    flow.close()
    with pytest.raises(ConfigError, match="flow: this watch has ended"):
        Kept().follow(flow)


def process(rank: int, folder: str) -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    log = followed(f"{folder}/rank{rank}.jsonl")
    dist.destroy_process_group()
    log.close()  # the rest is written when every process would seem the first


def followed(path: str) -> Sink:
    # Not in `process`: DDP's reducer that outlives its process group now and then hangs.
    model = torch.nn.parallel.DistributedDataParallel(mlp())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gs.watch(model, optimizer) as flow:
        log = JsonLines(path).follow(flow, every=3)
        train(model, optimizer)
    return log


@pytest.mark.slow
def test_only_the_first_process_writes(tmp_path: Path) -> None:
    context = mp.get_context("spawn")
    processes = [
        context.Process(target=process, args=(rank, str(tmp_path)), daemon=True) for rank in range(2)
    ]
    for each in processes:
        each.start()
    for each in processes:
        each.join(60)
        assert each.exitcode == 0
    assert len(read_jsonl(tmp_path / "rank0.jsonl")) == 8
    assert not (tmp_path / "rank1.jsonl").exists()


def test_activations_are_written_beside_the_gradients() -> None:
    kept = Kept()
    _, history = watched([kept], activations=True)
    outputs = history.activations
    assert outputs is not None
    for t, (_, row) in enumerate(kept.rows):
        for column, layer in enumerate(outputs.layers):
            assert row[f"activation/{layer}/second_moment"] == outputs.second_moment[t, column]
        assert "activation/input/dead" not in row
