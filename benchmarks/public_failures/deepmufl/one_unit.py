"""Softmax over a single unit: the output is 1 whatever the input, and no gradient passes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from public_failures.case import Case
from public_failures.data import classification, digits, fixed, made
from public_failures.deepmufl.entry import entry
from public_failures.look_alikes import tumors
from public_failures.recipe import Recipe

FAULT = "softmax over a single unit: the output is 1 for every input, and its gradient 0"


def softmaxed(
    number: int,
    marks: str,
    recipe: Recipe,
    departs: str = "",
    kinds: str = "output",
    cure: str = "a sigmoid output",
    **repair: Any,
) -> Case:
    """Make a case whose twin has a sigmoid in place of the softmax, and what else its repair names."""
    repair = {"net": recipe.net.replace("D1:softmax", "D1:sigmoid"), **repair}
    return entry(number, marks, kinds, "output", FAULT, cure, recipe, departs, **repair)


def all_or_nothing(generator: Generator) -> tuple[Tensor, Tensor]:
    y = torch.arange(1160) % 2
    return y[:, None].float().expand(-1, 128).contiguous(), y


def parity(generator: Generator) -> tuple[Tensor, Tensor]:
    x = torch.randint(1, 10, (300, 5, 1), generator=generator)
    return x.float(), x[:, 0, 0] % 2


# "sample text 1" and the like, as words of the vocabulary: three first words, "text", the class' own number
SENTENCES = [[first, 2, 3 + number] + [0] * 7 for first in (6, 7, 8) for number in range(3)]


def sentences(generator: Generator) -> tuple[Tensor, Tensor]:
    return torch.tensor(SENTENCES), torch.arange(9) % 3


XOR = fixed([[1, 1], [0, 0], [1, 0], [0, 1], [1, 1], [0, 0]], [0, 0, 1, 1, 0, 0], 2)
ONE_SEQUENCE = fixed([[[0], [0], [0], [1], [1], [0], [1], [1]]], [[0, 0, 0, 1, 0, 1, 1, 0]], 2)
DEEP_CONVOLUTIONS = (
    "Conv2D4k5same:relu[l2=0.01] MP Do0.5 Conv2D8same:relu[l2=0.01] MP Do0.5 Conv2D8same:relu[l2=0.01] Do0.5"
    " Conv2D12same:relu[l2=0.01] Conv2D12same:relu[l2=0.01] MP Conv2D16same:relu[l2=0.01]"
    " Conv2D16same:relu[l2=0.01] MP Conv2D16same:relu[l2=0.01] Conv2D16same:relu[l2=0.01] MP"
    " Conv2D24same:relu[l2=0.01] Flat Do0.5 D1:softmax"
)
VOLUMES = (
    "Conv3D8same:relu[l2=0.005] MP Conv3D8same:relu[l2=0.005] MP BN Conv3D8same:relu[l2=0.005] BN Flat BN"
    " D32:relu[l2=0.01] Do0.5 D32:sigmoid[l2=0.01] D1:softmax[l2=0.01]"
)

CASES = (
    softmaxed(
        31880720,
        "D·NUM",
        Recipe(
            "D128:relu Do0.2 D50:relu Do0.2 D1:softmax",
            "bce",
            "rmsprop",
            made(all_or_nothing, 2, 200),
            24,
            200,
        ),
        "960 rows instead of 20,000",
    ),
    softmaxed(
        34311586,
        "D·N··",
        Recipe("D2:sigmoidᵘ D3:sigmoidᵘ D1:softmaxᵘ", "mse", "sgd 0.001 0.9", XOR, 32, 20),
        kinds="output rate initialization steps",
        cure="a sigmoid output, tanh, Glorot's initialization, Adam at 0.05, 600 steps",
        net="D2:tanh D3:tanh D1:sigmoid",
        optimizer="adam 0.05",
        steps=600,
    ),
    softmaxed(
        45378493,
        "··N·M",
        Recipe(
            "Conv1D16k5same BN LeakyReLU Do0.2 Conv1D8k5same BN LeakyReLU Do0.2 Flat D64 BN LeakyReLU"
            " D1:softmax",
            "bce",
            "adam",
            classification(60, 4, 10),
            128,
            100,
        ),
        "kernels of 5 instead of 4, no reduction of the learning rate on a plateau",
    ),
    softmaxed(
        47241622,
        "··N··",
        Recipe("LSTM32 D1:softmax", "bce", "adam", classification(4000, 16, 1, test=500), 20, 200),
        "4,000 sequences of 16 instead of 40,000 of 128, 32 units instead of 128, no state kept between"
        " batches",
    ),
    softmaxed(
        47704695,
        "··N··",
        Recipe(DEEP_CONVOLUTIONS, "bce", "adam", classification(160, 3, 32, 32), 16, 100),
        "160 images of 32×32 instead of 500 of 128×128, layers an eighth as wide",
    ),
    softmaxed(
        51581521,
        "·····",
        Recipe(
            "Conv2D8same:relu! MP Conv2D16same:relu! MP Flat D256:relu Do0.5 D1:softmax",
            "bce",
            "adam",
            classification(200, 3, 20, 20),
            64,
            200,
        ),
        "two frozen random convolutions instead of a pretrained VGG16, images of 20×20 instead of 150×150",
    ),
    softmaxed(
        51749207,
        "··N·M",
        Recipe(
            "Conv1D20k5same:relu MP Do0.3 Flat D50:relu D1:softmax",
            "bce",
            "nadam",
            classification(458, 1, 100),
            8,
            400,
        ),
        "kernels of 5 instead of 4, sequences of 100 instead of 600, 400 steps instead of 5,800",
    ),
    softmaxed(
        52983831,
        "····M",
        Recipe("GRU10seq GRU10seq D1:softmax", "bce", "adam", ONE_SEQUENCE, 32, 300),
        "300 steps instead of 3,000",
    ),
    softmaxed(
        56218256,
        "·L··M",
        Recipe(
            "D100:relu D64:relu D32:relu D1:softmax",
            "ce labels",
            "adam",
            classification(670, 500),
            1000,
            100,
        ),
        "500 features instead of 19,900, 100 units instead of 1,000",
        "output loss",
        cure="a sigmoid output and binary cross-entropy",
        loss="bce",
    ),
    softmaxed(
        57397440,
        "··N·M",
        Recipe("D30:relu BN D60:relu BN D1:softmax", "bce", "adam", tumors(569, 200), 32, 108),
        "a look-alike of the breast cancer data",
    ),
    softmaxed(
        58055105,
        "·L··M",
        Recipe("D48:relu Do0.5 D1:softmax", "bce", "adam 1e-4", classification(670, 22, test=330), 5, 1500),
        "1,500 steps instead of 2,680",
    ),
    softmaxed(
        58392266,
        "···UM",
        Recipe(
            "Conv2D8same:relu! MP Conv2D16same:relu! MP Flat D1024:relu D256:relu D1:softmax",
            "bce",
            "adam 1e-5",
            classification(90, 3, 20, 20),
            32,
            100,
        ),
        "two frozen random convolutions instead of a pretrained VGG16, images of 20×20 instead of 57×57,"
        " 1,024"
        " and 256 units instead of 4,096 and 1,024, 100 steps instead of 15",
    ),
    softmaxed(
        58844149,
        "D·N·M",
        Recipe(
            "Conv2D8k7same:relu MP3s2 Conv2D16same:relu MP Conv2D16same:relu MP Flat D32:relu Do0.2"
            " D1:softmax",
            "bce",
            "adam",
            classification(1000, 1, 15, 15),
            32,
            160,
        ),
        "images of 15×15 instead of 30×30, layers an eighth as wide",
    ),
    softmaxed(
        60355380,
        "·L··M",
        Recipe(
            "Conv2D8same:relu Conv2D8:relu MP2same Conv2D32same:relu Conv2D32same:relu MP2same"
            " Conv2D32same:relu"
            " Conv2D32same:relu MP2same Flat D32:relu D16:relu D8:relu D1:softmax",
            "bce",
            "adam",
            classification(670, 1, 5, 5, test=330),
            32,
            200,
        ),
        "layers a quarter as wide, 200 steps instead of 23,400",
    ),
    softmaxed(
        61997645,
        "····M",
        Recipe(
            "GRU24seq:relu Do0.5 GRU12:relu Do0.5 D1:softmax", "mse", "adam", made(parity, 2, 132), 32, 120
        ),
        "",
    ),
    softmaxed(
        63212385,
        "····M",
        Recipe(VOLUMES, "poisson", "sgd 1e-6", classification(100, 4, 8, 8, 8), 64, 100),
        "volumes of 4 × 8×8×8 instead of 64 × 64×40×20, layers an eighth as wide, no pooling after the third",
        "output loss rate",
        cure="a sigmoid output and binary cross-entropy, Adam",
        loss="bce",
        optimizer="adam",
    ),
    entry(
        65669308,
        "·····",
        "output targets",
        "output",
        "softmax over a single unit for three classes: the output is 1 for every input, and its gradient 0",
        "three logits and cross-entropy",
        Recipe("Emb100x24 Steps GAP D24:relu D1:softmax", "bce clipped", "adam", made(sentences, 3), 32, 300),
        "300 steps instead of 1,000; trained and scored on all nine sentences",
        net="Emb100x24 Steps GAP D24:relu D3",
        loss="ce logits",
    ),
    softmaxed(
        66087653,
        "··N·M",
        Recipe(
            "D32:relu Flat D128:relu Do0.2 D128:relu Flat D1:softmax",
            "bce",
            "adam",
            classification(200, 10, 15),
            2,
            400,
        ),
        "10 × 15 features instead of 10 × 150, 200 samples instead of 1,000, 400 steps instead of 100,000",
    ),
    softmaxed(
        66407123,
        "DLN·M",
        Recipe("D32:relu D32:relu D1:softmax", "bce", "sgd", classification(900, 5, test=500), 64, 900),
        "900 steps instead of 1,500",
    ),
    entry(
        68321264,
        "··N·M",
        "output shapes",
        "output",
        "softmax over a single unit for one-hot targets of three classes: the output is 1 for every input",
        "three logits and cross-entropy",
        Recipe(
            "Conv2D16:relu MP Conv2D16s3:relu MP Flat D64 D1:softmax",
            "bce one-hot broadcast",
            "adam",
            digits(16, classes=3, raw=True),
            24,
            120,
        ),
        "three classes of the embedded digits instead of Fashion-MNIST's, convolutions a quarter as wide",
        net="Conv2D16:relu MP Conv2D16s3:relu MP Flat D64 D3",
        loss="ce logits",
    ),
    softmaxed(
        68751439,
        "DL·UM",
        Recipe(
            "D64:relu D128:relu D64:relu D1:softmax",
            "ce labels",
            "adam",
            classification(80, 14, test=500),
            32,
            300,
        ),
        "",
        "output loss",
        cure="a sigmoid output and binary cross-entropy",
        loss="bce",
    ),
    softmaxed(
        68938619,
        "·····",
        Recipe(
            "LSTM24:sigmoid/hard_sigmoid D1:softmax",
            "mse",
            "rmsprop",
            classification(900, 10, 1, test=500, unit_rows=True),
            32,
            200,
        ),
        "24 units instead of 80, 200 steps instead of 290",
    ),
    softmaxed(
        70148149,
        "DL···",
        Recipe(
            "Conv1D64k8:relu Conv1D128k1:relu Do0.6 Conv1D64k1:relu Do0.6 GMP D1:softmax",
            "bce one-hot broadcast",
            "adam 1e-5",
            classification(90, 20, 30),
            150,
            5,
        ),
        "samples of 20×30 instead of 560×560, layers a fifth to a tenth as wide; dense layers on each"
        " position as"
        " convolutions of one",
        "output shapes rate steps",
        cure="a sigmoid output and binary cross-entropy of labels, Adam at 0.001, 100 steps",
        loss="bce",
        optimizer="adam",
        steps=100,
    ),
)
