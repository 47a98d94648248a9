"""`gradscape compare`: runs and logs of watches, a page, exit codes, or one clear line."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from cases import tiny
from gradscape.cli.main import main
from gradscape.integrations import JsonLines, read_jsonl
from gradscape.records.gradients import FlowHistory
from gradscape.storage.run_folder import RunFolder
from made_studies import add, epoch


def run(path: Path, factor: float = 1.0, epochs: int = 6, **changes: object) -> RunFolder:
    """A run whose training loss is so many times the usual."""
    folder = RunFolder(path)
    folder.create(tiny(epochs=epochs, **changes))
    add(folder, *(epoch(k, train_loss=factor * 2.0 / k) for k in range(1, epochs + 1)))
    return folder


def logged(path: Path, seed: int, freeze: int = 10**6, every: int = 1) -> FlowHistory:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gs.watch(model, optimizer, every=every, activations=True) as flow, JsonLines(path).follow(flow):
        for step in range(40):
            if step == freeze:
                model[2].weight.requires_grad_(False)
            x = torch.randn(16, 8)
            optimizer.zero_grad()
            cross_entropy(model(x), (x[:, 0] > 0).long()).backward()
            optimizer.step()
    return flow.history()


def test_runs_that_are_equal_and_runs_that_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b, far = run(tmp_path / "a"), run(tmp_path / "b"), run(tmp_path / "far", 100.0, batch_size=7)
    assert main(["compare", str(a.path), str(b.path)]) == 0
    assert capsys.readouterr().out.startswith("equal bit for bit for 6 common epochs\n")
    page = tmp_path / "page.html"
    assert main(["compare", str(a.path), str(far.path), "--page", str(page)]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("they differ from epoch 1 on, first in loss of b is 100 times that of a")
    assert f"settings that differ: batch_size {tiny().batch_size} → 7" in out
    assert err == f"page: {page}\n"
    assert "<h1>Two trainings compared</h1>" in page.read_text()


def test_json_has_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, far = run(tmp_path / "a"), run(tmp_path / "far", 100.0)
    assert main(["compare", str(a.path), str(far.path), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["first"]["log_ratio"] == pytest.approx(2)
    assert found["names"] == ["a", "far"]
    assert found["verdict"].startswith("they differ from epoch 1 on")


def test_other_seeds_are_heeded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Seeds whose losses lie a factor of a hundred apart explain a factor of a hundred."""
    factors = {"a": 1.0, "a2": 100.0, "a3": 10.0, "b": 90.0}
    paths = {name: str(run(tmp_path / name, factor).path) for name, factor in factors.items()}
    assert main(["compare", paths["a"], paths["b"]]) == 1
    seeds = ["--seeds-of-a", paths["a2"], "--seeds-of-a", paths["a3"]]
    assert main(["compare", paths["a"], paths["b"], *seeds]) == 0
    assert "between seeds (n = 3 and 1 seeds)" in capsys.readouterr().out


def test_logs_say_what_the_histories_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = logged(tmp_path / "a.jsonl", 0)
    b = logged(tmp_path / "b.jsonl", 1, freeze=20)
    found = gs.compare(a, b)
    lines = gs.compare(read_jsonl(tmp_path / "a.jsonl"), read_jsonl(tmp_path / "b.jsonl"))
    assert lines.first is not None
    assert found.first is not None
    assert (lines.first.step, lines.first.layer) == (20, "2.weight")
    assert (found.first.step, found.first.layer) == (20, "2.weight")
    assert lines.first.log_ratio == -math.inf
    assert lines.tables.keys() == found.tables.keys()
    assert main(["compare", str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]) == 1
    assert capsys.readouterr().out.startswith("they differ from step 20 on, first in 2.weight: ")
    assert main(["compare", str(tmp_path / "a.jsonl"), str(tmp_path / "a.jsonl")]) == 0
    assert "equal bit for bit for 40 common steps" in capsys.readouterr().out


def test_of_a_step_that_is_logged_twice_the_later_line_counts(tmp_path: Path) -> None:
    logged(tmp_path / "a.jsonl", 0)
    rows = read_jsonl(tmp_path / "a.jsonl")
    again = [{**rows[3], "loss": 7.0}, rows[3]]
    assert gs.compare(rows, [*rows[::-1], *again]).equal


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = run(tmp_path / "a").path
    log, empty, other = (tmp_path / name for name in ("log.jsonl", "empty.jsonl", "other.jsonl"))
    logged(log, 0)
    empty.write_text("")
    other.write_text('{"epoch": 3}\n')
    damaged = tmp_path / "damaged.jsonl"
    damaged.write_text("{\n{}\n")
    cases = [
        ([a, tmp_path / "nowhere"], "nowhere"),
        ([a, tmp_path], "study"),
        ([a, log], "b: expected two watches or two runs, for a watch is read by steps"),
        ([log, empty], "b: no step has been read yet; train first, then compare"),
        ([log, other], "b: expected rows that JsonLines wrote, each with a step"),
        ([log, damaged], "line 1 is damaged"),
        ([log], "B: expected a value; got none"),
        ([log, ""], "B: expected"),
        ([log, log, "--page", tmp_path / "no" / "p.html"], "--page: expected a file in a folder that exists"),
        ([log, log, "--page", tmp_path / "p.txt"], "--page: expected a name that ends in .html"),
        ([log, log, "--seeds-of-b", tmp_path / "nowhere"], "nowhere"),
    ]
    for arguments, words in cases:
        assert main(["compare", *map(str, arguments)]) == 2, arguments
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line


def test_logs_without_a_step_in_common_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logged(tmp_path / "a.jsonl", 0)
    rows = read_jsonl(tmp_path / "a.jsonl")
    later = [json.dumps({**row, "step": row["step"] + 100}) + "\n" for row in rows]
    (tmp_path / "b.jsonl").write_text("".join(later))
    assert main(["compare", str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]) == 2
    assert "give both watches the same every=, and a capacity=" in capsys.readouterr().err
