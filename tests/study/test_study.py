"""The paper's study as data: its runs, its presets, and the whole of it on a small scale."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gradscape import load
from gradscape.config.serialize import to_dict
from gradscape.errors import ConfigError, StoreError
from gradscape.records.role import Role
from gradscape.storage.run_folder import RunFolder
from gradscape.storage.study_folder import StudyFolder
from gradscape.studies.batchnorm.study import BATCHNORM, PRESETS
from gradscape.study.network_cost import duration, macs_per_image, run_macs
from gradscape.study.plan import ask

from .small_study import AXES, SMALL, STUDY

SMALL_STUDY = Path(__file__).with_name("small_study.py")


def test_the_paper_has_thirteen_distinct_runs_and_two_controls() -> None:
    paper = BATCHNORM.plan("paper", None, seeds=1)
    runs = paper.runs()
    assert len(runs) == 15
    assert len(paper.roles) == 17
    assert paper.roles["lr-0.001"].runs == paper.roles["vgg38-bn"].runs
    assert paper.roles["lr-0.05"].runs == paper.roles["batch-100"].runs
    assert len(BATCHNORM.plan("paper", None, seeds=3).runs()) == 45


def test_the_paper_preset_is_as_published() -> None:
    config = to_dict(BATCHNORM.plan("paper", None, 1).configs["vgg38-bn"])
    assert (config["batch_size"], config["epochs"], config["optim"]["lr"]) == (100, 100, 0.001)
    optim = config["optim"]
    assert (optim["min_lr"], optim["period"], optim["weight_decay"], optim["eps"]) == (2e-5, 100, 0, 1e-8)
    data = config["data"]
    assert (data["train"], data["valid"], data["crop_pad"], data["flip"]) == (47_500, 2_500, 4, True)
    assert data["statistics"] == "cifar10"
    assert config["net"]["norm_where"] == "blocks"
    assert not config["net"]["entry_norm"]
    assert BATCHNORM.plan("paper", None, 1).notes == ()


def test_rates_and_sizes_are_the_tables() -> None:
    roles = BATCHNORM.plan("paper", None, 1).configs
    assert [roles[f"lr-{r}"].optim.lr for r in ("0.0001", "0.0005", "0.001", "0.005", "0.01", "0.05")] == [
        0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05,
    ]  # fmt: skip
    sizes = (50, 100, 150, 200, 400, 800)
    assert [roles[f"batch-{s}"].batch_size for s in sizes] == list(sizes)
    assert {roles[f"batch-{s}"].optim.lr for s in sizes} == {0.05}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("data", ["digits", "cifar10", "cifar100"])
def test_every_preset_is_possible_on_every_data_set(preset: str, data: str) -> None:
    planned = BATCHNORM.plan(preset, data, None)
    assert len(BATCHNORM.plan(preset, data, 1).runs()) == 15
    assert all(config.data.name == data for config in planned.configs.values())


def test_quick_says_how_it_departs() -> None:
    text = " ".join(BATCHNORM.plan("quick", None, None).notes)
    assert "digits" in text
    assert "divided by 2" in text
    assert "16 filters, not 32" in text
    assert "1,000 training images for 60 epochs" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("quik", None, None),
            "--preset: expected one of quick, small, paper; got 'quik'; did you mean 'quick'",
        ),
        (("quick", "mnist", None), "data.name: expected one of .*; got 'mnist'"),
        (("quick", None, 0), "--seeds: expected 1 … 10000; got 0"),
    ],
)
def test_plans_that_cannot_be(arguments: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BATCHNORM.plan(*arguments)


def test_multiply_adds_are_those_measured() -> None:
    assert macs_per_image(BATCHNORM.plan("paper", None, 1).configs["vgg38"]) == pytest.approx(
        140.23e6, rel=1e-4
    )
    assert duration(run_macs(BATCHNORM.plan("paper", None, 1).configs["vgg38"]) / 1e11).endswith("h")


def test_seeds_are_added_and_never_lost(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    ask(folder, BATCHNORM.plan("quick", None, 3))
    ask(folder, BATCHNORM.plan("quick", None, 1))
    asked = folder.asked()
    assert asked is not None
    assert asked["seeds"] == [0, 1, 2]
    assert all(len(role.runs) == 3 for role in asked["roles"].values())


def test_runs_of_a_preset_that_was_changed_are_not_mixed_with_its_runs_before(tmp_path: Path) -> None:
    """Of three seeds then and two now the third would be another configuration's, in one mean with them."""
    folder, before = StudyFolder(tmp_path), BATCHNORM.plan("quick", None, 3)
    ask(folder, before)
    kept = (tmp_path / "study.json").read_bytes()
    longer = {**PRESETS, "quick": replace(PRESETS["quick"], epochs=40)}
    now = replace(BATCHNORM, presets=longer).plan("quick", None, 2)
    then, new = (plan.configs["vgg08"].identity for plan in (before, now))
    told = f"another version of the study: its run {then} of role 'vgg08' has .* now, {new}, .* --out"
    with pytest.raises(StoreError, match=told):
        ask(folder, now)
    assert (tmp_path / "study.json").read_bytes() == kept


