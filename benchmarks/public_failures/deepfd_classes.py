"""Classifiers among DeepFD's subjects."""

from __future__ import annotations

from functools import partial

from torch import nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, RMSprop

from public_failures import deepfd_data as data
from public_failures.case import Case
from public_failures.deepfd_nets import (
    Side,
    categorical_column,
    class_net,
    cnn,
    column,
    dense,
    index_of_one,
    sigmoid_net,
    softmax_net,
    wrong,
)
from public_failures.emse import Program, of_textures, textures
from public_failures.plain import Split, accuracy, binary_accuracy
from public_failures.probabilities import binary, categorical
from public_failures.tasks import digits

TWO_SIDES = partial(binary_accuracy, threshold=0.5)
SIGMOID_SIDE = Side(sigmoid_net, data.sides, binary, partial(SGD, lr=0.1))
LARGE_SIDES = partial(data.sides, scale=1_000.0)
LARGE_CLASSES = partial(data.classes, scale=100.0)
TENTH = partial(SGD, lr=0.1)
NESTEROV = partial(SGD, momentum=0.9, nesterov=True)


def of_pictures(_: int) -> Split:
    return digits()


def digit_cnn() -> nn.Module:
    return cnn(10, nn.Softmax(1))


def digit_mlp() -> nn.Module:
    return dense(64, 128, 10, end=nn.Softmax(1))


def deep_mlp() -> nn.Module:
    return dense(64, 128, 128, 128, 10, end=nn.Softmax(1))


def texture_cnn() -> nn.Module:
    return of_textures(Program())


