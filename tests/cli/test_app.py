"""Help that fits a terminal, completion in three shells, one word for one thing in Python and in flags."""

from __future__ import annotations

import dataclasses
import inspect
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gradscape as gs
from gradscape.cli.app import parse
from gradscape.cli.check import CheckOptions
from gradscape.cli.coordinates import CoordinatesOptions
from gradscape.cli.landscape import Grid
from gradscape.cli.lr_range import LrRangeOptions
from gradscape.cli.main import _COMMANDS, app, main
from gradscape.cli.measure import CurvatureOptions, SmoothnessOptions
from gradscape.cli.sweep import SweepOptions
from gradscape.config.options import Options
from gradscape.errors import ConfigError
from gradscape.study.execution_options import Execution


@pytest.mark.parametrize("command", ["", *_COMMANDS, "completion"])
@pytest.mark.parametrize("columns", [60, 80, 120])
def test_help_fits_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main([*filter(None, [command]), "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    wide = [line for line in lines if len(line) > columns and "|" not in line]  # choices are not broken
    assert not wide
    assert lines[2]


@pytest.mark.parametrize("command", _COMMANDS)
def test_flags_are_kebab_case_and_have_a_text(command: str) -> None:
    for argument in app[command].assemble_argument_collection():
        for flag in argument.names:
            assert "_" not in flag
            assert flag == flag.lower() or not flag.startswith("-")
        if argument.show:
            assert argument.parameter.help, argument.name


def test_help_names_groups_and_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    groups = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert groups == ["Parameters:", "Execution:", "Run:", "Network:", "Data:", "Optimizer:"]
    assert "  --device auto|cpu|cuda  where to compute (default: auto)" in lines
    assert "  --net.norm-where blocks|everywhere" in lines


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path, shell: str) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("landscape", "net.norm-where", "seeds-at-most", "algorithm1"):
        assert word in script
    if found := shutil.which(shell):
        (tmp_path / "script").write_text(script)
        subprocess.run([found, "-n", tmp_path / "script"], check=True)


@pytest.mark.skipif(not shutil.which("bash"), reason="completes in bash")
@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("gradscape re", ["reproduce", "report"]),
        ("gradscape train --net.no", ["--net.norm", "--net.norm-where"]),
        ("gradscape train --net.norm ba", ["batch"]),
        ("gradscape export x --to w", ["wandb"]),
    ],
)
def test_bash_completes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, typed: str, words: list[str]
) -> None:
    assert main(["completion", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    ask = f"source ./script; COMP_WORDS=({typed}); COMP_CWORD={len(typed.split()) - 1}; _gradscape"
    done = subprocess.run(
        ["bash", "-c", ask + '; printf "%s\\n" "${COMPREPLY[@]}"'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(word.strip() for word in done.stdout.split()) == sorted(words)


@pytest.mark.parametrize(
    ("options", "function", "own"),
    [
        (SmoothnessOptions(), gs.smoothness, ()),
        (CurvatureOptions(), gs.curvature, ()),
        (Grid(), gs.landscape, ()),
        (
            CheckOptions(),
            gs.check,
            (
                "input",
                "batch_size",
                "batch",
                "optimizer",
                "lr",
                "momentum",
                "format",
                "out",
                "page",
                "json",
                "markdown",
            ),
        ),
        (
            LrRangeOptions(),
            gs.lr_range,
            ("input", "batch_size", "optimizer", "momentum", "page", "json"),
        ),
        (
            CoordinatesOptions(),
            gs.coordinate_check,
            ("input", "batch_size", "widths", "optimizer", "lr", "page", "json"),
        ),
        (SweepOptions(), gs.Sweep, ("axis", "zip", "out", "save", "yes", "dry_run")),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_flags_have_the_words_of_python(
    options: Options, function: Callable[..., Any], own: tuple[str, ...]
) -> None:
    """And its defaults, where a flag that is not given leaves a file's value."""
    parameters = inspect.signature(function).parameters
    shared = [field.name for field in dataclasses.fields(options) if field.name not in own]
    assert set(shared) <= set(parameters)
    if not isinstance(options, SweepOptions):
        for name in shared:
            assert getattr(options, name) == parameters[name].default, name


def test_python_is_refused_as_a_command_line_is() -> None:
    with pytest.raises(ConfigError, match=r"^--workers: expected 1 … 1,024; got 0$"):
        Execution(workers=0)
    with pytest.raises(ConfigError, match=r"^--data-root: expected a file or folder; got ''"):
        Execution(data_root="")
    assert Execution(data_root="x").data_root == Path("x")
    with pytest.raises(
        ConfigError, match=r"^--device: expected one of .*; got 'cdua'; did you mean 'cuda'\?$"
    ):
        Execution(device="cdua")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^--seeds: expected a whole number; got 1.5$"):
        SweepOptions(seeds=1.5)  # type: ignore[arg-type]


def test_lists_of_a_flag_stay_apart_and_the_last_value_counts() -> None:
    call = parse(app, ["sweep", "--zip", "a=1", "b=2", "--zip", "c=3", "--name", "x", "--name", "y"])
    options = call.keywords["options"]
    assert options.zip == (("a=1", "b=2"), ("c=3",))
    assert options.name == "y"
    call = parse(app, ["landscape", "a", "b", "--bn", "batch", "running", "--span", "-1", "1.5"])
    assert call.args == (("a", "b"),)
    assert call.keywords["options"].bn == ("batch", "running")
    assert call.keywords["grid"].span == (-1.0, 1.5)
