"""`gradscape sweep` as a user meets it: what it amounts to, what it refuses, and one sweep for real."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

import gradscape as gs
from gradscape.cli.app import parse
from gradscape.cli.main import app, main
from gradscape.cli.settings import settings_given
from gradscape.cli.sweep import study_of

TINY = [
    "--net.depth=8", "--net.filters=4", "--data.train=60", "--data.valid=20", "--data.crop-pad=1",
    "--batch-size=25", "--epochs=2",
]  # fmt: skip
FILE = """
name: filed
base: {net: {depth: 8}, epochs: 2}
axes:
  - optim.lr: [0.001, 0.01]
  - {batch_size: [10, 20], optim.eps: [1e-8, 1e-7]}
  - net.norm: [none, batch]
exclude:
  - {optim.lr: 0.01, net.norm: none}
  - {batch_size: 20, net.norm: none}
seeds: 2
equal_updates: yes
"""


def amounts_to(*arguments: str) -> gs.Sweep:
    call = parse(app, ["sweep", *arguments])
    return study_of(*call.args, call.keywords["options"], settings_given(call.keywords["flags"]))


def errors(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The single line on stderr of a command that is refused."""
    assert main(["sweep", *arguments]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1, line
    assert "Traceback" not in line
    return line


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "study.yaml").write_text(FILE)
    return str(tmp_path / "study.yaml")


def test_flags_alone_make_a_study() -> None:
    study = amounts_to(
        "--axis", "optim.lr=log:1e-4:1e-1:4", "--axis", "net.depth=range:8:20:6",
        "--zip", "batch_size=50,100", "optim.eps=1e-8,1e-7",
        "--exclude", "net.depth=20", "optim.lr=0.1", "--exclude", "net.depth=8", "batch_size=50",
        "--seeds", "3", "--name", "mine", "--equal-updates", "--scale-lr", "sqrt",
        "--epochs", "6", "--data.name", "digits", "--data.flip", "no",
    )  # fmt: skip
    assert study == gs.Sweep(
        "mine",
        {"epochs": 6, "data": {"name": "digits", "flip": False}},
        [
            {"optim.lr": [1e-4, 1e-3, 1e-2, 1e-1]},
            {"net.depth": [8, 14, 20]},
            {"batch_size": [50, 100], "optim.eps": [1e-8, 1e-7]},
        ],
        seeds=3,
        exclude=[{"net.depth": 20, "optim.lr": 0.1}, {"net.depth": 8, "batch_size": 50}],
        equal_updates=True,
        scale_lr="sqrt",
    )
    plain = amounts_to("--axis", "optim.lr=1e-3")
    assert (plain.name, plain.seeds, plain.base) == ("sweep", 1, {})


def test_a_file_is_the_study(file: str) -> None:
    assert amounts_to(file) == gs.Sweep.read(file)


def test_flags_override_and_extend_a_file(file: str) -> None:
    before = gs.Sweep.read(file)
    base = amounts_to(file, "--epochs", "5", "--net.filters", "4")
    assert base.base == {"net": {"depth": 8, "filters": 4}, "epochs": 5}
    assert base.axes == before.axes

    named = amounts_to(file, "--name", "other", "--seeds", "1", "--no-equal-updates", "--scale-lr", "linear")
    assert (named.name, named.seeds, named.equal_updates, named.scale_lr) == ("other", 1, False, "linear")

    added = amounts_to(file, "--axis", "net.init=default,he", "--exclude", "net.init=he", "net.norm=batch")
    assert [axis.fields for axis in added.axes] == [*(axis.fields for axis in before.axes), ("net.init",)]
    assert added.exclude == (*before.exclude, {"net.init": ("he",), "net.norm": ("batch",)})


def test_an_axis_takes_the_place_of_the_files(file: str) -> None:
    before = gs.Sweep.read(file)
    study = amounts_to(file, "--axis", "batch_size=20,40", "--axis", "optim.lr=0.001,0.1")
    assert [axis.to_dict() for axis in study.axes] == [
        {"optim.lr": [0.001, 0.1]}, {"batch_size": [20, 40]}, {"net.norm": ["none", "batch"]},
    ]  # fmt: skip
    assert study.exclude == before.exclude[1:]  # no point has optim.lr 0.01 any more
    zipped = amounts_to(file, "--zip", "optim.lr=1,2", "net.norm=none,batch")
    assert [axis.fields for axis in zipped.axes] == [("optim.lr", "net.norm"), ("batch_size", "optim.eps")]


