"""Mutants of the study of fault localization by Humbatova et al. (EMSE 2025): M, C and R.

Its D-cases are in the sets of deepmufl and DeepFD; its U- and S-cases need data that are not at hand.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from public_failures.case import Case, Training
from public_failures.plain import Loss, Split, accuracy, drawn, plain
from public_failures.probabilities import categorical, glorot, one_hot
from public_failures.tasks import digits


def softmax() -> nn.Module:
    return nn.Softmax(-1)


@dataclass(frozen=True)
class Program:
    """A program, in the parts that a mutant may change."""

    output: Callable[[], nn.Module] = softmax
    second: Callable[[], nn.Module] = nn.ReLU
    loss: Loss = categorical
    optimizer: Callable[..., Optimizer] = torch.optim.Adam
    lr: float = 1e-3
    start: Callable[[nn.Module], None] = field(default=lambda _: None)
    penalty: float = 0.0


def textures(seed: int) -> Split:
    """Ten gratings of four orientations and several widths and colors, 16×16, under noise."""
    generator = drawn(seed)
    y = torch.randint(0, 10, (1_800,), generator=generator)
    place = torch.arange(16.0)
    angle = torch.arange(10) % 4 * math.pi / 4
    frequency = 0.6 + 0.4 * (torch.arange(10) // 4)
    along = (frequency * angle.cos())[y, None, None] * place[:, None]
    along = along + (frequency * angle.sin())[y, None, None] * place
    wave = (along + 6.3 * torch.rand(len(y), 1, 1, generator=generator)).sin()
    x = wave[:, None] + 1.0 * torch.randn(len(y), 3, 16, 16, generator=generator)
    return Split.of(x, y, 300)


def news(seed: int, words: int = 400) -> Split:
    """Bags of 400 words, of 46 topics of which few are frequent."""
    generator = drawn(seed)
    share = torch.softmax(2.0 * torch.randn(46, words, generator=generator), 1)
    y = torch.multinomial(1 / torch.arange(1.0, 47), 3_500, replacement=True, generator=generator)
    ids = torch.multinomial(share[y], 25, replacement=True, generator=generator)
    other = torch.randint(0, words, ids.shape, generator=generator)
    ids = torch.where(torch.rand(ids.shape, generator=generator) < 0.5, ids, other)
    return Split.of(torch.zeros(len(y), words).scatter_(1, ids, 1.0), y, 500)


def named(**layers: nn.Module) -> nn.Sequential:
    """Layers in a row, called as the faults call them."""
    return nn.Sequential(OrderedDict(layers))


def of_digits(program: Program) -> nn.Sequential:
    return named(
        conv1=nn.Conv2d(1, 16, 3),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(16, 32, 3),
        relu2=nn.ReLU(),
        pool=nn.MaxPool2d(2),
        dropout1=nn.Dropout(0.25),
        flat=nn.Flatten(),
        dense1=nn.Linear(128, 64),
        relu3=nn.ReLU(),
        dropout2=nn.Dropout(0.5),
        dense2=nn.Linear(64, 10),
        output=program.output(),
    )


def of_textures(program: Program) -> nn.Sequential:
    return named(
        conv1=nn.Conv2d(3, 16, 3, padding=1),
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(16, 32, 3, padding=1),
        second=program.second(),
        pool2=nn.MaxPool2d(2),
        conv3=nn.Conv2d(32, 32, 3, padding=1),
        relu3=nn.ReLU(),
        flat=nn.Flatten(),
        dense1=nn.Linear(512, 64),
        relu4=nn.ReLU(),
        dense2=nn.Linear(64, 32),
        relu5=nn.ReLU(),
        dense3=nn.Linear(32, 10),
        output=program.output(),
    )


def of_news(program: Program) -> nn.Sequential:
    return named(
        dense1=nn.Linear(400, 128),
        relu1=nn.ReLU(),
        dropout=nn.Dropout(0.5),
        dense2=nn.Linear(128, 46),
        output=program.output(),
    )


def builder(
    net: Callable[[Program], nn.Sequential],
    draw: Callable[[int], Split],
    size: int,
    faulty: Program,
    right: Program,
) -> Callable[[bool, int], Training]:
    def build(fixed: bool, seed: int) -> Training:
        program = right if fixed else faulty
        torch.manual_seed(seed)
        model = net(program)
        glorot(model)
        program.start(model)
        optimizer = program.optimizer(model.parameters(), lr=program.lr)
        first = model[0].weight

        def loss(output: Tensor, y: Tensor) -> Tensor:
            return program.loss(output, y) + program.penalty * first.abs().sum()

        training = plain(
            model, optimizer, draw(seed), loss if program.penalty else program.loss, accuracy, seed, size
        )
        if program.penalty:
            training.batch = training.loss = None  # the penalty is of this model alone, not of a copy
        return training

    return build


def filled(layer: str, value: float) -> Callable[[nn.Module], None]:
    def start(model: nn.Module) -> None:
        nn.init.constant_(model.get_submodule(layer).weight, value)

    return start


def hinge(output: Tensor, y: Tensor) -> Tensor:
    """Keras' hinge loss, which takes targets of 0 for −1."""
    return (1 - (2 * one_hot(y, output.shape[1]) - 1) * output).relu().mean()


