"""Numbers of attention heads against direct arithmetic, in every way that attention is computed."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gradscape as gs
from attention_nets import (
    HEADS,
    WIDTH,
    Attend,
    Decoder,
    by_hand,
    einsum,
    fused,
    masked,
    next_word,
    words,
)
from gradscape._codec import decode, encode
from gradscape.integrations.jsonl import JsonLines, read_jsonl
from gradscape.measure.core.graph.owners import Owners
from gradscape.measure.watch import thinned_rows
from gradscape.measure.watch.transformer import attention, passes, reader
from gradscape.measure.watch.watch import Watch
from gradscape.records.gradients import slice_rows
from gradscape.records.transformer import AttentionHistory, TransformerHistory
from gradscape.storage.watch_folder import WatchReader, WatchWriter
from libraries import needs

LAYERS = ("blocks.0.attention", "blocks.1.attention")
Loss = Callable[[nn.Module], Tensor]


def run(model: nn.Module, loss: Loss, steps: int = 1, every: int | None = None) -> Watch:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    flow = gs.watch(model, optimizer, every=every)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()
    flow.close()  # open watches see the backward passes of other tests
    return flow


def heads(flow: Watch) -> AttentionHistory:
    found = flow.history().transformer
    assert found is not None
    assert found.attention is not None
    return found.attention


def of_words(model: nn.Module) -> Tensor:
    return next_word(model, words())


def rows_read(length: int) -> list[int]:
    number = min(attention.QUERIES, length)
    return [place * length // number - 1 for place in range(1, number + 1)]


def expected(query: Tensor, key: Tensor, value: Tensor, causal: bool = True) -> dict[str, Tensor]:
    """The numbers of each head, in float64 and the textbook's way: a query at a time."""
    found: dict[str, list[Tensor]] = {name: [] for name in attention.COLUMNS}
    query, key, value = (each.detach().double() for each in (query, key, value))
    for head in range(query.shape[1]):
        entropies, uniform, largest, squares = [], [], [], []
        for sample in range(min(attention.SAMPLES, len(query))):
            for row in rows_read(query.shape[2]):
                keys = key[sample, head, : row + 1] if causal else key[sample, head]
                values = value[sample, head, : len(keys)]
                logits = keys @ query[sample, head, row] / math.sqrt(query.shape[-1])
                weights = logits.softmax(0)
                largest.append(logits.max())
                squares.append((weights @ values).square().mean())
                if len(keys) > 1:
                    entropies.append(-(weights * weights.log()).sum())
                    uniform.append(torch.tensor(len(keys), dtype=torch.float64).log())
        found["entropy"].append(torch.stack(entropies).mean())
        found["uniform"].append(torch.stack(uniform).mean())
        found["logit"].append(torch.stack(largest).max())
        found["output"].append(torch.stack(squares).mean().sqrt())
    return {name: torch.stack(values) for name, values in found.items() if values}


