"""`gradscape lr-range`: a factory from a user's own file, its learning rates, or one clear line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gradscape.cli.main import main

NETS = """
from torch import nn

def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3))

def image():
    return nn.Conv2d(3, 3, 1)

def scalar():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 1))

def fixed():
    return nn.Sequential(nn.Flatten(), nn.Softmax(1))
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "my_nets.py").write_text(NETS)
    return tmp_path / "my_nets.py"


def test_the_rates_of_a_factory_are_printed_and_its_page_is_written(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = file.parent / "rates.html"
    assert main(["lr-range", f"{file}:net", "--input", "3,2,2", "--page", str(page)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("steepest ")
    assert "; take " in out.splitlines()[0]
    assert "SGD, 100 rates from 1e-07 to 10, n = 3 seeds, 32 samples in 1 batch" in out
    assert "<h1>Learning rates</h1>" in page.read_text()
    assert f"page: {page}" in err


def test_what_a_factory_prints_is_no_part_of_the_result(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(f"{NETS}\nprint('read')\ndef loud():\n    print('made')\n    return net()\n")
    flags = ["--input", "3,2,2", "--steps", "10", "--seeds", "1", "--json"]
    assert main(["lr-range", f"{file}:loud", *flags]) == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)["rates"]) == 10
    assert err.startswith("read\nmade\n")


def test_json_has_everything_and_flags_are_heeded(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--rates", "1e-5", "1", "--steps", "20", "--seeds", "2", "--momentum", "0.9", "--json"]
    assert main(["lr-range", f"{file}:net", "--input", "3,2,2", *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["optimizer"] == "SGD (momentum 0.9)"
    assert found["rates"][0] == pytest.approx(1e-5)
    assert [len(row) for row in found["losses"]] == [20, 20]
    assert found["suggestion"] < 1
    assert main(["lr-range", f"{file}:net", "--input", "3,2,2", "--optimizer", "adam", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["optimizer"] == "Adam"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nte"], "has no function 'nte'; did you mean 'net'?"),
        (["net", "--rates", "1", "0.1"], "rates: expected two increasing numbers above 0"),
        (["net", "--steps", "9"], "--steps: expected 10 … 10,000; got 9"),
        (["net", "--optimizer", "sdg"], "--optimizer: expected one of sgd, adam, adamw; got 'sdg'"),
        (["net", "--momentum", "1.5"], "--momentum: expected a number above 0, 1 at most; got 1.5"),
        (
            ["net", "--optimizer", "adam", "--momentum", "0.9"],
            "--momentum: expected with --optimizer sgd alone; got adam",
        ),
        (["net", "--page", "none/page.html"], "--page: expected a file in a folder that exists; got none"),
        (["image"], "its output is (32, 3, 2, 2), not (N, classes); use gradscape.lr_range with a loss"),
        (["scalar"], "its one output is no classifier's; use gradscape.lr_range with a loss"),
        (["fixed"], "Sequential has no parameter to train"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    arguments: list[str], message: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *flags = arguments
    assert main(["lr-range", f"{file}:{name}", "--input", "3,2,2", *flags]) == 2
    assert message in (line := capsys.readouterr().err)
    assert line.count("\n") == 1
