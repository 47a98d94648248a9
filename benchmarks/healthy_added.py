"""Networks added to `healthy_models` after the limits were set: of families not in it, and all held out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import healthy_tasks as tasks
import torch
from healthy_nets import Model
from healthy_tasks import CLASSES, WORDS, Task
from torch import Generator, Tensor, nn
from torch.nn import functional as F

FAMILIES = {
    "tabnet", "x-transformers", "fnet", "xlnet", "wav2vec", "graph transformer", "twin critics", "unetr",
    "sequencer",
}  # fmt: skip
ENCODER = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "num_labels": CLASSES}


def tones(length: int = 400, batch: int = 16) -> Task:
    """Which of five tones sounds, at any phase, under noise."""

    def draw(generator: Generator) -> tuple[Any, Tensor]:
        y = tasks.labels(batch, generator)
        phase = 2 * math.pi * torch.rand(batch, 1, generator=generator)
        clean = (0.1 * (2 + y)[:, None] * torch.arange(length) + phase).sin()
        return {"input_values": clean + 0.3 * tasks.noise(clean, generator)}, y

    return Task(draw, tasks.classified)


def worths(states: int = 6, actions: int = 2, batch: int = 32) -> Task:
    """What an action is worth in a state, by two critics that learn it at once (Fujimoto et al. 2018)."""
    wanted = tasks.fixed(states, actions, scale=0.4)

    def draw(generator: Generator) -> tuple[Any, Tensor]:
        x = torch.randn(batch, states, generator=generator)
        done = 2 * torch.rand(batch, actions, generator=generator) - 1
        return (x, done), -(done - (x @ wanted).tanh()).square().sum(1, keepdim=True)

    def loss(output: tuple[Tensor, ...], y: Tensor) -> Tensor:
        return torch.stack([F.mse_loss(one, y) for one in output]).sum()

    return Task(draw, loss)


class GraphTransformer(nn.Module):
    """Two layers of attention along edges (Shi et al. 2021)."""

    def __init__(self) -> None:
        super().__init__()
        from torch_geometric.nn import TransformerConv

        self.first, self.second = TransformerConv(16, 16, heads=2), TransformerConv(32, CLASSES)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        out: Tensor = self.second(F.relu(self.first(x, edges)), edges)
        return out


def tabnet() -> nn.Module:
    from pytorch_tabnet.tab_network import TabNet

    net: nn.Module = TabNet(32, CLASSES, virtual_batch_size=32, group_attention_matrix=torch.eye(32))
    return net


def decoder() -> nn.Module:
    from x_transformers import Decoder, TransformerWrapper

    layers = Decoder(dim=32, depth=2, heads=2, attn_dim_head=16)
    net: nn.Module = TransformerWrapper(num_tokens=WORDS, max_seq_len=32, attn_layers=layers)
    return net


def critics() -> nn.Module:
    import gymnasium
    from stable_baselines3.common.policies import ContinuousCritic
    from stable_baselines3.common.torch_layers import FlattenExtractor

    states, actions = gymnasium.spaces.Box(-5, 5, (6,)), gymnasium.spaces.Box(-1, 1, (2,))
    net: nn.Module = ContinuousCritic(states, actions, [64, 64], FlattenExtractor(states), 6)
    return net


def unetr() -> nn.Module:
    from monai.networks.nets import UNETR

    net: nn.Module = UNETR(1, 2, 32, feature_size=8, hidden_size=48, mlp_dim=96, num_heads=3, spatial_dims=2)
    return net


def sequencer() -> nn.Module:
    import timm

    net: nn.Module = timm.create_model(
        "sequencer2d_s", num_classes=CLASSES, layers=[1, 1, 1, 1], patch_sizes=[4, 2, 1, 1],
        embed_dims=[24, 48, 48, 48], hidden_sizes=[8, 12, 12, 12],
    )  # fmt: skip
    return net


def fnet() -> nn.Module:
    from transformers import FNetConfig, FNetForSequenceClassification

    net: nn.Module = FNetForSequenceClassification(FNetConfig(vocab_size=WORDS, **ENCODER))
    return net


def xlnet() -> nn.Module:
    from transformers import XLNetConfig, XLNetForSequenceClassification

    sizes = {"vocab_size": WORDS, "d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64}
    net: nn.Module = XLNetForSequenceClassification(XLNetConfig(num_labels=CLASSES, **sizes))
    return net


def wav2vec() -> nn.Module:
    from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

    net: nn.Module = Wav2Vec2ForSequenceClassification(Wav2Vec2Config(
        **ENCODER, num_attention_heads=2, conv_dim=(16, 16, 16), conv_stride=(5, 2, 2),
        conv_kernel=(10, 3, 3), num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
        classifier_proj_size=32, apply_spec_augment=False, layerdrop=0.0,
    ))  # fmt: skip
    return net


def added() -> Iterator[Model]:
    yield Model("tabnet", "tabnet", tabnet, tasks.vectors())
    yield Model("x-transformers decoder", "x-transformers", decoder, tasks.language(named=False))
    yield Model("fnet", "fnet", fnet, tasks.topics())
    yield Model("xlnet", "xlnet", xlnet, tasks.topics())
    yield Model("wav2vec2", "wav2vec", wav2vec, tones())
    yield Model("pyg graph transformer", "graph transformer", GraphTransformer, tasks.graph())
    yield Model("sb3 twin critics", "twin critics", critics, worths())
    yield Model("monai UNETR", "unetr", unetr, tasks.masks(32))
    yield Model("timm sequencer2d_s", "sequencer", sequencer, tasks.pictures())
