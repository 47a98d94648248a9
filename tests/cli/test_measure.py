"""`gradscape smoothness`, `curvature`, `landscape` of a trained run and of a factory, or one clear line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import gradscape as gs
from gradscape.cli.main import main

FACTORY = """
from torch import nn

def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(768, 10))
"""


@pytest.fixture(autouse=True)
def threads_as_found() -> Iterator[None]:
    """A command has its process to itself; here others follow."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = gs.RunConfig(
        net=gs.NetConfig(depth=8, filters=2, norm_where="everywhere"),
        data=gs.DataConfig(name="digits", train=60, valid=40),
        batch_size=20,
        epochs=2,
        keep_every=1,
    )
    folder = tmp_path_factory.mktemp("study") / "runs" / config.identity
    gs.train_run(config, gs.RunFolder(folder), gs.load_images("digits"))
    return folder


@pytest.fixture
def factory(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(FACTORY)
    return f"{tmp_path / 'net.py'}:net"


def test_a_run_s_smoothness_along_adam_s_next_step(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["smoothness", str(run), "--images", "40", "--points", "3"]) == 0
    out = capsys.readouterr().out
    assert "on 40 samples in 2 batches, BatchNorm's batch statistics" in out
    assert "along Adam's step: loss" in out
    assert "lr 0.00051, 3 rates" in out  # the cosine's last


@pytest.mark.slow
def test_defaults_fit_a_run_of_fewer_images(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["smoothness", str(run), "--points", "2"]) == 0
    assert "on 60 samples in 3 batches" in capsys.readouterr().out
    assert main(["curvature", str(run), "--k", "1"]) == 0
    assert "on 60 samples" in capsys.readouterr().out
    assert main(["landscape", str(run), "--dims", "1", "--points", "2"]) == 0
    assert main(["curvature", str(run), "--images", "61"]) == 2
    assert "--images: expected at most 60, which the run has; got 61" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_s_curvature_drawn_and_as_json(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = tmp_path / "density.png"
    flags = ["--images", "20", "--k", "1", "--probes", "1", "--layers", "--json", "--figure", str(figure)]
    assert main(["curvature", str(run), *flags]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["ends"]["converged"]
    assert found["stability"]["limit"] == pytest.approx(38)
    assert len(found["layers"]) == 7 + 7 + 1  # convolutions, their norms, the linear layer
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "a product takes" in err
    assert f"figure: {figure}" in err


@pytest.mark.parametrize(
    "command", [["smoothness", "--lr", "0.01"], ["curvature", "--k", "1"], ["landscape", "--points", "2"]]
)
def test_what_a_factory_prints_is_no_part_of_the_result(
    factory: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path(factory.removesuffix(":net")).write_text(f"{FACTORY}\nprint('read')\n")
    assert main([command[0], factory, *command[1:], "--images", "20", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)
    assert err.startswith("read\n")


def test_a_factory_is_measured_on_named_images(factory: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["smoothness", factory, "--lr", "0.01", "--images", "30"]) == 0
    assert "on 30 samples in 1 batch" in capsys.readouterr().out
    assert main(["curvature", factory, "--images", "30", "--k", "1", "--matrix", "ggn"]) == 0
    assert "generalized Gauss-Newton matrix of 7690 parameters" in capsys.readouterr().out


@pytest.mark.slow
def test_runs_are_drawn_side_by_side_and_gone_on_with(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figure, page, kept = tmp_path / "plane.png", tmp_path / "turn.html", tmp_path / "kept"
    flags = [
        "--images",
        "40",
        "--points",
        "5",
        "--figure",
        str(figure),
        "--turn",
        str(page),
        "--keep",
        str(kept),
    ]
    assert main(["landscape", str(run), "--bn", "running", "recalibrated", *flags]) == 0
    out, err = capsys.readouterr()
    assert out.count("loss over 5 × 5 points") == 2
    assert f"{run.name}, recalibrated: " in out
    assert "a point takes" in err
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "Plotly" in page.read_text()
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    assert main(["landscape", str(run), "--bn", "running", "recalibrated", *flags, "--surface"]) == 0
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before


def test_a_line_between_runs_and_slices(
    run: Path, factory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = tmp_path / "line.svg"
    flags = ["--images", "20", "--points", "4", "--figure", str(figure), "--json"]
    assert main(["landscape", str(run), str(run), "--through", *flags]) == 2
    assert "direction: expected a norm above 0; got 0 for " in capsys.readouterr().err  # the same run twice
    assert main(["landscape", factory, "--dims", "1", "--pairs", "3", *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    (record,) = found.values()
    assert [len(record["loss"]), len(record["loss"][0])] == [3, 4]
    assert figure.read_text().startswith("<?xml")


@pytest.mark.slow
def test_along_a_run_s_training(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    films = tmp_path / "film.gif"
    figure = tmp_path / "path.png"
    flags = ["--images", "20", "--points", "5", "--convexity", "1"]
    assert main(["landscape", str(run), "--path", "--figure", str(figure), *flags]) == 0
    out = capsys.readouterr().out
    assert "path of 3 checkpoints: the plane explains 100 % of its variation" in out
    assert "|λmin / λmax|" in out
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert main(["landscape", str(run), "--animate", str(films), *flags]) == 0
    assert "epoch 0\n" in capsys.readouterr().err
    assert films.read_bytes().startswith(b"GIF")


def test_what_cannot_be_measured_is_one_line(
    run: Path, factory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, empty = run.parents[1], tmp_path / "empty"
    (study / "study.json").write_text("{}")
    gs.RunFolder(empty).create(gs.RunConfig())
    wrong = {
        ("smoothness", factory): "--lr: expected a learning rate, for ",
        ("curvature", str(study)): f", a study's; give one of its runs, as {run}",
        ("curvature", str(empty)): "which has no checkpoint yet",
        (
            "curvature",
            "nowhere",
        ): "RUN: expected a run's folder, or a factory as FILE.py:FACTORY; got 'nowhere'",
        ("curvature", str(run), "--images", "61"): "--images: expected at most 60, which the run has; got 61",
        ("curvature", str(run), "--images", "0"): "--images: expected 1 … 60,000; got 0",
        (
            "curvature",
            str(run),
            "--figure",
            "no/f.png",
        ): "--figure: expected a file in a folder that exists; got no/",
        ("curvature", factory, "--data", "digit"): "data set: expected digits, cifar10 or cifar100; got",
        (
            "landscape",
            str(run),
            "--images",
            "20",
            "--directions",
            "filtre",
        ): "directions: expected one of filter, layer, gaussian",
        (
            "landscape",
            str(run),
            "--images",
            "20",
            "--through",
        ): "--through: expected two runs for a line, or three for a plane; got 1",
        (
            "landscape",
            factory,
            "--images",
            "20",
            "--path",
        ): "train it with --keep-every 1",
        (
            "landscape",
            str(run),
            "--turn",
            "no/f.html",
        ): "--turn: expected a file in a folder that exists; got no",
        (
            "landscape",
            str(run),
            "--figure",
            "f.foo",
        ): "--figure: expected a name that ends in .png, .svg or .pdf; got f.foo",
        (
            "landscape",
            str(run),
            "--animate",
            "f.mp4",
        ): "--animate: expected a name that ends in .gif; got f.mp4",
        (
            "landscape",
            str(run),
            "--animate",
            "f.gif",
            "--dims",
            "1",
        ): "--animate: expected one RUN and its plane",
        ("landscape", factory, "--images", "20", "--animate", "f.gif"): "train it with --keep-every 1",
        ("landscape", str(run), str(run), "--images", "20"): "RUN: expected each once; got " + str(run),
    }
    for arguments, message in wrong.items():
        assert main(list(arguments)) == 2
        line = capsys.readouterr().err
        assert message in line
        assert line.count("\n") == 1
