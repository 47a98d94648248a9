"""Fitting one batch: what fits, what stays at its start or at a constant, and what is lost in eval mode."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    l1_loss,
    mse_loss,
    nll_loss,
)

import gradscape as gs
from gradscape.errors import ConfigError
from gradscape.measure.check.fit import fit_batch, fit_findings, still_falls
from gradscape.measure.check.loss_calls import loss_pass
from gradscape.measure.check.sub_batch import spread
from gradscape.measure.check.trials import Steps
from gradscape.measure.core.batch import Batch
from gradscape.measure.core.copied_optimizer import steppers_of
from gradscape.records.check import Fit

torch.manual_seed(0)
X, Y = torch.randn(16, 6), torch.arange(16) % 4
QUARTER = torch.tensor([[1.0], [0], [0], [0]])


def net(*between: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 64), *between, nn.ReLU(), nn.Linear(64, 4))


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.02)


def checked(make: Any, batch: Any = (X, Y), loss: Any = cross_entropy, **more: Any) -> gs.CheckRecord:
    return gs.check(make, batch, loss, **({"remedies": False, "optimizer": adam, "seeds": 1} | more))


def test_a_network_that_fits_says_so_with_its_numbers() -> None:
    record = checked(net)
    assert record.verdict == "healthy"
    assert record.fit is not None
    assert record.fit.fits
    assert record.fit.losses[-1] < 0.01 * record.fit.losses[0]
    assert f"fits this batch: loss {record.fit.losses[0]:.3g} → " in str(record)
    assert record.fit.constant == pytest.approx(math.log(4))


def test_a_budget_is_kept_and_0_leaves_it_out() -> None:
    record = checked(net, fit=7)
    assert record.fit is not None
    assert len(record.fit.losses) == 7
    assert str(Fit((2.3,) * 7, 2.3)).startswith(
        "too few steps to tell whether it fits this batch (give fit=200): loss"
    )
    assert str(Fit((2.3,) * 7, 2.3, samples=8, size=32, seconds=5.0)).startswith(
        "too few steps within 5 s to tell whether it fits 8 of its 32 samples (give fit=200): loss"
    )
    assert str(Fit((2.3,) * 100, 2.3)) == (
        "does not fit this batch: loss 2.3 → 2.3 in 100 steps; a constant output costs 2.3"
    )
    assert checked(net, fit=0).fit is None
    with pytest.raises(ConfigError, match="fit: -1 is not a number of steps; give 0 or more"):
        checked(net, fit=-1)


def test_labels_that_the_input_does_not_tell_apart_are_not_fitted() -> None:
    """Pairs of equal samples with different labels: the best output is a constant."""
    record = checked(net, (X[:8].repeat(2, 1), torch.arange(16) // 8 * 3))
    assert record.verdict == "does not fit one batch"
    told = "the best output that is the same for all samples costs 0.693"
    assert told in record.diagnosis.findings[0].cause


def losses(start: float, end: float, count: int, noise: float) -> tuple[float, ...]:
    drawn = noise * np.random.default_rng(0).standard_normal(count)
    return tuple(np.geomspace(start, end, count) + drawn)


@pytest.mark.parametrize(
    ("fit", "fails", "falls"),
    [
        (Fit(losses(2.3, 2.3, 200, 0.01), 2.2), True, False),  # stays where it began
        (Fit((*losses(2.3, 2.2, 50, 0.0), *[2.2] * 150), 2.2), True, False),  # at the best constant
        (Fit(losses(2.3, 2.2, 200, 0.001), 2.1), False, True),  # slow, and on its way
        (Fit((*losses(2.3, 1.1, 50, 0.0), *[1.1] * 150), 2.2), False, False),  # stands below a constant
        (Fit((*losses(2.3, 1.1, 50, 0.0), *[1.1] * 150)), False, False),  # the constant is not known
        (Fit(losses(2.3, 2.3, 99, 0.01), 2.2), False, False),  # too few steps
        (Fit((2.3, math.nan) * 60, 2.2), False, False),  # told as non-finite
    ],
)
def test_no_fit_is_a_loss_that_neither_falls_nor_lies_below_a_constant(
    fit: Fit, fails: bool, falls: bool
) -> None:
    assert bool(fit_findings(fit)) == fails
    assert np.isnan(fit.losses).any() or still_falls(fit) == falls


@pytest.mark.parametrize(
    ("loss", "output", "target", "neutral", "constant"),
    [
        (cross_entropy, torch.randn(4, 2), torch.tensor([0, 0, 0, 1]), math.log(2), 0.5623351),
        (nll_loss, torch.randn(4, 2), torch.tensor([0, 0, 0, 1]), math.log(2), 0.5623351),
        (mse_loss, torch.randn(4, 1), torch.tensor([[1.0], [2], [3], [6]]), 12.5, 3.5),
        (l1_loss, torch.randn(3, 1), torch.tensor([[1.0], [2], [6]]), 3.0, 5 / 3),
        (
            binary_cross_entropy,
            torch.rand(4, 1),
            QUARTER,
            math.log(2),
            0.5623351,
        ),
        (
            binary_cross_entropy_with_logits,
            torch.randn(4, 1),
            QUARTER,
            math.log(2),
            0.5623351,
        ),
    ],
)
def test_what_no_opinion_and_the_best_constant_cost(
    loss: Any, output: Tensor, target: Tensor, neutral: float, constant: float
) -> None:
    passed = loss_pass(lambda: loss(output, target))
    assert passed.main is not None
    assert passed.main.neutral == pytest.approx(neutral)
    assert passed.main.constant == pytest.approx(constant)


def test_weights_and_smoothing_count_and_a_sum_of_losses_is_no_single_call() -> None:
    output, weight = torch.randn(4, 2), torch.tensor([1.0, 3.0])
    weighted = loss_pass(lambda: cross_entropy(output, torch.tensor([0, 0, 0, 1]), weight=weight)).main
    assert weighted is not None
    assert weighted.constant == pytest.approx(math.log(2))  # three of weight 1, one of weight 3
    smooth = loss_pass(lambda: cross_entropy(output, torch.tensor([0] * 4), label_smoothing=0.5)).main
    assert smooth is not None
    assert smooth.constant == pytest.approx(0.5623351)  # ¾ and ¼
    assert loss_pass(lambda: mse_loss(output, output + 1) + l1_loss(output, output + 1)).main is None
    assert loss_pass(lambda: 2 * mse_loss(output, output + 1)).main is None


class ScaledInTraining(nn.Module):
    """Multiplies in eval mode by what train mode does not."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.net, self.factor = net(), factor

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) * (1.0 if self.training else self.factor)


