"""`gradscape coordinates`: a factory of several widths from a user's own file, or one clear line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gradscape.cli.main import main

NETS = """
import torch
from torch import nn

def net(width):
    return nn.Sequential(nn.Flatten(), nn.Linear(12, width), nn.ReLU(), nn.Linear(width, 3))

def same(width):
    return net(8)

def image(width):
    return nn.Conv2d(3, width, 1)

def by_layer(model):
    return torch.optim.SGD([{"params": p, "lr": 0.1 / p.shape[-1]} for p in model.parameters()])
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "my_nets.py").write_text(NETS)
    return tmp_path / "my_nets.py"


FEW = ["--input", "3,2,2", "--steps", "1", "--seeds", "2"]


def test_a_network_that_grows_is_told_with_exit_code_1_and_a_page(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = file.parent / "widths.html"
    flags = ["--widths", "16", "64", "256", "--lr", "0.001", "--page", str(page), *FEW, "--seeds", "4"]
    assert main(["coordinates", f"{file}:net", *flags]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("grows with width: first 3, whose effective update goes as width^")
    assert "Adam, 1 step, widths 16, 64, 256, n = 4 seeds, 32 samples" in out
    assert page.read_text().count("<figure") == 5
    assert f"page: {page}" in err


def test_what_a_factory_prints_is_no_part_of_the_result(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(f"{NETS}\ndef loud(width):\n    print(width)\n    return net(width)\n")
    assert main(["coordinates", f"{file}:loud", "--widths", "8", "16", "32", "--json", *FEW]) in (0, 1)
    out, err = capsys.readouterr()
    assert json.loads(out)["widths"] == [8, 16, 32]
    assert err.startswith("8\n")


def test_json_has_everything_and_an_optimizer_may_be_one_s_own(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--widths", "8", "16", "32", "--optimizer", f"{file}:by_layer", "--json", *FEW]
    assert main(["coordinates", f"{file}:net", *flags]) in (0, 1)
    found = json.loads(capsys.readouterr().out)
    assert found["optimizer"] == "SGD"
    assert found["layers"] == ["1", "3"]
    assert [each["layer"] for each in found["exponents"]] == ["1", "3"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nte"], "has no function 'nte'; did you mean 'net'?"),
        (["net", "--widths", "8", "16"], "widths: expected 3 or more increasing whole numbers"),
        (["net", "--seeds", "1"], "--seeds: expected 2 … 1,000; got 1"),
        (["net", "--optimizer", "adma"],
         "--optimizer: expected one of sgd, adam, adamw, or FILE.py:FUNCTION; got 'adma'; did you mean"),
        (["net", "--optimizer", "x.py:y", "--lr", "0.1"], "--lr: expected with a named optimizer alone"),
        (["same"], "make_model: expected a wider network for 128 than for 64"),
        (["image"], "(32, 64, 2, 2), not (N, classes); use gradscape.coordinate_check with a loss"),
    ],
)  # fmt: skip
def test_what_cannot_be_checked_is_one_line(
    arguments: list[str], message: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *flags = arguments
    assert main(["coordinates", f"{file}:{name}", *FEW, *flags]) == 2
    assert message in (line := capsys.readouterr().err)
    assert line.count("\n") == 1