def test_a_file_may_leave_the_axes_to_the_flags(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("base: {epochs: 3}\n")
    study = amounts_to(str(tmp_path / "base.yaml"), "--axis", "optim.lr=0.1")
    assert study == gs.Sweep("sweep", {"epochs": 3}, [{"optim.lr": [0.1]}])


@pytest.mark.parametrize("ending", ["yaml", "yml", "json"])
def test_save_writes_the_study_and_stops(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    file: str,
    ending: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    saved = f"saved.{ending}"
    assert main(["sweep", file, "--axis", "optim.lr=log:1e-3:1e-1:5", "--save", saved]) == 0
    assert capsys.readouterr().err == f"study file: {saved}\n"
    assert gs.Sweep.read(saved) == amounts_to(file, "--axis", "optim.lr=log:1e-3:1e-1:5")
    assert {path.name for path in tmp_path.iterdir()} == {"study.yaml", saved}
    if ending == "json":
        assert json.loads(Path(saved).read_text())["name"] == "filed"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "axes: expected one or more, such as --axis optim.lr=1e-4,1e-3; got none"),
        (["--axis", "optim.lr="], "axis optim.lr: expected one or more values; got none"),
        (["--axis", "lr=1"], "axis: no such field: lr; did you mean 'optim.lr'?"),
        (["--axis", "optim.lr=fast"], "axis optim.lr: expected a number; got 'fast'"),
        (["--axis", "seed=1,2"], "axis: seed: give seeds, with --seeds"),
        (["--axis", "optim.lr=1", "--seed", "3"], "base: seed: give seeds, with --seeds"),
        (["--axis", "optim.lr=1", "--axis", "optim.lr=2"], "axis optim.lr: two axes vary it; give all"),
        (["--zip", "batch_size=5,6", "epochs=1"], "values pair up, but batch_size has 2, epochs has 1"),
        (
            ["--zip", "batch_size=5,6", "study.yaml"],
            "--zip: expected FIELD=VALUES, such as optim.lr=1e-4,1e-3; got 'study.yaml'",
        ),
        (
            ["--axis", "optim.lr=1", "--exclude", "optim.lr=1"],
            "exclude: no point of 1 is left; leave out fewer",
        ),
        (
            ["--axis", "optim.lr=1", "--exclude", "optim.lr"],
            "--exclude: expected FIELD=VALUE, such as net.depth=38; got 'optim.lr'",
        ),
        (["--axis", "optim.lr=1", "--seeds", "0"], "--seeds: expected 1 … 10,000; got 0"),
        (["--axis", "optim.lr=1", "--workers", "0"], "--workers: expected 1 … 1,024; got 0"),
        (
            ["--axis", "optim.lr=1", "--equal-updates"],
            "equal_updates (--equal-updates): no axis varies",
        ),
        (
            ["--axis", "optim.lr=1", "--scale-lr", "sqrt"],
            "scale_lr (--scale-lr): no axis varies batch",
        ),
        (
            ["--axis", "batch_size=5", "--scale-lr", "cubic"],
            "--scale-lr: expected one of none, linear",
        ),
        (
            ["--axis", "net.depth=8", "--net.filters", "0"],
            "net.depth=8: net.filters: expected 1 … 4096; got 0",
        ),
        (["--axis", "optim.lr=1", "--name", "a/b"], "name: expected"),
        (
            ["--axis", "optim.lr=1", "--save", "a.txt"],
            "--save: expected a name that ends in .yaml, .yml or .json; got a.txt",
        ),
        (
            ["--axis", "optim.lr=1", "--save", "no/a.yaml"],
            "--save: expected a file in a folder that exists; got no",
        ),
        (
            ["--axis", "optim.lr=range:0.1:1:0.1", "--seeds", "21"],
            "expected at most 200 runs; got 210; type --yes",
        ),
        (["--axsi", "optim.lr=1"], "no such flag or argument: --axsi; did you mean '--axis'?"),
        (["nowhere.yaml"], "cannot read study file nowhere.yaml: No such file"),
        (
            ["--axis", "optim.lr=1", "--seeds-at-most", "5"],
            "seeds_at_most: expected more seeds than the 1 to begin with",
        ),
        (
            ["--axis", "optim.lr=1", "--on", "rya"],
            "--on: 'rya' is not local, ray or ray://HOST",
        ),
        (["--axis", "optim.lr=1", "--on", "ray", "--workers", "2"], "--workers: a cluster has as many as"),
        (["--axis", "optim.lr=1", "--on", "ray", "--asha"], "--asha: runs on ray cannot be ended from here"),
        (["--axis", "optim.lr=1", "--on", "ray://127.0.0.1:1"], "--on ray://127.0.0.1:1: nothing answers"),
        (["--axis", "optim.lr=1", "--epoch-limit", "0"], "--epoch-limit: expected seconds"),
        (
            ["--axis", "optim.lr=1", "--cpus-per-run", "nan"],
            "--cpus-per-run: expected a number above 0; got nan",
        ),
        (
            ["--axis", "optim.lr=1", "--gpus-per-run", "1.5"],
            "--gpus-per-run: expected 0",
        ),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert message in errors(capsys, *arguments)
    assert not list(tmp_path.iterdir()), "something was written"


def test_what_a_file_holds_wrong_is_said_with_its_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, file: str
) -> None:
    path = tmp_path / "wrong.yaml"
    for text, message in (
        ("axes: [{net.dept: [8]}]", "axis: no such field: net.dept; did you mean 'net.depth'?"),
        ("axs: []", "axs: no such key; known here: name"),
        ("axes: 3", "axes: expected a list of mappings; got 3"),
    ):
        path.write_text(text)
        assert f"wrong.yaml, line 1: {message}" in errors(capsys, str(path))
        if text != "axs: []":  # with flags, which have no line
            assert f"wrong.yaml: {message}" in errors(capsys, str(path), "--axis", "optim.lr=1")
    path.write_text("[]")
    assert "wrong.yaml: a study: expected keys and values; got []" in errors(capsys, str(path))
    assert "study.yaml: exclude: optim.lr never is 7; its values are" in errors(
        capsys, file, "--exclude", "optim.lr=7"
    )


