"""`gradscape check`: a factory from a user's own file or package, a verdict, or one clear line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gradscape.cli.main import main

NETS = """
from torch import nn

def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))

def image():
    return nn.Conv2d(3, 3, 1)

def number():
    return 3

def fails():
    raise ValueError("no such layer")

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(12, 3))

made = net()

CLASSES = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "my_nets.py").write_text(NETS)
    return tmp_path / "my_nets.py"


def test_a_factory_in_a_file_is_checked(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"{file}:net", "--input", "3,2,2", "--no-remedies"]) == 0
    out = capsys.readouterr().out
    assert "\nhealthy\n  cause: " in out
    assert out.startswith("signal through 4 layers, 32 samples, n = 3 seeds")


def test_a_class_is_a_factory_too(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"{file}:Net", "--input", "12", "--no-remedies"]) == 0
    assert "signal through 1 layer, 32 samples" in capsys.readouterr().out


def test_json_has_everything(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"{file}:net", "--input", "3,2,2", "--confirm", "5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "healthy"
    assert {trial["remedy"] for trial in found["remedies"]} >= {"he", "norm", "skip", "smaller eps"}
    assert all(len(trial["losses"]) in (0, 5) for trial in found["remedies"])


def test_a_module_of_a_package_is_found_by_name(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(file.parent)
    assert main(["check", "my_nets:net", "--input", "12", "--no-remedies"]) == 0
    assert "\nhealthy\n  cause: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("factory", "shape", "message"),
    [
        ("{file}:nte", "3,2,2", "has no function 'nte'; did you mean 'net'?"),
        ("{file}:CLASSES", "3,2,2", "has no function 'CLASSES'; it has net, "),
        ("{file}", "3,2,2", "FACTORY: expected FILE.py:FACTORY or package.module:FACTORY; got "),
        ("{file}", "3,2,2", "', which has net, image, number, fails, Net; type "),
        ("none.py:net", "3,2,2", "none.py, which is not there"),
        ("no_such_package:net", "3,2,2", "got 'no_such_package:net', and there is no module 'no_such_pack"),
        ("{stem}:net", "3,2,2", "; did you mean '{stem}.py:net'?"),
        ("{file}::net", "3,2,2", "; did you mean '{file}:net'?"),
        ("{file}c:net", "3,2,2", ", and there is no module '"),
        ("{file}:number", "3,2,2", "expected a torch Module from number(); got int"),
        ("{file}:fails", "3,2,2", "fails() raised ValueError: no such layer (my_nets.py, line 14)"),
        ("{file}:made", "3,2,2", "FACTORY: expected a function that makes a module; got the module"),
        ("{file}:net", "3,two", "--input: expected sizes such as 3,32,32; got '3,two'"),
        (
            "{file}:net",
            "5",
            "and wants (…, 12); give the shape of a sample by --input, or by --batch a batch",
        ),
        ("{file}:image", "3,2,2", "its output is (32, 3, 2, 2), not (N, classes)"),
    ],
)
def test_what_cannot_be_checked_is_one_line(
    factory: str, shape: str, message: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"file": file, "stem": file.with_suffix("")}
    assert main(["check", factory.format(**names), "--input", shape]) == 2
    line = capsys.readouterr().err
    assert message.format(**names) in line
    assert line.count("\n") == 1


def test_a_page_is_written_where_it_was_asked_for(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = file.parent / "check.html"
    assert main(["check", f"{file}:net", "--input", "3,2,2", "--no-remedies", "--page", str(page)]) == 0
    assert "<h1>Healthy</h1>" in page.read_text()
    assert f"page: {page}" in capsys.readouterr().err


SEQUENCES = """
from torch import nn

class Tagger(nn.Module):
    def __init__(self, both):
        super().__init__()
        self.rnn = nn.GRU(4, 6, batch_first=True, bidirectional=both)
        self.head = nn.Linear(12 if both else 6, 3)

    def forward(self, x):
        return self.head(self.rnn(x)[0])

def one_way():
    return Tagger(False)

def both_ways():
    return Tagger(True)
"""


def test_a_causal_factory_is_checked_for_what_it_sees(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tag.py").write_text(SEQUENCES)
    flags = ["--input", "7,4", "--batch-size", "5", "--causal", "--no-remedies", "--fit", "3", "--seeds", "1"]
    assert main(["check", f"{tmp_path}/tag.py:one_way", *flags]) == 0
    out = capsys.readouterr().out
    assert "sees the future" not in out
    assert "in 3 steps; a constant output costs" in out
    assert main(["check", f"{tmp_path}/tag.py:both_ways", *flags]) == 1
    assert "\nsees the future, beginning at rnn" in capsys.readouterr().out


MORE = """
from torch import nn

def scalar():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 1))

def empty():
    return nn.Flatten()

class Odd(nn.Linear):
    def __init__(self, form):
        super().__init__(12, 3)
        self.form = form

    def forward(self, x):
        return self.form(super().forward(x.flatten(1)))

def a_dict():
    return Odd(lambda out: {"logits": out})

def integers():
    return Odd(lambda out: out.argmax(1))

def waves():
    return Odd(lambda out: out + 0j)

def cut():
    return Odd(lambda out: out.detach())

def scripted():
    import torch
    return torch.jit.script(scalar())

def quits():
    raise SystemExit(7)

model = scalar()
"""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["scalar"],
            "its one output is no classifier's; use a batch and a loss of your own: --batch NAME --loss NAME",
        ),
        (["empty"], "Flatten has no parameter to train"),
        (["a_dict"], "its output is dict, not (N, classes); use a batch and a loss of your own"),
        (["integers"], "its output is int64 (32,), not (N, classes)"),
        (["waves"], "its output is complex64 (32, 3), not (N, classes)"),
        (["cut"], "nothing in it has a gradient; look for detach(), argmax(), .item() or torch.no_grad()"),
        (["scripted"], "the model is compiled by torch.jit: give the module that it was made from"),
        (["quits"], "make_model: quits() raised SystemExit: 7 (more.py, line "),
        (["model"], "more.py:model"),
        (["scalar", "--batch-size", "0"], "--batch-size: expected 1 … 60,000; got 0"),
        (["scalar", "--page", "none/page.html"], "--page: expected a file in a folder that exists; got none"),
    ],
)
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_a_factory_that_makes_no_classifier_is_one_line(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "more.py").write_text(MORE)
    name, *flags = arguments
    assert main(["check", f"{tmp_path}/more.py:{name}", "--input", "3,2,2", *flags]) == 2
    assert says in (told := capsys.readouterr().err)
    assert len(told.splitlines()) == 1


