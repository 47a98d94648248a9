"""Residual stream and output logits against what hooks see, also where parts of the pass run again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gradscape as gs
from attention_nets import Decoder, next_word, words
from gradscape.measure.watch.transformer import logits
from gradscape.records.transformer import TransformerHistory

NORMS = ("blocks.0.first", "blocks.0.second", "blocks.1.first", "blocks.1.second", "last")


def read(model: nn.Module, loss: Tensor | None = None) -> TransformerHistory:
    with gs.watch(model, optimizer := torch.optim.SGD(model.parameters(), lr=0.1)) as flow:
        (next_word(model, words()) if loss is None else loss).backward()
        optimizer.step()
    found = flow.history().transformer
    assert found is not None
    return found


def given_to_norms(model: nn.Module) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    handles = [
        module.register_forward_pre_hook(lambda _, given, name=name: seen.setdefault(name, given[0].detach()))
        for name, module in model.named_modules()
        if isinstance(module, nn.LayerNorm | nn.RMSNorm)
    ]
    with torch.no_grad():
        model(words())
    for handle in handles:
        handle.remove()
    places = [place * 20 // 4 - 1 for place in range(1, 5)]
    return {name: each[:4, places].flatten(0, 1) for name, each in seen.items()}


@pytest.mark.parametrize("reentrant", [None, False, True])
def test_stream_is_what_normalization_layers_are_given(reentrant: bool | None) -> None:
    seen = given_to_norms(Decoder().double())
    found = read(Decoder(reentrant=reentrant).double()).stream
    assert found is not None
    assert found.layers == NORMS
    first = seen[NORMS[0]]
    for place, name in enumerate(NORMS):
        size = seen[name].square().mean().sqrt()
        share = (seen[name] * first).sum() / seen[name].square().sum()
        assert found.size[0, place] == pytest.approx(float(size), rel=1e-9)
        assert found.share[0, place] == pytest.approx(float(share), rel=1e-9)
    assert found.share[0, 0] == pytest.approx(1)


def test_rms_norm_is_read_too() -> None:
    model = Decoder()
    for block in model.blocks:
        block.first, block.second = nn.RMSNorm(16), nn.RMSNorm(16)
    model.last = nn.RMSNorm(16)
    model.double()
    seen = given_to_norms(model)
    found = read(model).stream
    assert found is not None
    assert found.layers == NORMS
    sizes = [float(each.square().mean().sqrt()) for each in seen.values()]
    np.testing.assert_allclose(found.size[0], sizes, rtol=1e-9)


def test_norms_within_branches_are_no_stream() -> None:
    class After(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner, self.norm = inner, nn.LayerNorm(16)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.norm(self.inner(x))
            return out

    model = Decoder()
    for block in model.blocks:
        block.mlp = After(block.mlp)
    found = read(model).stream
    assert found is not None
    assert found.layers == NORMS


@pytest.mark.parametrize("bias", [False, True])
def test_logits_are_those_of_the_last_layer(bias: bool) -> None:
    model = Decoder().double()
    model.head = nn.Linear(16, 11, bias=bias).double()
    ids = words()
    outputs = model(ids).detach().flatten(0, 1)
    places = [place * len(outputs) // logits.TOKENS - 1 for place in range(1, logits.TOKENS + 1)]
    found = read(model, F.cross_entropy(model(ids).flatten(0, 1), ids.flatten())).logits
    assert found is not None
    assert found.largest[0] == pytest.approx(float(outputs[places].max()), rel=1e-9)
    assert found.log_z[0] == pytest.approx(float(outputs[places].logsumexp(1).mean()), rel=1e-9)


def test_logits_behind_a_softcap_and_another_layout_are_those_that_the_loss_gets() -> None:
    model = Decoder().double()
    ids = words()
    capped = 3 * (model(ids) / 3).tanh()
    outputs = capped.detach().flatten(0, 1)
    places = [place * len(outputs) // logits.TOKENS - 1 for place in range(1, logits.TOKENS + 1)]
    found = read(model, F.cross_entropy(capped.transpose(1, 2), ids)).logits
    assert found is not None
    assert found.largest[0] == pytest.approx(float(outputs[places].max()), rel=1e-9)


def test_logits_behind_something_else_are_not_guessed() -> None:
    model = Decoder()
    found = read(model, F.cross_entropy(model(words()).flatten(0, 1).exp(), words().flatten()))
    assert found.logits is None
    assert found.attention is not None


def test_it_is_drawn_by_name() -> None:
    found = read(Decoder())
    assert found.plot(statistic="share").has_data()
    with pytest.raises(gs.errors.ConfigError, match="statistic: expected one of entropy, unif"):
        found.plot(statistic="entropies")
