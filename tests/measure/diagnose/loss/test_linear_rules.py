"""The rule on networks that are linear, and on those that are so on purpose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.made_losses import made_history, made_term
from torch import nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.measure.diagnose.loss.rules import loss_findings, loss_notes
from gradscape.records.diagnosis import Diagnosis
from gradscape.records.loss import LossHistory

VERDICT = "no activation between layers"
LABELS = np.arange(64) % 2


def history(
    *widths: int, losses: tuple[float, float] = (0.7, 0.693), term: str = "cross_entropy"
) -> LossHistory:
    """A training between two losses, of a network of these widths."""
    scores = np.random.default_rng(0).normal(size=(64, 2))
    target = LABELS if term == "cross_entropy" else None
    output = scores if term == "cross_entropy" else None
    noise = 0.02 * np.random.default_rng(1).normal(size=200)
    values = np.linspace(*losses, 200) + noise
    terms = [made_term(term, output=output, target=target) for _ in range(20)]
    return made_history(*terms, values=values, linear_widths=widths)


def grades(seen: LossHistory) -> dict[str, str]:
    return {each.verdict: each.grade for each in loss_findings(seen)}


def test_a_linear_network_that_does_not_learn_is_a_fault() -> None:
    assert grades(history(5, 15, 15, 2))[VERDICT] == "fail"


def test_one_that_learns_a_little_deserves_a_look() -> None:
    assert grades(history(5, 15, 15, 2, losses=(0.7, 0.5))) == {VERDICT: "warn"}
    assert grades(history(5, 15, 15, 2, losses=(9.0, 2.0), term="unknown")) == {VERDICT: "warn"}


def test_one_that_learns_has_a_note() -> None:
    seen = history(5, 15, 15, 2, losses=(0.7, 0.1))
    assert not grades(seen)
    assert any("the network is linear" in note for note in loss_notes(seen))


@pytest.mark.parametrize("widths", [(5, 2), (64, 2, 64), (512, 8, 1000), ()])
def test_one_layer_and_a_factorization_are_no_fault(widths: tuple[int, ...]) -> None:
    assert VERDICT not in grades(history(*widths))
    assert not loss_notes(history(*widths, losses=(0.7, 0.1)))


def test_a_training_that_has_just_begun_is_not_judged() -> None:
    seen = history(5, 15, 15, 2)
    short = replace(seen, steps=seen.steps[:50], values=seen.values[:50])
    assert VERDICT not in grades(short)


def trained(*between: nn.Module) -> Diagnosis:
    """A disc within a ring, which no straight line parts."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 16), *between, nn.Linear(16, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    with gs.watch(model, optimizer) as flow:
        for _ in range(150):
            x = torch.randn(64, 2)
            optimizer.zero_grad()
            cross_entropy(model(x), (x.norm(dim=1) > 1.18).long()).backward()
            optimizer.step()
    return gs.diagnose(flow)


def test_a_ring_that_no_line_parts() -> None:
    found = trained()
    assert found.verdict == VERDICT
    assert found.grade == "fail"
    assert [each.verdict for each in found.findings] == [VERDICT]
    assert "2 layers (of widths 2, 16, 2)" in found.findings[0].cause


def test_the_same_with_an_activation() -> None:
    found = trained(nn.ReLU())
    assert VERDICT not in [each.verdict for each in found.findings]
    assert found.grade != "fail"
