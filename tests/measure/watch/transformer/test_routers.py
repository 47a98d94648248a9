"""Load and entropy of routers against what the routers themselves return, of each family of transformers."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gradscape as gs
from attention_nets import mixture, next_word, words
from gradscape.records.transformer import RouterHistory
from libraries import needs

FAMILIES: dict[str, dict[str, Any]] = {
    "mixtral": {"num_local_experts": 4, "num_key_value_heads": 2},
    "qwen2_moe": {"num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
                  "num_key_value_heads": 2},
    "deepseek_v3": {
        "n_routed_experts": 4, "num_local_experts": 4, "n_group": 2, "topk_group": 1, "q_lora_rank": 8,
        "moe_intermediate_size": 16, "first_k_dense_replace": 1, "kv_lora_rank": 8, "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8, "v_head_dim": 8, "num_key_value_heads": 4,
    },
}  # fmt: skip


def remember(into: dict[str, Tensor], name: str, _: nn.Module, __: Any, output: Any) -> None:
    into[name] = output[2]


def routers(model: nn.Module, loss: Any) -> RouterHistory:
    with gs.watch(model, optimizer := torch.optim.SGD(model.parameters(), lr=0.1)) as flow:
        loss(model).backward()
        optimizer.step()
    found = flow.history().transformer
    assert found is not None
    assert found.routers is not None
    return found.routers


def test_load_and_entropy_are_those_of_the_choice() -> None:
    model = mixture()
    given: list[Tensor] = []
    for block in model.blocks:
        block.mlp.gate.register_forward_hook(lambda _, __, output: given.append(output.detach()))
    found = routers(model, lambda model: next_word(model, words()))
    assert found.layers == ("blocks.0.mlp.gate", "blocks.1.mlp.gate")
    assert found.experts == (4, 4)
    for place, logits in enumerate(given):
        shares = logits.softmax(-1)
        counts = torch.bincount(shares.topk(2).indices.flatten(), minlength=4)
        np.testing.assert_allclose(found.load[0, place], (counts / counts.sum()).numpy(), rtol=1e-6)
        entropy = -(shares * shares.log()).sum(-1).mean() / math.log(4)
        assert found.entropy[0, place] == pytest.approx(float(entropy), rel=1e-5)
    assert (found.tokens[0, 0], found.chosen[0, 0]) == (60, 2)


def test_a_choice_without_experts_beside_it_is_no_router() -> None:
    model = mixture()
    for block in model.blocks:
        block.mlp.experts = nn.ModuleList([*block.mlp.experts, nn.Linear(16, 16)])
        block.mlp.forward = lambda x, mlp=block.mlp: mlp.gate(x).softmax(-1).topk(2)[0].sum(-1, True) * x
    with gs.watch(model, optimizer := torch.optim.SGD(model.parameters(), lr=0.1)) as flow:
        next_word(model, words()).backward()
        optimizer.step()
    found = flow.history().transformer
    assert found is not None
    assert found.routers is None


@needs("transformers")
@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable")
def test_routers_of_transformers_are_read(family: str, checkpointed: bool) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        family, vocab_size=29, bos_token_id=0, eos_token_id=0, pad_token_id=0, num_hidden_layers=2,
        num_attention_heads=4, hidden_size=32, intermediate_size=48, num_experts_per_tok=2,
        **FAMILIES[family],
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).train()
    if checkpointed:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    chosen: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if type(module).__name__.endswith("Router"):
            module.register_forward_hook(partial(remember, chosen, name))
    found = routers(model, lambda model: model(words(), labels=words(), use_cache=False).loss)
    assert found.layers == tuple(chosen)
    assert found.experts == (4,) * len(chosen)
    for place, indices in enumerate(chosen.values()):
        counts = torch.bincount(indices.flatten(), minlength=4)
        np.testing.assert_allclose(found.load[0, place], (counts / counts.sum()).numpy(), rtol=1e-6)
    assert (found.entropy > 0.9).all()
