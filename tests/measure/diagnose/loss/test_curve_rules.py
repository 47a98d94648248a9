"""Loss over steps: what breaks, diverges or stays at guessing is named; what learns is not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.made_losses import made_history, made_term
from tests.measure.diagnose.loss.test_output_rules import only
from torch import nn

import gradscape as gs
from gradscape.measure.diagnose.loss.curve import Curve
from gradscape.measure.diagnose.loss.limits import LossLimits
from gradscape.measure.diagnose.loss.rules import loss_findings
from gradscape.records.loss import LossHistory

random = np.random.default_rng(3)
N = 400
NOISE = random.normal(size=N)
STEPS = np.arange(N)


def classified(values: np.ndarray, shares: tuple[float, ...] = (0.25,) * 4, **more: object) -> LossHistory:
    """Cross-entropy of classes of these frequencies, five readings of 64 labels."""
    terms = [
        made_term(
            "cross_entropy",
            output=random.normal(size=(64, len(shares))),
            target=random.choice(len(shares), 64, p=shares),
            **more,
        )
        for _ in range(5)
    ]
    return made_history(*terms, values=values)


def regressed(values: np.ndarray) -> LossHistory:
    """Mean square error of targets whose variance is 1 in each of ten readings."""
    target = random.normal(size=(64, 1))
    target = (target - target.mean()) / target.std()
    return made_history(*[made_term("mse_loss", output=0.1 * target, target=target)] * 10, values=values)


def unknown(values: np.ndarray) -> LossHistory:
    return made_history(made_term("unknown"), values=values)


def test_a_loss_at_guessing_does_not_fall() -> None:
    found = only(classified(math.log(4) + 0.02 * NOISE))
    assert found.verdict == "loss does not fall"
    assert "after 400 steps the loss is 1.3" in found.cause
    assert "one output for all samples would give 1.3" in found.cause
    assert "fit a single batch first" in found.remedy
    assert [each.limit for each in found.evidence] == [0.97, 100]


def test_guessing_knows_the_frequencies_of_the_labels() -> None:
    shares = (0.7, 0.1, 0.1, 0.1)
    entropy = -sum(share * math.log(share) for share in shares)
    at_entropy = classified(entropy + 0.02 * NOISE, shares)
    assert Curve(at_entropy, LossLimits()).guessing == pytest.approx(entropy, abs=0.1)
    assert only(classified(1.02 * entropy + 0.02 * NOISE, shares)).verdict == "loss does not fall"
    assert not loss_findings(classified(0.8 * entropy + 0.02 * NOISE, shares))


def test_a_plateau_of_one_class_says_so() -> None:
    history = classified(math.log(4) + 0.01 * NOISE, predicted_counts=(0, 0, 64, 0))
    found = only(history)
    assert "it says class 2 of all 64 samples" in found.cause
    assert len(found.evidence) == 3


def test_few_labels_of_many_classes_give_log_c() -> None:
    terms = [
        made_term("cross_entropy", output=random.normal(size=(64, 500)), target=random.integers(0, 9, 64))
    ]
    curve = Curve(made_history(*terms, values=np.full(N, 2.2) + 0.01 * NOISE), LossLimits())
    assert curve.guessing == pytest.approx(math.log(500))
    assert not curve.stuck


@pytest.mark.parametrize(
    ("values", "verdict", "cause"),
    [
        (1.0 + 0.05 * NOISE, "loss does not fall", "one output for all samples would give"),
        (np.linspace(1, 30, N), "loss diverges", "it began at"),
        (np.where(STEPS < 300, 0.5, math.nan), "non-finite", "at step 300 the loss is not finite"),
    ],
)
def test_a_regression_that_fails(values: np.ndarray, verdict: str, cause: str) -> None:
    found = only(regressed(values))
    assert found.verdict == verdict
    assert cause in found.cause


def test_a_loss_that_comes_down_from_a_peak_does_not_diverge() -> None:
    peak = 1 + 60 * np.exp(-(((STEPS - 0.4 * N) / (0.3 * N)) ** 2))
    assert "loss diverges" not in [found.verdict for found in loss_findings(regressed(peak))]
    assert only(regressed(np.maximum.accumulate(peak))).verdict == "loss diverges"


def test_a_loss_that_has_come_below_guessing_and_falls_recovers() -> None:
    falling = 0.3 + 20 * np.exp(-12 * STEPS / N)
    assert Curve(regressed(falling), LossLimits()).recovers
    assert not Curve(regressed(1 + falling), LossLimits()).recovers, "above guessing's"
    assert not Curve(regressed(0.9 + 0.001 * NOISE), LossLimits()).recovers, "falls no more"
    assert not Curve(regressed(falling[:40]), LossLimits()).recovers, "too early to tell"


def test_a_loss_that_rose_before_it_broke_says_so() -> None:
    found = only(regressed(np.where(STEPS < 40, np.exp(STEPS.astype(float)), math.nan)))
    assert found.verdict == "non-finite"
    assert "the loss had risen from 1 to 8.66e+16 before: at step 40 the loss is not finite" in found.cause
    assert found.remedy.startswith("a lower learning rate")


def test_targets_between_no_and_yes_are_not_held_against_guessing() -> None:
    """The loss of an autoencoder of grays cannot fall far, whatever it learns."""
    grays = random.random((64, 30))
    hard = (grays > 0.5).astype(float)
    for target, fires in ((grays, False), (hard, True)):
        terms = [made_term("binary_cross_entropy_with_logits", output=grays, target=target)] * 8
        assert bool(loss_findings(made_history(*terms, values=0.693 + 0.001 * NOISE))) == fires


def test_the_source_of_a_loss_that_is_not_finite_is_named() -> None:
    inputs = random.normal(size=(8, 4))
    inputs[2, 1] = math.nan
    target = random.normal(size=(8, 1))
    term = made_term("mse_loss", output=target, target=target)
    values = np.full(30, math.nan)
    found = only(made_history(term, values=values, inputs=inputs))
    assert "inputs have infinite values or NaN in row 2 of 8: at step 0" in found.cause
    assert "fill in what is missing" in found.remedy
    target[0] = math.inf
    term = made_term("mse_loss", output=inputs[:, :1], target=target)
    told = only(made_history(term, values=values)).cause
    assert "targets have infinite values or NaN in row 0 of 8" in told


def test_rows_whose_outputs_alone_are_not_finite_are_named() -> None:
    output, target = random.normal(size=(8, 1)), random.normal(size=(8, 1))
    output[[3, 5]] = math.inf
    term = made_term("mse_loss", output=output, target=target)
    found = only(made_history(term, values=np.full(30, math.nan), inputs=random.normal(size=(8, 4))))
    assert "outputs are not finite in rows 3, 5 of 8, whose inputs are" in found.cause
    later = np.r_[0.5, np.full(29, math.nan)]
    assert "outputs" not in only(made_history(term, values=later)).cause  # read before it happened
    every = made_term("mse_loss", output=np.full((8, 1), math.nan), target=target)
    assert "outputs" not in only(made_history(every, values=np.full(30, math.nan))).cause


@pytest.mark.parametrize(
    ("values", "verdict", "cause"),
    [
        (np.exp(0.05 * STEPS), "loss diverges", "has risen to"),
        (-np.exp(0.05 * STEPS), "loss diverges", "has fallen to"),
        (np.full(N, 0.5), "loss does not fall", "the loss is 0.5 at all 400 steps"),
    ],
)
def test_an_unknown_loss_that_fails(values: np.ndarray, verdict: str, cause: str) -> None:
    found = only(unknown(values))
    assert found.verdict == verdict
    assert cause in found.cause


def test_a_loss_that_begins_high() -> None:
    values = 2 * np.exp(-STEPS / 50) + 0.5
    values[0] = 107.0
    found = only(classified(values))
    assert found.verdict == "initial loss too high"
    assert "begins at 107, and an output without an opinion gives 1.39" in found.cause
    assert "standard deviation of" in found.cause
    values[0] = 4.0
    assert not loss_findings(classified(values))


def test_spikes_beyond_the_noise() -> None:
    values = (2 * np.exp(-STEPS / 100) + 0.2) * np.exp(0.1 * NOISE) / 2
    assert not loss_findings(classified(values))
    values[250] *= 20
    found = only(classified(values))
    assert found.verdict == "loss spikes"
    assert found.cause.startswith("loss 3.83 at step 250, 20.3 times the 0.189 before")
    assert "back after 1 step" in found.cause
    assert found.evidence[0].limit == 1.5
    values[300] = math.inf
    broken = only(classified(values))
    assert "2 spikes, at steps 250, 300; the highest: loss not finite at step 300" in broken.cause
    assert broken.evidence[0].value == 1
    values[250] /= 20
    values[300], values[5] = values[299], math.nan
    assert only(classified(values)).cause == "the loss is not finite at 1 step"


HEALTHY = {
    "falls": 1.2 * np.exp(-STEPS / 100) + 0.2 + 0.02 * NOISE,
    "falls late": np.where(STEPS < 200, 1.386, 1.386 - 0.002 * (STEPS - 200)) + 0.02 * NOISE,
    "began converged": 0.3 + 0.05 * NOISE,
    "heavy tails": 0.3 * NOISE**2 + 1e-6,
    "zero": np.zeros(N),
}


@pytest.mark.parametrize("kind", HEALTHY)
def test_what_learns_is_left_alone(kind: str) -> None:
    assert not [str(each) for each in loss_findings(classified(HEALTHY[kind]))]
    assert not [str(each) for each in loss_findings(unknown(HEALTHY[kind]))]


@pytest.mark.parametrize(
    "values",
    [
        0.693 + 0.5 * NOISE,  # a generator's
        np.linspace(0.7, 8, N) + NOISE,  # a generator's that loses
        -10 * STEPS / N + NOISE,  # a likelihood's
        0.001 + 0.3 * STEPS / N + 0.01 * np.abs(NOISE),  # values learned from themselves
        np.full(15, 0.5),
    ],
)
def test_an_unknown_loss_is_not_judged_by_its_size(values: np.ndarray) -> None:
    assert not loss_findings(unknown(values))


def test_late_batches_are_held_against_their_own_targets() -> None:
    """Batches of 40 whose targets vary: a constant's loss does too, a weak learner's is less."""
    targets = [random.normal(size=(40, 1)) for _ in range(8)]
    for explained, fires in ((0.0, True), (0.06, False)):
        values = 1 - explained + 0.3 * random.normal(size=N)
        values[::50] = [(1 - explained) * (target**2).mean() for target in targets]
        terms = [made_term("mse_loss", output=0.1 * target, target=target) for target in targets]
        assert bool(loss_findings(made_history(*terms, values=values))) == fires


def test_few_steps_are_not_held_against_guessing() -> None:
    assert not loss_findings(classified((math.log(4) + 0.02 * NOISE)[:100]))
    assert loss_findings(classified((math.log(4) + 0.02 * NOISE)[:101]))


def test_targets_that_another_network_makes_are_not_guessed() -> None:
    terms = [
        made_term("mse_loss", output=random.normal(size=(64, 1)), target=size * random.normal(size=(64, 1)))
        for size in (0.1, 1.0, 3.0)
    ]
    assert not loss_findings(made_history(*terms, values=3.0 + 0.1 * NOISE))


def test_a_sum_of_losses_is_not_held_against_one_of_them() -> None:
    both = [
        made_term("cross_entropy", output=random.normal(size=(64, 4)), target=random.integers(0, 4, 64)),
        made_term("mse_loss", output=random.normal(size=(64, 1)), target=random.normal(size=(64, 1))),
    ]
    assert not loss_findings(made_history(both, values=math.log(4) + 1 + 0.02 * NOISE))


def spoken(tokens: list[np.ndarray], level: float) -> LossHistory:
    """Tokens whose successors are the targets, as whole numbers of 20 kinds."""
    terms = [
        made_term("cross_entropy", output=random.normal(size=(each.size, 20)), target=each.ravel())
        for each in tokens
    ]
    return made_history(*terms, values=level + 0.02 * NOISE, inputs=tokens[0])


def test_random_tokens_cannot_be_predicted_and_that_is_no_failure() -> None:
    drawn = np.random.default_rng(5)
    uniform = [drawn.integers(0, 20, (32, 40)) for _ in range(5)]
    found = only(spoken(uniform, math.log(20)))
    assert (found.verdict, found.grade) == ("loss does not fall", "warn")
    assert "all tokens come equally often: targets that are drawn at random" in found.cause
    shares = 1 / np.arange(1, 21)
    shares /= shares.sum()
    worded = [drawn.choice(20, (32, 40), p=shares) for _ in range(5)]
    entropy = -float(shares @ np.log(shares))
    assert only(spoken(worded, entropy)).grade == "fail"


@pytest.mark.parametrize("half", [True, False])
def test_a_logarithm_of_what_half_precision_rounds_to_0(half: bool) -> None:
    """log(softmax(x)) of a probability of 1e-8: −∞ in float16 alone."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with gs.watch(model, optimizer) as flow:
        for step in range(30):
            x = torch.randn(16, 4) + torch.tensor([60.0 * (step > 20), 0, 0, 0])
            with torch.no_grad():
                model.weight[:, 0] = torch.tensor([0.5, 0.0, 0.0])
            output = model(x).half() if half else model(x)
            optimizer.zero_grad()
            nn.functional.nll_loss(output.softmax(1).log(), torch.arange(16) % 3).backward()
            optimizer.step()
    found = gs.diagnose(flow)
    assert (found.verdict == "half precision overflows") == half
    assert ("non-finite" in [each.verdict for each in found.findings]) is False