def test_another_studys_folder_is_refused(tmp_path: Path) -> None:
    ask(StudyFolder(tmp_path), BATCHNORM.plan("quick", None, 1))
    before = (tmp_path / "study.json").read_bytes()
    with pytest.raises(StoreError, match="holds preset 'quick', not 'small'; give another folder with --out"):
        ask(StudyFolder(tmp_path), BATCHNORM.plan("small", None, 1))
    assert (tmp_path / "study.json").read_bytes() == before


def run_small(out: Path) -> subprocess.Popen[str]:
    """The whole study at the scale of seconds, as a command of its own process group."""
    return subprocess.Popen(
        [sys.executable, str(SMALL_STUDY), str(out)],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


@pytest.mark.slow
def test_a_run_that_cannot_go_on_is_named_and_the_others_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "quick", SMALL)
    for name, values in AXES.items():
        monkeypatch.setattr(f"gradscape.studies.batchnorm.study.{name}", values)
    config = STUDY.plan("quick", None, None).configs["batch-50"]
    victim = StudyFolder(tmp_path).run(config.identity)
    victim.create(config)
    victim.checkpoints.write_text("a file where a folder must be")
    study = run_small(tmp_path)
    _, err = study.communicate(timeout=300)
    assert study.returncode == 1
    assert err.splitlines()[-1].startswith("gradscape: 1 of 8 runs failed (vgg38-bn-lr0.05-b5-s0-")
    assert "Traceback" not in err
    record = load(tmp_path)
    assert record.runs[config.identity].state == "failed"
    assert "Not a directory" in record.runs[config.identity].status["error"]
    assert [run.state for run in record.runs.values()].count("done") == 7
    assert "failed after 0 of 3 epochs" in (tmp_path / "report" / "index.html").read_text()
    victim.checkpoints.unlink()  # the cure
    again = run_small(tmp_path)
    _, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    assert load(tmp_path).runs[config.identity].state == "done"


@pytest.mark.slow
@pytest.mark.long  # with those of the faults
def test_a_killed_worker_costs_nothing_but_time_and_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    study = run_small(tmp_path)
    victim = None
    end = time.monotonic() + 60
    while victim is None and time.monotonic() < end:
        for path in tmp_path.glob("runs/*/status.json"):
            status = json.loads(path.read_text())
            if status["state"] == "running" and RunFolder(path.parent).checkpoint_files():
                victim = status["pid"]
        time.sleep(0.02)
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    assert study.stderr is not None
    lines = iter(study.stderr.readline, "")
    assert any("its worker died (SIGKILL" in line and "goes on from its last epoch" in line for line in lines)
    os.killpg(study.pid, signal.SIGINT)
    _, err = study.communicate(timeout=60)
    assert study.returncode == 130
    assert "give the same command again to go on" in err
    assert "Traceback" not in err
    again = run_small(tmp_path)
    _, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    assert {run.state for run in load(tmp_path).runs.values()} == {"done"}


def test_another_precision_is_another_study(tmp_path: Path) -> None:
    full, low = BATCHNORM.plan("quick", None, 1), BATCHNORM.plan("quick", None, 1, "bf16")
    assert (full.name, low.name) == ("batchnorm-quick-digits", "batchnorm-quick-digits-bf16")
    assert not set(full.runs()) & set(low.runs())
    assert all(
        name.endswith(config.identity[-8:]) and "-bf16-" in name for name, config in low.runs().items()
    )
    assert any("bfloat16" in note for note in low.notes)
    ask(StudyFolder(tmp_path), full)
    with pytest.raises(StoreError, match="holds precision 'fp32', not 'bf16'; give another folder"):
        ask(StudyFolder(tmp_path), low)


@pytest.mark.slow
@pytest.mark.long
def test_a_study_says_once_that_it_fell_back(tmp_path: Path) -> None:
    """In every run's status, on the page and in `runs`; on the terminal one time for all runs."""
    emulated = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}  # as on a processor without bfloat16
    study = subprocess.run(
        [sys.executable, str(SMALL_STUDY), str(tmp_path), "--precision", "bf16"],
        env=emulated, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert study.stderr.count("bf16 convolutions are slow here") == 1
    record = load(tmp_path)
    assert {run.status["computed_in"] for run in record.runs.values()} == {"fp32"}
    assert len({run.status["fallback"] for run in record.runs.values()}) == 1
    page = (tmp_path / "report" / "index.html").read_text()
    assert "<li>bf16</li>" in page
    assert "<dt>fallback</dt>" in page


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"key": ("vgg38-bm",)},
            "study batchnorm: key: 'vgg38-bm' is not one of its roles, .*did you mean 'vgg38-bn'",
        ),
        ({"roles": lambda preset, data: {}}, "study batchnorm: `roles` gave none; give one run at least"),
        (
            {"roles": lambda preset, data: {"vgg38": None}},
            r"study batchnorm: roles: expected Role\('vgg38'\) as a key; got 'vgg38'",
        ),
        (
            {"roles": lambda preset, data: {Role("a"): None, Role("a", "b"): None}},
            "study batchnorm: 'a' names two roles; give each a name of its own",
        ),
    ],
)
def test_a_study_that_cannot_be_is_said_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(BATCHNORM, **changes).plan("quick")


def test_a_study_may_have_no_key() -> None:
    roles = replace(BATCHNORM, key=()).plan("quick").roles.values()
    assert {len(role.runs) for role in roles} == {1}
