"""Penalties, dropout, and what is none of the other classes or unclear."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from public_failures.data import (
    Data,
    classification,
    digits,
    made,
)
from public_failures.deepmufl.entry import entry
from public_failures.deepmufl.noise import NOISE_CASE
from public_failures.look_alikes import patients
from public_failures.recipe import Recipe


def one_of_thirty(generator: Generator) -> tuple[Tensor, Tensor]:
    x = 2 * torch.rand(5000, 30, generator=generator) - 1
    return x, x[:, 1:2].clone()


def truncated(seed: int) -> Data:
    """Features of unit norm taken for the numbers of words: each is cut to 0."""
    data = classification(750, 20, test=250, unit_rows=True)(seed)
    return Data(data.x.long(), data.y, data.x_test.long(), data.y_test, 2)


PICTURES = "images of {}×{} instead of {}, layers {} as wide"
VOLUMES = (
    "Conv3D8{0} LeakyReLU0.1 Do0.25 Conv3D16{0} LeakyReLU0.1 MP Do0.25 Conv3D32same{0} LeakyReLU0.1 Do0.25"
    " Conv3D64same{0} LeakyReLU0.1 MP Do0.25 Flat D32{0} LeakyReLU0.1 Do0.5 D64{0} LeakyReLU0.1 Do0.5"
    " D1:sigmoid"
)
NORMED = "Conv2D5k4s2same LeakyReLU0.2 Conv2D10k4s2same {} LeakyReLU0.2 Flat D1:sigmoid"
LENET = "Conv2D6k5:relu MP Conv2D16k5:relu MP Flat {0} Do0.2 {1} Do0.2 {1} Do0.2 {1} Do0.2 D2"

PENALTIES = (
    entry(
        44755431,
        "·L···",
        "regularization",
        "dropout",
        "dropout of one half between logits and softmax: half the classes' logits are 0",
        "no dropout there",
        Recipe(
            "Conv2D8same:relu Conv2D8:relu MP Conv2D8same:relu Conv2D8:relu MP Conv2D16same:relu Flat"
            " D50:relu Do0.5 D10"
            " Do0.5 softmax",
            "ce",
            "adam",
            digits(16),
            20,
            300,
        ),
        "the embedded digits instead of MNIST, layers a quarter to a half as wide, one convolution and"
        " pooling less",
        net="Conv2D8same:relu Conv2D8:relu MP Conv2D8same:relu Conv2D8:relu MP Conv2D16same:relu Flat"
        " D50:relu Do0.5 D10"
        " softmax",
    ),
    NOISE_CASE,
    entry(
        61498304,
        "DL···",
        "regularization initialization",
        "weight_decay",
        "a penalty of 0.01·Σw² on four layers whose weights begin within ±0.05",
        "a penalty of 0.0001·Σw², Glorot's initialization",
        Recipe(
            LENET.format("D64:reluᵘ[l2=0.01]", "D32:reluᵘ[l2=0.01]") + ":softmax",
            "ce",
            "adam",
            classification(800, 3, 20, 20),
            32,
            250,
        ),
        PICTURES.format(20, 20, "32×32", "a half") + ", 250 steps instead of 625",
        net=LENET.format("D64:relu[l2=0.0001]", "D32:relu[l2=0.0001]") + ":softmax",
    ),
    entry(
        62055783,
        "DL·U·",
        "regularization",
        "penalty",
        "a penalty of 0.01·Σ|w| on the first convolution outweighs the loss",
        "no penalty",
        Recipe(
            "Conv2D16:relu[l1=0.01] Conv2D16same:relu MP Do0.5 Conv2D16same:relu MP Do0.5 Conv2D16:relu"
            " Flat D32:relu D7",
            "ce logits",
            "adam",
            classification(160, 1, 16, 16, classes=7, informative=5),
            32,
            250,
        ),
        PICTURES.format(16, 16, "48×48", "a quarter to an eighth")
        + ", 160 images instead of 800, 250 steps instead of 1,300",
        net="Conv2D16:relu Conv2D16same:relu MP Do0.5 Conv2D16same:relu MP Do0.5 Conv2D16:relu Flat"
        " D32:relu D7",
    ),
)

REST = (
    entry(
        62313327,
        "····M",
        "architecture output",
        "output",
        "one hidden ReLU unit, which dies, and a sigmoid for targets of −1 … 1",
        "16 hidden units and a linear output",
        Recipe("D1:relu D1:sigmoid", "mse", "adam 0.01", made(one_of_thirty, test=500), 32, 600),
        "4,500 samples instead of 100,000, 600 steps instead of 625,000",
        net="D16:relu D1",
    ),
    entry(
        61274792,
        "·····",
        "inputs architecture",
        "input",
        "features of unit norm into an embedding: each is cut to the number 0, and all samples are equal",
        "no embedding and no LSTM: features as they are, into a dense layer",
        Recipe("Emb100x16 Do0.5 LSTM16 Do0.6 D16 Do0.5 D1:sigmoid", "bce", "rmsprop", truncated, 32, 400),
        "20 features instead of 1,000, layers a sixteenth as wide, no dropout within the LSTM, 400 steps"
        " instead of"
        " 17,000",
        net="D16:relu Do0.5 D16 Do0.5 D1:sigmoid",
        data=classification(750, 20, test=250),
    ),
    entry(
        43055289,
        "·····",
        "mode",
        "norm",
        "BatchNorm's running statistics keep 0.99 of their start at each of 40 steps: evaluation uses"
        " others than"
        " training",
        "running statistics that keep 0.9",
        Recipe(NORMED.format("BN"), "bce", "adam", classification(60, 3, 30, 30), 8, 40),
        "images of 30×30 instead of 225×225; the cause is inferred",
        net=NORMED.format("BN0.1"),
    ),
    entry(
        58051767,
        "····M",
        "rate",
        "lr",
        "unclear: the report's network learns the stand-in",
        "Adam at 0.01",
        Recipe("D12:relu D8:relu D1:sigmoid", "bce", "adam", classification(1000, 4, test=500), 10, 1000),
        "1,000 steps instead of 15,000",
        optimizer="adam 0.01",
    ),
    entry(
        58064701,
        "····M",
        "initialization steps",
        "initialization",
        "unclear: weights begin at deviation 0.05, batches of two",
        "Glorot's initialization, batches of 32",
        Recipe("D10:reluⁿ D10:reluⁿ D1:sigmoidⁿ", "bce", "adam", patients(537, 231), 2, 1000),
        "a look-alike of the Pima data, 1,000 steps instead of 2,690",
        net="D10:relu D10:relu D1:sigmoid",
        batch=32,
    ),
    entry(
        64237179,
        "·····",
        "mode",
        "norm",
        "BatchNorm's running statistics keep 0.99 of their start at each of 50 steps: evaluation uses"
        " others than"
        " training",
        "running statistics that keep 0.9",
        Recipe(VOLUMES.format(" BN"), "bce", "adam", classification(50, 1, 10, 10, 10), 50, 50),
        "volumes of 10×10×10 instead of 50×50×50, layers an eighth as wide; the cause is inferred",
        net=VOLUMES.format(" BN0.1"),
    ),
)

CASES = PENALTIES + REST
