"""The command line as a user meets it: right, fast, and one clear line when something is wrong."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gradscape
from gradscape import load
from gradscape.cli.main import main
from gradscape.storage.run_folder import RunFolder
from gradscape.storage.study_folder import StudyFolder
from gradscape.studies.batchnorm.study import BATCHNORM
from gradscape.study.plan import ask
from libraries import skip_without
from made_studies import epoch, put

TINY_FLAGS = [
    "--net.depth=8", "--net.filters=4", "--data.train=60", "--data.valid=20", "--batch-size=25", "--epochs=2",
]  # fmt: skip


def errors(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Exit code and the single line on stderr."""
    code = main([str(a) for a in arguments])
    line = capsys.readouterr().err
    assert line.count("\n") == 1, line
    assert "Traceback" not in line
    return code, line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "did you mean 'train'?"),
        (["train", "--net.dept", "38"], "no such flag or argument: --net.dept; did you mean '--net.depth'?"),
        (["reproduce", "--preset", "quik"], "of quick, small, paper; got 'quik'; did you mean 'quick'"),
        (["reproduce", "batchnrom"], "expected one of batchnorm, remedies, controls, smoothing, or"),
        (["reproduce", "controls", "--preset", "tiny"], "expected one of quick, small, paper"),
        (["reproduce", "--seeds", "many"], "--seeds: expected a whole number; got 'many'"),
        (["reproduce", "--seeds", "0"], "--seeds: expected 1 … 10,000; got 0"),
        (["reproduce", "--workers", "0"], "--workers: expected 1 … 1,024; got 0"),
        (["reproduce", "--device", "tpu"], "--device: expected one of auto, cpu, cuda; got 'tpu'"),
        (["reproduce", "--dry-run", "--workers", "0"], "--workers: expected 1 … 1,024; got 0"),
        (["reproduce", "--sead", "3"], "no such flag or argument: --sead; did you mean '--seeds'?"),
        (["reproduce", "--data", "cifar"], "data.name: expected one of digits, cifar10, cifar100"),
        (["train", "--net.depth", "37"], "net.depth: no VGG of 3 stages has 37 layers; depths are 8 + 6k"),
        (["train", "--net.depth", "x"], "--net.depth: expected a whole number; got 'x'"),
        (
            ["train", "--net.norm", "bach"],
            "net.norm: expected one of none, batch, algorithm1, renorm, group, layer, instance, weight; "
            "got 'bach'; did you mean 'batch'?",
        ),
        (["train", "--optim.lr", "fast"], "--optim.lr: expected a number; got 'fast'"),
        (["train", "--optim.lr", "-1"], "optim.lr: expected a finite number ≥ 0; got -1.0"),
        (["train", "--data.flip", "maybe"], "--data.flip: expected one of yes, no; got 'maybe'"),
        (["train", "--batch-size", "0"], "batch_size: expected 1 … 1422, the number of training images"),
        (["train", "--batch-size", "1423"], "1 … 1422, the number of training images; got 1423"),
        (["train", "--net.filters", "-3"], "net.filters: expected 1 … 4096; got -3"),
        (["train", "--threads", "0"], "--threads: expected 1 … 1,024; got 0"),
        (["train", "--config", "nowhere.yaml"], "cannot read configuration nowhere.yaml: No such file"),
        (["runs", "nowhere"], "nowhere holds no study"),
        (["report", "nowhere"], "nowhere holds no study"),
        (["report"], "DIR: expected a value; got none; gradscape report --help lists what it takes"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    code, line = errors(capsys, *arguments)
    assert code == 2
    assert message in line
    assert not list(tmp_path.iterdir()), "something was written"


def test_missing_data_is_said_before_anything_is_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ["reproduce", "--data", "cifar100", "--preset", "small", "--out", out]
    code, line = errors(capsys, *command)
    assert code == 2
    assert "--data-root DIR" in line
    assert "--download" in line
    code, line = errors(capsys, *command, "--data-root", tmp_path / "nowhere")
    assert code == 2
    assert "nowhere" in line
    assert not out.exists()


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def test_altered_and_malicious_data_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name in ("train", "test", "meta"):
        (folder / name).write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    code, line = errors(
        capsys, "train", "--data.name", "cifar100", "--data-root", tmp_path, "--out", tmp_path / "o"
    )
    assert code == 2
    assert "cifar-100-python" in line
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "o").exists()


