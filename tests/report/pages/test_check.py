"""The page on a network before training: whole, self-contained, the same every time."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.errors import StoreError
from gradscape.records.check import CheckRecord
from gradscape.report.pages.check import check_page, figures


@cache
def checked(bias: float = 0.0, remedies: bool = True) -> CheckRecord:
    def make() -> nn.Module:
        layers = [layer for _ in range(5) for layer in (nn.Linear(8, 8), nn.ReLU())]
        nn.init.constant_(layers[4].bias, bias)
        return nn.Sequential(*layers, nn.Linear(8, 2))

    x = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    return gs.check(make, (x, torch.arange(6) % 2), cross_entropy, remedies=remedies, fit=5)


@pytest.mark.slow
def test_the_page_is_self_contained_and_says_verdict_remedies_and_layers(tmp_path: Path) -> None:
    record = checked(bias=-100.0)
    path = gs.save_html(record, tmp_path / "checked.html")
    text = path.read_text()
    assert record.verdict == "dead units"
    assert f"<h1>Dead units, beginning at 5 ({record.diagnosis.findings[0].place})</h1>" in text
    assert re.findall(r'<th scope="row">(.*?)</th><td data-label', text)[: len(record.remedies)] == [
        trial.remedy for trial in record.remedies
    ]
    assert re.findall(r'<th scope="rowgroup" colspan="5">(.*?)</th>', text) == [
        heading for heading, _ in record.by_effect()
    ]
    assert text.count("<svg") == 3
    assert not re.search(r'(src|href)="(?!#|data:)', text)
    assert "<script" not in text
    assert record.fit is not None
    assert str(record.fit)[1:] in text
    assert "itial loss" in text
    assert check_page(record) == text
    assert [file.name for file in tmp_path.iterdir()] == ["checked.html"]


def test_the_figures_are_the_numbers_of_every_seed() -> None:
    signal = checked(remedies=False).signal
    axes = figures(signal)[0].drawing.axes[0]
    assert len(axes.lines) == 2 * 3  # signal and gradient, three seeds
    assert axes.lines[1].get_ydata().tolist() == signal.second_moment[1].tolist()


def test_without_remedies_the_page_has_none(tmp_path: Path) -> None:
    assert 'id="remedies"' not in check_page(checked(remedies=False))


def test_a_page_that_cannot_be_written_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="give a file in a folder that exists"):
        gs.save_html(checked(remedies=False), tmp_path / "none" / "checked.html")
