"""Networks of DeepFD's subjects, and a case of two programs: the faulty one and its repair."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from public_failures.case import Case, Training
from public_failures.plain import Loss, Measure, Split, plain
from public_failures.probabilities import CLIP, glorot

# Tools that found the fault: U UMLAUT, A AUTOTRAINER, L DeepLocalize, F DeepFD
MARKS = {
    "UL": ("38648195",),
    "UF": ("39217567", "59325381", "41977498", "44998910", "46995209", "gol_nn"),
    "UAF": ("50079585", "46642627"),
    "UALF": ("47352366", "37624102", "41600519", "47932589"),
}
OTHER_MARKS = "ULF"
UNTOLD = "Sizes and data are not told."


def dense(*widths: int, hidden: type[nn.Module] = nn.ReLU, end: nn.Module | None = None) -> nn.Sequential:
    """Layers of those widths, an activation between them, and one at the end if there is one."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), hidden()]
    layers[-1:] = [] if end is None else [end]
    return nn.Sequential(*layers)


def cnn(outputs: int, end: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(144, 32),
        nn.ReLU(),
        nn.Linear(32, outputs),
        end,
    )


def life_net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 8, 1),
        nn.ReLU(),
        nn.Conv2d(8, 1, 1),
        nn.Sigmoid(),
    )


def keypoint_net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(200, 50),
        nn.ReLU(),
        nn.Linear(50, 4),
    )


def index_of_one(output: Tensor, y: Tensor) -> float:
    """Accuracy where one unit is to tell several classes: it says 0 or 1."""
    said = (output[:, 0] > 0.5).long() if output.shape[1] == 1 else output.argmax(1)
    return float((said == y).float().mean())


def column(loss: Loss) -> Loss:
    """Loss against labels as a column of numbers, as Keras broadcasts them."""
    return lambda output, y: loss(output, y[:, None].float())


@dataclass(frozen=True)
class Side:
    """A program: faulty, or repaired."""

    net: Callable[[], nn.Module]
    draw: Callable[[int], Split]
    loss: Loss
    optimizer: Callable[..., Optimizer]
    size: int = 32
    start: Callable[[nn.Module], nn.Module] = glorot


def either(faulty: Side, right: Side, measure: Measure) -> Callable[[bool, int], Training]:
    def build(fixed: bool, seed: int) -> Training:
        side = right if fixed else faulty
        torch.manual_seed(seed)
        model = side.start(side.net())
        optimizer = side.optimizer(model.parameters())
        return plain(model, optimizer, side.draw(seed), side.loss, measure, seed, side.size)

    return build


def sigmoid_net() -> nn.Module:
    return dense(8, 16, 1, end=nn.Sigmoid())


def eleven_layers() -> nn.Module:
    """Ten units and ninety of tanh, then nine layers of ten ReLUs."""
    tanh = [nn.Linear(5, 10), nn.Tanh(), nn.Linear(10, 90), nn.Tanh()]
    return nn.Sequential(*tanh, *dense(90, *[10] * 9, 1))


def categorical_column(p: Tensor, y: Tensor) -> Tensor:
    """Categorical cross entropy of one unit: it is divided by itself."""
    return -(y * (p / p.sum(-1, keepdim=True)).clamp(CLIP, 1 - CLIP).log()).mean()


def cells(output: Tensor, y: Tensor) -> float:
    """Mean of the accuracies of living and of dead cells."""
    right = ((output > 0.5) == (y > 0.5)).float()
    return float(right[y > 0.5].mean() + right[y < 0.5].mean()) / 2


def softmax_net() -> nn.Module:
    return dense(8, 16, 1, end=nn.Softmax(1))


def class_net() -> nn.Module:
    return dense(10, 20, 20, 5, end=nn.Softmax(1))


def wrong(
    number: str,
    *rest: object,
    measure: Measure,
    steps: int = 300,
    fixed_steps: int | None = None,
    departs: str = UNTOLD,
) -> Case:
    """A case of kinds, place, fault, cure, a faulty and a right program."""
    kinds, place, fault, cure, faulty, right = rest
    marks = next((tools for tools, numbers in MARKS.items() if number in numbers), OTHER_MARKS)
    build = either(faulty, right, measure)
    return Case(f"deepfd/{number}", kinds, place, fault, cure, steps, build, marks, departs, fixed_steps)
