"""Classifiers whose loss expects probabilities, and whose output is linear or ReLU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from public_failures.case import Case
from public_failures.data import (
    classification,
    digits,
    fixed,
    made,
)
from public_failures.deepmufl.entry import entry, logits
from public_failures.recipe import Recipe

LOGITS = "logits and cross-entropy"


def bare(
    number: int,
    marks: str,
    recipe: Recipe,
    departs: str = "",
    kinds: str = "output",
    cure: str = "",
    **repair: Any,
) -> Case:
    """Make a case whose loss takes a linear output for probabilities; its twin's loss takes logits."""
    fault = "a linear output where the loss expects probabilities: clipped to 0 … 1, no gradient outside"
    several = recipe.loss == "ce clipped"
    repair = {"loss": "ce logits" if several else "bce logits", **repair}
    cure = cure or (LOGITS if several else "binary cross-entropy of logits")
    return entry(number, marks, kinds, "output", fault, cure, recipe, departs, **repair)


def rectified(
    number: int,
    marks: str,
    recipe: Recipe,
    departs: str = "",
    kinds: str = "output",
    cure: str = LOGITS,
    **repair: Any,
) -> Case:
    """Make a case of a classifier that ends in ReLU; its twin has logits."""
    fault = "ReLU as the output of a classifier: it cannot say no, and passes no gradient once it is 0"
    repair = {"net": logits(recipe.net), "loss": "ce logits", **repair}
    return entry(number, marks, kinds, "output", fault, cure, recipe, departs, **repair)


def padded(generator: Generator) -> tuple[Tensor, Tensor]:
    """Random sequences of six steps, padded with −100 from the third step or later, and random labels."""
    x = torch.rand(100, 6, 1, generator=generator)
    ends = torch.randint(2, 6, (100, 1), generator=generator)
    x[torch.arange(6) >= ends] = -100
    return x, torch.randint(0, 3, (100,), generator=generator)


AND = fixed([[1, 1], [1, 0], [0, 1], [0, 0]], [1, 0, 0, 0], 2)
SAME = fixed([[0, 0], [0, 1], [1, 0], [1, 1]], [1, 0, 0, 1], 2)

BARE = (
    bare(
        54282951,
        "·LN·M",
        Recipe(
            "Conv2D8k1 Flat D64 Do0.5 D1", "bce clipped", "rmsprop", classification(90, 3, 20, 20), 32, 150
        ),
        "images of 20×20 instead of 230×230, 8 filters instead of 32",
    ),
    bare(
        57407973,
        "·LN·M",
        Recipe(
            "D28:sigmoidⁿ D100:sigmoidⁿ Do0.5 D150:sigmoidⁿ Do0.5 D150:sigmoidⁿ Do0.5 D75:sigmoidⁿ Do0.4 D1ⁿ",
            "bce clipped",
            "adam",
            classification(800, 28, test=200),
            32,
            600,
        ),
        "layers after the first half as wide, 600 steps instead of 850",
        "output hidden",
        "binary cross-entropy of logits, ReLU in place of five sigmoids",
        net="D28:relu D100:relu Do0.5 D150:relu Do0.5 D150:relu Do0.5 D75:relu Do0.4 D1",
    ),
    bare(
        64387251,
        "·LN·M",
        Recipe("D256:relu! D1", "bce clipped", "adam", digits(8, classes=2, flat=True), 400, 400),
        "zeros and ones of the embedded digits instead of MNIST's, 256 units instead of 13,000, 400 steps",
    ),
    bare(64395424, "D·N··", Recipe("D2:relu D128:relu D1", "bce clipped", "adam", AND, 32, 1000)),
    bare(
        68101077,
        "DL·UM",
        Recipe("Flat D128:relu D10", "ce clipped", "adam", digits(16), 32, 470),
        "the embedded digits instead of Fashion-MNIST",
    ),
)

