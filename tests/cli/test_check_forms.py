"""Forms of `check` for programs, its exit codes, and what it shows while it works."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from gradscape.cli.main import main
from gradscape.cli.phases import PhaseView
from gradscape.records.check_progress import CheckProgress

NETS = """\
import functools

from torch import nn


def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))


@functools.lru_cache
def dead():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
    nn.init.constant_(model[1].bias, -100.0)
    return model


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(12, 3))


part = functools.partial(net)
"""
QUICK = ["--input", "3,2,2", "--no-remedies", "--seeds", "1", "--fit", "3"]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_nets.py").write_text(NETS)
    return Path("my_nets.py")


def result(capsys: pytest.CaptureFixture[str], *arguments: str, code: int) -> str:
    assert main(["check", *arguments, *QUICK]) == code
    return capsys.readouterr().out


@pytest.mark.parametrize(("name", "code"), [("net", 0), pytest.param("dead", 1, marks=pytest.mark.slow)])
def test_every_form_has_the_verdict_and_the_same_exit_code(
    file: Path, capsys: pytest.CaptureFixture[str], name: str, code: int
) -> None:
    verdict = "dead units" if code else "healthy"
    text = result(capsys, f"{file}:{name}", code=code)
    *_, last = re.split(r"\n(?=\S)", text.rstrip())
    assert last.startswith(verdict)
    assert "\n  what would help: " in last
    found = json.loads(result(capsys, f"{file}:{name}", "--json", code=code))
    assert (found["schema"], found["verdict"]) == ("gradscape.check/1", verdict)
    assert json.loads(result(capsys, f"{file}:{name}", "--format", "json", code=code)) == found
    report = result(capsys, f"{file}:{name}", "--markdown", code=code)
    assert report.startswith(f"# {verdict.capitalize()}")
    assert result(capsys, f"{file}:{name}", "--format", "markdown", code=code) == report
    suite = ElementTree.fromstring(result(capsys, f"{file}:{name}", "--format", "junit", code=code))[0]
    assert (suite.attrib["name"], int(suite.attrib["failures"]) > 0) == (f"{file}:{name}", bool(code))
    log = json.loads(result(capsys, f"{file}:{name}", "--format", "sarif", code=code))
    rules = [each["ruleId"] for each in log["runs"][0]["results"] if each["level"] == "error"]
    assert rules[:1] == ["dead-units"] * code


@pytest.mark.parametrize(
    ("name", "line"), [("dead", 10), ("my_nets.py:dead", 10), ("my_nets.py:Net", 17), ("my_nets.py:part", 6)]
)
def test_the_place_of_a_finding_is_the_factory_s(file: Path, name: str, line: int) -> None:
    from gradscape.cli.import_object import load_factory, place_of

    name = name if ":" in name else f"{file.absolute()}:{name}"
    found = place_of(name, load_factory(name))
    assert found is not None
    assert (found[0].resolve(), found[1]) == (file.resolve(), line)


def test_a_factory_without_source_has_its_file_s_first_line_or_none(file: Path) -> None:
    from gradscape.cli.import_object import place_of

    assert place_of("my_nets.py:net", len) == (file, 1)
    assert place_of("builtins:len", len) is None


@pytest.mark.parametrize(
    "form",
    [
        "text",
        *(pytest.param(form, marks=pytest.mark.slow) for form in ("json", "markdown", "junit", "sarif")),
    ],
)
def test_a_file_gets_the_form_and_the_text_is_printed(
    file: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    printed = result(capsys, f"{file}:dead", "--format", form, "--out", "result", code=1)
    assert "\ndead units, beginning at " in printed
    begins = {"text": "signal", "json": "{\n", "markdown": "# Dead", "junit": "<?xml", "sarif": "{\n"}
    written = Path("result").read_bytes().decode()
    assert written.startswith(begins[form])
    assert written.endswith("\n")
    assert not written.endswith("\n\n")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--json", "--markdown"], "--json: expected one form; got --json and --markdown"),
        (["--json", "--format", "junit"], "--json: expected one form; got --json and --format junit"),
        (["--format", "xml"], "--format: expected one of text, json, markdown, junit, sarif; got 'xml'"),
        (["--format", "sarf"], "did you mean 'sarif'?"),
        (["--out", "none/x"], "--out: expected a file in a folder that exists; got none/x"),
    ],
)
def test_a_form_that_is_none_is_one_line(
    file: Path, capsys: pytest.CaptureFixture[str], flags: list[str], says: str
) -> None:
    assert main(["check", f"{file}:net", *QUICK, *flags]) == 2
    line = capsys.readouterr().err
    assert says in line
    assert line.count("\n") == 1


def test_a_file_that_cannot_be_written_is_said(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("folder").mkdir()
    assert main(["check", f"{file}:net", *QUICK, "--out", "folder"]) == 2
    assert "--out: cannot write folder: " in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_hostile_names_leave_stdout_clean(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = r"\x1b]0;x\x07<b>|`\u202e\ud800"
    Path("odd.py").write_text(
        f"from torch import nn\n\ndef net():\n    m = nn.Sequential()\n    m.add_module('{name}', "
        "nn.Linear(12, 3))\n    nn.init.constant_(m[0].weight, float('nan'))\n    return m\n"
    )
    for form in ("text", "json", "markdown", "junit", "sarif"):
        assert main(["check", "odd.py:net", "--input", "12", *QUICK[2:], "--format", form]) == 1
        out = capsys.readouterr().out
        out.encode("utf-8", "strict" if form != "text" else "replace")
        assert all(letter.isprintable() or letter in "\n\ud800" for letter in out), form


def test_what_a_factory_prints_is_not_in_the_result(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("talks.py").write_text("from my_nets import net as made\nprint('hello')\ndef net():\n"
                                "    print('again')\n    return made()\n")  # fmt: skip
    assert main(["check", "talks.py:net", *QUICK, "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["verdict"] == "healthy"
    assert {"hello", "again"} <= set(said.err.splitlines())


def phases(err: str) -> list[str]:
    assert all(re.match(r" *\d+ s  \S", line) for line in err.splitlines())
    return [line.split(" s  ")[1] for line in err.splitlines()]


def test_a_pipe_gets_a_plain_line_for_each_phase(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"{file}:net", "--input", "3,2,2", "--seeds", "1", "--fit", "3"]) == 0
    told = phases(capsys.readouterr().err)
    assert told[:5] == [
        "signal through the layers, 1 seed",
        "gradients, 10 real steps",
        "batch and loss: labels, reach, what the output depends on",
        "fitting one batch",
        "range test of learning rates",
    ]
    assert re.fullmatch(r"\d+ remedies", told[5])
    assert len(told) == 6


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown_on(monkeypatch: pytest.MonkeyPatch, terminal: io.StringIO, **environment: str) -> str:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stderr", terminal)
    with PhaseView() as view:
        view.show(CheckProgress("signal"))
        view.show(CheckProgress("remedies", 1, 2, "he"))
        view.show(CheckProgress("remedies", 2, 2, "a remedy of a \x1b[31mlong name" + " and more" * 12))
    return terminal.getvalue()


def test_a_terminal_has_one_line_that_is_rewritten_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    out = shown_on(monkeypatch, Terminal(), TERM="xterm", COLUMNS="80")
    assert "0 s  signal" in out
    assert "remedies, 1 of 2: he" in out
    assert "\x1b[2K" in out
    assert "\x1b[31m" not in out
    whole = " ".join(re.sub(r"\x1b\[[\d;?]*\w", "", out).split())
    assert "long name" + " and more" * 12 in whole  # wrapped, not cut


@pytest.mark.parametrize(
    ("terminal", "environment"),
    [(Terminal, {"TERM": "dumb"}), (io.StringIO, {"TERM": "xterm"}), (Terminal, {"TERM": "unknown"})],
)
def test_a_dumb_terminal_and_a_pipe_get_plain_lines(
    monkeypatch: pytest.MonkeyPatch, terminal: type[io.StringIO], environment: dict[str, str]
) -> None:
    assert shown_on(monkeypatch, terminal(), **environment) == " 0 s  signal\n 0 s  2 remedies\n"


def test_no_color_is_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    for environment in ({"NO_COLOR": "1"}, {}):
        out = shown_on(monkeypatch, Terminal(), TERM="xterm-256color", COLUMNS="80", **environment)
        assert not re.search(r"\x1b\[[\d;]*m", out)


def test_an_error_in_the_first_phase_is_the_only_line(monkeypatch: pytest.MonkeyPatch) -> None:
    err = io.StringIO()
    monkeypatch.setattr(sys, "stderr", err)
    view = PhaseView()
    view.__enter__()
    view.show(CheckProgress("signal"))
    view.__exit__(ValueError, ValueError("x"), None)
    assert err.getvalue() == ""


def test_without_stderr_it_works_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with PhaseView() as view:
        view.show(CheckProgress("signal"))
        view.show(CheckProgress("gradients"))


@pytest.mark.slow
def test_python_is_told_the_same(file: Path) -> None:
    from gradscape.cli.import_object import load_factory
    from gradscape.measure.check.check import check_on_noise

    told: list[Any] = []
    record = check_on_noise(load_factory(f"{file}:net"), (8, 3, 2, 2), seeds=1, fit=3, report=told.append)
    remedies = [each for each in told if each.phase == "remedies"]
    assert [each.number for each in remedies] == list(range(1, len(remedies) + 1))
    assert {each.of for each in remedies} == {len(remedies)}
    assert {each.part for each in remedies} == {trial.remedy for trial in record.remedies} - {
        "lr of a range test"
    }


@pytest.mark.slow
def test_the_exit_code_reaches_the_shell_and_stdout_is_the_result_alone(file: Path) -> None:
    command = [sys.executable, "-m", "gradscape", "check", f"{file}:dead", *QUICK, "--format", "junit"]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "LC_ALL": "C"}, check=False)
    assert done.returncode == 1
    assert ElementTree.fromstring(done.stdout).tag == "testsuites"
    assert b"gradients, 10 real steps" in done.stderr
