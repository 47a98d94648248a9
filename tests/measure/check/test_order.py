"""Attention that cannot see the order of its input is told, and no other model is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gradscape as gs

TOKENS, PLACES, WIDTH, CLASSES, SAMPLES = 11, 12, 16, 3, 8


class Encoder(nn.Module):
    """A transformer of one layer, with positions of some kind or without, and a head for texts or tokens."""

    def __init__(self, positions: str, pooled: bool = True, causal: bool = False) -> None:
        super().__init__()
        self.pooled, self.causal = pooled, causal
        self.tokens = nn.Embedding(TOKENS, WIDTH)
        self.layer = nn.TransformerEncoderLayer(WIDTH, 2, 32, batch_first=True)
        self.head = nn.Linear(WIDTH, CLASSES)
        begin = {"zeros": torch.zeros(PLACES, WIDTH), "clamped": torch.randn(4, WIDTH)}
        table = begin.get(positions, 0.02 * torch.randn(PLACES, WIDTH))
        self.positions = nn.Parameter(table) if positions else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.tokens(x)
        if self.positions is not None:
            h = h + self.positions[torch.arange(PLACES).clamp(max=len(self.positions) - 1)]
        mask = nn.Transformer.generate_square_subsequent_mask(PLACES) if self.causal else None
        h = self.layer(h, src_mask=mask, is_causal=self.causal)
        out: Tensor = self.head(h.mean(1) if self.pooled else h)
        return out


class ByHand(nn.Module):
    """Attention that is written out."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused, self.tokens = fused, nn.Embedding(TOKENS, WIDTH)
        self.q, self.k, self.v, self.head = (nn.Linear(WIDTH, n) for n in (WIDTH, WIDTH, WIDTH, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        h = self.tokens(x)
        q, k, v = self.q(h), self.k(h), self.v(h)
        mixed = F.scaled_dot_product_attention(q, k, v) if self.fused else (q @ k.mT).softmax(-1) @ v
        out: Tensor = self.head(mixed.mean(1))
        return out


class ByNames(ByHand):
    """Its softmax is called by the names of its arguments."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.tokens(x)
        weights = torch.softmax(input=self.q(h) @ self.k(h).mT, dim=-1)
        out: Tensor = self.head((weights @ self.v(h)).mean(1))
        return out


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.rnn = nn.Embedding(TOKENS, WIDTH), nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.rnn(self.tokens(x))[0][:, -1])
        return out


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.head = nn.Embedding(TOKENS, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.tokens(x).mean(1))
        return out


class Given(Encoder):
    """Positions are an input of their own."""

    def forward(self, given: tuple[Tensor, Tensor]) -> Tensor:  # type: ignore[override]
        assert self.positions is not None
        out: Tensor = self.head(self.layer(self.tokens(given[0]) + self.positions[given[1]]).mean(1))
        return out


def tokens() -> Tensor:
    return torch.randint(0, TOKENS, (SAMPLES, PLACES), generator=torch.Generator().manual_seed(0))


def told(model: nn.Module, x: object, places: bool = False) -> list[str]:
    shape = (SAMPLES, PLACES) if places else (SAMPLES,)
    y = torch.randint(0, CLASSES, shape, generator=torch.Generator().manual_seed(1))

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output.flatten(0, -2), target.flatten())

    record = gs.check(model, (x, y), loss, remedies=False, fit=0, seeds=1)
    found = [each for each in record.diagnosis.findings if each.verdict == "order is not seen"]
    assert all(symptom.counts for each in found for symptom in each.evidence)
    notes = [note for note in record.diagnosis.notes if "order of places" in note]
    return [*(each.verdict for each in found), *notes]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(
    "model",
    [
        lambda: Encoder(""),
        lambda: Encoder("", pooled=False),
        lambda: Encoder("", pooled=False, causal=True),
        lambda: Encoder("clamped"),
        lambda: ByHand(fused=True),
        lambda: ByHand(fused=False),
        lambda: ByNames(fused=False),
    ],
)
def test_attention_without_positions_is_told(model) -> None:
    made = model()
    assert told(made, tokens(), places=not getattr(made, "pooled", True)) == ["order is not seen"]


@pytest.mark.parametrize(
    "model",
    [
        lambda: Encoder("drawn"),
        lambda: Encoder("zeros"),  # learned, and 0 in the beginning
        lambda: Encoder("drawn", pooled=False),
        lambda: Encoder("drawn", pooled=False, causal=True),
        Recurrent,
        Bag,  # meant to be one
    ],
)
def test_other_models_are_not(model) -> None:
    made = model()
    assert told(made, tokens(), places=not getattr(made, "pooled", True)) == []


def test_positions_of_their_own_are_not_reordered() -> None:
    at = torch.arange(PLACES).expand(SAMPLES, PLACES).contiguous()
    assert told(Given("drawn"), (tokens(), at)) == []


def test_a_set_of_vectors_gets_a_note() -> None:
    class OfVectors(Encoder):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.layer(x).mean(1))
            return out

    (note,) = told(OfVectors(""), torch.randn(SAMPLES, PLACES, WIDTH))
    assert "right for a set" in note