OWN = """
import torch
from torch import nn

def prices():
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))

def houses():
    return torch.randn(16, 3), 1e4 * torch.randn(16, 1)

def relative(output, y):
    return ((output - y) / 1e4).square().mean()

def words():
    return nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 20))

def tokens():
    x = torch.randint(0, 20, (8, 6))
    return x, x.flip(1)

def lines():
    raise ValueError("no such file")
"""
QUICK = ("--no-remedies", "--seeds", "1", "--fit", "0")


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(OWN)
    return f"{tmp_path}/mine.py"


def test_a_batch_and_a_loss_of_ones_own_are_checked(own: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"{own}:prices", "--batch", "houses", "--loss", "mse_loss", *QUICK]) == 1
    out = capsys.readouterr().out
    assert "targets out of scale\n" in out
    assert "on noise" not in out
    assert main(["check", f"{own}:prices", "--batch", "houses", "--loss", "relative", *QUICK]) in (0, 1)
    assert "(cross_entropy)" not in capsys.readouterr().out


def test_a_batch_of_tokens_is_classified_at_each_position(
    own: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", f"{own}:words", "--batch", "tokens", *QUICK]) in (0, 1)
    assert "for 20 classes alike (cross_entropy)" in capsys.readouterr().out


def test_the_optimizer_that_is_asked_for_makes_the_steps(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--input", "3,2,2", *QUICK]
    sgd = ["--optimizer", "sgd", "--lr", "0.05", "--momentum", "0.9"]
    assert main(["check", f"{file}:net", *sgd, *flags]) == 0
    out = capsys.readouterr().out
    assert "\nas it is, by SGD, lr 0.05, momentum 0.9: loss " in out
    assert "\non noise, 32 × 3 × 2 × 2, and random labels, by cross_entropy\n" in out
    assert main(["check", f"{file}:net", *flags]) == 0
    assert "\nas it is, by Adam, lr 0.001, ε 1e-08: loss " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("prices", "--batch", "house"), "--batch: {file} has no function 'house'; did you mean 'houses'?"),
        (("prices", "--batch", "houses"), "--loss: expected with a --batch that is not (x, class numbers)"),
        (("prices", "--batch", "houses", "--loss", "mse"), "--loss: {file} has no function 'mse'"),
        (("prices", "--batch", "lines"), "--batch: lines() raised ValueError: no such file (mine.py, line"),
        (("prices", "--loss", "mse_loss"), "--loss: expected with --batch alone: noise has random labels"),
        (("words", "--batch", "tokens", "--input", "6"), "--input: expected without --batch"),
        (
            ("words", "--input", "6"),
            "wants integers from 0 to 19; give the shape of a sample by --input, or by",
        ),
        (("prices", "--momentum", "0.9"), "--momentum: expected with --optimizer sgd alone; got adam"),
    ],
)
def test_what_is_no_batch_or_loss_is_one_line(
    own: str, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", f"{own}:{words[0]}", *words[1:]]) == 2
    line = capsys.readouterr().err
    assert message.format(file=own) in line
    assert line.count("\n") == 1
