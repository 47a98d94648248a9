"""What the study of remedies claims, counts and answers, from runs that were never run."""

from __future__ import annotations

import dataclasses
import math

import pytest

import synthetic
from gradscape.analysis.claims import ONE_SEED, Claim, Evidence, answer
from gradscape.records.run import StudyRecord
from gradscape.studies.remedies.claims import claims
from gradscape.studies.remedies.metrics import (
    all_train,
    at_first,
    first_gradient,
    highest_rate,
    likeness,
    start_slope,
    trained_gradient,
    trained_slope,
    typical,
)
from gradscape.studies.remedies.report import PARTS
from remedied import (
    DEPTH,
    RATES,
    SHUFFLED,
    SIGNAL,
    SMOOTH,
    STORY,
    WHOLE,
    Shape,
    diverged,
    flow,
    layers,
    nothing_run,
    run,
    smoothness,
    study,
    trained,
)


def checked(found: StudyRecord) -> dict[str, Claim]:
    return {claim.id: claim for claim in claims(found)}


def verdicts(found: StudyRecord) -> list[str]:
    return [claim.verdict for claim in claims(found)]


def numbers(part: Evidence) -> list[float]:
    return [value for _, value in part.numbers]


def told(found: StudyRecord) -> list[str]:
    return answer(claims(found), PARTS.lead)


def test_he_restores_the_gradient_and_only_with_batchnorm_does_it_train() -> None:
    found = checked(study(WHOLE, seeds=6))
    assert {name: claim.verdict for name, claim in found.items()} == {
        "R1": "holds", "R2": "does not hold", "R3": "holds", "R4": "holds", "R5": "holds",
        "R6": "holds", "R7": "holds", "R8": "not testable", "R9": "undecided", "R10": "undecided",
    }  # fmt: skip
    assert numbers(found["R1"].parts[0]) == pytest.approx([13] * 6)  # orders above 1e-18
    assert checked(study(WHOLE, seeds=5))["R1"].verdict == "undecided"  # five seeds that are all equal
    assert numbers(found["R3"].parts[0]) == [1.0] * 6
    reason = (
        "6 of 6 (95 % 54 … 100 %) of the seeds train; 0 of 6 (95 % 0 … 46 %) of the seeds train; p = 0.031"
    )
    assert found["R3"].reason == reason
    assert found["R8"].reason.startswith(
        "he: 6 of 6 runs end at guessing (training accuracy no better than guessing's 0.012)"
    )
    assert "twice guessing is 0.02" in found["R2"].parts[0].measured


def test_what_does_not_train_in_a_time_in_which_nothing_does_is_not_tested() -> None:
    found = checked(study({**WHOLE, "vgg08": Shape(0.0105, 1e-4, 1.0, 0.5)}, seeds=6))
    assert (found["R2"].verdict, found["R5"].verdict) == ("not testable", "holds")
    assert "vgg08: 6 of 6 runs end at guessing" in found["R2"].reason


def test_few_seeds_of_which_some_train_settle_nothing() -> None:
    """He trained with one seed of three on digits, and an interval of the mean was told for it."""
    he = {f"he-s{seed}": run("he", seed, Shape((0.4, 0.01, 0.01)[seed], 1e-5, 1.0, 0.5)) for seed in range(3)}
    found = checked(study(WHOLE, seeds=3, replaced=he))
    told = "1 of 3 (95 % 1 … 91 %) of the seeds train: a mean over both kinds needs 8 seeds or more"
    assert (found["R2"].verdict, told in found["R2"].reason) == ("undecided", True)
    assert (found["R3"].verdict, found["R3"].reason.endswith("p = 0.5")) == ("undecided", True)


def test_smoothness_is_compared_over_the_pairs_that_train_both_ways() -> None:
    shapes = {
        **WHOLE,
        **{role: WHOLE[role]._replace(beta=1.0) for role in ("bn+skip", "bn+dense", "bn+selu", "bn+lsuv")},
        **{role: WHOLE[role]._replace(beta=100.0) for role in ("skip", "dense", "selu", "lsuv")},
        "he": WHOLE["he"]._replace(beta=1e-3),
    }
    claim = checked(study(shapes, seeds=3))["R4"]
    assert (claim.verdict, len(claim.parts)) == ("holds", 3)
    assert numbers(claim.parts[0])[0] == pytest.approx(-2)
    assert "mean of 4 pairs (BatchNorm + skips over skips; " in claim.parts[0].measured
    assert "Left out, for a network that guesses is flat: he: 3 of 3 runs" in claim.note
    alone = checked(study(STORY, seeds=3))["R4"]
    assert (alone.verdict, alone.tests) == ("not testable", 0)