def test_a_model_that_computes_something_else_in_eval_mode_is_told() -> None:
    record = checked(lambda: ScaledInTraining(-1.0))
    assert record.verdict == "train and eval differ"
    assert record.diagnosis.grade == "warn"
    (evidence,) = record.diagnosis.findings[0].evidence
    assert evidence.counts
    assert checked(lambda: ScaledInTraining(1.0)).verdict == "healthy"


@pytest.mark.parametrize("between", [nn.BatchNorm1d(64), nn.Dropout(0.5), nn.BatchNorm1d(64, momentum=0.001)])
def test_norms_and_dropout_that_work_are_no_difference(between: nn.Module) -> None:
    assert checked(lambda: net(between)).diagnosis.grade == "info"


def test_running_statistics_that_lag_behind_large_steps_are_told() -> None:
    class Drifting(torch.optim.Adam):
        """Its steps shift the first layer's output, which the norm after it hides in train mode."""

        def step(self, closure: Any = None) -> Any:
            found = super().step(closure)
            with torch.no_grad():
                self.param_groups[0]["params"][1].add_(1.0)
            return found

    record = checked(lambda: net(nn.BatchNorm1d(64)), optimizer=lambda p: Drifting(p, lr=0.004), fit=100)
    (told,) = [each for each in record.diagnosis.findings if each.verdict == "train and eval differ"]
    assert "running statistics lag behind" in told.cause


class Clock:
    """Clock that only passes of `Slow` advance, in the place of the module `time`."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    perf_counter = monotonic


CLOCK = Clock()


class Slow(nn.Module):
    """Takes some seconds of a clock for each sample."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.net, self.seconds = net(), seconds

    def forward(self, x: Tensor) -> Tensor:
        CLOCK.now += self.seconds * len(x)
        return self.net(x)


