"""Routers made to fail in each way, and a healthy twin."""

from __future__ import annotations

import torch

import gradscape as gs
from attention_nets import Decoder, mixture, next_word, words
from gradscape.measure.diagnose.transformer.rules import transformer_findings
from gradscape.records.diagnosis import Finding
from gradscape.records.gradients import FlowHistory


def train(model: Decoder, steps: int = 4) -> FlowHistory:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with gs.watch(model, optimizer, every=1) as flow:
        for step in range(steps):
            optimizer.zero_grad()
            next_word(model, words(seed=step)).backward()
            optimizer.step()
    return flow.history()


def biased(values: list[float]) -> dict[str, Finding]:
    model = mixture()
    with torch.no_grad():
        model.blocks[1].mlp.gate.bias.copy_(torch.tensor(values))
    return {each.verdict: each for each in transformer_findings(train(model))}


def test_balanced_routers_are_not_accused() -> None:
    assert biased([0.0, 0.0, 0.0, 0.0]) == {}


def test_a_router_that_sends_all_tokens_to_the_same_experts() -> None:
    found = biased([50.0, -50.0, 50.0, -50.0])
    assert list(found) == ["router collapses", "dead experts"]
    collapse = found["router collapses"]
    assert collapse.layer == "blocks.1.mlp.gate"
    assert "gets 50 % of what is routed, in 1 of 2 routers" in collapse.cause
    assert collapse.evidence[0].value == 0
    assert collapse.grade == "warn"


def test_an_expert_that_gets_no_token() -> None:
    found = biased([0.0, 0.0, 0.0, -50.0])
    assert list(found) == ["dead experts"]
    assert found["dead experts"].layer == "blocks.1.mlp.gate"
    assert found["dead experts"].cause.startswith("experts 3 of 4 got no token, where 120 each would be even")
    assert found["dead experts"].evidence[0].value == 0.25
