"""Targets beside the output and the loss: out of reach, of another loss, of another shape."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.made_losses import made_history, made_summary, made_term
from tests.measure.diagnose.loss.test_output_rules import (
    LABELS,
    LOGITS,
    ONE,
    YES,
    of,
    only,
    relu,
    sigmoid,
    softmax,
)
from torch import nn

import gradscape as gs
from gradscape.measure.diagnose.loss.rules import loss_findings
from gradscape.records.loss import LossHistory

random = np.random.default_rng(2)
REAL = random.normal(size=(64, 1))
UNIT = random.random((64, 1))
ONE_HOT = np.eye(10)[LABELS]
SEVERAL = np.eye(10)[LABELS] + np.eye(10)[(LABELS + 1) % 10]  # two labels a sample
REACH = "output cannot reach the targets"
LOSS = "loss does not fit the targets"
BROADCAST = "shapes broadcast"


def shaped(output: tuple[int, ...], target_shape: tuple[int, ...], **more: Any) -> LossHistory:
    shapes = {"broadcast": True, "shapes": (output, target_shape)}
    values = {"output": random.normal(size=output), "target": random.normal(size=target_shape), **more}
    return made_history(made_term("mse_loss", **values, **shapes))


def over_classes(target: np.ndarray) -> LossHistory:
    """A cross-entropy whose targets are numbers over classes."""
    term = made_term("cross_entropy", output=LOGITS, target=target, target_counts=())
    return made_history(replace(term, target=made_summary(target)))


def whole_numbers() -> LossHistory:
    term = made_term("mse_loss", output=ONE, target=LABELS[:, None])
    return made_history(replace(term, target=made_summary(LABELS[:, None], "int64")))


@pytest.mark.parametrize(
    ("history", "verdict", "cause", "remedy"),
    [
        (of("mse_loss", "sigmoid", output=sigmoid(ONE), target=20 * UNIT), REACH,
         "and the output, a sigmoid, can only be in 0 … 1", "targets scaled to 0 … 1"),
        (of("l1_loss", "relu", output=relu(ONE), target=REAL), REACH,
         "and the output, a relu, cannot be below 0", "remove the last relu"),
        (of("mse_loss", "tanh", "squeeze", output=np.tanh(ONE), target=3 * REAL), REACH,
         "a tanh, can only be in -1 … 1", "targets scaled to -1 … 1"),
        (of("mse_loss", "sigmoid", output=sigmoid(ONE), target=2 * YES - 1), REACH,
         "targets are -1 … 1, and the output, a sigmoid", "targets of 0 and 1"),
        (of("mse_loss", "sigmoid", output=sigmoid(ONE), target=np.full((64, 1), 7.0)), REACH,
         "targets are 7 … 7", "remove the last sigmoid"),
        (of("l1_loss", ("softmax", 1, (64, 2)), output=softmax(LOGITS[:, :2]),
            target=0.2 + 0.1 * random.random((64, 2))), REACH,
         "the targets of a sample sum to 0.49", "remove the last softmax"),
        (of("binary_cross_entropy_with_logits", output=LOGITS, target=3 * LOGITS), LOSS,
         "takes targets from 0 to 1, and they are -", "mse_loss"),
        (of("binary_cross_entropy_with_logits", output=ONE, target=2 * YES - 1), LOSS,
         "takes targets from 0 to 1, and they are -1 … 1", "(target + 1) / 2"),
        (of("binary_cross_entropy_with_logits", output=LOGITS, target=255.0 * ONE_HOT), LOSS,
         "they are 0 … 255: the loss falls without bound", "targets divided by 255"),
        (over_classes(SEVERAL), LOSS,
         "the targets of a sample sum to 2 on average", "binary_cross_entropy_with_logits"),
        (of("poisson_nll_loss", output=ONE, target=REAL), LOSS,
         "poisson_nll_loss takes counts", "mse_loss"),
        (of("binary_cross_entropy", "sigmoid", output=sigmoid(LOGITS), target=ONE_HOT),
         "unlikely loss function", "a single 1 among 10 classes, and binary_cross_entropy takes each",
         "cross_entropy on 10 outputs of the last layer, without the sigmoid"),
        (of("mse_loss", ("softmax", 1, (64, 10)), output=softmax(LOGITS), target=ONE_HOT),
         "unlikely loss function", "mse_loss is for real numbers",
         "cross_entropy on 10 outputs of the last layer, without the softmax"),
        (whole_numbers(), "unlikely loss function",
         "targets are the whole numbers 0 … 9, as class indices are", "nothing, if they are no classes"),
        (shaped((100, 1), (100,)), BROADCAST,
         "output (100, 1) against targets (100,) is (100, 100): every output is compared with",
         "target.reshape(100, 1)"),
        (shaped((64,), (64, 1)), BROADCAST, "output (64,) against targets (64, 1) is (64, 64)",
         "output.reshape(64, 1)"),
        (shaped((64, 10), (64, 1), target=LABELS[:, None].astype(float)), BROADCAST,
         "is (64, 10): each class index is the target of every output", "cross_entropy"),
    ],
)  # fmt: skip
def test_a_misfit_is_named(history: LossHistory, verdict: str, cause: str, remedy: str) -> None:
    found = only(history)
    assert found.verdict == verdict
    assert cause in found.cause
    assert remedy in found.remedy


@pytest.mark.parametrize(
    "history",
    [
        of("mse_loss", output=ONE, target=100 * REAL[:, :1] / 10),
        of("mse_loss", "sigmoid", output=sigmoid(ONE), target=UNIT),
        of("mse_loss", "sigmoid", output=sigmoid(ONE), target=UNIT * 1.02),  # beyond by next to nothing
        of("mse_loss", "sigmoid", "mul", output=10 * sigmoid(ONE), target=10 * UNIT),
        of("mse_loss", "relu", output=relu(ONE), target=np.abs(REAL)),
        of("mse_loss", "relu", output=relu(ONE), target=np.abs(REAL) - 0.02),
        of("mse_loss", "tanh", output=np.tanh(ONE), target=2 * UNIT - 1),
        of("mse_loss", ("softmax", 1, (64, 10)), output=softmax(LOGITS), target=softmax(3 * LOGITS)),
        of("l1_loss", "leaky_relu", output=ONE, target=REAL),
        of("binary_cross_entropy_with_logits", output=LOGITS, target=random.integers(0, 2, (64, 10)) * 1.0),
        of("binary_cross_entropy", "sigmoid", output=sigmoid(LOGITS), target=random.random((64, 10))),
        of("mse_loss", output=ONE, target=YES),  # a GAN's, or a yes and no
        of("mse_loss", output=ONE, target=random.integers(0, 45, (64, 1)) * 1.0),  # counts
        of("poisson_nll_loss", output=ONE, target=LABELS[:, None]),
        shaped((64, 1), (1,)),
        shaped((64, 1), ()),
        shaped((64, 8, 1), (64, 1, 8)),  # quantiles against quantiles
        shaped((64, 8), (64, 1)),  # quantiles against a value
        shaped((64, 8), (8,)),  # one target for all samples
    ],
)  # fmt: skip
def test_what_fits_is_left_alone(history: LossHistory) -> None:
    assert not [str(each) for each in loss_findings(history)]


def test_the_share_out_of_reach_decides() -> None:
    """Of a uniform target on a … 1 + a the part under 0 costs a³/3 of a variance of 1/12."""
    for low, fires in ((-0.2, False), (-0.25, True)):
        targets = np.linspace(low, low + 1, 1001)[:, None]
        history = of("mse_loss", "relu", output=relu(ONE), target=targets)
        assert bool(loss_findings(history)) == fires
        if fires:
            share = only(history).evidence[0].value
            assert share == pytest.approx(12 * 0.25**3 / 3, rel=0.1)


def divided(sizes: np.ndarray) -> LossHistory:
    return made_history(made_term("l1_loss"), values=np.linspace(2, 1, 30), divisor=made_summary(sizes))


def test_a_loss_that_divides_by_targets_near_0() -> None:
    found = only(divided(np.abs(np.linspace(-2, 2, 64))))
    assert (found.verdict, found.grade) == ("unlikely loss function", "warn")
    assert "next to 0, as a percentage error does" in found.cause
    assert not loss_findings(divided(1 + UNIT))
    assert not loss_findings(divided(np.exp(0.5 * REAL)))


@pytest.mark.parametrize("learnable", [False, True])
def test_classes_as_real_numbers_are_told_where_the_loss_stays(learnable: bool) -> None:
    """As a user gives them: `y.float()[:, None]` in a mean square error."""
    draw = torch.Generator().manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with gs.watch(model, optimizer) as flow:
        for _ in range(150):
            x = torch.randn(64, 4, generator=draw)
            y = (2 * x[:, 0] + 2).round().clamp(0, 4)
            y = y if learnable else torch.randint(0, 5, (64,), generator=draw).float()
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), y[:, None]).backward()
            optimizer.step()
    verdicts = [each.verdict for each in gs.diagnose(flow).findings]
    assert ("unlikely loss function" in verdicts) == (not learnable)


def test_targets_that_sum_to_one_are_a_distribution() -> None:
    for target in (ONE_HOT, 0.5 * SEVERAL, np.zeros((64, 10))):
        assert LOSS not in [each.verdict for each in loss_findings(over_classes(target))]
