"""Damage to any file of a study is said in one line; never a traceback, never silently another value."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save as safetensors

from cases import digits
from gradscape import load
from gradscape.cli.main import main
from gradscape.errors import GradscapeError, StoreError
from gradscape.storage.checkpoint import Checkpoint
from gradscape.storage.json_files import FORMAT, read_json, write_json
from gradscape.storage.run_folder import RunFolder
from gradscape.storage.run_summary import StudyWatcher
from gradscape.storage.study_folder import StudyFolder
from gradscape.study.sweep.sweep import Sweep
from gradscape.train.loop import train_run
from gradscape.train.state import TrainState

BASE = {
    "net.depth": 8, "net.filters": 4, "net.norm_where": "everywhere", "data.train": 50, "data.valid": 20,
    "batch_size": 25, "epochs": 2, "curvature_images": 10, "noise_batches": 2, "landscape_images": 10,
    "keep_every": 1,
}  # fmt: skip
JSON = ("config.json", "status.json", "start.json", "curvature.json", "landscape.json", "noise.json")
ODD: tuple[Any, ...] = (None, True, -1, 1.5, 10**400, "", "x\x1b[2J", [], ["a"], {}, {"a": 1})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep of one run with every file that there is."""
    place = tmp_path_factory.mktemp("whole")
    study = Sweep.from_dict({"name": "small", "base": BASE, "axes": [{"net.norm": ["batch"]}], "seeds": 1})
    folder = StudyFolder(place)
    folder.ask(study.merged(None, place))
    for identity, config in study.runs().items():
        train_run(config, folder.run(identity), digits())
    return place


@pytest.fixture
def study(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "study")
    return tmp_path / "study"


def run_of(study: Path) -> RunFolder:
    (path,) = (study / "runs").iterdir()
    return RunFolder(path)


def values_of(folder: Path) -> str:
    """All that is read of a study, checkpoint and kept weights included."""
    run = run_of(folder)
    watcher = [replace(summary, last_update=0) for summary in StudyWatcher(StudyFolder(folder)).poll()]
    newest = run.load()
    tensors = [*run.kept_weights().values(), *([newest.arrays] if newest else [])]
    named = [sorted(each.items()) for each in tensors]
    with np.printoptions(threshold=sys.maxsize, floatmode="unique"):  # else the middle of arrays is left out
        return repr([load(folder).to_dict(), newest and newest.epoch, watcher, named])


