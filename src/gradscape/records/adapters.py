"""Adapters of low rank in a watched model, as plain values; no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gradscape._codec import Record

# Names of PEFT (`q.lora_A.default.weight`), of loralib (`q.lora_A`) and of torchtune (`q.lora_a.weight`).
_NAME = re.compile(
    r"(?P<layer>.+)\.lora_(?:embedding_)?(?P<matrix>[AaBb])(?:\.(?P<adapter>(?!weight$)[^.]+))?(?:\.weight)?$"
)


@dataclass(frozen=True)
class LowRank:
    """Matrix of an adapter of low rank, W + B A (Hu et al. 2021).

    Attributes:
        layer: Name of the layer that is adapted.
        matrix: `A`, which is applied first, or `B`, which begins at 0.
        adapter: Name of the adapter; empty where adapters have none.
    """

    layer: str
    matrix: str
    adapter: str


def low_rank(name: str) -> LowRank | None:
    """Return the place of a parameter in an adapter; None of any other parameter.

    Args:
        name: Name of a parameter.

    Example:
        >>> low_rank("block.q_proj.lora_B.default.weight")
        LowRank(layer='block.q_proj', matrix='B', adapter='default')
    """
    found = _NAME.match(name)
    if found is None:
        return None
    return LowRank(found["layer"], found["matrix"].upper(), found["adapter"] or "")


@dataclass(frozen=True)
class AdapterFacts(Record):
    """Layers with adapters of low rank, and what became of their own weights.

    Attributes:
        layers: Names of the layers.
        frozen: Number of their own weights that require no gradient.
        moved: Names of those among them that have changed since the watch began, by a few of their numbers.
    """

    layers: tuple[str, ...]
    frozen: int
    moved: tuple[str, ...]
