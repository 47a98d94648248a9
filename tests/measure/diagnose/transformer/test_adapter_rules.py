"""Adapters of low rank made to fail in each way, of PEFT and by the names of others, and healthy twins."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import gradscape as gs
from attention_nets import WIDTH, Decoder, next_word, words
from gradscape.measure.diagnose.transformer.rules import transformer_findings
from gradscape.records.adapters import LowRank, low_rank
from gradscape.records.diagnosis import Finding
from gradscape.records.gradients import FlowHistory
from libraries import needs


class Adapted(nn.Module):
    """A linear layer with an adapter, by the names of PEFT."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.base_layer = layer.requires_grad_(False)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(layer.in_features, 2, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(2, layer.out_features, bias=False)})
        nn.init.zeros_(self.lora_B["default"].weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base_layer(x) + self.lora_B["default"](self.lora_A["default"](x))
        return out


def adapted() -> Decoder:
    model = Decoder().requires_grad_(False)
    for block in model.blocks:
        block.attention.qkv = Adapted(block.attention.qkv)
        block.attention.out = Adapted(block.attention.out)
    return model


def train(model: nn.Module, within: Callable[[], object] = lambda: None) -> FlowHistory:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    with gs.watch(model, optimizer, every=1) as flow:
        for step in range(4):
            optimizer.zero_grad()
            next_word(model, words(seed=step)).backward()
            optimizer.step()
            with torch.no_grad():
                within()
    return flow.history()


def only(history: FlowHistory) -> Finding:
    (found,) = transformer_findings(history)
    assert found.grade == "warn"
    assert all(symptom.counts for symptom in found.evidence)
    return found


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("a.q.lora_A.default.weight", LowRank("a.q", "A", "default")),
        ("a.q.lora_B", LowRank("a.q", "B", "")),
        ("a.q.lora_b.weight", LowRank("a.q", "B", "")),
        ("words.lora_embedding_A.mine", LowRank("words", "A", "mine")),
        ("a.q.weight", None),
        ("lora_head.weight", None),
    ],
)
def test_matrices_of_adapters_are_known_by_their_names(name: str, place: LowRank | None) -> None:
    assert low_rank(name) == place


def test_healthy_adapters_are_not_accused() -> None:
    history = train(adapted())
    assert transformer_findings(history) == []
    assert history.adapters is not None
    assert (len(history.adapters.layers), history.adapters.frozen, history.adapters.moved) == (4, 4, ())
    assert gs.diagnose(history).grade != "fail"
    assert history.transformer is not None
    assert history.transformer.attention is not None
    assert history.transformer.attention.layers == ("blocks.0.attention", "blocks.1.attention")


def test_a_model_without_adapters_has_none() -> None:
    assert train(Decoder()).adapters is None


def test_adapters_that_are_frozen_in_one_layer() -> None:
    model = adapted()
    model.blocks[1].attention.out.lora_A.requires_grad_(False)
    model.blocks[1].attention.out.lora_B.requires_grad_(False)
    found = only(train(model))
    assert (found.verdict, found.layer) == ("adapters get no gradient", "blocks.1.attention.out")


def test_adapters_whose_layer_the_loss_does_not_depend_on() -> None:
    model = adapted()
    model.blocks[0].attention.out.forward = lambda x: x.detach()
    found = only(train(model))
    assert (found.verdict, found.layer) == ("adapters get no gradient", "blocks.0.attention.qkv")
    assert "blocks.0.attention.out" in found.cause


def test_an_adapter_that_is_not_the_active_one_is_no_fault() -> None:
    model = adapted()
    for block in model.blocks:
        for layer in (block.attention.qkv, block.attention.out):
            layer.lora_A["other"] = nn.Linear(WIDTH, 2, bias=False).requires_grad_(False)
    assert transformer_findings(train(model)) == []


def test_base_weights_that_the_optimizer_trains_too() -> None:
    model = adapted()
    model.blocks[0].attention.qkv.base_layer.weight.requires_grad_(True)
    found = only(train(model))
    assert found.verdict == "base weights move"
    assert found.layer == "blocks.0.attention.qkv.base_layer.weight"
    assert "the optimizer trains them too" in found.cause


def test_base_weights_that_something_else_moves() -> None:
    model = adapted()
    weight = model.blocks[1].attention.qkv.base_layer.weight
    found = only(train(model, within=lambda: weight.add_(1e-3)))
    assert found.layer == "blocks.1.attention.qkv.base_layer.weight"
    assert "something else than the optimizer changes them" in found.cause


@needs("peft")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_peft_is_known_by_its_names() -> None:
    import peft
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama", vocab_size=29, bos_token_id=0, eos_token_id=0, num_hidden_layers=2, num_attention_heads=4,
        hidden_size=32, intermediate_size=48,
    )  # fmt: skip
    inner = AutoModelForCausalLM.from_config(config)
    model = peft.get_peft_model(inner, peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    with gs.watch(model, optimizer, every=1) as flow:
        for step in range(3):
            optimizer.zero_grad()
            ids = words(seed=step)
            model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
            optimizer.step()
        history = flow.history()
        model.merge_adapter()
        merged = flow.history()
    assert history.adapters is not None
    assert (len(history.adapters.layers), history.adapters.frozen) == (4, 4)
    assert transformer_findings(history) == []
    assert history.transformer is not None
    assert history.transformer.attention is not None
    assert [name.rpartition("layers.")[2] for name in history.transformer.attention.layers] == [
        "0.self_attn", "1.self_attn",
    ]  # fmt: skip
    found = only(merged)
    assert found.verdict == "base weights move"
    assert found.layer.endswith("layers.0.self_attn.q_proj.base_layer.weight")