def test_the_gradient_predicts_accuracy_where_it_orders_the_remedies_and_smoothness_does_not() -> None:
    found = checked(study(SIGNAL))
    assert (found["R6"].verdict, found["R7"].verdict) == ("holds", "holds")
    first, second = found["R6"].parts
    assert first.reason.startswith("|ρ| 1 and ")
    assert first.reason.endswith("n = 64 of 32 configurations")
    assert first.measured.endswith("with accuracy among those that train, over 64 runs of 32 remedies")
    assert "through training" in second.measured
    # Six comparisons of this kind in the study.
    assert first.rule == "the 99.17 % bootstrap interval over remedies lies above 0"
    assert first.p == pytest.approx(0.05 / 6)


def test_whether_it_trains_is_another_question_than_how_accurate_it_is() -> None:
    """Half of the remedies guess, their β small; among those that train nothing goes with accuracy."""
    shapes = {
        role: Shape(0.01, 1e-9, 1.0 + 0.001 * i, 0.99)
        if i % 2
        else shape._replace(gradient=10.0 ** (-4 + 0.1 * SHUFFLED[i]), likeness=0.02 * SHUFFLED[i])
        for i, (role, shape) in enumerate(SIGNAL.items())
    }
    found = checked(study(shapes))
    accuracy, whether = found["R6"].parts[1], found["R9"].parts[1]
    assert "over 32 runs of 16 remedies" in accuracy.measured
    assert "with whether it trains, over 64 runs of 32 remedies" in whether.measured
    first, second = whether.reason.split("|ρ| ")[1].split(", ")[0].split(" and ")
    assert min(float(first), float(second)) > 0.8
    assert found["R6"].verdict == "undecided"


def test_it_does_not_where_smoothness_orders_them() -> None:
    found = checked(study(SMOOTH))
    assert (found["R6"].verdict, found["R7"].verdict) == ("does not hold", "does not hold")
    assert " 99.17 % interval -" in found["R6"].parts[0].reason


def test_two_numbers_that_order_remedies_alike_leave_it_undecided() -> None:
    alike = {role: shape._replace(likeness=shape.beta / 100) for role, shape in SMOOTH.items()}
    claim = checked(study(alike))["R7"]
    assert claim.verdict == "undecided"
    assert claim.reason.startswith("|ρ| 0.99")
    assert [part.p for part in claim.parts] == [1.0]  # not that of an interval which does not hold 0


def test_correlations_need_remedies_enough_that_differ() -> None:
    few = {role: SIGNAL[role] for role in ("plain", "he", "bn")}
    assert checked(study(few))["R6"].reason == "too few remedies (0 of 2 parts hold)"
    same = {role: shape._replace(likeness=0.0) for role, shape in SIGNAL.items()}
    claim = checked(study(same))["R7"]
    assert (claim.verdict, claim.reason) == ("undecided", "a number is the same in all remedies")


def test_one_seed_claims_nothing_but_what_is_over_remedies() -> None:
    found = checked(study(SIGNAL, seeds=1))
    for name in ("R1", "R2", "R4", "R5", "R8"):
        assert found[name].verdict == "undecided"
        assert found[name].reason.startswith(ONE_SEED)
    assert (found["R6"].verdict, found["R7"].verdict) == ("holds", "holds")
    assert "(R8): one seed per run claims nothing; " in told(study(SIGNAL, seeds=1))[0]


def test_runs_that_are_missing_or_failed_are_named_and_leave_claims_open() -> None:
    failed = dataclasses.replace(run("skip", 0, STORY["skip"]), state="failed", epochs=(), test={})
    found = checked(study(WHOLE, replaced={"he-s1": None, "skip-s0": failed}))
    reasons = {name: (claim.verdict, claim.reason) for name, claim in found.items()}
    lost, broken = "he: seed 1 not run yet", "skip: seed 0 failed after 0 of 2 epochs"
    assert [reasons[name] for name in ("R1", "R3", "R8")] == [("undecided", lost)] * 3
    assert reasons["R2"] == ("undecided", lost)
    assert reasons["R5"][1].startswith(broken)
    assert reasons["R7"] == ("undecided", f"{lost}; {broken}")


def test_many_missing_runs_are_counted() -> None:
    found = nothing_run(study(SIGNAL))
    assert set(verdicts(found)) == {"undecided"}
    assert checked(found)["R7"].reason == "32 of 32 remedies have runs that have not come to an end"


def test_a_run_that_diverged_counts_as_guessing() -> None:
    lost = {f"bn+he-s{seed}": diverged(run("bn+he", seed, STORY["bn+he"])) for seed in range(2)}
    found = study(WHOLE, replaced=lost)
    claim = checked(found)["R3"]
    assert claim.verdict == "undecided"
    assert numbers(claim.parts[0]) == [0, 0]
    assert all_train(found, "bn+he") is False


