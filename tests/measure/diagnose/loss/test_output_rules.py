"""Output beside the loss: each misfit fires, with its number; its healthy twin is silent."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from tests.made_losses import made_history, made_term

from gradscape.measure.diagnose.loss.rules import loss_findings
from gradscape.records.diagnosis import Finding
from gradscape.records.loss import LossHistory

MISFIT = "output does not fit the loss"
random = np.random.default_rng(1)
LABELS = random.integers(0, 10, 64)
LOGITS = random.normal(size=(64, 10))
YES = random.integers(0, 2, (64, 1)).astype(float)
ONE = random.normal(size=(64, 1))


def softmax(z: np.ndarray, axis: int = 1) -> np.ndarray:
    odds = np.exp(z)
    return odds / odds.sum(axis=axis, keepdims=True)


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def relu(z: np.ndarray) -> np.ndarray:
    return np.maximum(z, 0)


def only(history: LossHistory) -> Finding:
    found = loss_findings(history)
    assert len(found) == 1, [str(each) for each in found]
    for finding in found:
        assert finding.evidence
        assert all(each.counts for each in finding.evidence), str(finding)
    return found[0]


def of(name: str, *operations: Any, **more: Any) -> LossHistory:
    return made_history(*[made_term(name, *operations, **more)] * 3)


@pytest.mark.parametrize(
    ("history", "verdict", "cause", "remedy"),
    [
        (
            of("binary_cross_entropy", ("softmax", 1, (64, 1)), output=np.ones((64, 1)), target=YES),
            MISFIT,
            "softmax is over a single unit: it gives 1 for every input, and no gradient",
            "binary_cross_entropy_with_logits",
        ),
        (
            of("binary_cross_entropy", ("log_softmax", 1, (64, 1)), output=np.zeros((64, 1)), target=YES),
            MISFIT,
            "log_softmax is over a single unit: it gives 0",
            "a sigmoid in place of the softmax",
        ),
        (
            of("mse_loss", ("softmax", 1, (64, 1)), output=np.ones((64, 1)), target=YES),
            MISFIT,
            "over a single unit: it gives 1",
            "an output for each class",
        ),
        (
            of("mse_loss", ("softmax", 1, (64, 1)), "squeeze", output=np.ones(64), target=10 * ONE[:, 0]),
            "output cannot reach the targets",
            "over a single unit: it gives 1",
            "no softmax",
        ),
        (
            of("cross_entropy", output=ONE, target=np.zeros(64)),
            MISFIT,
            "cross_entropy is over a single output",
            "an output for each class",
        ),
        (
            of("cross_entropy", ("softmax", 1, (64, 10)), output=softmax(LOGITS), target=LABELS),
            MISFIT,
            f"keeps the loss above {math.log1p(9 / math.e):.3g}, where guessing's is {math.log(10):.3g}; "
            "cross_entropy applies softmax itself: it is applied twice",
            "remove the softmax",
        ),
        (
            of("cross_entropy", "sigmoid", output=sigmoid(LOGITS), target=LABELS),
            MISFIT,
            "sigmoid comes before cross_entropy: an output that can only be in 0 … 1",
            "remove the sigmoid",
        ),
        (
            of("cross_entropy", "tanh", "view", output=np.tanh(LOGITS), target=LABELS),
            MISFIT,
            "logits are not bounded",
            "remove the tanh",
        ),
        (
            of("binary_cross_entropy_with_logits", "sigmoid", output=sigmoid(ONE), target=YES),
            MISFIT,
            "binary_cross_entropy_with_logits applies sigmoid itself: it is applied twice",
            "remove the sigmoid",
        ),
        (
            of("binary_cross_entropy_with_logits", "relu", output=relu(ONE), target=YES),
            MISFIT,
            "relu comes before binary_cross_entropy_with_logits: an output that cannot be below 0",
            "remove the relu",
        ),
        (
            of("cross_entropy", "relu", output=relu(LOGITS), target=LABELS),
            MISFIT,
            "an output that cannot be below 0 cannot speak against a class",
            "remove the last relu",
        ),
        (
            of("nll_loss", ("softmax", 1, (64, 10)), output=softmax(LOGITS), target=LABELS),
            MISFIT,
            "nll_loss takes log-probabilities, and is given the output of softmax, probabilities",
            "log_softmax in place of softmax",
        ),
        (
            of("nll_loss", output=LOGITS, target=LABELS),
            MISFIT,
            "nll_loss takes log-probabilities, and is given raw outputs",
            "cross_entropy",
        ),
        (
            of("kl_div", ("softmax", 1, (64, 10)), output=softmax(LOGITS), target=softmax(ONE + LOGITS)),
            MISFIT,
            "kl_div takes log-probabilities",
            "log_softmax",
        ),
        (
            of("binary_cross_entropy", "clamp", output=np.clip(ONE, 1e-7, 1 - 1e-7), target=YES),
            MISFIT,
            "raw outputs that clamp cuts to 0 … 1",
            "binary_cross_entropy_with_logits",
        ),
        (
            of("binary_cross_entropy", "relu", "clamp", output=np.clip(ONE, 1e-7, 1 - 1e-7), target=YES),
            MISFIT,
            "raw outputs after relu that clamp cuts to 0 … 1",
            "a sigmoid",
        ),
        (
            of("unknown", "clamp", "log", "mul", output=np.clip(ONE, 1e-7, 1 - 1e-7)),
            MISFIT,
            "raw outputs that clamp cuts to 0 … 1",
            "a sigmoid",
        ),
        (
            of("binary_cross_entropy", "sigmoid", output=sigmoid(ONE), target=LABELS[:, None]),
            MISFIT,
            "targets are the whole numbers 0 … 9, and binary_cross_entropy has one output",
            "10 outputs and cross_entropy",
        ),
        (
            of("binary_cross_entropy", "sigmoid", output=sigmoid(ONE), target=YES + 1),
            MISFIT,
            "targets are 1 and 2",
            "targets of 0 and 1: (target == 2).float()",
        ),
        (
            of("binary_cross_entropy_with_logits", output=ONE, target=255.0 * YES),
            MISFIT,
            "targets are 0 and 255, and binary_cross_entropy_with_logits has one output",
            "targets of 0 and 1: (target == 255).float()",
        ),
        (
            of("nll_loss", "sigmoid", "sum", "div", "log", output=np.log(softmax(LOGITS)), target=LABELS),
            MISFIT,
            "one distribution over 10 classes, and is given sigmoids that are divided by their sum",
            "cross_entropy",
        ),
        (
            of("unknown", ("sigmoid", 0, (64, 10)), "div", "clamp", "log", "mul", "sum"),
            MISFIT,
            "one distribution over 10 classes, and is given sigmoids that are divided by their sum",
            "binary_cross_entropy_with_logits, if a sample can be of several classes",
        ),
        (
            of("nll_loss", "sigmoid", "log", output=np.log(sigmoid(LOGITS)), target=LABELS),
            MISFIT,
            "logarithms of sigmoids",
            "cross_entropy",
        ),
        (
            of("cross_entropy", ("softmax", 0, (64, 10)), output=softmax(LOGITS, 0), target=LABELS),
            "wrong axis",
            "softmax is over axis 0 of (64, 10), the batch, and not over the axis of the 10 classes",
            "dim=1",
        ),
        (
            of("nll_loss", ("log_softmax", 2, (64, 10, 7)), output=np.log(softmax(
                random.normal(size=(64, 10, 7)), 2)), target=random.integers(0, 10, (64, 7))),
            "wrong axis",
            "log_softmax is over axis 2 of (64, 10, 7), 7 numbers, and not over the axis of the 10 classes",
            "cross_entropy",
        ),
        (
            of("binary_cross_entropy", ("softmax", 0, (64, 1)), output=softmax(ONE, 0), target=YES),
            "wrong axis",
            "softmax is over axis 0 of (64, 1), the batch",
            "cross_entropy",
        ),
        (
            made_history(
                made_term("mse_loss", ("mean", 0, (1,)), output=[0.1], target=ONE), inputs=LOGITS
            ),
            "wrong axis",
            "a mean over axis 0, the 64 samples of the batch, is taken before the loss: (1,) is left",
            "no mean before the loss",
        ),
    ],
)  # fmt: skip
def test_a_misfit_is_named(history: LossHistory, verdict: str, cause: str, remedy: str) -> None:
    found = only(history)
    assert found.verdict == verdict
    assert cause in found.cause
    assert remedy in found.remedy


def test_the_axis_of_the_classes_is_followed_where_it_is_known() -> None:
    """Eight classes over eight places: sizes do not tell the axes apart, the graph does."""
    values = np.log(softmax(random.normal(size=(4, 8, 8))))
    for axis, fires in ((1, False), (2, True)):
        history = of("nll_loss", ("log_softmax", axis, (4, 8, 8)), output=values, class_axes=(1,),
                     target=random.integers(0, 8, (4, 8)))  # fmt: skip
        assert [each.verdict for each in loss_findings(history)] == ["wrong axis"] * fires


PROBABLE = np.log(softmax(LOGITS))


@pytest.mark.parametrize(
    "history",
    [
        of("cross_entropy", output=LOGITS, target=LABELS),
        of("cross_entropy", ("log_softmax", 1, (64, 10)), output=PROBABLE, target=LABELS),  # idempotent
        of("cross_entropy", ("softmax", 1, (64, 10)), "log", output=PROBABLE, target=LABELS),
        of("cross_entropy", ("softmax", 1, (64, 10)), "mul", output=30 * softmax(LOGITS), target=LABELS),
        of("cross_entropy", "leaky_relu", output=LOGITS, target=LABELS),
        of("cross_entropy", "relu", ("mean", 1, (64, 10)), output=relu(LOGITS), target=LABELS),  # SqueezeNet
        of("cross_entropy", "relu", output=LOGITS, target=LABELS),  # something unseen comes after it
        of("nll_loss", ("log_softmax", 1, (64, 10)), output=PROBABLE, target=LABELS),
        of("nll_loss", ("softmax", 1, (64, 10)), "clamp", "log", output=PROBABLE, target=LABELS),
        of("nll_loss", ("log_softmax", 2, (8, 8, 10)), "view", output=PROBABLE, target=LABELS),
        of("nll_loss", ("log_softmax", 1, (64, 64)), output=np.log(softmax(
            random.normal(size=(64, 64)))), target=np.arange(64)),
        of("binary_cross_entropy", "sigmoid", output=sigmoid(ONE), target=YES),
        of("binary_cross_entropy", "sigmoid", "clamp", output=sigmoid(ONE), target=YES),
        of("binary_cross_entropy", ("softmax", 1, (64, 2)), "select", output=sigmoid(ONE), target=YES),
        of("binary_cross_entropy_with_logits", output=ONE, target=YES),
        of("binary_cross_entropy_with_logits", output=LOGITS, target=random.random((64, 10))),
        of("unknown", "sigmoid", "clamp", "log", output=sigmoid(ONE)),
        of("unknown", "clamp", "log", output=np.clip(5 * np.abs(ONE), 1e-6, None)),  # a variance
        of("unknown", "sigmoid", "log", "mul", "div"),
        made_history(made_term("unknown", ("log_softmax", 0, (64, 64)), "diagonal"), inputs=LOGITS),  # pairs
        of("kl_div", ("log_softmax", 1, (64, 10)), output=PROBABLE, target=softmax(LOGITS)),
        of("mse_loss", ("softmax", 1, (64, 1, 64)), "bmm", output=ONE, target=ONE),  # an attention
        made_history(made_term("mse_loss", ("mean", 0, (8, 1)), output=ONE[:8], target=ONE[:8]),
                     inputs=random.normal(size=(20, 8, 3))),  # time first
    ],
)  # fmt: skip
def test_what_fits_is_left_alone(history: LossHistory) -> None:
    assert not [str(each) for each in loss_findings(history)]


def test_a_bounded_output_counts_by_the_loss_it_can_reach() -> None:
    wide = {"output": np.clip(6 * LOGITS, -9, 9), "target": LABELS}
    term = made_term("cross_entropy", "hardtanh", **wide)
    for edge, fires in ((1.0, True), (9.0, False)):
        bounded = term.operations[0].__class__("hardtanh", None, (64, 10), (-edge, edge))
        values = np.clip(LOGITS, -edge, edge)
        told = made_term("cross_entropy", output=values, target=LABELS)
        history = made_history(told.__class__(**{**vars(told), "operations": (bounded,)}))
        assert bool(loss_findings(history)) == fires
