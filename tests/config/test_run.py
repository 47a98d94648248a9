"""Configurations: one validation, one canonical form, messages that cure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gradscape.config.network import NetConfig
from gradscape.config.plain_yaml import read_as, to_yaml
from gradscape.config.run import DATASETS, DataConfig, OptimConfig, RunConfig
from gradscape.config.serialize import from_dict, read_config, to_dict
from gradscape.errors import ConfigError
from gradscape.storage.run_folder import RunFolder
from gradscape.study.sweep.sweep import Sweep


@given(stages=st.integers(1, 4), blocks=st.integers(0, 6))
def test_every_depth_of_the_family_is_accepted(stages: int, blocks: int) -> None:
    depth = 2 + stages * (2 * blocks + 2)
    assert NetConfig(depth=depth, stages=stages).blocks == blocks


@given(depth=st.integers(-3, 200))
def test_no_other_depth_is(depth: int) -> None:
    if depth >= 8 and (depth - 8) % 6 == 0:
        return
    with pytest.raises(ConfigError, match=rf"net.depth: no VGG of 3 stages has {depth} layers"):
        NetConfig(depth=depth)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"net": {"depth": 37}}, "try --net.depth 32 or 38"),
        ({"net": {"depth": 4}}, "try --net.depth 8"),
        ({"net": {"dept": 38}}, "net.dept: no such setting; .*did you mean 'depth'"),
        (
            {"net": {"norm": "bach"}},
            "net.norm: expected one of none, batch, algorithm1, .*; got 'bach'; did you mean 'batch'",
        ),
        ({"net": {"filters": 0}}, "net.filters: expected 1 … 4096; got 0"),
        ({"net": {"filters": 10**9}}, "net.filters: expected 1 … 4096; got 1000000000"),
        ({"net": {"depth": 6 * 10**9 + 8}}, "net.depth: expected at most 2000; got 6000000008"),
        ({"net": {"filters": 3.5}}, "net.filters: expected a whole number; got 3.5"),
        ({"net": {"entry_norm": 1}}, "net.entry_norm: expected true or false; got 1"),
        ({"net": {"slope": -0.1}}, "net.slope: expected .*; got -0.1"),
        (
            {"net": {"stages": 5, "depth": 12}},
            "net.stages: expected stages that halve 16-pixel images 5 times without remainder; got 5",
        ),
        ({"net": 38}, "net: expected keys and values; got 38"),
        ({"batch_size": 0}, "batch_size: expected .*; got 0"),
        (
            {"batch_size": 1423},
            "batch_size: expected 1 … 1422, the number of training images; got 1423",
        ),
        ({"epochs": -1}, "epochs: expected .*; got -1"),
        ({"epochs": True}, "epochs: expected a whole number; got True"),
        ({"seed": -1}, "seed: expected .*; got -1"),
        ({"optim": {"lr": "fast"}}, "optim.lr: expected a number; got 'fast'"),
        ({"optim": {"lr": 10**400}}, "optim.lr: expected a smaller number; got 1000"),
        ({"optim": {"lr": float("nan")}}, "optim.lr: expected .*; got nan"),
        ({"optim": {"lr": 0.0}}, "optim.lr: expected a number above 0; got 0.0"),
        ({"optim": {"lr": 1e-6}}, "optim.min_lr: expected at most optim.lr"),
        ({"optim": {"beta1": 1.0}}, "optim.beta1: expected .*; got 1.0"),
        ({"optim": {"period": 0}}, "optim.period: expected .*; got 0"),
        ({"data": {"name": "cifar"}}, "data.name: expected one of digits, cifar10, cifar100"),
        ({"data": {"valid": 1497}}, "data.valid: expected .*; got 1497"),
        ({"data": {"train": 1423}}, "data.train: expected 1 … 1422"),
        ({"data": {"crop_pad": 16}}, "data.crop_pad: expected .*; got 16"),
        ({"data": {"size": 5}}, "data.size: expected one of 1, 2, 4, 8, 16; got 5"),
        ({"data": {"size": 8, "crop_pad": 8}}, "data.crop_pad: expected 0 … 7; got 8"),
        ({"data": {"size": 4}}, "net.stages: expected stages that halve 4-pixel images 3 times"),
        (["net"], "configuration: expected keys and values"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(values: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        from_dict(RunConfig, values)
    assert "\n" not in str(caught.value)


def test_a_configuration_survives_json_and_yaml(tmp_path: Path) -> None:
    config = from_dict(RunConfig, {"net": {"norm": "algorithm1"}, "optim": {"lr": 0.05}, "seed": 3})
    (tmp_path / "a.json").write_text(json.dumps(to_dict(config)))
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(to_dict(config)))
    assert read_config(tmp_path / "a.json") == read_config(tmp_path / "a.yaml") == config
    assert from_dict(RunConfig, to_dict(config)).identity == config.identity


def test_a_runs_own_file_is_a_configuration(tmp_path: Path) -> None:
    config = from_dict(RunConfig, {"optim": {"lr": 0.05}, "seed": 3})
    folder = RunFolder(tmp_path / "run")
    folder.create(config)
    assert read_config(folder.path / "config.json") == config


def test_yaml_reads_exponents_as_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("optim:\n  lr: 1e-3\n")
    assert read_config(tmp_path / "a.yaml").optim.lr == 0.001


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not YAML"),
        (None, "cannot read configuration"),
        ("3", "expected keys"),
        ("seed: 2001-99-99", "seed: expected a whole number; got '2001-99-99'"),
        ("seed: 1:30", "seed: expected a whole number; got '1:30'"),  # 90 by YAML 1.1
        ("seed: 017", "seed: expected a whole number; got '017'"),  # 15 by YAML 1.1
        ("seed: 1\nepochs: 2\nseed: 3", "is not YAML: line 3: seed is given twice; give it once"),
        ("optim: {lr: 0.1, lr: 0.2}", "line 1: lr is given twice"),
        ("net: &a\n  depth: 8", r"line 1: & and \* \(anchors\) are not read; write the value out"),
        ("net: &a\n  norm: *a", "anchors"),
        ("seed: " + "9" * 5000, "is not YAML"),
        ("# " + "x" * 1_000_000, "has more than 1,000,000 bytes; give a smaller file"),
        ("x" * 1_000 + ": 1", ": x+…x+: no such setting"),
        ("net: [" + "[1]," * 1000 + "]", r"net: expected keys and values; got \[\[1\], \[1\], .*\.\.\.\]$"),
        ("[" * 3000, "is not YAML"),
    ],
)
def test_unreadable_files_are_named(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "a.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_config(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "epochs: 2\n\nnet:\n  depth: 8\n  dept: 3",
            "line 5: net.dept: no such setting; .*did you mean 'depth'",
        ),
        ("epochs: 2\nnet: {depth: deep}", "line 2: net.depth: expected a whole number; got 'deep'"),
        ("# mine\nnet: 3", "line 2: net: expected keys and values; got 3"),
        ("data:\n  train: 0", "line 2: data.train: expected .*; got 0"),
        ('{"seed": 1,\n "optim": {"lr": "x"}}', "line 2: optim.lr: expected a number; got 'x'"),
    ],
)
def test_the_line_of_a_slip_is_named(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=rf"a\.yaml, {line}"):
        read_config(tmp_path / "a.yaml")


def bomb() -> str:
    """400 bytes of YAML that are a list of 43 million entries."""
    levels = "".join(f", &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9))
    return f"[&a0 [x,x,x,x,x,x,x,x,x]{levels}]"


@pytest.mark.parametrize(
    "text",
    [
        *(f"{key}: BOMB" for key in ("name", "title", "base", "axes", "exclude", "seeds", "seeds_at_most")),
        "axes: [{net.depth: BOMB}]",
        "axes: [{net.depth: [8], where: BOMB}]",
    ],
)
def test_aliases_that_stand_for_gigabytes_are_refused_in_every_place(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text.replace("BOMB", bomb()))
    for read in (read_config, Sweep.read):
        with pytest.raises(ConfigError, match=r"line 1: & and \* \(anchors\) are not read"):
            read(tmp_path / "a.yaml")


def test_values_made_in_python_are_cut_in_messages() -> None:
    value: Any = "x"
    for _ in range(8):
        value = [value] * 9  # 43 million entries
    endless: list[Any] = []
    endless.append(endless)
    for made in (value, endless, "y" * 10**6, 16**10_000):
        for make in (
            lambda made: NetConfig(norm=made),
            lambda made: RunConfig(epochs=made),
            lambda made: from_dict(RunConfig, {"net": made}),
            lambda made: Sweep(made, {}, [{"net.depth": [8]}]),
            lambda made: Sweep("a", made, [{"net.depth": [8]}]),
            lambda made: Sweep("a", {}, [{"net.depth": made}]),
            lambda made: Sweep("a", {}, [{"optim.lr": {"log": made, "points": 3}}]),
            lambda made: Sweep("a", {}, [made]),
            lambda made: Sweep("a", {}, [{"net.depth": [8], "where": made}]),
        ):
            with pytest.raises(ConfigError) as caught:
                make(made)
            assert len(str(caught.value)) < 500


def test_what_is_saved_is_read_as_it_is(tmp_path: Path) -> None:
    twice = [8, 14]
    values = {"a": twice, "b": twice, "c": "1:30", "d": "2001-01-01", "e": "1e-3", "f": 1e-3, "g": "~",
              "h": None, "i": float("inf"), "j": "017", "k": 10**20, "l": -0.5, "m": "yes"}  # fmt: skip
    (tmp_path / "a.yaml").write_text(to_yaml(values))
    assert read_as(tmp_path / "a.yaml", "file", lambda found: found) == values


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NetConfig(skip="no"), "net.skip: expected true or false; got 'no'"),
        (lambda: NetConfig(depth=8.0), "net.depth: expected a whole number; got 8.0"),
        (lambda: NetConfig(depth=None), "net.depth: expected a whole number; got None"),
        (lambda: NetConfig(norm=None), "net.norm: expected one of none, batch"),
        (lambda: NetConfig(norm=["batch"]), r"net.norm: expected one of none, batch"),
        (lambda: DataConfig(flip="no"), "data.flip: expected true or false; got 'no'"),
        (lambda: OptimConfig(lr="x"), "optim.lr: expected a number; got 'x'"),
        (lambda: OptimConfig(lr=True), "optim.lr: expected a number; got True"),
        (lambda: OptimConfig(lr=np.array([0.1, 0.2])), r"optim.lr: expected .*; got array\(\[0.1, 0.2\]\)"),
        (lambda: RunConfig(epochs=2.5), "epochs: expected a whole number; got 2.5"),
        (lambda: RunConfig(net={"depth": 8}), "net: expected a NetConfig; got {'depth': 8}; type"),
        (lambda: RunConfig(precision="fp16"), "precision: 'fp16' is refused"),
        (lambda: RunConfig(epochs=10**7), "epochs: expected 1 … 1000000; got 10000000"),
        (lambda: RunConfig(keep_every=10**10), "keep_every: expected 0 … 1000000000 epochs; got 10000000000"),
        (lambda: NetConfig(stages=10**9), "net.stages: expected 1 … 10; got 1000000000"),
        (lambda: NetConfig(growth=10**9), "net.growth: expected 1 … 4096; got 1000000000"),
    ],
)  # fmt: skip
def test_configurations_made_in_python_are_checked_as_files_are(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        make()
    assert isinstance(caught.value, ConfigError)


def test_equal_values_of_other_types_are_one_run() -> None:
    def named(**values: Any) -> str:
        return RunConfig(optim=OptimConfig(**values)).identity

    assert named(weight_decay=0) == named(weight_decay=0.0) == named(weight_decay=-0.0)
    assert named(lr=1) == named(lr=1.0) == named(lr=np.float32(1)) == named(lr=torch.tensor(1.0))
    assert RunConfig(seed=np.int64(3)).identity == RunConfig(seed=3).identity
    assert NetConfig(skip=np.True_).skip is True
    assert NetConfig(norm=np.str_("layer")).name == "vgg38-layer"


def test_an_empty_file_is_the_default_run(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("")
    assert read_config(tmp_path / "a.yaml") == RunConfig()


def test_defaults_are_resolved_so_that_equal_runs_have_equal_identities() -> None:
    explicit = {"data": {"valid": 75, "train": 1422, "crop_pad": 2, "flip": False}, "optim": {"period": 100}}
    assert from_dict(RunConfig, explicit).identity == RunConfig().identity


def test_images_as_they_are_need_not_be_asked_for() -> None:
    assert RunConfig(data=DataConfig(size=16)) == RunConfig()
    smaller = RunConfig(data=DataConfig(size=8))
    assert smaller.identity != RunConfig().identity
    assert (smaller.data.crop_pad, smaller.data.dataset.size) == (1, 8)
    assert DataConfig(name="cifar100", size=16).crop_pad == 2


def test_the_identity_is_stable_and_tells_runs_apart() -> None:
    # Golden: a change here orphans every run folder that users have.
    assert RunConfig().identity == "vgg38-bn-lr0.001-b100-s0-0064d3b6"
    others = {replace(RunConfig(), seed=seed, epochs=epochs).identity for seed in (0, 1) for epochs in (1, 2)}
    assert len(others) == 4


def test_shares_are_the_papers() -> None:
    assert DATASETS["cifar100"].pool - DATASETS["cifar100"].valid == 47_500
    digits = DATASETS["digits"]
    assert abs(digits.valid / 1_797 - 2_500 / 60_000) < 0.001
    assert abs((1_797 - digits.pool) / 1_797 - 10_000 / 60_000) < 0.001
