"""Flags: bounds on both sides, both spellings, paths that are none, and what was meant by a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradscape.cli.app import parse
from gradscape.cli.main import app, main
from gradscape.cli.settings import settings_given
from gradscape.study.sweep.axes import axis_in

SWEEP = ["sweep", "--axis", "net.norm=none,batch", "--dry-run"]
HUGE = "20000000000"


def said(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """The one line that a command with wrong input ends in."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert not captured.out
    assert captured.err.endswith("\n")
    assert captured.err[:-1].isprintable()
    return captured.err


@pytest.mark.parametrize(
    "arguments",
    [
        *([*SWEEP, flag, HUGE] for flag in ("--seeds", "--seeds-at-most", "--workers", "--epoch-limit")),
        *(["reproduce", "--dry-run", flag, HUGE] for flag in ("--seeds", "--workers")),
        *(["check", "x.py:f", flag, HUGE] for flag in ("--batch-size", "--seeds", "--confirm")),
        *(["smoothness", "r", flag, HUGE] for flag in ("--points", "--images", "--batch-size")),
        *(["curvature", "r", flag, HUGE] for flag in ("--k", "--probes", "--images", "--time-limit")),
        *(
            ["landscape", "r", flag, HUGE]
            for flag in ("--points", "--dims", "--pairs", "--convexity", "--checks", "--images")
        ),
        ["train", "--threads", HUGE],
        *(
            ["train", f"--{name}", HUGE]
            for name in (
                "epochs", "seed", "batch_size", "smoothness_every", "curvature_images", "landscape_images",
                "noise_batches", "keep_every", "net.depth", "net.filters", "net.stages", "net.growth",
                "net.groups", "net.slope", "net.dropout", "net.stochastic_depth", "data.train", "data.valid",
                "data.split_seed", "data.size", "data.crop_pad", "optim.period", "optim.momentum",
                "optim.beta1",
            )
        ),
        ["check", "x.py:f", "--input", "3,100000,100000"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_would_take_for_ever_is_refused_at_once(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    line = said(capsys, arguments)
    assert ": expected " in line
    assert not list(tmp_path.iterdir())


def test_a_bound_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    line = said(capsys, [*SWEEP, "--seeds", "20000000"])
    assert line == "gradscape: --seeds: expected 1 … 10,000; got 20000000\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["train", "bad.yaml"],
            "no such argument: bad.yaml; for a file of settings type: gradscape train --config bad.yaml",
        ),
        (["train", "--lr", "0.1"], "no such flag or argument: --lr; did you mean '--optim.lr'?"),
        (["train", "--depth", "8"], "did you mean '--net.depth'?"),
        (["train", "--crop_pad", "8"], "did you mean '--data.crop-pad'?"),
        (["train", "--net.batch-size", "8"], "did you mean '--batch-size'?"),
        (["train", "--zzz", "8"], "--zzz; gradscape train --help lists what it takes"),
        (["train", "--" + "x" * 10_000], "…"),
        (["train", "--\x1b[31mred\nline"], "no such flag or argument: --�[31mred line"),
        (["train", "--net.norm", "bad\nline\x07"], r"net.norm: expected one of none, batch"),
        (["train", "--out", ""], "--out: expected a file or folder; got ''; is a variable of the shell"),
        (["train", "--config", " "], "--config: expected a file or folder; got ''"),
        (["reproduce", "--out="], "--out: expected a file or folder; got ''"),
        (["sweep", ""], "FILE: expected a file or folder; got ''"),
        (["runs", ""], "DIR: expected a file or folder; got ''"),
        (["report", ""], "DIR: expected a file or folder; got ''"),
        (["live", ""], "DIR: expected a file or folder; got ''"),
        (["live", "~nobody-of-this-name/x"], "DIR: expected a file or folder; got ~nobody-of-this-name/x: "),
        (["landscape", ""], "RUN: expected a file or folder; got ''"),
        (["train", "--data-root", ""], "--data-root: expected a file or folder; got ''"),
        (["train", "--out", "a/" + "x" * 300], "expected names of 255 bytes at most; got 300 letters: xxx"),
        (["smoothness", "r", "--lr", "0"], "--lr: expected a number above 0; got 0"),
        ([*SWEEP, "--seeds", "2.5"], "--seeds: expected a whole number; got '2.5'"),
        (["check", "f.py:f", "--batch_size=4.5"], "--batch-size: expected a whole number; got '4.5'"),
        (["check", "f.py:f", "--fit", ".5e1"], "--fit: expected a whole number; got '.5e1'"),
        (
            ["curvature", "r", "--time-limit", "nan"],
            "--time-limit: expected seconds",
        ),
    ],
)
def test_what_is_wrong_is_said_with_what_was_meant(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert message in said(capsys, arguments)
    assert not list(tmp_path.iterdir())


def test_a_figure_that_cannot_be_written_is_refused_before_anything_is_computed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "f.png").mkdir()
    line = said(capsys, ["landscape", str(tmp_path), "--figure", str(tmp_path / "f.png")])
    assert line.endswith("f.png, which is a folder\n")


def test_both_spellings_are_one_flag() -> None:
    snake = ["--batch_size", "5", "--net.norm_where=everywhere", "--data.crop_pad", "1"]
    kebab = ["--batch-size", "5", "--net.norm-where=everywhere", "--data.crop-pad", "1"]
    for flags in (snake, kebab):
        call = parse(app, ["train", *flags])
        assert settings_given(call.keywords["flags"]) == {
            "batch_size": 5, "net.norm_where": "everywhere", "data.crop_pad": 1,
        }  # fmt: skip
    axes = [axis_in([f"{name}=5,10"], "--axis") for name in ("batch_size", "batch-size")]
    assert axes[0] == axes[1]
    assert parse(app, ["train", "--data_root", "x"]).keywords["source"].data_root == Path("x")


def test_nothing_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    for command in ("reproduce", "train", "sweep", "check", "landscape", "report"):
        assert command in shown


def test_help_promises_no_speed(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("train", "reproduce"):
        assert main([command, "--help"]) == 0
        assert "twice as fast" not in capsys.readouterr().out
