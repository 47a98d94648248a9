"""Residual streams, gains and output logits made to fail in each way, and healthy twins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

import gradscape as gs
from attention_nets import Decoder, next_word, words
from gradscape.measure.diagnose.transformer.rules import transformer_findings
from gradscape.records.diagnosis import Finding
from gradscape.records.gradients import FlowHistory


def train(model: nn.Module, steps: int = 4, later: Callable[[], object] = lambda: None) -> FlowHistory:
    """Train a few steps; `later` happens after the first of them."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    with gs.watch(model, optimizer, every=1) as flow:
        for step in range(steps):
            optimizer.zero_grad()
            next_word(model, words(seed=step)).backward()
            optimizer.step()
            if step == 0:
                with torch.no_grad():
                    later()
    return flow.history()


def only(history: FlowHistory) -> Finding:
    (found,) = transformer_findings(history)
    assert found.grade == "warn"
    assert all(symptom.counts for symptom in found.evidence)
    return found


def late(history: FlowHistory) -> FlowHistory:
    """The same readings, a hundred steps later."""
    assert history.transformer is not None
    return replace(history, transformer=replace(history.transformer, steps=history.transformer.steps + 100))


def test_a_healthy_stream_is_not_accused() -> None:
    assert transformer_findings(late(train(Decoder()))) == []


def test_blocks_that_drown_the_embedding() -> None:
    model = Decoder()
    with torch.no_grad():
        model.blocks[0].mlp[2].weight *= 1e5
    found = only(train(model))
    assert (found.verdict, found.layer) == ("residual stream grows", "blocks.1.first")


def idle() -> Decoder:
    """A decoder whose blocks add nothing."""
    model = Decoder()
    for block in model.blocks:
        for layer in (block.attention.out, block.mlp[2]):
            nn.init.zeros_(layer.weight).requires_grad_(False)
            nn.init.zeros_(layer.bias).requires_grad_(False)
    return model


def test_blocks_that_add_nothing_once_the_training_has_begun() -> None:
    history = train(idle())
    assert transformer_findings(history) == []
    found = only(late(history))
    assert (found.verdict, found.layer) == ("blocks add nothing", "last")


def test_blocks_that_a_task_does_not_need_are_not_accused() -> None:
    """The next word follows from the last one alone, which an embedding and an output layer can learn."""
    model = idle()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.03)
    with gs.watch(model, optimizer, every=1) as flow:
        for step in range(120):
            ids = (words(1, step)[:, :1] + torch.arange(20)) % 11
            optimizer.zero_grad()
            next_word(model, ids).backward()
            optimizer.step()
    assert only(flow.history()).verdict == "blocks add nothing"
    assert "blocks add nothing" not in {each.verdict for each in gs.diagnose(flow).findings}


def test_gains_that_vanish_or_grow() -> None:
    for factor, word in ((1e-4, "vanished"), (1e3, "grown")):
        model = Decoder()
        found = only(
            train(model, 5, lambda model=model, factor=factor: model.blocks[1].second.weight.mul_(factor))
        )
        assert (found.verdict, found.layer) == ("norm gains out of scale", "blocks.1.second.weight")
        assert f"its gains have {word}, from 1 to" in found.cause


def test_logits_that_drift_together() -> None:
    model = Decoder()
    with torch.no_grad():
        model.last.bias.fill_(1)
        model.head.weight -= 20
    found = only(train(model))
    assert (found.verdict, found.layer) == ("output logits drift", "")
    assert found.evidence[0].value > 200
    assert "z-loss" in found.remedy
