"""Curves of a transformer's numbers, of those that there are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

import gradscape as gs
from attention_nets import mixture, next_word, words
from gradscape.report.interactive.transformer_curves import transformer_curves


def test_curves_are_of_what_was_read() -> None:
    model = mixture()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gs.watch(model, optimizer) as flow:
        for seed in range(3):
            optimizer.zero_grad()
            next_word(model, words(seed=seed)).backward()
            optimizer.step()
    found = flow.history().transformer
    assert found is not None
    assert found.stream is not None
    curves = {each["title"]: each["series"] for each in transformer_curves(found)}
    assert list(curves) == [
        "attention entropy, of that of equal weights", "largest attention logit", "residual stream",
        "log Z of the output", "largest load of an expert",
    ]  # fmt: skip
    embedding, end = curves["residual stream"]
    assert end["x"].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(end["y"], found.stream.size[:, -1])
    np.testing.assert_array_equal(embedding["y"], found.stream.size[:, 0])
    fewer = transformer_curves(replace(found, routers=None, logits=None, stream=None))
    assert len(fewer) == 2
    assert transformer_curves(replace(found, attention=None, routers=None, logits=None, stream=None)) == []
    assert transformer_curves(None) == []
