"""Losses that are another task's, or do not fit the targets' form."""

from __future__ import annotations

import torch

from public_failures.data import (
    Data,
    classification,
    digits,
    fixed,
    parted,
    regression,
    unit_range,
)
from public_failures.deepmufl.entry import entry
from public_failures.look_alikes import weather
from public_failures.recipe import Recipe

CURE = "logits and cross-entropy"


def unit_targets(seed: int) -> Data:
    """A regression of 64 inputs, targets brought to −1 … 1."""
    data = regression(4000, 64, test=1000)(seed)
    y = unit_range(torch.cat([data.y, data.y_test]), -1, 1)
    return parted(torch.cat([data.x, data.x_test]), y, 1000)


def rained(seed: int) -> Data:
    """The weather with real targets of −1 and 1, as the report scales labels."""
    data = weather(4000, 1000)(seed)
    return Data(data.x, 2.0 * data.y[:, None] - 1, data.x_test, 2.0 * data.y_test[:, None] - 1)


XOR = fixed([[[0, 0]], [[0, 1]], [[1, 0]], [[1, 1]]], [0, 1, 1, 0], 2)
PICTURES = "images of {}×{} instead of {}, layers {} as wide"
VGG = (
    "Conv2D8same:relu Conv2D8same:relu Conv2D8same:relu MP Do0.25 Conv2D12same:relu Conv2D12same:relu MP"
    " Do0.25"
    " Conv2D12same:relu Conv2D12same:relu MP Do0.25 Conv2D16same:relu Conv2D16same:relu MP Do0.25 Flat"
    " D32:relu"
    " D64:relu D128:relu "
)

CASES = (
    entry(
        34673164,
        "····M",
        "loss",
        "loss",
        "squared error of a softmax's output: its gradient vanishes where the softmax is sure",
        CURE,
        Recipe(
            "D64:tanhᵘ Do0.5 D64:tanhᵘ Do0.5 D2:softmaxᵘ",
            "mse one-hot",
            "sgd 0.1 0.9",
            classification(1000, 14, test=500),
            16,
            600,
        ),
        "600 steps instead of 1,260",
        net="D64:tanhᵘ Do0.5 D64:tanhᵘ Do0.5 D2ᵘ",
        loss="ce logits",
    ),
    entry(
        46869312,
        "D···M",
        "loss targets output",
        "loss",
        "binary cross-entropy of a sigmoid for real targets of −1 … 1",
        "a linear output and squared error",
        Recipe("D64:reluᵘ0.16 D32:reluᵘ0.19 D1:sigmoidᵘ0.33", "bce clipped", "adam", unit_targets, 40, 600),
        "4,000 samples instead of 100,000, batches of 40 instead of 200, 600 steps instead of 1,500",
        net="D64:reluᵘ0.16 D32:reluᵘ0.19 D1ᵘ0.33",
        loss="mse",
    ),
    entry(
        50338865,
        "···U·",
        "loss steps",
        "loss",
        "absolute error of linear outputs for two classes, 50 steps",
        f"{CURE}, 400 steps",
        Recipe("LSTM10seq LSTM10 D2", "mae one-hot", "adam", XOR, 32, 50),
        loss="ce logits",
        steps=400,
    ),
    entry(
        56317174,
        "····M",
        "targets output regularization",
        "output",
        "targets of −1 and 1 for a sigmoid and squared error, dropout of one half on four units",
        "a tanh output, no dropout",
        Recipe(
            "BN D4:relu Do0.5 BN D4:relu Do0.5 BN D4:relu Do0.5 D1:sigmoid",
            "mse",
            "rmsprop",
            rained,
            128,
            600,
        ),
        "a look-alike of 4,000 days instead of 113,000, batches of 128 instead of 1,024, 600 steps"
        " instead of 22,000;"
        " the score of both is R² of the targets of −1 and 1",
        net="BN D4:relu BN D4:relu BN D4:relu D1:tanh",
    ),
    entry(
        57326611,
        "·LN··",
        "loss shapes",
        "loss",
        "binary cross-entropy of two softmax outputs, both for the same label of 0 or 1: they broadcast",
        CURE,
        Recipe("D50:relu D2:softmax", "bce broadcast", "adam", classification(2000, 5, test=500), 32, 600),
        "2,000 samples instead of 10,000, 600 steps instead of 6,260",
        net="D50:relu D2",
        loss="ce logits",
    ),
    entry(
        58333926,
        "···UM",
        "loss metric",
        "loss",
        "ten sigmoids with binary cross-entropy of one-hot classes: nine of ten targets are 0, and"
        " accuracy flatters",
        CURE,
        Recipe(
            "Conv2D8:relu MP Conv2D8:relu MP Flat D100:relu D10:sigmoid",
            "bce one-hot",
            "adam",
            digits(16, 3),
            32,
            150,
        ),
        "the embedded digits instead of CIFAR-10, layers a quarter as wide",
        net="Conv2D8:relu MP Conv2D8:relu MP Flat D100:relu D10",
        loss="ce logits",
    ),
    entry(
        60508218,
        "···U·",
        "loss",
        "loss",
        "two sigmoids with binary cross-entropy of one-hot classes",
        CURE,
        Recipe(
            "Conv2D8:relu Conv2D16:relu MP Do0.25 Flat D32:relu Do0.5 D2:sigmoid",
            "bce one-hot",
            "adam 3e-5",
            classification(90, 3, 20, 20),
            10,
            180,
        ),
        PICTURES.format(20, 20, "224×224", "a quarter"),
        net="Conv2D8:relu Conv2D16:relu MP Do0.25 Flat D32:relu Do0.5 D2",
        loss="ce logits",
    ),
    entry(
        61763616,
        "···U·",
        "loss shapes",
        "loss",
        "log cosh of two sigmoids, both for the same label of 0 or 1: they broadcast",
        CURE,
        Recipe(
            "Conv1D8k12 MP4 Conv1D16k12 MP4 Conv1D8k12 MP4 Flat D16:relu D2:sigmoid",
            "log-cosh",
            "adam",
            classification(1000, 1, 500),
            32,
            160,
        ),
        "sequences of 500 instead of 784, convolutions half as wide",
        net="Conv1D8k12 MP4 Conv1D16k12 MP4 Conv1D8k12 MP4 Flat D16:relu D2",
        loss="ce logits",
    ),
    entry(
        62957334,
        "····M",
        "loss hidden",
        "loss",
        "percentage error of labels of 0 and 1: it divides by 0",
        "binary cross-entropy",
        Recipe(
            "Conv3D8same MP2same Conv3D8same MP2same Conv3D8same Flat D10 D1:sigmoid",
            "mape",
            "nadam",
            classification(100, 6, 10, 10, 3),
            20,
            50,
        ),
        "volumes of 10×10×3 instead of 100×100×3, convolutions a quarter as wide",
        loss="bce",
    ),
    entry(
        67529687,
        "···U·",
        "loss",
        "loss",
        "two sigmoids with binary cross-entropy of one-hot classes",
        CURE,
        Recipe(VGG + "D2:sigmoid", "bce one-hot", "adam", classification(90, 3, 16, 16), 32, 100),
        PICTURES.format(16, 16, "224×224", "a quarter to a thirty-second") + ", 100 steps instead of 300",
        net=VGG + "D2",
        loss="ce logits",
    ),
)
