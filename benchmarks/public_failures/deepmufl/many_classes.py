"""Classifiers of several classes with sigmoids for all of them, or one."""

from __future__ import annotations

from typing import Any

from public_failures.case import Case
from public_failures.data import (
    classification,
    digits,
    fixed,
)
from public_failures.deepmufl.entry import entry, logits
from public_failures.look_alikes import irises
from public_failures.recipe import Recipe

LOGITS = "logits and cross-entropy"


def independent(
    number: int,
    marks: str,
    recipe: Recipe,
    departs: str = "",
    kinds: str = "output",
    cure: str = LOGITS,
    **repair: Any,
) -> Case:
    """Make a case of sigmoids for classes that exclude each other; its twin has logits and cross-entropy."""
    fault = "a sigmoid for each of several classes that exclude each other, with categorical cross-entropy"
    repair = {"net": logits(recipe.net), "loss": "ce logits", **repair}
    return entry(number, marks, kinds, "output", fault, cure, recipe, departs, **repair)


def single(
    number: int,
    marks: str,
    classes: int,
    recipe: Recipe,
    departs: str = "",
    kinds: str = "output targets",
    **repair: Any,
) -> Case:
    """Make a case of one output for several classes; its twin has an output for each."""
    fault = (
        f"one output for {classes} classes, whose labels 0 … {classes - 1} are taken for targets of 0 and 1"
    )
    repair = {"net": logits(recipe.net, classes), "loss": "ce logits", **repair}
    more = "".join(f", {name} {value}" for name, value in repair.items() if name in ("optimizer", "steps"))
    cure = f"{classes} {LOGITS}{more}"
    return entry(number, marks, kinds, "output", fault, cure, recipe, departs, **repair)


ROWS = (
    (0.5, 1, 1, 1),
    (0.9, 1, 2, 1),
    (0.8, 0, 1, 1),
    (0.3, 1, 1, 2),
    (0.6, 1, 2, 2),
    (0.4, 0, 1, 2),
    (0.9, 1, 7, 3),
    (0.5, 1, 4, 3),
    (0.1, 0, 1, 3),
    (0.6, 1, 0, 0),
    (1, 0, 0, 0),
)
FRUIT = fixed([list(row[:3]) for row in ROWS], [row[3] for row in ROWS], 4)
NARROW = "images of {0}×{0} instead of {1}, layers {2} as wide"

INDEPENDENT = (
    independent(
        41823068,
        "D··UM",
        Recipe(
            "Flat D256:relu Do0.5 D5:sigmoid",
            "ce normalized",
            "rmsprop",
            classification(900, 10, classes=5, informative=5, test=500),
            32,
            600,
        ),
        "600 steps instead of 1,450",
    ),
    independent(
        41999686,
        "D··UM",
        Recipe(
            "D100:reluⁿ Do0.2 D150:reluⁿ Do0.2 D200:reluⁿ Do0.2 D200:reluⁿ Do0.2 D200:reluⁿ Do0.2"
            " D4:sigmoidⁿ",
            "ce normalized",
            "sgd 0.01 0.9",
            classification(1000, 283, classes=4, informative=4),
            32,
            160,
        ),
    ),
    independent(
        42472447,
        "D··UM",
        Recipe(
            "D50:reluᵘ D33:reluᵘ D33:reluᵘ D33:reluᵘ D122:sigmoidᵘ",
            "ce normalized",
            "adam",
            classification(800, 33, classes=122, informative=20, test=200),
            20,
            800,
        ),
        "800 steps instead of 1,400",
    ),
    independent(
        50914860,
        "DL·UM",
        Recipe(
            "Conv2D8:relu MP Conv2D8:relu MP Flat D32:relu D3:sigmoid",
            "ce normalized",
            "adam",
            classification(750, 3, 20, 20, classes=3, informative=3),
            32,
            120,
        ),
        NARROW.format(20, "200×200", "a quarter"),
    ),
    independent(
        51930566,
        "D···M",
        Recipe("D4:reluⁿ D3:sigmoidⁿ", "ce normalized", "adam", irises(75), 5, 750),
        "a look-alike of the irises",
    ),
    independent(
        55198221,
        "D···M",
        Recipe(
            "Conv2D16k2:relu MP Conv2D16k2:relu MP Conv2D32k2:relu MP Flat D128:relu D5:sigmoid",
            "ce normalized",
            "adam 1e-4",
            classification(128, 3, 20, 20, classes=5, informative=4),
            32,
            200,
        ),
        "images of 20×20 instead of 75×75, 128 of them instead of 450, 200 steps instead of 750",
    ),
    independent(
        57943425,
        "·····",
        Recipe(
            "Conv2D8same:relu BN MP Do0.25 Conv2D16same:relu BN Conv2D16same:relu BN MP Do0.25"
            " Conv2D32same:relu BN"
            " Conv2D32same:relu BN Conv2D32same:relu BN MP Do0.25 Flat D64:relu BN Do0.5 D2:sigmoid",
            "ce clipped",
            "sgd 0.001",
            classification(100, 1, 10, 10),
            32,
            20,
        ),
        "layers a quarter to an eighth as wide; BatchNorm over channels, not rows",
        "output rate",
        f"{LOGITS}, SGD at 0.05",
        optimizer="sgd 0.05",
    ),
    independent(
        59278771,
        "D···M",
        Recipe("D4:reluⁿ D3:sigmoidⁿ", "ce normalized", "adam", irises(15, unit=True), 32, 1000),
        "a look-alike of the irises, one part of ten to score on",
    ),
    independent(
        61886777,
        "···U·",
        Recipe(
            "Conv2D8:relu MP BN Do0.2 Flat D64:relu D3:sigmoid",
            "ce normalized",
            "adam",
            classification(1000, 1, 14, 14, classes=3, informative=5),
            32,
            160,
        ),
        NARROW.format(14, "28×28", "a half to an eighth"),
    ),
)

