"""Synthetic faults of TheDeepChecker (Ben Braiek and Khomh, TOSEM 2022), on a small CNN and a regression.

Left out: Adam's ε (the value in its scripts does no harm), missing regularization (these tasks do not need
it), and what is one fault in PyTorch, where losses take logits.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from torch import nn
from torch.nn import functional as F
from torch.optim import Adam

from public_failures import deepchecker_programs as programs
from public_failures.case import Case
from public_failures.deepchecker_programs import CNN, DEEP, MLP, Program, cnn, deep_cnn, mlp, train, with_end


def case(
    name: str, kinds: tuple[str, ...], place: str, fault: str, faulty: Program, right: Program | None = None
) -> Case:
    sound = right or (CNN if name.startswith("cnn") else MLP)
    return Case(
        f"deepchecker/{name}",
        kinds,
        place,
        fault,
        "The program without it.",
        STEPS,
        lambda fixed, seed: train(sound if fixed else faulty, seed),
        departs="Digits of 8×8, or a synthetic regression; small networks.",
    )


STEPS = 200
CASES: tuple[Case, ...] = (
    case(
        "cnn_double_normalization",
        ("inputs",),
        "scale",
        "Pixels are divided by 255 twice.",
        replace(CNN, prepare=programs.twice),
    ),
    case(
        "cnn_no_normalization",
        ("inputs",),
        "scale",
        "Pixels are 0 to 255.",
        replace(CNN, prepare=programs.raw),
    ),
    case(
        "cnn_flipped_sign",
        ("loss",),
        "loss",
        "The loss is maximized.",
        replace(CNN, loss=lambda o, y: -F.cross_entropy(o, y)),
    ),
    case(
        "cnn_lr_high",
        ("rate",),
        "lr",
        "Adam's learning rate is 0.3.",
        replace(CNN, optimizer=partial(Adam, lr=0.3)),
    ),
    case(
        "cnn_lr_low",
        ("rate",),
        "lr",
        "Adam's learning rate is 1e-6.",
        replace(CNN, optimizer=partial(Adam, lr=1e-6)),
    ),
    case(
        "cnn_no_batchnorm",
        ("architecture", "initialization"),
        "norm",
        "Fourteen convolutions without BatchNorm.",
        replace(DEEP, net=lambda: deep_cnn(norm=False)),
        DEEP,
    ),
    case(
        "cnn_strong_decay",
        ("regularization",),
        "weight_decay",
        "L2 of 1 in Adam.",
        replace(CNN, optimizer=partial(Adam, lr=3e-3, weight_decay=1.0)),
    ),
    case(
        "cnn_strong_dropout",
        ("regularization",),
        "dropout",
        "Dropout of 0.95 at the logits.",
        replace(CNN, net=with_end(cnn, nn.Dropout(0.95))),
    ),
    case(
        "cnn_missing_softmax",
        ("output", "loss"),
        "softmax",
        "NLLLoss of outputs that are no log-probabilities.",
        replace(CNN, loss=F.nll_loss),
    ),
    case(
        "cnn_redundant_softmax",
        ("output",),
        "softmax",
        "A softmax before cross_entropy.",
        replace(CNN, net=with_end(cnn, nn.Softmax(1))),
    ),
    case(
        "cnn_own_softmax",
        ("output", "shapes"),
        "softmax",
        "A softmax of one's own sums over the batch too.",
        replace(CNN, net=with_end(cnn, programs.OwnSoftmax()), loss=F.nll_loss),
    ),
    case(
        "cnn_softmax_axis",
        ("shapes", "output"),
        "dim",
        "The softmax is over the batch.",
        replace(CNN, loss=lambda o, y: F.nll_loss(o.log_softmax(0), y)),
    ),
    case(
        "cnn_over_scaled",
        ("output",),
        "output",
        "Logits are multiplied by 100.",
        replace(CNN, net=with_end(cnn, programs.Scaled())),
    ),
    case(
        "cnn_unbalanced",
        ("sampling", "targets"),
        "class",
        "Two of ten classes are nearly all samples.",
        replace(CNN, prepare=programs.unbalanced),
        replace(CNN, prepare=programs.balanced),
    ),
    case(
        "cnn_wrong_activation",
        ("hidden",),
        "sigmoid",
        "Hidden activations are sigmoids.",
        replace(CNN, net=lambda: cnn(nn.Sigmoid)),
    ),
    case(
        "cnn_wrong_augmentation",
        ("inputs",),
        "augment",
        "Digits are flipped while trained.",
        replace(CNN, net=lambda: nn.Sequential(programs.FlippedWhileTrained(), *cnn())),
    ),
    case(
        "cnn_constant_weights",
        ("initialization",),
        "equal",
        "All weights begin at 0.1.",
        replace(CNN, start=programs.constant),
    ),
    case(
        "cnn_wide_weights",
        ("initialization",),
        "init",
        "All weights begin from N(0, 1).",
        replace(CNN, start=programs.wide),
    ),
    case(
        "cnn_wrong_labels",
        ("targets",),
        "label",
        "Nine tenths of the labels are drawn.",
        replace(CNN, prepare=programs.wrong_labels),
    ),
    case(
        "cnn_wrong_loss",
        ("loss",),
        "loss",
        "Squared errors of the largest probability and the label.",
        replace(CNN, loss=lambda o, y: (o.softmax(1).amax(1) - y).pow(2).mean()),
    ),
    case(
        "mlp_no_normalization",
        ("inputs", "targets"),
        "scale",
        "Neither inputs nor targets are scaled.",
        replace(MLP, prepare=programs.unscaled),
    ),
    case(
        "mlp_flipped_sign",
        ("loss",),
        "loss",
        "The loss is maximized.",
        replace(MLP, loss=lambda o, y: -F.mse_loss(o, y)),
    ),
    case(
        "mlp_lr_high",
        ("rate",),
        "lr",
        "Adam's learning rate is 1.",
        replace(MLP, optimizer=partial(Adam, lr=1.0)),
    ),
    case(
        "mlp_lr_low",
        ("rate",),
        "lr",
        "Adam's learning rate is 1e-6.",
        replace(MLP, optimizer=partial(Adam, lr=1e-6)),
    ),
    case(
        "mlp_strong_decay",
        ("regularization",),
        "weight_decay",
        "L2 of 1 in Adam.",
        replace(MLP, optimizer=partial(Adam, lr=3e-3, weight_decay=1.0)),
    ),
    case(
        "mlp_wrong_activation",
        ("output",),
        "relu",
        "The output is a ReLU.",
        replace(MLP, net=with_end(mlp, nn.ReLU())),
    ),
    case(
        "mlp_sigmoids",
        ("hidden",),
        "sigmoid",
        "Hidden activations are sigmoids.",
        replace(MLP, net=lambda: mlp(nn.Sigmoid)),
    ),
    case(
        "mlp_over_scaled",
        ("output",),
        "output",
        "Outputs are multiplied by 100.",
        replace(MLP, net=with_end(mlp, programs.Scaled())),
    ),
    case(
        "mlp_constant_weights",
        ("initialization",),
        "equal",
        "All weights begin at 0.1.",
        replace(MLP, start=programs.constant),
    ),
    case(
        "mlp_wide_weights",
        ("initialization",),
        "init",
        "All weights begin from N(0, 1).",
        replace(MLP, start=programs.wide),
    ),
    case(
        "mlp_wrong_targets",
        ("targets",),
        "target",
        "Targets are in another order.",
        replace(MLP, prepare=programs.other_targets),
    ),
    case(
        "mlp_wrong_axis",
        ("shapes", "loss"),
        "broadcast",
        "Targets of shape (N,) are compared with outputs (N, 1).",
        replace(MLP, loss=lambda o, y: (o - y[:, 0]).pow(2).mean()),
    ),
    case(
        "mlp_selection",
        ("loss",),
        "loss",
        "The loss is of the batch's first sample alone.",
        replace(MLP, loss=lambda o, y: F.mse_loss(o[:1], y[:1])),
    ),
)