def given_to_first(model: Decoder, ids: Tensor) -> tuple[Tensor, ...]:
    """Queries, keys and values of the first block, (B, H, L, D)."""
    block = model.blocks[0]
    x = model.words(ids) + model.places(torch.arange(ids.shape[1]))
    parts = block.attention.qkv(block.first(x)).chunk(3, dim=-1)
    return tuple(each.view(*ids.shape, HEADS, WIDTH // HEADS).transpose(1, 2) for each in parts)


@pytest.mark.parametrize("attend", [fused, masked, by_hand, einsum])
def test_numbers_of_heads_are_those_of_direct_arithmetic(attend: Attend) -> None:
    model = Decoder(attend).double()
    wanted = expected(*given_to_first(model, words()))
    found = heads(run(model, of_words))
    assert found.layers == LAYERS
    assert found.heads == (HEADS, HEADS)
    for name, values in wanted.items():
        np.testing.assert_allclose(getattr(found, name)[0, 0], values.numpy(), rtol=1e-9, err_msg=name)


def test_likeness_is_the_correlation_of_logits_and_1_of_a_copy() -> None:
    model = Decoder().double()
    with torch.no_grad():
        for part in (0, WIDTH):  # queries and keys; values differ
            model.blocks[0].attention.qkv.weight[part + 4 : part + 8] = model.blocks[0].attention.qkv.weight[
                part : part + 4
            ]
            model.blocks[0].attention.qkv.bias[part + 4 : part + 8] = model.blocks[0].attention.qkv.bias[
                part : part + 4
            ]
    query, key, _ = given_to_first(model, words())
    kept: list[list[Tensor]] = [[] for _ in range(HEADS)]
    for head in range(HEADS):
        for sample in range(3):
            for row in rows_read(query.shape[2]):
                logits = key[sample, head, : row + 1] @ query[sample, head, row]
                kept[head].append(logits - logits.mean())
    flat = torch.stack([torch.cat(each) for each in kept])
    wanted = torch.nn.functional.cosine_similarity(flat[:, None], flat[None], dim=-1).fill_diagonal_(-1)
    found = heads(run(model, of_words)).alike[0]
    np.testing.assert_allclose(found[0], wanted.amax(1).detach().numpy(), rtol=1e-9)
    np.testing.assert_allclose(found[0, :2], 1.0, atol=1e-12)
    assert (found[0, 2:] < 0.9).all()
    assert (found[1] < 0.9).all()


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("attend", [fused, by_hand])
def test_checkpointed_attention_is_read_once_with_the_same_numbers(attend: Attend, reentrant: bool) -> None:
    plain, again = (heads(run(Decoder(attend, way), of_words, steps=2)) for way in (None, reentrant))
    assert again.layers == LAYERS
    for name in attention.COLUMNS:
        np.testing.assert_allclose(getattr(again, name), getattr(plain, name), rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("attend", [fused, by_hand])
@pytest.mark.parametrize("reentrant", [None, False, True])
@pytest.mark.parametrize("half", [False, True])
def test_weights_stay_bit_for_bit_what_they_would_be(
    attend: Attend, reentrant: bool | None, half: bool
) -> None:
    def train(watched: bool) -> tuple[dict[str, Tensor], list[float], Tensor]:
        model = Decoder(attend, reentrant)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        flow = gs.watch(model, optimizer, every=1) if watched else None
        losses: list[float] = []
        for step in range(3):
            optimizer.zero_grad()
            for part in (0, 1):  # accumulated
                with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
                    loss = next_word(model, words(seed=2 * step + part))
                loss.backward()
                losses.append(loss.item())
            optimizer.step()
        if flow is not None:
            flow.close()
            assert heads(flow).entropy.shape == (3, 2, HEADS)
            assert not any(module._forward_pre_hooks for module in model.modules() if module is not model)
        return model.state_dict(), losses, torch.get_rng_state()

    weights, losses, state = train(watched=False)
    watched_weights, watched_losses, watched_state = train(watched=True)
    assert watched_losses == losses
    assert torch.equal(watched_state, state)
    assert all(torch.equal(watched_weights[name], value) for name, value in weights.items())


def test_a_row_is_the_mean_of_accumulated_passes_and_their_largest_logit() -> None:
    model = Decoder().double()
    wanted = [expected(*given_to_first(model, words(seed=seed))) for seed in (0, 1)]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    flow = gs.watch(model, optimizer)
    for seed in (0, 1):
        next_word(model, words(seed=seed)).backward()
    next_word(model, words(seed=7))  # an evaluation that autograd records, and no step uses
    optimizer.step()
    flow.close()
    found = heads(flow)
    mean = torch.stack([each["entropy"] for each in wanted]).mean(0)
    largest = torch.stack([each["logit"] for each in wanted]).amax(0)
    np.testing.assert_allclose(found.entropy[0, 0], mean.numpy(), rtol=1e-9)
    np.testing.assert_allclose(found.logit[0, 0], largest.numpy(), rtol=1e-9)


def test_a_mask_of_numbers_counts_in_the_weights_and_not_in_the_logits() -> None:
    slope = torch.linspace(-1, 0, 20).expand(20, 20) + torch.full((20, 20), -math.inf).triu(1)

    def biased(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=slope.to(query.dtype))

    model = Decoder(biased).double()
    query, key, _ = given_to_first(model, words())
    logits = (query @ key.transpose(2, 3) / 2).detach()
    places = rows_read(20)
    weights = (logits + slope).softmax(-1)[:, :, places]
    entropy = -torch.special.xlogy(weights, weights).sum(-1)
    found = heads(run(model, of_words))
    counted = [place for place, row in enumerate(places) if row > 0]
    wanted = entropy[:, :, counted].mean((0, 2))
    np.testing.assert_allclose(found.entropy[0, 0], wanted.numpy(), rtol=1e-6)
    largest = logits.masked_fill(torch.ones(20, 20, dtype=torch.bool).triu(1), -math.inf)[:, :, places]
    np.testing.assert_allclose(found.logit[0, 0], largest.amax((0, 2, 3)).numpy(), rtol=1e-9)


class Encoder(nn.Module):
    def __init__(self, weights: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.head = nn.Embedding(11, WIDTH), nn.Linear(WIDTH, 11)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.weights = weights

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        out: Tensor = self.head(x + self.attention(x, x, x, need_weights=self.weights)[0])
        return out


def test_multihead_attention_of_torch_is_read_with_and_without_its_weights() -> None:
    fused_, explicit = (heads(run(Encoder(weights).double(), of_words)) for weights in (False, True))
    model = Encoder().double()
    parts = nn.functional.linear(model.words(words()), model.attention.in_proj_weight,
                                 model.attention.in_proj_bias).chunk(3, dim=-1)  # fmt: skip
    split = [each.view(3, 20, HEADS, 4).transpose(1, 2) for each in parts]
    wanted = expected(*split, causal=False)
    for found in (fused_, explicit):
        assert (found.layers, found.heads) == (("attention",), (HEADS,))
        for name, values in wanted.items():
            np.testing.assert_allclose(getattr(found, name)[0, 0], values.numpy(), rtol=1e-9, err_msg=name)


def test_the_fast_path_of_a_frozen_encoder_is_left_to_run_and_noted() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 32, batch_first=True)
    model = nn.ModuleDict({"encoder": nn.TransformerEncoder(layer, 2), "head": nn.Linear(WIDTH, 11)})
    model["encoder"].requires_grad_(False).eval()
    x = torch.randn(3, 20, WIDTH)
    alone = model["encoder"](x)
    seen = []

    def loss(_: nn.Module) -> Tensor:
        seen.append(model["encoder"](x))
        return nn.functional.cross_entropy(model["head"](seen[-1]).flatten(0, 1), words().flatten())

    flow = run(model, loss, steps=4)
    assert all(torch.equal(each, alone) for each in seen)
    assert flow.history().transformer is None
    (note,) = (note for note in flow.notes if "attention" in note)
    assert note == (
        "attention of encoder.layers.0.self_attn, encoder.layers.1.self_attn is not read: no gradient passes "
        "through it, or its form is not recognized"
    )


def test_attention_within_a_compiled_model_is_noted_and_trains_the_same() -> None:
    def train(watched: bool) -> tuple[dict[str, Tensor], list[str]]:
        model = Encoder()
        compiled = torch.compile(model, backend="aot_eager")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        flow = gs.watch(compiled, optimizer) if watched else None
        for _ in range(2):
            optimizer.zero_grad()
            of_words(compiled).backward()
            optimizer.step()
        if flow is not None:
            flow.close()
            assert flow.history().transformer is None
        return model.state_dict(), [] if flow is None else flow.notes

    weights, _ = train(watched=False)
    watched_weights, notes = train(watched=True)
    assert all(torch.equal(watched_weights[name], value) for name, value in weights.items())
    assert "attention of attention is not read: it is compiled" in notes


def test_tensors_that_hooks_keep_elsewhere_are_left_there_and_noted() -> None:
    with torch.autograd.graph.saved_tensors_hooks(lambda x: (x,), lambda packed: packed[0]):
        flow = run(Decoder(), of_words, steps=reader.ALONE)
    assert flow.history().transformer is None
    (note,) = (note for note in flow.notes if "attention" in note)
    assert note.endswith("is not read: hooks keep the tensors of its backward pass")


def test_parameters_without_memory_have_no_place() -> None:
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2, device="meta").requires_grad_(False)})
    owners = Owners(model)
    owners.begin()
    assert sorted(owners._by_place.values()) == ["a.bias", "a.weight"]