def test_unwritable_output_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, line = errors(capsys, "reproduce", "--out", tmp_path / "file" / "study")
    assert code == 2
    assert "cannot write" in line
    assert "--out" in line


def test_a_newer_store_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text('{"format": 99}')
    for command in (["reproduce", "--out", tmp_path], ["report", tmp_path], ["runs", tmp_path]):
        code, line = errors(capsys, *command)
        assert code == 2
        assert "was written by a newer gradscape" in line


def test_another_preset_on_the_same_folder_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ask(StudyFolder(tmp_path), BATCHNORM.plan("small", "digits", 1))
    code, line = errors(capsys, "reproduce", "--out", tmp_path)
    assert code == 2
    assert "holds preset 'small', not 'quick'" in line


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"gradscape {gradscape.__version__}\n"


def test_every_public_name_is_where_the_package_says() -> None:
    assert sorted(gradscape.HOMES) == gradscape.__all__ == dir(gradscape)
    assert all(getattr(gradscape, name).__name__ == name for name in gradscape.__all__)


def test_help_is_fast_and_needs_no_torch() -> None:
    program = (
        "import sys, time; start = time.perf_counter()\n"
        "from gradscape.cli.main import main\n"
        "assert main(['--help']) == 0\n"
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    for command in ("reproduce", "train", "runs", "report"):
        assert command in out


@pytest.mark.parametrize("command", ["reproduce", "train", "runs", "export", "report"])
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main([command, "--help"]) == 0
    assert f"gradscape {command}" in capsys.readouterr().out


def test_a_terminal_without_unicode_still_gets_help_and_errors() -> None:
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "gradscape", "train"]
    helped = subprocess.run([*command, "--help"], env=plain, capture_output=True, text=True)
    assert helped.returncode == 0
    assert "ResNet 16, DenseNet 16, BC 2 ? growth" in " ".join(helped.stdout.split())
    wrong = subprocess.run([*command, "--batch-size", "0"], env=plain, capture_output=True, text=True)
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1