def test_a_dry_run_names_points_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    many = ["--axis", "optim.eps=range:0.001:0.101:0.001", "--seeds", "2"]  # 202 runs, which it only lists
    assert main(["sweep", *many, *TINY, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("optim.eps=0.001 seed 0 ")
    assert all(line.endswith(" s") for line in lines[:-1])
    assert lines[-1].startswith("202 runs, about ")
    assert not list(tmp_path.iterdir())


def test_help_does_not_offer_the_flag_of_one_seed_which_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["train", "--help"]) == 0
    assert "--seed N" in capsys.readouterr().out
    assert main(["sweep", "--help"]) == 0
    assert "--seed N" not in capsys.readouterr().out
    assert main(["sweep", "--seed", "3"]) == 2
    assert "--seeds" in capsys.readouterr().err


def test_help_says_how_a_file_and_flags_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "these flags override its base; an axis of a field takes the place of the file's axis" in text
    assert "--net.depth N" in text


def test_another_base_in_the_same_folder_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from gradscape.storage.study_folder import StudyFolder
    from gradscape.study.plan import ask

    ask(StudyFolder(tmp_path), amounts_to("--axis", "optim.lr=0.1", *TINY))
    line = errors(capsys, "--axis", "optim.lr=0.1", *TINY, "--epochs", "9", "--out", str(tmp_path))
    assert "holds a base of epochs 2, not 9; give another folder with --out" in line


PAGE = (Path(__file__).parents[2] / "docs" / "sweeps.md").read_text()
COMMANDS = [line for line in PAGE.splitlines() if line.startswith("gradscape ")]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_docs_commands_amount_to_studies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text(PAGE.split("```yaml\n")[1].split("```")[0])
    assert amounts_to(*shlex.split(command)[2:]).runs()


def test_the_docs_example_is_a_study() -> None:
    code = PAGE.split("```python\n")[1].split("```")[0]
    found: dict[str, Any] = {"__name__": "example"}
    exec(code, found)
    assert len(found["sweep"].runs()) == 12


@pytest.mark.slow
def test_a_sweep_runs_and_more_values_repeat_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "study"
    flags = [*TINY, "--out", str(out), "--workers", "2"]
    assert main(["sweep", "--axis", "optim.lr=0.001,0.01", *flags]) == 0
    said = capsys.readouterr()
    assert said.out.endswith(f"report: {out / 'report' / 'index.html'}\n")
    assert "[2/2] " in said.err
    record = gs.load(out)
    assert [run.state for run in record.runs.values()] == ["done", "done"]
    assert list(record.roles) == ["optim.lr=0.001", "optim.lr=0.01"]
    assert "Sweep over optim.lr" in (out / "report" / "index.html").read_text()
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/status.json")}
    assert len(before) == 2

    assert main(["sweep", "--axis", "optim.lr=0.001,0.01,0.1", *flags]) == 0
    assert "[3/3] " in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [run.state for run in gs.load(out).runs.values()] == ["done"] * 3
    assert main(["runs", str(out)]) == 0
    assert capsys.readouterr().out.startswith("study sweep (sweep): 3 done\n")
    page = out / "report" / "index.html"
    built = page.read_bytes()
    page.unlink()
    assert main(["report", str(out)]) == 0
    assert page.read_bytes() == built
