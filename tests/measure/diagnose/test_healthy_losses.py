"""Healthy trainings of many kinds raise no fault of grade fail; every number told is beyond its limit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.made_losses import made_history, made_term

from gradscape.measure.diagnose.loss.rules import loss_findings
from gradscape.records.loss import LossHistory, LossTerm

KINDS = ("cross_entropy", "nll_loss", "binary_cross_entropy_with_logits", "mse_loss", "l1_loss", "unknown")


def term_of(kind: str, random: np.random.Generator, classes: int, batch: int, scale: float) -> LossTerm:
    """A term of one batch: raw outputs that begin near 0, and targets of its kind."""
    scores = 0.5 * random.normal(size=(batch, classes))
    shares = random.dirichlet(np.full(classes, 20.0))
    labels = random.choice(classes, batch, p=shares)
    if kind == "cross_entropy":
        return made_term(kind, output=scores, target=labels)
    if kind == "nll_loss":
        log = scores - np.log(np.exp(scores).sum(1, keepdims=True))
        return made_term(kind, ("log_softmax", 1, scores.shape), output=log, target=labels)
    if kind == "binary_cross_entropy_with_logits":
        return made_term(kind, output=scores[:, :1], target=random.integers(0, 2, (batch, 1)))
    if kind == "unknown":
        return made_term(kind, "sub", "pow", "mean")
    return made_term(kind, output=scores[:, :1], target=scale * random.normal(size=(batch, 1)))


def start_of(kind: str, classes: int, scale: float) -> float:
    return {
        "cross_entropy": math.log(classes),
        "nll_loss": math.log(classes),
        "binary_cross_entropy_with_logits": math.log(2),
        "mse_loss": scale**2,
        "l1_loss": 0.8 * scale,
    }.get(kind, scale)


@st.composite
def healthy_histories(draw: st.DrawFn) -> LossHistory:
    """A loss that falls by a third at least, with noise of a batch, and inputs of a usual size."""
    kind = draw(st.sampled_from(KINDS))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    classes, batch = draw(st.integers(2, 50)), draw(st.sampled_from([2, 8, 32, 256]))
    scale = draw(st.floats(0.3, 10))
    steps, noise = draw(st.integers(1, 600)), draw(st.floats(0, 0.3))
    half = steps * draw(st.floats(0.05, 0.5))
    floor = draw(st.floats(0, 0.5))
    at = np.arange(steps)
    falling = floor + (1 - floor) * 0.5 ** (at / half)
    values = start_of(kind, classes, scale) * falling * np.exp(noise * random.normal(size=steps))
    if kind == "unknown":
        values = draw(st.sampled_from([1, -1])) * values + draw(st.floats(-3, 3)) * random.normal(size=steps)
    inputs: Any = draw(st.sampled_from(["normal", "unit", "tokens"]))
    seen = {
        "normal": random.normal(size=(batch, 8)),
        "unit": random.random((batch, 3, 4, 4)),
        "tokens": random.integers(0, 100, (batch, 6)),
    }[inputs]
    terms = [term_of(kind, random, classes, batch, scale) for _ in range(draw(st.integers(1, 8)))]
    return made_history(*terms, values=values, inputs=seen)


@settings(max_examples=100, deadline=None)
@given(healthy_histories())
def test_a_healthy_training_has_no_grave_fault(history: LossHistory) -> None:
    found = loss_findings(history)
    assert not [str(each) for each in found if each.grade == "fail"]
    for finding in found:
        assert finding.evidence
        assert all(each.counts for each in finding.evidence), str(finding)