class Sized(Slow):
    """Knows the number of samples."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.view(100, 6))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fit", "sub_batch"):
        monkeypatch.setattr(f"gradscape.measure.check.{name}.time", CLOCK)


def test_a_loss_that_only_falls_to_a_constant_s_learns_nothing_of_the_samples() -> None:
    """Of a hundred classes eight samples have eight: the last bias learns that, whatever comes before it."""
    steps = losses(4.6, 2.2, 40, 0.0)
    assert not Fit(steps, 2.08, samples=8, size=100).learns
    assert "too few steps to tell whether it fits 8" in str(Fit(steps, 2.08, samples=8, size=100))
    assert Fit(losses(4.6, 1.9, 40, 0.0), 2.08, samples=8, size=100).learns
    assert Fit(steps).learns


def fitted(make: Any, count: int | None = None, optimizer: Any = adam) -> Fit:
    x, y = torch.randn(100, 6), torch.arange(100) // 25
    steps = Steps(Batch.of((x, y)), cross_entropy, steppers_of(optimizer, None), 10)
    return fit_batch(make, steps, count, None).fit


@pytest.mark.usefixtures("clock")
def test_a_batch_that_takes_too_long_is_fitted_in_part() -> None:
    """200 steps of 100 samples are 20 seconds, of which there are 5: 25 samples, of all four classes."""
    fit = fitted(lambda: Slow(0.001))
    assert (fit.samples, fit.size) == (25, 100)
    assert fit.fits
    assert fit.constant == pytest.approx(math.log(4), rel=0.01)
    assert str(fit).startswith("fits 25 of its 100 samples: loss")
    assert (fitted(lambda: Slow(0.001), 12).samples, len(fitted(lambda: Slow(0.001), 12).losses)) == (0, 12)
    assert fitted(lambda: Slow(1e-5)).samples == 0


@pytest.mark.usefixtures("clock")
def test_too_few_steps_are_no_verdict_and_say_what_to_give() -> None:
    def still(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=0.0)

    of_eight = fitted(lambda: Slow(0.1), optimizer=still)
    assert (of_eight.samples, of_eight.seconds) == (8, 5.0)
    assert len(of_eight.losses) == 7
    assert str(of_eight).startswith("too few steps within 5 s to tell whether it fits 8 of its 100 samples")
    of_all = fitted(lambda: Sized(0.01), optimizer=still)
    assert (of_all.samples, len(of_all.losses)) == (0, 6)
    assert "to tell whether it fits this batch (give fit=200): loss" in str(of_all)
    assert not fit_findings(of_eight)
    assert not fit_findings(of_all)


def test_a_part_of_a_batch_is_from_all_over_it_and_none_of_a_graph() -> None:
    batch = Batch.of((torch.arange(12.0).view(12, 1), torch.arange(12)))
    part = spread(net(), batch, 4)
    assert part is not None
    assert part.further[0].tolist() == part.given.flatten().tolist() == [0, 4, 7, 11]
    nodes, edges = torch.randn(12, 6), torch.zeros(2, 20, dtype=torch.long)
    assert spread(net(), Batch.of(((nodes, edges), torch.arange(12))), 4) is None


@pytest.mark.slow
def test_a_batch_that_was_fitted_is_not_unlearnt_in_fewer_steps() -> None:
    """Thirty steps at a small rate move next to nothing; many learn the batch."""

    def small(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=1e-3)

    assert checked(net, optimizer=small, confirm=30, fit=0).verdict == "does not learn"
    slow = checked(net, optimizer=small, confirm=30, fit=800)
    assert slow.fit is not None
    assert slow.fit.learns
    assert not slow.as_is.fell
    assert "does not learn" not in [each.verdict for each in slow.diagnosis.findings]


@pytest.mark.parametrize("momentum", [0.0, None])
def test_a_momentum_of_0_never_updates_the_statistics(momentum: float | None) -> None:
    """As one takes it over from a library where it is the weight of what was before; None is a plain mean."""

    def make() -> nn.Sequential:
        return net(nn.BatchNorm1d(64, momentum=momentum))

    record = checked(make, (20 * X + 50, Y))
    found = [each for each in record.diagnosis.findings if each.verdict == "train and eval differ"]
    assert [each.cause.startswith("BatchNorm has momentum 0") for each in found] == [True] * (momentum == 0)
