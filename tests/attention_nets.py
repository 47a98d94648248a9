"""Small transformers whose attention is computed in each of the usual ways, with one set of weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
WORDS, LENGTH, WIDTH, HEADS = 11, 20, 16, 4


def fused(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, is_causal=True)


def masked(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril()
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def by_hand(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """As nanoGPT writes it."""
    logits = query @ key.transpose(-2, -1) * (1.0 / math.sqrt(query.shape[-1]))
    later = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).triu(1)
    return F.dropout(logits.masked_fill(later, -math.inf).softmax(-1), 0.0) @ value


def einsum(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    logits = torch.einsum("bhqd,bhkd->bhqk", query, key) / math.sqrt(query.shape[-1])
    later = torch.full((query.shape[2], key.shape[2]), torch.finfo(torch.float32).min).triu(1)
    return torch.einsum("bhqk,bhkd->bhqd", F.softmax(logits + later.to(query.dtype), dim=-1), value)


class SelfAttention(nn.Module):
    def __init__(self, attend: Attend) -> None:
        super().__init__()
        self.attend = attend
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        wide = (*x.shape[:2], HEADS, WIDTH // HEADS)
        query, key, value = (part.view(wide).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1))
        out: Tensor = self.out(self.attend(query, key, value).transpose(1, 2).reshape(x.shape))
        return out


class Block(nn.Module):
    def __init__(self, attend: Attend) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = SelfAttention(attend)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.first(x))
        out: Tensor = x + self.mlp(self.second(x))
        return out


class Decoder(nn.Module):
    """A pre-norm decoder of two blocks; `reentrant` is how its blocks are checkpointed, if they are."""

    def __init__(self, attend: Attend = fused, reentrant: bool | None = None, depth: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.reentrant = reentrant
        self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.ModuleList(Block(attend) for _ in range(depth))
        self.last, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WORDS, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) + self.places(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x) if self.reentrant is None else checkpoint(block, x, use_reentrant=self.reentrant)
        out: Tensor = self.head(self.last(x))
        return out


def words(samples: int = 3, seed: int = 0) -> Tensor:
    return torch.randint(0, WORDS, (samples, LENGTH), generator=torch.Generator().manual_seed(seed))


def next_word(model: nn.Module, ids: Tensor) -> Tensor:
    """Loss of the next word."""
    return F.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


class Mixture(nn.Module):
    """Experts, of which a router chooses two for each token."""

    def __init__(self, experts: int = 4) -> None:
        super().__init__()
        self.gate = nn.Linear(WIDTH, experts)
        self.experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(experts))

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.gate(x).softmax(-1).topk(2, dim=-1)
        parts = torch.stack([expert(x) for expert in self.experts], dim=-2)
        places = chosen[..., None].expand(*chosen.shape, WIDTH)
        return (weights[..., None] * parts.gather(-2, places)).sum(-2)


def mixture() -> Decoder:
    """A decoder whose blocks have experts."""
    model = Decoder()
    for block in model.blocks:
        block.mlp = Mixture()
    return model