def files_of(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return sorted(path.relative_to(folder).as_posix() for path in files)


def outcome(study: Path, base: str) -> str:
    """`said`, `same`, or what a person must never get."""
    try:
        found = values_of(study)
    except GradscapeError as error:
        return "said" if "\n" not in str(error) else f"several lines: {error}"
    if found == base:
        return "same"
    reasons = [run.reason for run in StudyWatcher(StudyFolder(study)).poll()]
    return "said" if any("damaged" in reason for reason in reasons) else "silently other"


@pytest.mark.slow
def test_one_flipped_bit_is_never_silent(study: Path) -> None:
    """Of every kind of file a bit of 12 bytes; every byte is as well guarded as any other."""
    base, generator = values_of(study), random.Random(0)
    kinds = files_of(study)
    assert {Path(name).name for name in kinds} >= {*JSON, "study.json", "metrics.jsonl", "gradients.jsonl"}
    for name in kinds:
        path = study / name
        data = path.read_bytes()
        for place in generator.sample(range(len(data)), 12):
            bit = 1 << generator.randrange(8)
            path.write_bytes(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
            # Of checkpoints the one before is used, and what is behind it trained again to the same bits.
            assert outcome(study, base) == "said" or "/checkpoint/" in name, (name, place, bit)
        path.write_bytes(data)
    assert values_of(study) == base


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_said(study: Path, data: st.DataObject) -> None:
    """Any bytes in place of any bytes; what stays the same has been read as it was."""
    base = values_of(study)
    name = data.draw(st.sampled_from([name for name in files_of(study) if "/checkpoint/" not in name]))
    before = (study / name).read_bytes()
    start = data.draw(st.integers(0, len(before)))
    count = data.draw(st.sampled_from((0, 1, 40, len(before))))
    (study / name).write_bytes(before[:start] + data.draw(st.binary(max_size=60)) + before[start + count :])
    try:
        assert outcome(study, base) in ("said", "same"), name
    finally:
        (study / name).write_bytes(before)


def leaves(values: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every value stands, of lists the first alone."""
    if path:
        yield path
    some = dict(enumerate(values[:1])) if isinstance(values, list) else values
    for key, value in some.items() if isinstance(some, dict) else ():
        yield from leaves(value, (*path, key))


def put_at(values: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = json.loads(json.dumps(values))
    here = changed
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    return changed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["study.json", *JSON])
def test_odd_values_under_a_right_checksum_are_no_traceback(
    study: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a folder from elsewhere: any value of a file, read whole and at a glance, and some reported."""
    path = study / name if name == "study.json" else run_of(study).path / name
    values, generator = read_json(path), random.Random(0)
    for place in leaves(values):
        for odd in generator.sample(ODD, 2):
            write_json(path, put_at(values, place, odd))
            with suppress(GradscapeError):
                load(study)
            assert main(["runs", str(study)]) in (0, 2), (place, odd)
        if generator.random() < 0.1:
            assert main(["report", str(study)]) in (0, 2), (place, odd)
        assert "\x1b" not in "".join(capsys.readouterr()), (place, odd)


def signed(text: bytes) -> bytes:
    """A JSON file that ends in a right checksum."""
    return text + b',\n "crc32": "%08x"\n}\n' % zlib.crc32(text)


@pytest.mark.parametrize(
    "text",
    [
        b'{"format": %d, "config": ' % FORMAT + b"[" * 100_000 + b"]" * 100_000,
        b'{"format": %d, "run": 3, "config": 1' % FORMAT,
        b'{"format": %d, "run": "x", "config": {"epochs": "many"}' % FORMAT,
        b'{"format": %d' % FORMAT,
        b'{"format": true',
        b'{"format": 1e999',
    ],
)
def test_json_of_another_shape_is_one_line(study: Path, text: bytes) -> None:
    (run_of(study).path / "config.json").write_bytes(signed(text))
    with pytest.raises(StoreError) as caught:
        load(study)
    assert "\n" not in str(caught.value)
    (summary,) = StudyWatcher(StudyFolder(study)).poll()
    assert summary.state == "failed"


@pytest.mark.parametrize("name", ["study.json", *JSON, "metrics.jsonl", "gradients.jsonl"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "zeros", "huge"])
def test_what_would_hang_or_never_end_is_one_line(study: Path, name: str, kind: str) -> None:
    path = study / name if name == "study.json" else run_of(study).path / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "zeros":
        path.symlink_to("/dev/zero")
    else:
        with open(path, "wb") as file:
            file.truncate(20 * 2**30)  # without a block on the disk
    with pytest.raises(StoreError, match=f"cannot read .*: expected a file|{name}.* damaged"):
        load(study)


CRAFTED: dict[str, Callable[[], bytes]] = {
    "no header": lambda: b"",
    "a header of no end": lambda: (2**63).to_bytes(8, "little") + b"{}",
    "a list": lambda: (2).to_bytes(8, "little") + b"[]",
    "no metadata": lambda: safetensors({"w": np.zeros(3)}),
    "no format": lambda: safetensors({"w": np.zeros(3)}, {"epoch": "2"}),
    "a format that is no number": lambda: safetensors({"w": np.zeros(3)}, {"format": "x", "epoch": "2"}),
    "deeply nested": lambda: (200_000).to_bytes(8, "little") + b"[" * 100_000 + b"]" * 100_000,
    "no run": lambda: safetensors({"w": np.zeros(3)}, {"format": str(FORMAT), "epoch": "2", "values": "{}"}),
    "an epoch that is no number": lambda: safetensors(
        {"w": np.zeros(3)}, {"format": str(FORMAT), "run": "RUN", "epoch": "many", "values": "{}"}
    ),
    "values that are no JSON": lambda: safetensors(
        {"w": np.zeros(3)}, {"format": str(FORMAT), "run": "RUN", "epoch": "2", "values": "{"}
    ),
}


@pytest.mark.parametrize("kind", CRAFTED)
def test_a_checkpoint_that_was_made_up_is_one_line_or_unused(study: Path, kind: str) -> None:
    folder = run_of(study)
    data = CRAFTED[kind]().replace(b"RUN", folder.path.name.encode())
    name = f"epoch-0009.{hashlib.sha256(data).hexdigest()}.safetensors"
    (folder.checkpoints / name).write_bytes(data)
    with suppress(StoreError):
        found = folder.load()
        assert found is not None
        assert found.epoch == 2


def test_a_checkpoint_of_another_network_is_one_line(study: Path) -> None:
    state = TrainState(run_of(study).config(), torch.device("cpu"))
    made_up = Checkpoint(3, {"model.w": np.zeros(3)}, {"best_epoch": 1, "best_accuracy": 0.5})
    with pytest.raises(StoreError, match=r"epoch 3 does not fit its run .*; delete") as caught:
        state.restore(made_up)
    assert "\n" not in str(caught.value)


def test_a_run_measured_at_a_damaged_checkpoint_is_refused(study: Path) -> None:
    """Measured it would be at the epoch before, unsaid."""
    run = run_of(study)
    newest = run.checkpoint_files()[0]
    newest.write_bytes(newest.read_bytes()[:-1])
    assert main(["smoothness", str(run.path), "--images", "10"]) == 2
    newest.unlink()
    assert main(["smoothness", str(run.path), "--images", "10"]) == 2


def test_a_run_whose_metrics_lost_a_line_is_not_measured(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(study)
    run.metrics.write_bytes(run.metrics.read_bytes().splitlines(keepends=True)[0])
    assert main(["smoothness", str(run.path), "--images", "10"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "its metrics have 1 epoch; delete the folder" in line


def test_an_edited_file_says_so(study: Path) -> None:
    path = study / "study.json"
    path.write_text(path.read_text().replace("small", "large"))
    with pytest.raises(StoreError, match="was edited: its checksum does not hold; delete it and"):
        load(study)


def test_a_file_of_an_older_format_says_so(study: Path) -> None:
    (study / "study.json").write_bytes(signed(b'{"format": 2'))
    with pytest.raises(StoreError, match=r"an older gradscape \(format 2, this one reads 4\); delete"):
        load(study)


def test_escape_sequences_of_a_shared_study_do_not_reach_the_terminal(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, title = run_of(study), "\x1b]0;title\x07\x9b2J\u202e"
    asked = read_json(study / "study.json")
    write_json(study / "study.json", asked | {"preset": f"p{title}"})
    run.set_status("failed", error=f"ValueError: {title}no", host=f"h{title}", device=f"d{title}")
    for flags in ([], ["--json"]):
        assert main(["runs", str(study), *flags]) == 0
        out = capsys.readouterr().out
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(out)
        assert "ValueError: " in out
