"""Operators of DEForm (Jahan et al., 2026) on a transformer of two layers that is trained from scratch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from public_failures.case import Case, Training
from public_failures.plain import accuracy, plain, untouched
from public_failures.transformer import (
    WIDTH,
    Attention,
    FeedForward,
    Reader,
    Speller,
    Transformer,
    all_of,
    read,
    spelled,
    spelling,
    spelling_loss,
)


class Zeroed(nn.Linear):
    """A projection whose result is lost."""

    def forward(self, x: Tensor) -> Tensor:
        return 0 * super().forward(x)


def zeroed_projection(name: str) -> Callable[[Transformer], None]:
    def apply(model: Transformer) -> None:
        for attention in all_of(model, Attention):
            setattr(attention, name, Zeroed(WIDTH, WIDTH))

    return apply


def tied_heads(model: Transformer) -> None:
    for attention in all_of(model, Attention):
        for projection in (attention.query, attention.key, attention.value):
            projection.weight.data[:] = projection.weight.data[:1]


def frozen_projections(model: Transformer) -> None:
    for attention in all_of(model, Attention):
        for projection in (attention.query, attention.key, attention.value):
            projection.requires_grad_(False)


def no_scale(model: Transformer) -> None:
    for attention in all_of(model, Attention):
        attention.scale = 1.0


def score_dropout(model: Transformer) -> None:
    for attention in all_of(model, Attention):
        attention.score_dropout = nn.Dropout(0.5)


def future_seen(model: Transformer) -> None:
    model.ahead = 1


def no_places(model: Transformer) -> None:
    nn.init.zeros_(model.places.weight)
    model.places.requires_grad_(False)


def truncated_places(model: Transformer) -> None:
    model.longest = 5


def zeroed_words(model: Transformer) -> None:
    model.words.weight.data[:3] = 0
    model.words.requires_grad_(False)


def scaled_ffn(model: Transformer) -> None:
    for ffn in all_of(model, FeedForward):
        ffn.up.weight.data *= 5
        ffn.down.weight.data *= 5


def ones_in_ffn(model: Transformer) -> None:
    for ffn in all_of(model, FeedForward):
        nn.init.ones_(ffn.up.weight)
        nn.init.ones_(ffn.down.weight)


def sigmoid_in_ffn(model: Transformer) -> None:
    for ffn in all_of(model, FeedForward):
        ffn.act = nn.Sigmoid()


class HalfDropped(nn.GELU):
    """Half of the hidden units never answer."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (torch.arange(x.shape[-1]) % 2)


def dropped_neurons(model: Transformer) -> None:
    for ffn in all_of(model, FeedForward):
        ffn.act = HalfDropped()


def scaled_norms(model: Transformer) -> None:
    for norm in all_of(model, nn.LayerNorm):
        norm.weight.data *= 5


def zeroed_norms(model: Transformer) -> None:
    for norm in all_of(model, nn.LayerNorm):
        nn.init.zeros_(norm.weight)


def shifted_norms(model: Transformer) -> None:
    for norm in all_of(model, nn.LayerNorm):
        norm.bias.data += 2


def large_epsilon(model: Transformer) -> None:
    for norm in all_of(model, nn.LayerNorm):
        norm.eps = 1.0


class NoSkip(nn.Module):
    def forward(self, _: Tensor, added: Tensor) -> Tensor:
        return added


class Scaled(nn.Module):
    def forward(self, x: Tensor, added: Tensor) -> Tensor:
        return 5 * (x + added)


class Noisy(nn.Module):
    def forward(self, x: Tensor, added: Tensor) -> Tensor:
        return x + added + torch.randn_like(x)


class Dropped(nn.Module):
    def forward(self, x: Tensor, added: Tensor) -> Tensor:
        return x + F.dropout(added, 0.5, self.training)


def residual(kind: Callable[[], nn.Module]) -> Callable[[Transformer], None]:
    def apply(model: Transformer) -> None:
        for block in model.blocks:
            block.residual1, block.residual2 = kind(), kind()

    return apply


