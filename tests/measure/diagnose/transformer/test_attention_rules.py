"""Attention made to fail in each way, and healthy twins of it that are not accused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gradscape as gs
from attention_nets import HEADS, WIDTH, Decoder, fused, next_word, words
from gradscape.measure.diagnose.transformer.rules import transformer_findings
from gradscape.records.diagnosis import Finding
from gradscape.records.gradients import FlowHistory
from gradscape.records.transformer import OF_HEADS, until

FIRST = "blocks.0.attention"


def train(model: nn.Module, steps: int = 4, lr: float = 1e-3) -> FlowHistory:
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    with gs.watch(model, optimizer, every=1) as flow:
        for step in range(steps):
            optimizer.zero_grad()
            next_word(model, words(seed=step)).backward()
            optimizer.step()
    return flow.history()


def changed(change: Callable[[Decoder], object]) -> Decoder:
    model = Decoder()
    with torch.no_grad():
        change(model)
    return model


def scaled(factor: float) -> Callable[[Decoder], object]:
    return lambda model: [block.attention.qkv.weight[: 2 * WIDTH].mul_(factor) for block in model.blocks]


def findings(history: FlowHistory) -> dict[str, Finding]:
    return {each.verdict: each for each in transformer_findings(history)}


def test_healthy_attention_is_not_accused() -> None:
    assert findings(train(Decoder())) == {}
    assert findings(train(Decoder(), steps=40, lr=1e-2)) == {}


def test_attention_to_one_key_alone_and_the_logits_that_make_it() -> None:
    history = train(changed(scaled(100)))
    found = findings(history)
    assert list(found) == ["attention entropy collapses", "attention logits grow"]
    collapse, growth = found.values()
    assert collapse.layer == FIRST
    assert "in 2 of 2 attention layers" in collapse.cause
    assert "QK-norm" in collapse.remedy
    assert all(symptom.counts for each in found.values() for symptom in each.evidence)
    assert 5e3 < growth.evidence[0].value < 1e5
    assert "from 1.31e+04 at the first reading" in growth.cause
    assert {"attention entropy collapses", "attention logits grow"} <= {
        each.verdict for each in gs.diagnose(history).findings
    }


def test_sharp_attention_of_some_heads_is_no_collapse() -> None:
    def sharpen(model: Decoder) -> None:
        for part in (0, WIDTH):  # queries and keys of all heads but the last
            model.blocks[0].attention.qkv.weight[part : part + WIDTH - 4] *= 15

    history = train(changed(sharpen))
    assert history.transformer is not None
    assert history.transformer.attention is not None
    assert (history.transformer.attention.entropy[:, 0, 0] < 0.1).all()
    assert findings(history) == {}


def test_heads_that_begin_as_copies() -> None:
    def copy(model: Decoder) -> None:
        for part in (0, WIDTH):  # of queries and keys; values differ
            for table in (model.blocks[1].attention.qkv.weight, model.blocks[1].attention.qkv.bias):
                table[part + 8 : part + 12] = table[part : part + 4]

    found = findings(train(changed(copy), lr=1e-4))
    assert list(found) == ["copied heads"]
    assert found["copied heads"].layer == "blocks.1.attention"
    assert found["copied heads"].cause == "heads 0, 2 of 4 look at the same as others of their layer"
    assert found["copied heads"].grade == "warn"


def test_attention_that_begins_uniform_is_of_no_copies() -> None:
    assert findings(train(changed(scaled(0)))) == {}


def test_a_head_whose_values_are_masked_away() -> None:
    mask = torch.ones(HEADS, 1, 1)
    mask[3] = 0

    def pruned(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return fused(query, key, value * mask)

    found = findings(train(Decoder(pruned)))
    assert list(found) == ["dead heads"]
    assert found["dead heads"].cause == "head 3 of 4 adds next to nothing to its layer; 2 in all"
    assert found["dead heads"].evidence[0].value == 0


@pytest.mark.parametrize("rows", [0, 2])
def test_little_is_not_judged(rows: int) -> None:
    history = train(changed(scaled(100)), steps=3)
    seen = history.transformer
    assert seen is not None
    short = until(seen, rows - 1)
    assert len(short.steps) == rows
    assert transformer_findings(replace(history, transformer=short)) == []
    assert transformer_findings(replace(history, transformer=None)) == []


def test_readings_that_are_not_finite_are_no_fault_of_attention() -> None:
    history = train(Decoder(), steps=3)
    seen = history.transformer
    assert seen is not None
    assert seen.attention is not None
    broken = np.full_like(seen.attention.entropy, np.nan)
    attention = replace(seen.attention, **dict.fromkeys(OF_HEADS, broken))
    assert transformer_findings(replace(history, transformer=replace(seen, attention=attention))) == []