SINGLE = (
    single(
        41596619,
        "D··U·",
        4,
        Recipe("D3:reluᵘ D1:sigmoidᵘ", "bce clipped", "sgd 0.001", FRUIT, 32, 150),
        "",
        "output targets rate",
        optimizer="adam 0.01",
    ),
    single(
        60874661,
        "···U·",
        10,
        Recipe(
            "Conv2D8same:relu MP Conv2D8same:relu MP Conv2D16same:relu MP Flat D64:relu Do0.5 D1:sigmoid",
            "bce clipped",
            "rmsprop",
            digits(16, 3, raw=True),
            32,
            300,
        ),
        "the embedded digits instead of CIFAR-10, convolutions a quarter as wide, 300 steps instead of"
        " 31,000",
    ),
    single(
        62068109,
        "D··U·",
        4,
        Recipe(
            "Conv2D8same:relu MP Conv2D8same:relu MP Conv2D8same:relu MP Flat D64:relu Do0.5 D1:sigmoid",
            "bce clipped",
            "adam",
            classification(800, 1, 16, 16, classes=4, informative=3),
            32,
            250,
        ),
        "images of 16×16 instead of 64×64, convolutions an eighth as wide",
    ),
    single(
        66235657,
        "D··U·",
        7,
        Recipe(
            "Conv2D16:relu MP Conv2D16:relu MP Flat D64 D1:sigmoid",
            "bce clipped",
            "adam",
            digits(16, 3, classes=7),
            32,
            250,
        ),
        "seven classes of the embedded digits instead of HAM10000, convolutions a sixteenth as wide",
    ),
    single(
        66602662,
        "···U·",
        5,
        Recipe(
            "D32:relu D16:relu Do0.2 D8:relu Do0.2 D1:sigmoid",
            "ce one logit",
            "adam",
            classification(1000, 5, classes=5, informative=4, redundant=0, test=500),
            24,
            800,
        ),
    ),
    entry(
        68773774,
        "·····",
        "output architecture",
        "output",
        "no layer joins the 20 parts of a sample: each part's one sigmoid is taken for the probability"
        " of a class",
        "the parts flattened, 20 logits and cross-entropy",
        Recipe(
            "D300:relu D20:relu D1:sigmoid Flat",
            "ce normalized",
            "adam",
            classification(100, 20, 30, classes=20, informative=10),
            1,
            600,
        ),
        "30 features a part instead of 300, 600 steps instead of 1,000",
        net="D300:relu D20:relu Flat D20",
        loss="ce logits",
    ),
    single(
        70589997,
        "·L·UM",
        20,
        Recipe(
            "Conv2D4k5same:relu MP Conv2D8k5same:relu MP Conv2D16same:relu MP Conv2D32same:relu MP Flat"
            " D1:sigmoid",
            "ce labels",
            "adam",
            classification(100, 3, 16, 16, classes=20, informative=10),
            32,
            300,
        ),
        "20 classes instead of 101, images of 16×16 instead of 128×128, layers an eighth as wide",
    ),
    single(
        70650848,
        "····M",
        3,
        Recipe("D4:relu BN Do0.3 D4:relu BN Do0.3 D1:sigmoid", "ce labels", "sgd", irises(45), 16, 800),
        "a look-alike of the irises, 800 steps instead of 1,400 at most",
    ),
)

CASES = INDEPENDENT + SINGLE