@pytest.mark.parametrize("pause", [0.02, 0.1, 0.4, 1.2])
def test_ctrl_c_at_any_moment_of_the_start_is_one_line_at_most(tmp_path: Path, pause: float) -> None:
    """The whole group is interrupted, as a terminal does."""
    command = [sys.executable, "-m", "gradscape", "reproduce", "--out", str(tmp_path / "x"), "--workers", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    time.sleep(pause)
    os.killpg(process.pid, signal.SIGINT)
    try:
        _, err = process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        assert pause < 0.4  # Python, still starting, can lose it: one presses again
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    if pause >= 0.4:  # before that Python itself is starting, and says what it likes
        assert "Traceback" not in err
        # The second is Python's own way to end when the signal comes before our first line: shells say 130.
        assert process.returncode in (130, -signal.SIGINT)
    assert process.returncode != 0


@pytest.mark.parametrize(
    ("last", "file", "function"),
    [
        ("matplotlib", "importlib._bootstrap", "cb"),
        ("gradscape.cli.main", "importlib._bootstrap", "cb"),
        ("gradscape.cli.main", "functools", "__set_name__"),
    ],
)
def test_ctrl_c_where_python_loses_what_is_raised_comes_again(last: str, file: str, function: str) -> None:
    """It ignores it where a module's lock ends: a command would go on; in a class it is another error."""
    command = [sys.executable, "-c", INTERRUPTED_AFTER, last, file, function]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") <= 1


INTERRUPTED_AFTER = """
import importlib._bootstrap, os, signal, sys
(last, file, function), sent = sys.argv[1:], []

def watch(frame, event, argument):
    if event == "call" and frame.f_code.co_name == function and last in sys.modules and not sent:
        if file in frame.f_code.co_filename:
            sent.append(True)
            os.kill(os.getpid(), signal.SIGINT)

sys.argv = ["gradscape", "reproduce", "--list"]
from gradscape.__main__ import run
sys.setprofile(watch)
code = run()
assert sent
sys.exit(code)
"""


INTERRUPTED_WITHIN = """
import enum, os, signal, sys
original, sent = enum.EnumType.__call__, []

def call(kind, *values, **named):
    frame, within = sys._getframe(), set()
    while frame:
        within.add(frame.f_code.co_name)
        frame = frame.f_back
    if "_check_versions" in within and not sent:  # matplotlib's, which imports its C extension
        sent.append(True)
        os.kill(os.getpid(), signal.SIGINT)
        all(range(1, 1_000))  # Python looks for signals between its own instructions
    return original(kind, *values, **named)

enum.EnumType.__call__ = call
sys.argv = ["gradscape", "reproduce", "--list"]
from gradscape.__main__ import run
code = run()
assert sent
sys.exit(code)
"""


def test_ctrl_c_within_the_import_of_a_c_extension_waits_for_its_end() -> None:
    """Within, it would be an ImportError, and leave an interpreter that cannot end."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED_WITHIN], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr.startswith("gradscape: stopped; ")
    assert done.stderr.count("\n") == 1


def test_list_names_the_studies(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "--list"]) == 0
    listed = capsys.readouterr().out
    assert "batchnorm    How does BatchNorm solve the vanishing gradients problem?" in listed
    assert "controls     Are the paper's sweeps about batch size and learning rate" in listed
    assert "smoothing    Does BatchNorm smooth the loss of networks that train without it?" in listed
    assert listed.count("presets: quick, small, paper") == listed.count("\n")


def test_dry_run_lists_runs_with_estimates_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "--dry-run", "--seeds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 16
    assert lines[-1].startswith("15 runs, about ")
    assert lines[-1].endswith("(from steps timed on this CPU; of a GPU it says nothing)")
    assert all(line.endswith((" s", " min", " h")) for line in lines[:-1])
    assert not list(tmp_path.iterdir())


def test_dry_run_tells_ended_runs_and_does_not_count_their_time(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradscape.study.network_cost.measure_rate", lambda configs: 1e9)
    runs = BATCHNORM.plan("quick", seeds=1).runs()
    command = ["reproduce", "--dry-run", "--seeds", "1", "--workers", "1", "--out", str(tmp_path)]
    totals = []
    for ended in (0, 3, len(runs)):
        for config in list(runs.values())[:ended]:
            put(tmp_path, config, "done", [epoch(1)])
        assert main(command) == 0
        *lines, total = capsys.readouterr().out.splitlines()
        assert [line.endswith("ended") for line in lines] == [place < ended for place in range(len(runs))]
        totals.append(total)
    assert totals[0].startswith("15 runs, about ")
    assert totals[1].startswith("15 runs, 3 of them ended, about ")
    assert totals[2].startswith("15 runs, 15 of them ended, about 0 s ")


@pytest.mark.parametrize(("flags", "ended"), [((), 0), (("--stop-hopeless",), 1), (("--asha",), 1)])
def test_dry_run_counts_a_stopped_run_as_ended_where_the_command_leaves_it(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, ...],
    ended: int,
) -> None:
    monkeypatch.setattr("gradscape.study.network_cost.measure_rate", lambda configs: 1e9)
    stopped, *_ = BATCHNORM.plan("quick", seeds=1).runs().values()
    put(tmp_path, stopped, "stopped", [epoch(1)], reason="it guesses")
    assert main(["reproduce", "--dry-run", "--seeds", "1", "--out", str(tmp_path), *flags]) == 0
    first, *_ = lines = capsys.readouterr().out.splitlines()
    assert sum(line.endswith("ended") for line in lines) == first.endswith("ended") == ended


def test_train_runs_resumes_and_reports_itself(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("optim: {lr: 1e-2}\nepochs: 7\n")
    command = ["train", "--config", str(tmp_path / "run.yaml"), *TINY_FLAGS, "--out", str(tmp_path / "run")]
    assert main([*command, "--threads", "1"]) == 0
    said = capsys.readouterr()
    assert "test accuracy" in said.out
    page = tmp_path / "run" / "report" / "index.html"
    verdict = gradscape.diagnose(load(tmp_path / "run")).verdict_last()
    assert said.out.endswith(f"\npage: {page}\n{verdict}\n")
    assert "[1/1] vgg08+bn nowhere lr 0.01 batch 25 seed 0: accuracy" in said.err
    record = RunFolder(tmp_path / "run").record()
    assert record.config["optim"]["lr"] == 0.01
    assert len(record.epochs) == record.config["epochs"] == 2  # the flag overrides the file
    before = RunFolder(tmp_path / "run").metrics.stat().st_mtime_ns
    assert main(command) == 0
    assert RunFolder(tmp_path / "run").metrics.stat().st_mtime_ns == before
    assert capsys.readouterr().out == said.out


def study_of_one_run(folder: Path, state: str) -> str:
    """A study whose one finished run has 16 roles: enough for `runs` and `report`; the run's identity."""
    assert main(["train", *TINY_FLAGS, "--out", str(folder / "runs" / "x"), "--threads", "1"]) == 0
    name = RunFolder(folder / "runs" / "x").identity()
    (folder / "runs" / "x").rename(folder / "runs" / name)
    run = RunFolder(folder / "runs" / name)
    if state == "failed":
        run.set_status("failed", error="Traceback\nValueError: no")
    plan = BATCHNORM.plan("quick", None, 1).merged(None, folder)
    roles = {role: replace(planned, runs=(name,)) for role, planned in plan["roles"].items()}
    StudyFolder(folder).ask({**plan, "title": "?", "roles": roles})
    return name


@pytest.mark.usefixtures("undrawn")
def test_runs_and_report_need_the_folders_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    name = study_of_one_run(tmp_path, "failed")
    assert main(["runs", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "study batchnorm (quick): 1 failed\n" in out
    row = rf"^{name} +failed +2/2 100% +0\.\d{{3}} @ [12]  0\.\d{{3}} +\d+ s ago"
    assert re.search(row, out, re.MULTILINE)
    assert f"{name}: ValueError: no\n" in out
    assert main(["report", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "C1  undecided      Depth fails without BatchNorm" in out
    assert f"report: {tmp_path / 'report' / 'index.html'}" in out
    first = {p: p.read_bytes() for p in (tmp_path / "report").rglob("*") if p.is_file()}
    shutil.rmtree(tmp_path / "report")
    assert main(["report", str(tmp_path)]) == 0
    assert {p: p.read_bytes() for p in (tmp_path / "report").rglob("*") if p.is_file()} == first
    assert {p.suffix for p in first} == {".html", ".json", ".svg", ".png", ".pdf", ".csv", ".md", ".tex"}


@pytest.mark.slow
def test_load_gives_records_and_pandas(tmp_path: Path) -> None:
    name = study_of_one_run(tmp_path, "done")
    study = load(tmp_path)
    assert json.loads(json.dumps(study.to_dict()))["runs"][name]["state"] == "done"
    for record in (study, study.runs[name]):
        assert str(record)
        assert record.plot().lines
    assert study.runs[name].flow.plot().collections
    skip_without("pandas")
    table = study.to_pandas()
    assert list(table["run"]) == [name, name]
    assert list(table["valid_accuracy"]) == list(study.runs[name].curve("valid_accuracy"))


def test_an_absent_device_is_said_once_before_anything_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("a CUDA device is here")
    for command in ("reproduce", "train"):
        code, line = errors(capsys, command, "--device", "cuda", "--out", tmp_path / "out")
        assert code == 2
        assert "there is no CUDA device; give --device cpu" in line
    assert not (tmp_path / "out").exists()