RECTIFIED = (
    rectified(
        44758894,
        "·····",
        Recipe("D16:relu relu D1:relu", "mse", "sgd", classification(1000, 7, test=500), 32, 160),
        "",
        "output loss",
        "a sigmoid output and binary cross-entropy",
        net="D16:relu D1:sigmoid",
        loss="bce",
    ),
    rectified(
        47735201,
        "·····",
        Recipe(
            "Conv2D8k5:relu Conv2D8k1:relu Conv2D8k1:relu MP Do0.5 Conv2D16:relu Conv2D16k1:relu"
            " Conv2D16k1:relu MP"
            " Do0.5 Conv2D32same:relu Conv2D8k1:relu Conv2D10k1:relu GAP softmax",
            "ce",
            "adam",
            digits(16, 3),
            32,
            250,
        ),
        "the embedded digits instead of CIFAR-10, layers a quarter as wide, 250 steps instead of 250,000",
        net="Conv2D8k5:relu Conv2D8k1:relu Conv2D8k1:relu MP Do0.5 Conv2D16:relu Conv2D16k1:relu"
        " Conv2D16k1:relu MP"
        " Do0.5 Conv2D32same:relu Conv2D8k1:relu Conv2D10k1 GAP",
    ),
    rectified(
        51185079,
        "··N·M",
        Recipe(
            "D512:relu D200:relu D200:relu D200:relu D128:relu D1:relu",
            "bce clipped",
            "rmsprop",
            classification(1000, 34, test=500),
            200,
            10,
        ),
        cure="a sigmoid output",
        net="D512:relu D200:relu D200:relu D200:relu D128:relu D1:sigmoid",
        loss="bce",
    ),
    rectified(
        51901386,
        "D··UM",
        Recipe(
            "Conv2D8same:relu Conv2D8same:relu MP Conv2D8same:relu Conv2D8same:relu MP Conv2D16same:relu"
            " Conv2D16same:relu MP Conv2D16same:relu Conv2D16same:relu Flat Do0.5 D128:relu Do0.5 D9:relu",
            "ce normalized",
            "adam 1e-4",
            classification(100, 3, 16, 16, classes=9, informative=5),
            24,
            100,
        ),
        "images of 16×16 instead of 180×320, layers an eighth as wide, 100 steps instead of 25",
    ),
    rectified(
        53700537,
        "···UM",
        Recipe(
            "Conv1D20k20:relu MP3 Conv1D20k10:relu MP3 Conv1D20k10:relu GAP D3:relu~",
            "ce normalized",
            "adam",
            classification(3200, 1, 200, classes=3, informative=3),
            32,
            100,
        ),
        "sequences of 200 instead of 1,000; 3,200 of them instead of 1,000, for 100 steps",
        net="Conv1D20k20:relu MP3 Conv1D20k10:relu MP3 Conv1D20k10:relu GAP D3",
    ),
    rectified(
        58572274,
        "··N··",
        Recipe("D2:relu D2:relu D1:relu", "bce clipped", "adam", SAME, 32, 10),
        "",
        "output architecture rate steps",
        "a sigmoid output, eight hidden units, Adam at 0.01, 300 steps",
        net="D8:relu D8:relu D1:sigmoid",
        loss="bce",
        optimizer="adam 0.01",
        steps=300,
    ),
    rectified(
        64413907,
        "···UM",
        Recipe("MaskedLSTM-100x1 D3:relu", "ce normalized", "adam", made(padded, 3), 1, 500),
    ),
    rectified(
        69787272,
        "····M",
        Recipe("D31:relu D1:relu D1:relu", "bce clipped", "sgd", classification(1000, 31, test=500), 500, 20),
        "",
        "output architecture",
        "a sigmoid output, no bottleneck of one unit",
        net="D31:relu D31:relu D1:sigmoid",
        loss="bce",
    ),
)

CASES = BARE + RECTIFIED
