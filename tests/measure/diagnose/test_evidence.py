"""Evidence decides: over synthetic histories each number told is beyond its limit, a healthy one's is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradscape as gs
from gradscape.measure.diagnose.advice import HIGHER, LOWER, Traits, squashing
from gradscape.records.diagnosis import GRADES, Diagnosis
from gradscape.records.gradients import FlowHistory, OptimizerFacts, over

ADAM = OptimizerFacts("Adam", 1e-3, 1e-8, None, (), plain=False)
SGD = OptimizerFacts("SGD", 0.1, None, 0.9, (), plain=True)
LION = OptimizerFacts("Lion", 1e-4, None, None, (), plain=False)


@st.composite
def histories(draw: st.DrawFn) -> FlowHistory:
    """Of layers whose gradients, weights and steps are of any size, some without, some not finite."""
    layers, rows = draw(st.integers(1, 6)), draw(st.integers(1, 14))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = 10.0 ** random.normal(scale=0.3, size=(4, rows, layers))

    def sizes(low: float, high: float) -> np.ndarray:
        return 10.0 ** np.array([draw(st.floats(low, high)) for _ in range(layers)])

    rms, weight, update = sizes(-14, 6), sizes(-8, 3), sizes(-12, 3)
    rms_rows = rms * spread[0] * 10.0 ** np.linspace(0, draw(st.floats(-6, 1)), rows)[:, None]
    for column in range(layers):
        kind = draw(st.sampled_from(["", "", "", "zero", "none", "broken", "dies"]))
        fault = {"zero": 0.0, "none": np.nan, "broken": np.inf, "dies": 0.0}.get(kind)
        if fault is not None:
            rms_rows[rows // 3 if kind == "dies" else 0 :, column] = fault
    kinds = tuple(
        draw(st.sampled_from(["linear", "linear", "linear", "scale", "embedding"])) for _ in range(layers)
    )
    facts = draw(st.sampled_from([ADAM, SGD, LION]))
    agreement = np.clip(draw(st.floats(-1, 1)) + 0.1 * random.normal(size=(rows, layers)), -1, 1)
    agreement[0] = np.nan
    return FlowHistory(
        layers=tuple(f"{place}.weight" for place in range(layers)),
        kinds=kinds,
        sizes=(16,) * layers,
        steps=np.arange(rows),
        skipped=np.zeros(rows, dtype=bool),
        mean_abs=rms_rows,
        last_mean_abs=rms_rows,
        max_abs=rms_rows,
        rms=rms_rows,
        zeros=np.where(np.isnan(rms_rows), np.nan, rms_rows == 0).astype(float),
        nonfinite=np.isinf(rms_rows).astype(float),
        agreement=agreement,
        weight=weight * spread[1],
        update=update * spread[2],
        relative=rms_rows,
        relative_update=over(update * spread[2], weight * spread[1]),
        optimizers=(OptimizerFacts(**{**vars(facts), "members": tuple(range(layers))}),),
        seen="",
        notes=(),
        shapes=draw(st.sampled_from([(), ((4, 4),) * layers])),
        modules=draw(st.sampled_from([(), ("Linear", "Sigmoid"), ("Linear", "ReLU")])),
    )


def diagnosed(history: FlowHistory) -> Diagnosis:
    return gs.diagnose(history)


@settings(max_examples=150, deadline=None)
@given(histories())
def test_each_number_told_is_beyond_the_limit_beside_it(history: FlowHistory) -> None:
    found = diagnosed(history)
    for finding in found.findings:
        assert finding.evidence
        for evidence in finding.evidence:
            assert evidence.counts == (finding.verdict != "healthy"), str(found)


@settings(max_examples=80, deadline=None)
@given(histories())
def test_what_is_told_does_not_contradict_itself(history: FlowHistory) -> None:
    found = diagnosed(history)
    remedies = "; ".join(finding.remedy for finding in found.findings)
    assert not (LOWER in remedies and HIGHER in remedies)
    if "ReLU" in history.modules:
        assert "in place of" not in remedies
    grades = [GRADES[finding.verdict] for finding in found.findings]
    assert grades == sorted(grades, key=("fail", "warn", "info").index)
    assert found.grade == grades[0]
    assert all(finding.layer in (*history.layers, "") for finding in found.findings)


@pytest.mark.parametrize(
    ("modules", "advice"),
    [
        (("Linear", "Tanh"), ("ReLU in place of tanh",)),
        (("Linear", "Tanh", "GELUActivation"), ()),  # BERT's pooler
        (("Linear", "ReLU"), ()),
        ((), ("ReLU, if the activations are sigmoids or tanh",)),
    ],
)
def test_relu_is_advised_only_where_all_activations_squash(
    modules: tuple[str, ...], advice: tuple[str, ...]
) -> None:
    traits = Traits(False, squashing(modules), bool(modules), None)
    assert traits.activation == advice
