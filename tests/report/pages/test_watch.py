"""The page on a watched training: whole, self-contained, the same every time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.errors import StoreError
from gradscape.records.diagnosis import Diagnosis
from gradscape.records.gradients import FlowHistory
from gradscape.report.figures.watch import figures
from gradscape.report.pages.watch import watch_page


def watched(steps: int = 3, activations: bool = False) -> tuple[FlowHistory, Diagnosis]:
    torch.manual_seed(0)
    layers = [layer for _ in range(12) for layer in (nn.Linear(8, 8), nn.Sigmoid())]
    model = nn.Sequential(*layers, nn.Linear(8, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with gs.watch(model, optimizer, activations=activations) as flow:
        for _ in range(steps):
            optimizer.zero_grad()
            cross_entropy(model(torch.randn(4, 8)), torch.tensor([0, 1, 0, 1])).backward()
            optimizer.step()
    return flow.history(), gs.diagnose(flow)


def test_the_page_is_self_contained_and_says_the_verdict(tmp_path: Path) -> None:
    history, diagnosis = watched()
    path = gs.save_html(history, tmp_path / "watched.html")
    text = path.read_text()
    assert f"<h1>{diagnosis.verdict.capitalize()}" in text
    assert diagnosis.layer in text
    assert all(name in text for name in history.layers)
    assert text.count("<svg") == 4
    assert not re.search(r'(src|href)="(?!#|data:)', text)
    assert "<script" not in text
    assert watch_page(history, diagnosis) == text
    assert [file.name for file in tmp_path.iterdir()] == ["watched.html"]


def test_the_verdict_is_marked_at_its_layer() -> None:
    history, diagnosis = watched()
    place = [history.layers[column] for column in history.weights].index(diagnosis.layer) + 1
    axes = figures(history, diagnosis)[0].drawing.axes[0]
    assert [line.get_ydata()[0] for line in axes.lines] == [place, place]
    assert diagnosis.layer in axes.texts[0].get_text()


def test_a_page_that_cannot_be_written_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="give a file in a folder that exists"):
        gs.save_html(watched(1)[0], tmp_path / "none" / "watched.html")


def test_activations_have_maps_of_what_there_is_to_see() -> None:
    names = [figure.name for figure in figures(*watched(activations=True))]
    assert names[4:] == ["second-moment-map", "correlation-map", "saturated-map"]  # sigmoids are not dead


def test_a_finding_of_outputs_is_marked_on_their_maps() -> None:
    history, diagnosis = watched(activations=True)
    outputs = history.activations
    assert outputs is not None
    finding = next(each for each in diagnosis.findings if each.layer in outputs.layers)
    assert finding.verdict == "no signal from the input"
    axes = next(f for f in figures(history, diagnosis) if f.name == "correlation-map").drawing.axes[0]
    assert axes.lines[0].get_ydata()[0] == outputs.layers.index(finding.layer) + 1


def test_a_network_without_any_gradient_has_a_page(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].bias.fill_(-100.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flow = gs.watch(model, optimizer, activations=True)
    for _ in range(2):
        optimizer.zero_grad()
        (0 * model(torch.randn(3, 4)).sum()).backward()
        optimizer.step()
    history, diagnosis = flow.history(), gs.diagnose(flow)
    assert "<h1>Dead units" in gs.save_html(history, tmp_path / "page.html").read_text()
    axes = figures(history, diagnosis)[0].drawing.axes[0]
    assert [text.get_text() for text in axes.texts] == ["no value but zeros, or none that is finite"]


def test_half_a_surrogate_pair_in_a_layers_name_is_drawn_as_a_question_mark(tmp_path: Path) -> None:
    model = nn.Sequential()
    model.add_module("a\udc80b", nn.Linear(4, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flow = gs.watch(model, optimizer)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(5, 4)).sum().backward()
        optimizer.step()
    flow.save_html(tmp_path / "page.html")
    assert "a?b.weight" in (tmp_path / "page.html").read_text(encoding="utf-8")
