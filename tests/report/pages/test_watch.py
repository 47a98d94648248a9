"""The page on a watched training: whole, self-contained, the same every time."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.errors import StoreError
from gradscape.records.diagnosis import Diagnosis
from gradscape.records.gradients import FlowHistory


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


def data_of(text: str) -> dict[str, Any]:
    """The document in a page."""
    data = json.loads(text.split('type="application/json">')[1].split("</script>")[0])
    (found,) = data["trainings"].values()
    return dict(found)


def test_the_page_is_self_contained_and_says_the_verdict(tmp_path: Path) -> None:
    history, diagnosis = watched()
    path = gs.save_html(history, tmp_path / "watched.html")
    text = path.read_text()
    without_scripts = text.split("<noscript>")[1].split("</noscript>")[0]
    assert f"<h1>{diagnosis.heading}</h1>" in without_scripts
    assert diagnosis.findings[0].cause in html.unescape(without_scripts)
    assert all(name in without_scripts for name in history.layers)
    assert not re.search(r'(src|href)="(?!#|data:)', text)
    assert data_of(text)["diagnosis"]["verdict"] == diagnosis.verdict
    again = gs.save_html(history, tmp_path / "again.html", diagnosis)
    assert again.read_bytes() == path.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["again.html", "watched.html"]


def test_a_page_that_cannot_be_written_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="give a file in a folder that exists"):
        gs.save_html(watched(1)[0], tmp_path / "none" / "watched.html")


def test_activations_have_maps_of_what_there_is_to_see(tmp_path: Path) -> None:
    text = gs.save_html(watched(activations=True)[0], tmp_path / "page.html").read_text()
    keys = [each["key"] for each in data_of(text)["maps"]]
    assert keys[-3:] == ["second_moment", "correlation", "saturated"]  # sigmoids are not dead


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
    text = gs.save_html(flow.history(), tmp_path / "page.html").read_text()
    assert "<title>Dead units" in text
    assert data_of(text)["maps"][0]["range"] == [1e-12, 1.0]  # of zeros alone


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
