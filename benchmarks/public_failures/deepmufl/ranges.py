"""Outputs that cannot reach their targets: sigmoid, tanh, softmax or ReLU before a regression's loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from public_failures.case import Case
from public_failures.data import (
    Data,
    Draw,
    classification,
    curve,
    fixed,
    made,
    parted,
    regression,
    unit_range,
)
from public_failures.deepmufl.entry import entry
from public_failures.look_alikes import cars
from public_failures.recipe import Recipe

TARGETS = "targets lie far outside what the output's {} can give"


def bounded(
    number: int,
    marks: str,
    activation: str,
    recipe: Recipe,
    departs: str = "",
    kinds: str = "output targets",
    scale: str = "y",
    cure: str = "",
    **repair: Any,
) -> Case:
    """Make a case whose twin has a linear output and standardized targets, and what else its repair names."""
    body, _, last = recipe.net.rpartition(" ")
    repair = {"net": f"{body} {last.split(':')[0]}", "scale": scale, **repair}
    scaled = {"": "", "y": ", targets standardized", "xy": ", inputs and targets standardized"}[scale]
    cure = cure or f"a linear output{scaled}"
    fault = TARGETS.format(activation)
    return entry(number, marks, kinds, "output", fault, cure, recipe, departs, **repair)


def weighted_sum(generator: Generator) -> tuple[Tensor, Tensor]:
    x = 10_000 * torch.rand(2500, 3, generator=generator)
    return x, (x @ torch.tensor([2.0, 1.0, 0.5]) + 2.2)[:, None]


def pairs(generator: Generator) -> tuple[Tensor, Tensor]:
    """Seventeen rows of a random series: inputs and target of mean 0.7, of which little can be foretold."""
    rows = 0.7 + 0.85 * torch.randn(17, 3, generator=generator)
    return rows[:, 1:], rows[:, :1]


def shares(seed: int) -> Data:
    """Six linear targets, each divided by the sum of all."""
    made = regression(850, 28, targets=6, test=150)(seed)
    y, y_test = (t / t.sum(1, keepdim=True) for t in (made.y, made.y_test))
    return Data(made.x, y, made.x_test, y_test)


def itself(draw: Draw, low: float, high: float) -> Draw:
    """Inputs brought to low … high, as targets too."""

    def autoencoded(seed: int) -> Data:
        data = draw(seed)
        x = unit_range(torch.cat([data.x, data.x_test]), low, high)
        return parted(x, x, len(data.x_test))

    return autoencoded


def rows_and_columns(generator: Generator) -> tuple[Tensor, Tensor]:
    """All pairs of 1 … 10, brought to 0 … 1, inputs and targets alike."""
    numbers = torch.cartesian_prod(torch.arange(1.0, 11), torch.arange(1.0, 11))
    x = unit_range(numbers)[torch.randperm(100, generator=generator)]
    return x, x


def square(x: Tensor) -> Tensor:
    return x.square()


def square_and_three(x: Tensor) -> Tensor:
    return x.square() + 3


HOURS = [[[8, 0, 18, 10], [9, 0, 20, 7], [7, 0, 17, 12]], [[7, 0, 31, 8], [5, 0, 22, 9], [7, 0, 17, 12]]]
NEXT = [[[10], [7], [12]], [[8], [9], [12]]]
ROWS = [[2, 2, 1, 8, 4], [1, 2, 6, 1, 9], [4, 7, 3, 1, 4], [3, 3, 1, 6, 10], [5, 3, 2, 7, 5]]
LABELS = [[3, 3, 1, 0], [3, 3, 3, 0], [3, 3, 4, 0], [3, 3, 1, 0], [3, 3, 4, 0]]

CASES = (
    bounded(
        33969059,
        "··N··",
        "softmax over a single unit",
        Recipe(
            "D3:tanhᵘ Do0.5 D2:tanhᵘ Do0.5 D1:softmaxᵘ",
            "mse",
            "sgd 0.1 0.9",
            made(weighted_sum, test=500),
            32,
            600,
        ),
        "2,000 samples instead of 100,000",
        "output targets inputs",
        "xy",
        net="D3:tanhᵘ Do0.5 D2:tanhᵘ Do0.5 D1ᵘ",
    ),
    bounded(
        45442843,
        "·····",
        "softmax over two units",
        Recipe("D1:sigmoid D2:softmaxⁿ", "mae broadcast", "rmsprop", regression(90, 1, test=200), 200, 10),
        "200 samples to score on instead of 10",
        "output targets shapes rate steps",
        cure="one linear output, targets standardized, Adam at 0.05, 300 steps",
        net="D1:sigmoid D1",
        loss="mse",
        optimizer="adam 0.05",
        steps=300,
    ),
    bounded(
        46247619,
        "·L···",
        "ReLU",
        Recipe(
            "Conv1D8:relu Conv1D10:relu Conv1D30:relu Flat D128:relu D32:relu D32:relu D1:relu",
            "mse",
            "adam",
            regression(5, 1, 50),
            4096,
            200,
        ),
        "layers a quarter to an eighth as wide, 200 steps instead of 10,000",
    ),
    bounded(
        48221692,
        "D····",
        "sigmoid",
        Recipe("D5:sigmoid D1:sigmoid", "mse", "sgd", curve(square_and_three, -10, 10, 150, 50), 150, 1000),
        "",
    ),
    bounded(
        48251943,
        "·····",
        "ReLU",
        Recipe("D4:relu D1:relu", "mse", "sgd", made(pairs), 10, 1000),
        "a look-alike of the 17 rows of data",
    ),
    bounded(
        48976413,
        "D····",
        "sigmoid",
        Recipe("D12:reluⁿ D8:relu D1:sigmoid", "mse", "adam", cars(770, 193), 50, 600),
        "a look-alike of the data, 600 steps instead of 2,400",
    ),
    bounded(
        50555434,
        "···U·",
        "sigmoid",
        Recipe("D20:reluⁿ D15:reluⁿ D6:reluⁿ D6:sigmoidⁿ", "mae", "adam", shares, 32, 900),
        "900 steps instead of 54,000",
        net="D20:reluⁿ D15:reluⁿ D6:reluⁿ D6ⁿ",
    ),
    bounded(
        52566823,
        "·····",
        "sigmoid",
        Recipe("D5:sigmoid D4:sigmoid D1:sigmoid", "mse", "sgd 0.1", regression(700, 5, test=300), 32, 1000),
        "1,000 steps instead of 2,200; shuffled",
    ),
    bounded(
        53749895,
        "·L···",
        "softmax",
        Recipe(
            "D32:relu D3:softmax",
            "mse",
            "sgd 0.01 0.9",
            regression(800, 400, targets=3, informative=3, test=200),
            32,
            500,
        ),
        "400 features instead of 179,776",
    ),
    bounded(
        54738769,
        "·LN··",
        "softmax over a single unit",
        Recipe(
            "D18:tanh D36:relu D72:relu D72:relu D32:relu D16:relu D1:softmax",
            "mse",
            "adam",
            regression(100, 18, test=200),
            35,
            300,
        ),
    ),
    bounded(
        54811239,
        "·····",
        "tanh",
        Recipe("LSTM10seq D50:tanh D1:tanh", "mse", "adam", fixed(HOURS, NEXT), 32, 5),
        "",
        "output targets steps",
        cure="a linear output, targets standardized, 300 steps",
        steps=300,
    ),
    entry(
        56452176,
        "····M",
        "output architecture steps",
        "output",
        "a ReLU output after a bottleneck of a single ReLU unit: no gradient once one of them is dead",
        "a linear output, no bottleneck, 300 steps",
        Recipe(
            "D1:relu D9:relu D1:relu",
            "mse",
            "adam 0.01",
            fixed([[0.5], [1.0], [0.4], [5], [25]], [0.25, 0.5, 0.2, 2.5, 12.5]),
            32,
            10,
        ),
        net="D9:relu D1",
        steps=300,
    ),
    bounded(
        56774954,
        "·····",
        "softmax",
        Recipe(
            "D100:sigmoid D80:sigmoid D3:softmax",
            "poisson",
            "adam",
            regression(1000, 10, targets=3, test=300),
            32,
            640,
        ),
        "640 steps instead of 960",
        "output loss targets",
        cure="a linear output, squared error, targets standardized",
        loss="mse",
    ),
    bounded(
        59078187,
        "·L···",
        "softmax over ten units",
        Recipe(
            "D128:relu Do0.2 D10:softmax", "mse broadcast", "adam", curve(square, 0, 10, 1000, 100), 32, 160
        ),
        "scored on further samples of 0 … 10 instead of 8 … 12",
        "output targets shapes",
        cure="one linear output, targets standardized",
        net="D128:relu Do0.2 D1",
        loss="mse",
    ),
    bounded(
        59758722,
        "·····",
        "ReLU",
        Recipe("D30:relu D30:relu D1:relu", "mse", "rmsprop", regression(1000, 4, test=300), 128, 104),
    ),
    bounded(
        60574843,
        "·····",
        "sigmoid",
        Recipe(
            "GRU32seq GRU16seq GRU16 D1:sigmoid", "mse", "adam", regression(1400, 1, 12, test=600), 64, 300
        ),
        "1,400 samples instead of 5,360, layers a sixteenth as wide, batches of 64 instead of 256",
    ),
    bounded(
        60766775,
        "·L···",
        "softmax",
        Recipe(
            "D32:sigmoid Do0.1 D20:sigmoid Do0.1 D15:sigmoid Do0.1 D4:softmax",
            "mse",
            "sgd 0.01 0.87",
            regression(900, 8, targets=4, test=300),
            1,
            1500,
        ),
        "1,500 steps instead of 90,000",
    ),
    bounded(
        60801900,
        "·····",
        "ReLU",
        Recipe(
            "D128:relu D64:relu D32:relu D64:relu D128:relu D3:relu",
            "mse",
            "adam",
            itself(classification(80, 43, 3, test=20), -1.92, 1.92),
            2,
            600,
        ),
        "43 places a sample instead of 430",
        "output",
        "",
    ),
    entry(
        60831731,
        "·····",
        "hidden rate",
        "sigmoid",
        "two layers of sigmoids at the learning rate 0.01: the output does not leave the mean in 160 steps",
        "tanh and a linear output, Adam at 0.01",
        Recipe("D2:sigmoid D2:sigmoid", "mse", "sgd", made(rows_and_columns, test=20), 10, 160),
        "",
        net="D2:tanh D2",
        optimizer="adam 0.01",
    ),
    bounded(
        62440336,
        "·····",
        "softmax over a single unit",
        Recipe(
            "Conv1D10k40s20:relu Conv1D10k4s2:relu Steps LSTM16 D32:relu D16:relu D1:softmax",
            "bce from logits",
            "adam",
            regression(100, 1, 600),
            32,
            300,
        ),
        "sequences of 600 instead of 1,323,000, layers a tenth as wide and less, 300 steps instead of 4,000",
        "output loss targets",
        cure="a linear output, squared error, targets standardized",
        loss="mse",
    ),
    bounded(
        68458462,
        "····M",
        "sigmoid",
        Recipe("D2:relu D2:relu D4:sigmoid", "mse", "adam", fixed(ROWS, LABELS), 16, 100),
        "",
        "output targets inputs",
        "xy",
    ),
)
