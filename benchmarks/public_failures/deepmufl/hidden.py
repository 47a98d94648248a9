"""Hidden activations that saturate, or none at all."""

from __future__ import annotations

import torch
from torch import Tensor

from public_failures.data import (
    classification,
    curve,
    digits,
)
from public_failures.deepmufl.entry import entry
from public_failures.look_alikes import irises
from public_failures.recipe import Recipe


def polynomial(x: Tensor) -> Tensor:
    powers = (15.72807, -7.273893, 1.4912, -0.1384615, 0.00474359)
    return 0.05 * sum(factor * x ** (n + 1) for n, factor in enumerate(powers))


CASES = (
    entry(
        48486598,
        "····M",
        "hidden architecture",
        "activation",
        "no activation between layers: the network is a straight line, the target a polynomial of degree 5",
        "two layers of 20 units with ReLU",
        Recipe("D1 D5 D1", "mae", "adam", curve(polynomial, 0, 10, 200), 10, 1500),
        "1,500 steps instead of 3,000",
        net="D20:relu D20:relu D1",
    ),
    entry(
        49583466,
        "····M",
        "hidden initialization rate",
        "sigmoid",
        "three layers of sigmoids whose weights begin within ±0.05: next to no gradient reaches the first",
        "tanh and Glorot's initialization, Adam at 0.01",
        Recipe(
            "D20:sigmoidᵘ D20:sigmoidᵘ D20:sigmoidᵘ D1",
            "mse",
            "sgd",
            curve(torch.sin, -10, 10, 5000, 500, True),
            32,
            314,
        ),
        "",
        net="D20:tanh D20:tanh D20:tanh D1",
        optimizer="adam 0.01",
    ),
    entry(
        56888491,
        "·····",
        "hidden",
        "activation",
        "four layers without activation: the network is a linear classifier",
        "ReLU",
        Recipe("D5 D15 D15 D15 D2:softmax", "ce", "adam", classification(5000, 5, test=1000), 20, 1000),
        "5,000 samples instead of 10,000, 1,000 steps instead of 5,000,000",
        net="D5:relu D15:relu D15:relu D15:relu D2:softmax",
    ),
    entry(
        58043002,
        "····M",
        "hidden rate",
        "sigmoid",
        "sigmoids after two convolutions, and a learning rate of 0.0001",
        "ReLU, Adam at 0.001",
        Recipe(
            "Conv1D64:sigmoid MP3 Conv1D64k2:sigmoid Steps LSTM8 D2:softmax",
            "ce",
            "adam 1e-4",
            classification(670, 7, 10),
            50,
            300,
        ),
        "300 steps instead of 1,400; its masking never masks",
        net="Conv1D64:relu MP3 Conv1D64k2:relu Steps LSTM8 D2:softmax",
        optimizer="adam",
    ),
    entry(
        61234347,
        "····M",
        "hidden inputs steps",
        "tanh",
        "seven layers of tanh on inputs that are not scaled, for a single epoch",
        "ReLU, standardized inputs, 100 steps",
        Recipe(
            "D250:tanh D125:tanh D64:tanh D32:tanh D32:tanh D16:tanh D9:tanh D3:softmax",
            "ce",
            "adam",
            irises(45),
            32,
            4,
        ),
        "a look-alike of the irises, most layers a quarter as wide",
        net="D250:relu D125:relu D64:relu D32:relu D32:relu D16:relu D9:relu D3:softmax",
        scale="x",
        steps=100,
    ),
    entry(
        65777704,
        "····M",
        "hidden",
        "sigmoid",
        "five layers of sigmoids: the gradient vanishes before the first",
        "ReLU",
        Recipe(
            "Flat D8:sigmoid D16:sigmoid D32:sigmoid D64:sigmoid D128:sigmoid D10:softmax",
            "ce",
            "adam",
            digits(16),
            500,
            300,
        ),
        "the embedded digits instead of MNIST, 300 steps instead of 120,000",
        net="Flat D8:relu D16:relu D32:relu D64:relu D128:relu D10:softmax",
    ),
)
