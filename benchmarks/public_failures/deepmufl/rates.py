"""Learning rates and numbers of steps; inputs and targets that are not scaled."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from public_failures.data import (
    Data,
    classification,
    digits,
    fixed,
    made,
    regression,
)
from public_failures.deepmufl.entry import entry
from public_failures.recipe import Recipe

CURE = "logits and cross-entropy"


def two_squares(generator: Generator) -> tuple[Tensor, Tensor]:
    y = torch.arange(300) % 2
    low, high = torch.tensor([0.2, 0.5])[y], torch.tensor([0.4, 0.7])[y]
    return low[:, None] + (high - low)[:, None] * torch.rand(300, 2, generator=generator), y


def threes(generator: Generator) -> tuple[Tensor, Tensor]:
    """Whole numbers to 488 and their doubles; the target is their sum."""
    first = torch.randint(26, 489, (144, 1), generator=generator).float()
    return torch.cat([first, 2 * first], 1), 3 * first


def whole_numbers(generator: Generator) -> tuple[Tensor, Tensor]:
    x = torch.randint(50, 2000, (50, 10), generator=generator)
    return x.float(), torch.randint(600, 4000, (50, 1), generator=generator).float()


def seen_first(seed: int) -> Data:
    """Two samples, of which the validation split leaves one to train on."""
    data = TWO(seed)
    return Data(data.x[:1], data.y[:1], data.x, data.y, 2)


TWO = fixed([[1], [2]], [1, 0], 2)
PICTURES = "images of {}×{} instead of {}, layers {} as wide"

RATE = (
    entry(
        48385830,
        "DL···",
        "rate hidden output loss initialization",
        "lr",
        "a learning rate of 3, on squared error of a network without activations: the loss is infinite"
        " in a few steps",
        "sigmoid, logits and cross-entropy, SGD at 0.1",
        Recipe("D30ⁿ1 D10ⁿ1", "mse one-hot", "sgd 3.0", digits(16, flat=True), 10, 600),
        "the embedded digits instead of MNIST, biases begin at 0, 600 steps instead of 180,000",
        net="D30:sigmoid D10",
        loss="ce logits",
        optimizer="sgd 0.1",
    ),
    entry(
        44164749,
        "DL··M",
        "steps rate",
        "steps",
        "batches of 2,000 for 90 samples, and five epochs: five steps in all",
        "batches of 10, 300 steps",
        Recipe(
            "D500:relu Do0.1 D60:relu Do0.1 D2:softmax",
            "ce",
            "sgd 0.01 0.9",
            classification(90, 10, test=300),
            2000,
            5,
        ),
        "500 and 60 units instead of 5,000 and 600; 300 samples to score on instead of 10",
        batch=10,
        steps=300,
    ),
    entry(
        46359741,
        "D····",
        "steps rate targets",
        "steps",
        "20 steps at a learning rate of 0.009, on one of two samples: the other is kept to validate on",
        "both samples, a hidden layer of 4 tanh units, Adam at 0.05, 500 steps",
        Recipe("D1:sigmoid D1:sigmoid", "bce", "sgd 0.009 0.9", seen_first, 32, 20),
        net="D4:tanh D1:sigmoid",
        optimizer="adam 0.05",
        data=TWO,
        steps=500,
    ),
    entry(
        50306988,
        "DL···",
        "rate steps",
        "lr",
        "two sigmoid units at Adam's default learning rate, too slow for 500 epochs",
        "Adam at 0.05",
        Recipe("D2:sigmoid D2:softmax", "ce", "adam", made(two_squares, 2, 100), 32, 1000),
        "1,000 steps instead of 3,500",
        optimizer="adam 0.05",
    ),
    entry(
        68701979,
        "DLN··",
        "shapes loss steps rate",
        "loss",
        "categorical cross-entropy of two outputs and labels of 0 and 1 that are not one-hot: they broadcast",
        f"{CURE}, SGD at 0.1, 1,000 steps",
        Recipe("D32:sigmoid D2:softmax", "ce labels", "sgd", classification(6700, 5, test=1000), 32, 209),
        "trained for an epoch, which the report forgets",
        net="D32:sigmoid D2",
        loss="ce logits",
        optimizer="sgd 0.1",
        steps=1000,
    ),
)

SCALES = (
    entry(
        54064299,
        "·····",
        "targets steps",
        "targets",
        "targets of deviation 180, one sample a batch",
        "targets standardized, batches of 16",
        Recipe(
            "Conv2D8:relu MP Conv2D8:relu MP Conv2D16k1:relu Flat D4",
            "mse",
            "adam",
            regression(300, 1, 20, 20, targets=4),
            1,
            300,
        ),
        PICTURES.format(20, 20, "150×150", "a quarter to an eighth") + ", 300 steps instead of 30,000",
        batch=16,
        scale="y",
    ),
    entry(
        55328966,
        "····M",
        "inputs output rate",
        "input",
        "pixels of 0 … 255, ten sigmoids with categorical cross-entropy, SGD at 0.0001",
        "standardized pixels, logits and cross-entropy, Adam",
        Recipe(
            "D256 D50:relu D10:sigmoid", "ce normalized", "sgd 1e-4", digits(16, raw=True, flat=True), 32, 470
        ),
        "the embedded digits instead of MNIST, 256 pixels and units instead of 784, 470 steps instead of"
        " 1,570",
        net="D256 D50:relu D10",
        loss="ce logits",
        optimizer="adam",
        scale="x",
    ),
    entry(
        66840108,
        "DL···",
        "targets output loss inputs",
        "targets",
        "real targets to 1,464 for a sigmoid and binary cross-entropy, inputs to 976",
        "a linear output and squared error, inputs and targets standardized",
        Recipe("D196:relu D128:relu D1:sigmoid", "bce clipped", "adam", made(threes, test=100), 10, 600),
        "a look-alike of the 44 rows of data, and 100 more to score on; 600 steps instead of 3,000",
        net="D196:relu D128:relu D1",
        loss="mse",
        scale="xy",
    ),
    entry(
        69901379,
        "····M",
        "targets inputs rate",
        "targets",
        "inputs to 2,000 and targets to 4,000, Adam at 0.0001",
        "inputs and targets standardized, Adam at 0.001",
        Recipe("D16:relu D16:relu D16:relu D16:relu D1", "mse", "adam 1e-4", made(whole_numbers), 32, 1000),
        "1,000 steps instead of 2,000",
        scale="xy",
        optimizer="adam",
    ),
)

CASES = RATE + SCALES