def test_runs_from_before_the_start_was_measured_leave_the_gradient_open() -> None:
    old = {"he-s1": dataclasses.replace(run("he", 1, STORY["he"]), start=None)}
    claim = checked(study(STORY, replaced=old))["R1"]
    assert (claim.verdict, claim.reason) == ("undecided", "he: seed 1 has no gradient before training")


def test_a_gradient_of_exactly_0_counts_as_the_smallest_float32() -> None:
    start = synthetic.start((0.0,) * DEPTH, (0.9,) * DEPTH)
    zero = {
        f"plain-s{seed}": dataclasses.replace(run("plain", seed, STORY["plain"]), start=start)
        for seed in range(2)
    }
    part = checked(study(STORY, replaced=zero))["R1"].parts[0]
    assert numbers(part) == pytest.approx([-5 + 149 * math.log10(2)] * 2)


# Numbers


def test_numbers_of_a_run() -> None:
    made = run("bn", 0, Shape(0.5, 1e-9, 30.0, 0.25))
    assert first_gradient(made) == pytest.approx(1e-9)
    assert trained_gradient(made) == pytest.approx(1e-9)
    assert start_slope(made) == pytest.approx(1)  # seven orders of magnitude in seven steps
    assert trained_slope(made) == pytest.approx(1)
    assert likeness(made) == 0.25
    assert typical("beta")(made) == pytest.approx(30)
    assert at_first("beta")(made) == pytest.approx(30)


def test_the_first_measure_is_that_of_the_first_step_even_where_it_is_0() -> None:
    made = run("bn", 0, STORY["bn"])
    first = dataclasses.replace(made.epochs[0], smoothness=(smoothness(0, 0.0),))
    flat = dataclasses.replace(made, epochs=(first, *made.epochs[1:]))
    assert at_first("beta")(flat) == 0
    assert typical("beta")(flat) == pytest.approx(30)  # 0 has no logarithm
    assert math.isnan(at_first("beta", "step")(made))


def test_gradients_that_are_not_finite_have_no_slope() -> None:
    made = run("bn", 0, STORY["bn"])
    infinite = flow((math.inf, *layers(1e-3)[1:-1], math.inf))
    assert math.isnan(trained_slope(dataclasses.replace(made, flow=infinite)))
    start = synthetic.start((math.nan,) * DEPTH, (math.nan,) * DEPTH)
    assert math.isnan(start_slope(dataclasses.replace(made, start=start)))


def test_the_highest_rate_that_trains_in_words() -> None:
    lost = dict.fromkeys(("bn+he@0.01-s1", "plain@0.01-s0", "bn@0.0001-s0"))
    found = study(STORY, rates=RATES, replaced=lost)
    assert {role: str(highest_rate(found, role)) for role in STORY} == {
        "plain": "?",  # not at 0.001, and 0.01 is open
        "he": "none",
        "bn": "≥ 0.01",  # the highest tried; that a lower one is open does not matter
        "skip": "0.001",
        "bn+he": "≥ 0.001",  # a higher one is open
    }
    assert highest_rate(found, "bn").tried == (0.0001, 0.001, 0.01)
    assert str(highest_rate(study(STORY), "bn")) == "≥ 0.001"  # the only one tried


# Answer


def test_the_answer_follows_from_verdicts() -> None:
    shapes = {**STORY, "vgg08": Shape(0.4, 1e-4, 50.0, 0.9)}
    lead, others, _ = told(study(shapes, seeds=6, rates={**RATES, "he@0.01": 0.3}))
    assert "With it VGG38 still does not train at the paper's learning rate without BatchNorm." in lead
    assert "a well-initialized VGG38 trains with more seeds with BatchNorm than without." in lead
    assert "Where each has its best learning rate, BatchNorm adds accuracy." in lead
    assert "Not testable here: BatchNorm smooths networks that train without it (R4)" in others


def test_what_batchnorm_adds_may_be_the_range_of_learning_rates() -> None:
    """He alone does as well at a rate that is not the paper's."""
    better = {
        f"he@0.01-s{seed}": trained("he@0.01", seed, Shape(0.55 + 0.002 * seed, 1e-4, 1.0, 0.5))
        for seed in range(3)
    }
    found = study(STORY, seeds=3, rates={**RATES, "he@0.01": 0.55}, replaced=better)
    claim = checked(found)["R8"]
    assert claim.verdict == "does not hold"
    assert "He and BatchNorm at lr 0.001 − He alone at lr 0.01" in claim.parts[0].measured
    assert "Where each has its best learning rate, BatchNorm adds no accuracy." in told(found)[0]
    missing = study(STORY, rates=RATES, replaced={"he@0.01-s1": None})
    claim = checked(missing)["R8"]
    assert (claim.verdict, claim.reason) == ("undecided", "he@0.01: seed 1 not run yet")