CASES: tuple[Case, ...] = (
    wrong(
        "38648195",
        ("output", "loss"),
        "softmax",
        "A softmax over one unit, trained by squared errors and SGD.",
        "A sigmoid and binary cross entropy.",
        Side(softmax_net, data.sides, F.mse_loss, partial(SGD, lr=0.1)),
        SIGMOID_SIDE,
        measure=TWO_SIDES,
    ),
    wrong(
        "39525358",
        ("output", "inputs", "rate"),
        "output",
        "Inputs are not scaled, and there is no activation before binary cross entropy.",
        "Inputs are standardized; a sigmoid; Adam at 0.1.",
        Side(lambda: dense(8, 16, 1), LARGE_SIDES, binary, Adam),
        Side(sigmoid_net, data.standardized(LARGE_SIDES), binary, partial(Adam, lr=0.1)),
        measure=TWO_SIDES,
    ),
    wrong(
        "47724077",
        ("inputs", "rate"),
        "scale",
        "Inputs are not scaled; Adam at 0.001.",
        "Inputs are standardized; Adam at 0.01.",
        Side(class_net, LARGE_CLASSES, categorical, Adam),
        Side(class_net, data.standardized(LARGE_CLASSES), categorical, partial(Adam, lr=0.01)),
        measure=accuracy,
    ),
    wrong(
        "59325381",
        ("targets", "inputs"),
        "label",
        "Labels are divided by 255 in place of the pixels that are held out: all are 0.",
        "The pixels are.",
        Side(digit_mlp, data.labels_divided, categorical, Adam),
        Side(digit_mlp, data.flat_digits, categorical, Adam),
        measure=accuracy,
        departs="Digits of 8×8, no convolutions.",
    ),
    wrong(
        "50079585",
        ("output", "loss", "rate", "steps"),
        "output",
        "One sigmoid and binary cross entropy are to tell three classes; RMSprop, ten epochs.",
        "Three units and a softmax, RMSprop at 0.005, twice as many epochs.",
        Side(lambda: cnn(1, nn.Sigmoid()), data.three_digits, column(binary), RMSprop),
        Side(lambda: cnn(3, nn.Softmax(1)), data.three_digits, categorical, partial(RMSprop, lr=5e-3)),
        measure=index_of_one,
        steps=100,
        fixed_steps=200,
        departs="Digits 0, 1 and 2 of 8×8.",
    ),
    wrong(
        "47352366",
        ("output", "steps"),
        "relu",
        "The ten outputs are ReLUs, before categorical cross entropy.",
        "A softmax, two epochs.",
        Side(lambda: dense(64, 64, 10, end=nn.ReLU()), data.flat_digits, categorical, TENTH, 50),
        Side(
            lambda: dense(64, 64, 10, end=nn.Softmax(1)),
            data.flat_digits,
            categorical,
            TENTH,
            50,
        ),
        measure=accuracy,
        steps=200,
        fixed_steps=400,
        departs="Digits of 8×8; the optimizer is not told.",
    ),
    wrong(
        "48594888",
        ("steps",),
        "epochs",
        "Five epochs in batches of 1,000: five steps.",
        "Ten epochs in batches of 64.",
        Side(
            deep_mlp,
            data.flat_digits,
            categorical,
            Adam,
            1_000,
        ),
        Side(
            deep_mlp,
            data.flat_digits,
            categorical,
            Adam,
            64,
        ),
        measure=accuracy,
        steps=5,
        fixed_steps=230,
        departs="Digits of 8×8, an eighth of the width.",
    ),
    wrong(
        "31627380",
        ("output", "loss"),
        "softmax",
        "A softmax over one unit, and categorical cross entropy.",
        "A sigmoid and binary cross entropy.",
        Side(softmax_net, data.sides, categorical_column, partial(SGD, lr=0.1)),
        SIGMOID_SIDE,
        measure=TWO_SIDES,
    ),
    wrong(
        "58609115",
        ("loss",),
        "loss",
        "Categorical cross entropy of one sigmoid, which is divided by itself: the loss is 0.",
        "Binary cross entropy.",
        Side(sigmoid_net, data.sides, categorical_column, Adam),
        Side(sigmoid_net, data.sides, binary, Adam),
        measure=TWO_SIDES,
        steps=600,
    ),
    wrong(
        "56380303",
        ("rate",),
        "lr",
        "SGD at 0.01 on inputs that are not scaled.",
        "Adam at 0.0001.",
        Side(class_net, LARGE_CLASSES, categorical, partial(SGD, lr=0.01), 50),
        Side(class_net, LARGE_CLASSES, categorical, partial(Adam, lr=1e-4), 50),
        measure=accuracy,
        steps=400,
    ),
    wrong(
        "37624102",
        ("rate",),
        "lr",
        "SGD at 0.1 with a momentum of 0.9 after Nesterov.",
        "A learning rate of 0.01.",
        Side(
            texture_cnn,
            textures,
            categorical,
            partial(NESTEROV, lr=0.1),
        ),
        Side(
            texture_cnn,
            textures,
            categorical,
            partial(NESTEROV, lr=0.01),
        ),
        measure=accuracy,
        steps=200,
        departs="Synthetic textures; the network is not told.",
    ),
    wrong(
        "41600519",
        ("rate", "steps"),
        "batch",
        "One epoch in batches of one, RMSprop.",
        "Adam, batches of 64, a hundred epochs.",
        Side(lambda: dense(8, 64, 100, 50, 1, end=nn.Sigmoid()), data.sides, binary, RMSprop, 1),
        Side(lambda: dense(8, 64, 100, 50, 1, end=nn.Sigmoid()), data.sides, binary, Adam, 64),
        measure=TWO_SIDES,
        steps=500,
        fixed_steps=1_000,
        departs="Widths of a quarter; synthetic columns, fewer epochs.",
    ),
    wrong(
        "41977498",
        ("rate", "steps"),
        "lr",
        "RMSprop at 0.001, ten epochs.",
        "Adam at 0.01, a hundred epochs.",
        Side(class_net, data.classes, categorical, RMSprop),
        Side(class_net, data.classes, categorical, partial(Adam, lr=0.01)),
        measure=accuracy,
        steps=20,
        fixed_steps=200,
    ),
    wrong(
        "42800203",
        ("output",),
        "softmax",
        "A softmax over one unit.",
        "A sigmoid.",
        Side(softmax_net, data.sides, binary, Adam),
        Side(sigmoid_net, data.sides, binary, Adam),
        measure=TWO_SIDES,
        steps=600,
    ),
    wrong(
        "37213388",
        ("steps",),
        "epochs",
        "Two epochs.",
        "Ten.",
        Side(digit_cnn, of_pictures, categorical, Adam),
        Side(digit_cnn, of_pictures, categorical, Adam),
        measure=accuracy,
        steps=92,
        fixed_steps=460,
    ),
)
