"""Inputs and targets by their size: a warning, and grave only where the training comes to nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.made_losses import made_history, made_summary, made_term
from tests.measure.diagnose.loss.test_output_rules import only

from gradscape.measure.diagnose.loss.rules import loss_findings, loss_notes
from gradscape.records.diagnosis import Finding
from gradscape.records.loss import LossHistory, StepReading

random = np.random.default_rng(5)
NORMAL, TARGET = random.normal(size=(64, 8)), random.normal(size=(64, 1))
NORMAL, TARGET = (each - each.mean() for each in (NORMAL, TARGET))
NORMAL, TARGET = (each / each.std() for each in (NORMAL, TARGET))


def given(inputs: Any, values: Any = (), dtype: str = "float32", **more: Any) -> LossHistory:
    term = made_term("mse_loss", output=0.1 * TARGET, target=TARGET)
    seen = made_summary(inputs, dtype)
    losses = np.asarray(values, dtype=np.float64)
    steps = range(0, max(len(losses), 6), max(len(losses) // 6, 1))
    readings = tuple(StepReading(step=step, terms=(term,), inputs=seen, **more) for step in steps)
    return LossHistory(np.arange(len(losses)), losses, readings)


def verdicts(findings: list[Finding]) -> list[str]:
    return [each.verdict for each in findings]


STUCK = 1.02 + 0.01 * random.normal(size=204)
LEARNS = np.exp(-np.arange(200) / 50) + 0.1


@pytest.mark.parametrize(
    ("inputs", "features", "cause", "remedy"),
    [
        (random.integers(0, 256, (8, 64)), (), "inputs are 0 … 255, of mean", "pixels divided by 255"),
        (1000 * NORMAL, (), "of mean", "standardize the inputs"),
        (0.001 * NORMAL, (), "inputs are -0.00", "standardize"),
        (20 + NORMAL, (), "of mean 20 and standard deviation 1", "standardize"),
        (NORMAL, (1e-3, 2.0), "features differ in size", "each feature"),
    ],
)
def test_inputs_out_of_scale(inputs: Any, features: tuple[float, ...], cause: str, remedy: str) -> None:
    found = only(given(inputs, LEARNS, input_features=features))
    assert found.verdict == "unscaled inputs"
    assert found.grade == "warn"
    assert cause in found.cause
    assert remedy in found.remedy
    grave = loss_findings(given(inputs, STUCK, input_features=features))
    assert verdicts(grave) == ["inputs out of scale", "loss does not fall"]
    assert grave[0].cause.endswith("and the loss is no better than guessing")
    assert loss_findings(given(inputs, input_features=features), harmed=True)[0].grade == "fail"


@pytest.mark.parametrize(
    "history",
    [
        given(NORMAL),
        given(random.random((8, 3, 16, 16))),
        given(0.9 + 0.05 * random.random((8, 64))),  # a light page
        given(random.integers(0, 2, (8, 64))),
        given(random.integers(0, 30_000, (8, 64)), dtype="int64"),  # tokens
        given(NORMAL, input_features=(0.0, 2.0)),  # a pixel that is never lit
        given(NORMAL, input_features=(0.01, 2.0)),
        given(10 * NORMAL),
        given(2 + 0.3 * NORMAL),
    ],
)
def test_usual_inputs_are_left_alone(history: LossHistory) -> None:
    assert not loss_findings(history)


def test_constant_inputs() -> None:
    for dtype in ("float32", "int64"):
        found = only(given(np.zeros((8, 64)), dtype=dtype))
        assert found.verdict == "constant inputs"
        assert "every number of the inputs is 0, in all 6 batches read" in found.cause
    assert not loss_findings(given(np.ones((1, 64))))


def test_copies_count_where_the_training_fails() -> None:
    found = loss_findings(given(NORMAL, STUCK, equal_samples=1.0))
    assert found[0].verdict == "constant inputs"
    assert "100 % of the samples of a batch are equal to another one of it" in found[0].cause
    for fine in (
        given(NORMAL, LEARNS, equal_samples=1.0),
        given(NORMAL, STUCK, equal_samples=0.5),
        given(random.integers(0, 2, (64, 8)), STUCK, equal_samples=1.0),
        given(NORMAL[:, :4], STUCK, equal_samples=1.0),
    ):
        assert "constant inputs" not in verdicts(loss_findings(fine))


def test_unscaled_targets() -> None:
    term = made_term("mse_loss", output=TARGET, target=2000 + 500 * TARGET)
    found = only(made_history(*[term] * 6, values=LEARNS))
    assert found.verdict == "unscaled targets"
    assert "of mean 2e+03 and standard deviation 500" in found.cause
    assert "; outputs begin at" in found.cause
    assert "standardize the targets" in found.remedy
    stuck = loss_findings(made_history(*[term] * 6, values=500**2 * STUCK))
    assert verdicts(stuck) == ["targets out of scale", "loss does not fall"]
    near = made_term("mse_loss", output=TARGET, target=20 + 5 * TARGET)
    assert not loss_findings(made_history(near, values=LEARNS))


def test_batch_norm_in_eval_mode_is_a_fault_where_its_statistics_are_off() -> None:
    off = given(NORMAL, evaluating=("bn1", "bn2"), running_gap=7.0, modal=2)
    found = only(off)
    assert (found.verdict, found.layer) == ("evaluation mode", "bn1")
    assert "2 modules in eval mode" in found.cause
    assert "the batches' means are 7 deviations from them" in found.cause
    frozen = given(NORMAL, evaluating=("bn1", "bn2"), running_gap=0.8, modal=2)
    assert not loss_findings(frozen)
    assert loss_notes(frozen) == (
        "all dropout and normalization modules are in eval mode at training steps, as in fine-tuning with "
        "frozen statistics",
    )
    assert loss_notes(given(NORMAL, evaluating=("a", "b"), modal=5))[0].startswith("a and 1 more are in eval")
    assert not loss_notes(given(NORMAL))


def test_batch_norm_of_one_sample() -> None:
    found = only(given(NORMAL, single_sample_norms=("net.bn",)))
    assert (found.verdict, found.layer) == ("BatchNorm of one sample", "net.bn")
    assert "1 BatchNorm module in train mode with one value a channel" in found.cause
    rare = given(NORMAL)
    last = StepReading(step=3, terms=rare.readings[0].terms, single_sample_norms=("net.bn",))
    assert not loss_findings(LossHistory(rare.steps, rare.values, (*rare.readings, last)))
    assert not loss_findings(LossHistory(rare.steps, rare.values))


def test_a_softmax_that_changes_nothing_is_noted() -> None:
    scores = np.log(np.full((64, 4), 0.25))
    term = made_term("cross_entropy", ("log_softmax", 1, (64, 4)), output=scores, target=np.arange(64) % 4)
    assert loss_notes(made_history(term)) == (
        "log_softmax comes before cross_entropy, which applies it itself: it changes nothing",
    )
