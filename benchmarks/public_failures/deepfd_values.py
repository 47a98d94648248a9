"""Regressions among DeepFD's subjects."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, RMSprop

from public_failures import deepfd_data as data
from public_failures.case import Case
from public_failures.deepfd_nets import Side, cells, dense, eleven_layers, keypoint_net, life_net, wrong
from public_failures.plain import r2
from public_failures.probabilities import binary, normal

LARGE_LINE = partial(data.values, scale=1_000.0, of_y=1e6)
LARGE_VALUES = partial(data.values, inputs=5, scale=1e3, of_y=1e5)
LARGE_INPUTS = partial(data.values, inputs=5, scale=1e3, of_y=3.0)
HUNDREDTH = partial(Adam, lr=0.01)
NESTEROV = partial(SGD, lr=0.05, momentum=0.9, nesterov=True)


def same_width(hidden: type[nn.Module]) -> Callable[[], nn.Module]:
    return lambda: dense(16, 16, 16, 16, hidden=hidden)


CASES: tuple[Case, ...] = (
    wrong(
        "39217567",
        ("hidden", "steps"),
        "sigmoid",
        "Hidden sigmoids, begun from N(0, 0.05²), are to hand their inputs through.",
        "ReLU.",
        Side(
            same_width(nn.Sigmoid),
            data.identity,
            F.mse_loss,
            Adam,
            start=normal(0.05),
        ),
        Side(same_width(nn.ReLU), data.identity, F.mse_loss, Adam, start=normal(0.05)),
        measure=r2,
        steps=1_000,
    ),
    wrong(
        "48934338",
        ("rate",),
        "lr",
        "SGD at 0.1 diverges.",
        "SGD at 0.0001.",
        Side(lambda: dense(1, 16, 1), data.line, F.mse_loss, partial(SGD, lr=0.1)),
        Side(lambda: dense(1, 16, 1), data.line, F.mse_loss, partial(SGD, lr=1e-4)),
        measure=r2,
        steps=600,
    ),
    wrong(
        "52800582",
        ("targets", "inputs"),
        "scale",
        "Neither x nor y of a regression is scaled.",
        "Both are standardized.",
        Side(lambda: dense(1, 32, 32, 1), LARGE_LINE, F.mse_loss, Adam),
        Side(lambda: dense(1, 32, 32, 1), data.standardized(LARGE_LINE, targets=True), F.mse_loss, Adam),
        measure=r2,
        steps=400,
    ),
    wrong(
        "44998910",
        ("rate", "steps"),
        "lr",
        "SGD at 0.01 learns slowly.",
        "SGD at 0.03.",
        Side(lambda: dense(1, 16, 1), data.values, F.mse_loss, partial(SGD, lr=0.01)),
        Side(lambda: dense(1, 16, 1), data.values, F.mse_loss, partial(SGD, lr=0.03)),
        measure=r2,
    ),
    wrong(
        "46642627",
        ("loss", "targets", "inputs", "rate"),
        "scale",
        "A regression by binary cross entropy, of inputs and targets that are not scaled.",
        "Squared errors, both scaled, Adam.",
        Side(lambda: dense(5, 16, 1), LARGE_VALUES, binary, partial(SGD, lr=0.01)),
        Side(lambda: dense(5, 16, 1), data.standardized(LARGE_VALUES, targets=True), F.mse_loss, Adam),
        measure=r2,
    ),
    wrong(
        "46995209",
        ("architecture", "hidden", "inputs"),
        "layers",
        "Inputs are not scaled, and go through 10 and 90 tanh units and nine layers of 10 ReLUs.",
        "Inputs are scaled, and go through 10 and 25 ReLUs.",
        Side(
            eleven_layers,
            partial(data.values, inputs=5, scale=1e3, of_y=3.0),
            F.mse_loss,
            partial(Adam, lr=0.01),
        ),
        Side(
            lambda: dense(5, 10, 25, 1),
            data.standardized(LARGE_INPUTS),
            F.mse_loss,
            partial(Adam, lr=0.01),
        ),
        measure=r2,
        steps=400,
    ),
    wrong(
        "51181393",
        ("rate",),
        "lr",
        "RMSprop at its default of 0.001 is too slow for a line.",
        "RMSprop at 0.1.",
        Side(lambda: dense(1, 1), data.degrees, F.mse_loss, RMSprop),
        Side(lambda: dense(1, 1), data.degrees, F.mse_loss, partial(RMSprop, lr=0.1)),
        measure=r2,
    ),
    wrong(
        "47932589",
        ("targets", "inputs"),
        "scale",
        "Inputs to 1,000 and targets to 100,000 are not scaled.",
        "Both are.",
        Side(lambda: dense(5, 64, 64, 1), LARGE_VALUES, F.mse_loss, Adam),
        Side(lambda: dense(5, 64, 64, 1), data.standardized(LARGE_VALUES, targets=True), F.mse_loss, Adam),
        measure=r2,
    ),
    wrong(
        "gol_nn",
        ("loss", "rate", "steps"),
        "lr",
        "The next board of the game of life by binary cross entropy, Adam at 0.001, five epochs.",
        "Squared errors, Adam at 0.01, ten epochs.",
        Side(life_net, data.life, binary, Adam),
        Side(life_net, data.life, F.mse_loss, partial(Adam, lr=0.01)),
        measure=cells,
        steps=125,
        fixed_steps=250,
        departs="Boards of 10×10.",
    ),
    wrong(
        "FacialKeypointsDetection",
        ("rate", "steps"),
        "lr",
        "Adam at 0.1, 100 epochs.",
        "SGD, 400 epochs.",
        Side(keypoint_net, data.points, F.mse_loss, partial(Adam, lr=0.1)),
        Side(keypoint_net, data.points, F.mse_loss, NESTEROV),
        measure=r2,
        steps=150,
        fixed_steps=600,
        departs="Two spots in pictures of 12×12; SGD's settings are not told.",
    ),
)