def mutant(name: str, kinds: tuple[str, ...], place: str, fault: str, faulty: Program) -> Case:
    net, draw, size, steps, right, departs = BASES[name[0]]
    cure = "The program before its mutation."
    build = builder(net, draw, size, faulty, right)
    if name == "C2":  # too few epochs
        return Case(f"emse/{name}", kinds, place, fault, cure, 25, build, departs=departs, fixed_steps=200)
    return Case(f"emse/{name}", kinds, place, fault, cure, steps, build, departs=departs)


ADADELTA = torch.optim.Adadelta
BASES = {
    "M": (
        of_digits,
        lambda _: digits(),
        64,
        120,
        Program(optimizer=ADADELTA, lr=1.0),
        "Digits of 8×8, half of the width.",
    ),
    "C": (of_textures, textures, 32, 150, Program(), "Synthetic textures, half of the width or less."),
    "R": (of_news, news, 32, 250, Program(), "Synthetic texts of 400 words, a quarter of the width."),
}
CASES: tuple[Case, ...] = (
    mutant(
        "M1",
        ("initialization",),
        "conv1",
        "The first layer's weights begin as zeros.",
        Program(optimizer=ADADELTA, lr=1.0, start=filled("conv1", 0.0)),
    ),
    mutant(
        "M2",
        ("output",),
        "output",
        "The softmax is removed, and the loss wants probabilities.",
        Program(optimizer=ADADELTA, lr=1.0, output=nn.Identity),
    ),
    mutant("M3", ("rate",), "lr", "Adadelta's rate is 0.001, not 1.", Program(optimizer=ADADELTA, lr=1e-3)),
    mutant(
        "C1", ("hidden",), "sigmoid", "A hidden activation is a hard sigmoid.", Program(second=nn.Hardsigmoid)
    ),
    mutant("C2", ("steps",), "steps", "There are too few epochs: an eighth of the program's.", Program()),
    mutant(
        "C3",
        ("initialization",),
        "conv2",
        "The second layer's weights begin as ones.",
        Program(start=filled("conv2", 1.0)),
    ),
    mutant(
        "R1",
        ("regularization",),
        "penalty",
        "An L1 penalty of 0.01 on the first layer.",
        Program(penalty=0.01),
    ),
    mutant("R2", ("output",), "softsign", "The output is a softsign.", Program(output=nn.Softsign)),
    mutant("R3", ("rate",), "lr", "Adam's learning rate is 1.", Program(lr=1.0)),
    mutant("R4", ("loss",), "loss", "The loss is the hinge loss.", Program(loss=hinge)),
    mutant("R5", ("rate",), "lr", "SGD at 0.001 in place of Adam.", Program(optimizer=torch.optim.SGD)),
    mutant(
        "R6",
        ("initialization",),
        "dense1",
        "The first layer's weights begin as ones.",
        Program(start=filled("dense1", 1.0)),
    ),
    mutant("R7", ("output",), "output", "The softmax is removed.", Program(output=nn.Identity)),
)