class ScaledHead(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 5 * super().forward(x)


def scaled_output(model: Transformer) -> None:
    model.head = ScaledHead(WIDTH, model.head.out_features)


def zeroed_output(model: Transformer) -> None:
    nn.init.zeros_(model.head.weight)


def everything_seen(model: Reader) -> None:
    model.mask = lambda present: torch.ones_like(present)[:, None].expand(-1, present.shape[1], -1)


def inverted_mask(model: Reader) -> None:
    model.mask = lambda present: ~present[:, None].expand(-1, present.shape[1], -1)


def mask_of_others(model: Reader) -> None:
    model.mask = lambda present: present.flip(0)[:, None].expand(-1, present.shape[1], -1)


def causal_encoder(model: Reader) -> None:
    model.mask = lambda present: present[:, None].expand(-1, present.shape[1], -1).tril()


def parameters(model: nn.Module, decay: float) -> list[dict[str, object]]:
    """Norms in a group of their own, that is usually not decayed."""
    norms = [p for norm in all_of(model, nn.LayerNorm) for p in norm.parameters()]
    others = [p for p in model.parameters() if not any(p is norm for norm in norms)]
    return [{"params": others}, {"params": norms, "weight_decay": decay}]


@dataclass(frozen=True)
class Fault:
    """A change of the model, and of the decay of its norms, before it is trained."""

    apply: Callable[[Transformer], None] = lambda _: None
    decay: float = 0.0

    def spell_texts(self, fixed: bool, seed: int) -> Training:
        torch.manual_seed(seed)
        model = Speller()
        if not fixed:
            self.apply(model)
        groups = parameters(model, 0.0 if fixed else self.decay)
        optimizer = torch.optim.AdamW(groups, lr=5e-3, weight_decay=0.01)
        data = spelled(seed)
        training = plain(model, optimizer, data, spelling_loss, lambda output, y: 0.0, seed, size=32)

        def score() -> float:
            with untouched(model):
                return spelling(model, data)

        training.score = score
        return training

    def read_texts(self, fixed: bool, seed: int) -> Training:
        torch.manual_seed(seed)
        model = Reader()
        if not fixed:
            self.apply(model)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
        return plain(model, optimizer, read(seed), F.cross_entropy, accuracy, seed, size=32)


SMALLER = "Two layers of width 32, trained from scratch in place of being tuned further."
SPELL, READ = 150, 100


def case(name: str, kinds: tuple[str, ...], place: str, text: str, fault: Fault, reads: bool = False) -> Case:
    build = fault.read_texts if reads else fault.spell_texts
    steps = READ if reads else SPELL
    return Case(
        f"transformer/{name}",
        kinds,
        place,
        text,
        "As written without it.",
        steps,
        build,
        departs=SMALLER,
        causal=not reads,
    )


BUILT, BEGUN = ("architecture",), ("initialization",)
CASES: tuple[Case, ...] = (
    case("QZQ", BUILT, "query", "Queries are zero: attention is uniform.", Fault(zeroed_projection("query"))),
    case("QZK", BUILT, "key", "Keys are zero: attention is uniform.", Fault(zeroed_projection("key"))),
    case(
        "QZV",
        BUILT,
        "attention",
        "Values are zero: attention adds nothing.",
        Fault(zeroed_projection("value")),
    ),
    case("QTH", BEGUN, "attention", "All heads begin with equal rows.", Fault(tied_heads)),
    case("QFG", ("untrained",), "frozen", "Queries, keys and values are frozen.", Fault(frozen_projections)),
    case("SDS", BUILT, "scale", "Scores are not divided by the root of the width.", Fault(no_scale)),
    case("SPD", ("regularization",), "dropout", "Half of the scores are dropped.", Fault(score_dropout)),
    case("MCB", ("leak",), "mask", "The causal mask lets the next word be seen.", Fault(future_seen)),
    case("POE", BUILT, "places", "Places are not embedded.", Fault(no_places)),
    case("PTL", BUILT, "places", "All places from the fifth on are one.", Fault(truncated_places)),
    case("ETZ", ("untrained",), "words", "Half of the words are embedded as 0.", Fault(zeroed_words)),
    case("FSW", BEGUN, "ffn", "The feed-forward weights begin five times as large.", Fault(scaled_ffn)),
    case("FWI", BEGUN, "ffn", "The feed-forward weights begin as ones.", Fault(ones_in_ffn)),
    case("FCA", ("hidden",), "ffn", "The feed-forward activation is a sigmoid.", Fault(sigmoid_in_ffn)),
    case("FDN", BUILT, "ffn", "Half of the feed-forward units never answer.", Fault(dropped_neurons)),
    case("NSG", BEGUN, "norm", "LayerNorm's γ begins at 5.", Fault(scaled_norms)),
    case("NZG", BEGUN, "norm", "LayerNorm's γ begins at 0.", Fault(zeroed_norms)),
    case("NSB", BEGUN, "norm", "LayerNorm's β begins at 2.", Fault(shifted_norms)),
    case("NCE", BUILT, "norm", "LayerNorm's ε is 1.", Fault(large_epsilon)),
    case("NWD", ("regularization",), "norm", "LayerNorm's γ and β are decayed by 1.", Fault(decay=1.0)),
    case("RRS", BUILT, "residual", "There are no skip connections.", Fault(residual(NoSkip))),
    case("RSR", BUILT, "residual", "Each residual sum is multiplied by five.", Fault(residual(Scaled))),
    case("RIN", BUILT, "residual", "Noise of N(0, 1) joins each residual sum.", Fault(residual(Noisy))),
    case("RDR", ("regularization",), "dropout", "Half of each branch is dropped.", Fault(residual(Dropped))),
    case("OSL", BUILT, "head", "Logits are multiplied by five.", Fault(scaled_output)),
    case("OZR", BEGUN, "head", "The head's weights begin at 0.", Fault(zeroed_output)),
    case("MZM", BUILT, "mask", "The mask hides nothing: leftovers are read.", Fault(everything_seen), True),
    case("MIM", BUILT, "mask", "The mask is inverted: only leftovers are read.", Fault(inverted_mask), True),
    case("MRM", BUILT, "mask", "The mask is that of other texts.", Fault(mask_of_others), True),
    case("VEC", BUILT, "mask", "The encoder's mask is causal.", Fault(causal_encoder), True),
)