class LinearAttention(nn.Module):
    """Attention without a softmax over keys: there is nothing of the kind to read."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        return query.softmax(-1) @ (key.softmax(1).transpose(1, 2) @ value)


def test_attention_of_another_form_is_noted_and_not_guessed() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(11, WIDTH), LinearAttention(), nn.Linear(WIDTH, 11))
    flow = run(model, of_words, steps=5)
    assert flow.history().transformer is None
    assert "attention of 1 is not read: no gradient passes through it, or its form is not recognized" in (
        flow.notes
    )


def test_a_network_without_attention_is_looked_at_a_few_times_only() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    x, y = torch.randn(6, 4), torch.arange(6) % 3
    flow = run(model, lambda model: nn.functional.cross_entropy(model(x), y), steps=reader.ALONE + 1, every=1)
    assert flow.history().transformer is None
    assert flow._recorder.transformer.closed
    assert not [note for note in flow.notes if "attention" in note]


def test_an_error_ends_this_reading_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    model, read = Decoder(), passes.read_attention

    def broken(graph: Any, owners: Any, *known: Any) -> Any:
        if model.head in owners.modules.values():  # watches that other tests left open hear of it too
            raise ZeroDivisionError("no head")
        return read(graph, owners, *known)

    monkeypatch.setattr(passes, "read_attention", broken)
    with pytest.warns(UserWarning, match="attention is not read, since step 0: ZeroDivisionError: no head"):
        flow = run(model, of_words, steps=2)
    assert len(flow.history().steps) == 2
    assert flow.history().transformer is None


def test_rows_are_thinned_as_they_become_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MOST", 1)
    monkeypatch.setattr(thinned_rows, "FEWEST", 8)
    flow = run(Decoder(depth=1), of_words, steps=12, every=1)
    whole = flow.history()
    found = whole.transformer
    assert found is not None
    assert found.steps.tolist() == [0, 4, 6, 7, 8, 9, 10, 11]
    assert found.attention is not None
    assert len(found.attention.entropy) == 8
    assert decode(TransformerHistory, encode(found)) == found
    cut = slice_rows(whole, slice(0, 9)).transformer
    assert cut is not None
    assert cut.steps.tolist() == [0, 4, 6, 7, 8]
    assert cut.attention is not None
    np.testing.assert_array_equal(cut.attention.logit, found.attention.logit[:5])
    assert str(cut) == "1 attention layer at 5 readings"


@needs("transformers")
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_paths_of_transformers_give_the_same_numbers(family: str) -> None:
    found = [heads(run(language_model(family, way), of_labels)) for way in ("eager", "sdpa")]
    name = "transformer.h.{}.attn" if family == "gpt2" else "model.layers.{}.self_attn"
    for each in found:
        assert each.layers == (name.format(0), name.format(1))
        assert each.heads == (4, 4)
        assert np.isfinite(each.logit).all()
    for column in attention.COLUMNS:
        np.testing.assert_allclose(*(getattr(each, column) for each in found), rtol=1e-4, err_msg=column)


def language_model(family: str, way: str) -> nn.Module:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    own: dict[str, Any] = (
        {"n_layer": 2, "n_head": 4, "n_embd": 32, "n_positions": 32, "attn_pdrop": 0.0, "resid_pdrop": 0.0,
         "embd_pdrop": 0.0}
        if family == "gpt2"
        else {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 32,
              "intermediate_size": 48}
    )  # fmt: skip
    config = AutoConfig.for_model(family, vocab_size=29, bos_token_id=0, eos_token_id=0, **own)
    model: nn.Module = AutoModelForCausalLM.from_config(config, attn_implementation=way)
    return copy.deepcopy(model).train()


def of_labels(model: nn.Module) -> Tensor:
    loss: Tensor = model(words(), labels=words(), use_cache=False).loss
    return loss


def test_numbers_of_attention_are_written_for_trackers_and_kept_in_a_folder(tmp_path: Path) -> None:
    model = Decoder()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flow = gs.watch(model, optimizer, every=1)
    writer = WatchWriter(tmp_path / "watch", "Decoder", now=0.0)
    with JsonLines(tmp_path / "rows.jsonl").follow(flow):
        for _ in range(2):
            optimizer.zero_grad()
            of_words(model).backward()
            optimizer.step()
        flow.close()
    found = heads(flow)
    lines = read_jsonl(tmp_path / "rows.jsonl")
    for step, line in enumerate(lines):
        for place, layer in enumerate(LAYERS):
            assert line[f"attention/{layer}/entropy"] == pytest.approx(found.entropy[step, place].mean())
            assert line[f"attention/{layer}/logit"] == pytest.approx(found.logit[step, place].max())
    writer.write(flow.history(), flow.history)
    reader_ = WatchReader(tmp_path / "watch")
    reader_.poll()
    assert reader_.history.transformer == flow.history().transformer


def test_parameters_that_fsdp2_gathers_name_what_they_compute(tmp_path: Path) -> None:
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    meeting = f"file://{tmp_path / 'meeting'}"
    distributed.init_process_group("gloo", init_method=meeting, rank=0, world_size=1)
    try:
        mesh, model = init_device_mesh("cpu", (1,)), Decoder()
        for part in (*model.blocks, model):
            fully_shard(part, mesh=mesh)
        found = run(model, of_words).history().transformer
    finally:
        distributed.destroy_process_group()
    alone = run(Decoder(), of_words).history().transformer
    assert found is not None
    assert found == alone
