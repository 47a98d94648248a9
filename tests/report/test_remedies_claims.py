"""What the study of remedies claims, counts and answers, from runs that were never run."""

from __future__ import annotations

import dataclasses
import math

import pytest

from gradscape.records import StudyRecord
from gradscape.report.claims import ONE_SEED, Claim, Evidence
from gradscape.study.remedies_answer import answer
from gradscape.study.remedies_claims import claims
from gradscape.study.remedies_numbers import (
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

from . import synthetic
from .remedied import (
    DEPTH,
    RATES,
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
)


def checked(found: StudyRecord) -> dict[str, Claim]:
    return {claim.id: claim for claim in claims(found)}


def verdicts(found: StudyRecord) -> list[str]:
    return [claim.verdict for claim in claims(found)]


def numbers(part: Evidence) -> list[float]:
    return [value for _, (value,) in part.numbers]


def told(found: StudyRecord) -> list[str]:
    return answer(found, claims(found))


def test_he_restores_the_gradient_and_only_with_batchnorm_does_it_train() -> None:
    found = study(WHOLE)
    assert verdicts(found) == ["holds", "does not hold", *["holds"] * 6]
    parts = {name: [numbers(part) for part in claim.parts] for name, claim in checked(found).items()}
    assert parts["R1"] == [pytest.approx([13, 13])]  # orders above 1e-18
    assert parts["R2"] == [[0.01, 0.01]]
    assert parts["R3"] == [pytest.approx([0.52, 0.521]), pytest.approx([0.49, 0.491])]
    assert parts["R4"] == [pytest.approx([math.log10(0.2)] * 2)] * 4  # β of 20 over one of 100
    assert parts["R5"] == [pytest.approx([0.43, 0.431])]
    assert parts["R6"] == [[], []]
    assert parts["R8"] == parts["R3"][1:]  # at one learning rate it is the best
    assert "twice guessing is 0.02" in checked(found)["R2"].parts[0].measured


def test_the_gradient_predicts_accuracy_where_it_orders_the_remedies_and_smoothness_does_not() -> None:
    found = checked(study(SIGNAL))
    assert (found["R6"].verdict, found["R7"].verdict) == ("holds", "holds")
    first, second = found["R6"].parts
    assert first.reason.startswith("|ρ| 1 and 0.0141, 95 % interval 0.")
    assert first.reason.endswith("n = 60 of 30 configurations")
    assert first.measured.endswith("at initialisation, with validation accuracy, over 60 runs of 30 remedies")
    assert "through training" in second.measured
    assert first.rule == "the 95 % bootstrap interval over remedies lies above 0"


def test_it_does_not_where_smoothness_orders_them() -> None:
    found = checked(study(SMOOTH))
    assert (found["R6"].verdict, found["R7"].verdict) == ("does not hold", "does not hold")
    assert found["R6"].parts[0].reason.startswith("|ρ| 0.0149 and 0.998, 95 % interval -0.9")


def test_two_numbers_that_order_remedies_alike_leave_it_undecided() -> None:
    alike = {role: shape._replace(likeness=shape.beta / 100) for role, shape in SMOOTH.items()}
    claim = checked(study(alike))["R7"]
    assert claim.verdict == "undecided"
    assert claim.reason.startswith("|ρ| 0.998 and 0.998, ")


def test_correlations_need_remedies_enough_that_differ() -> None:
    few = {role: SIGNAL[role] for role in ("plain", "he", "bn")}
    assert checked(study(few))["R6"].reason == "too few remedies"
    same = {role: shape._replace(likeness=0.0) for role, shape in SIGNAL.items()}
    claim = checked(study(same))["R7"]
    assert (claim.verdict, claim.reason) == ("undecided", "a number is the same in all remedies")


def test_one_seed_claims_nothing_but_what_is_over_remedies() -> None:
    found = study(WHOLE, seeds=1)
    for claim in (*claims(found)[:5], claims(found)[7]):
        assert (claim.verdict, claim.reason) == ("undecided", ONE_SEED)
    assert verdicts(found)[5:7] == ["holds", "holds"]
    assert told(found)[0] == "These runs do not settle it: one seed per run claims nothing."


def test_runs_that_are_missing_or_failed_are_named_and_leave_claims_open() -> None:
    failed = dataclasses.replace(run("skip", 0, STORY["skip"]), state="failed", epochs=(), test={})
    found = checked(study(WHOLE, replaced={"he-s1": None, "skip-s0": failed}))
    reasons = {name: (claim.verdict, claim.reason) for name, claim in found.items()}
    lost, broken = "he: seed 1 not run yet", "skip: seed 0 failed after 0 of 2 epochs"
    assert [reasons[name] for name in ("R1", "R2", "R3", "R4", "R8")] == [("undecided", lost)] * 5
    assert reasons["R5"] == ("undecided", broken)
    assert reasons["R6"] == reasons["R7"] == ("undecided", f"{lost}; {broken}")


def test_many_missing_runs_are_counted() -> None:
    found = nothing_run(study(SIGNAL))
    assert set(verdicts(found)) == {"undecided"}
    assert checked(found)["R6"].reason == "30 of 30 remedies have runs that have not come to an end"


def test_a_run_that_diverged_counts_as_guessing() -> None:
    lost = {f"bn+he-s{seed}": diverged(run("bn+he", seed, STORY["bn+he"])) for seed in range(2)}
    found = study(WHOLE, replaced=lost)
    claim = checked(found)["R3"]
    assert claim.verdict == "does not hold"
    assert [numbers(part) for part in claim.parts] == [[0, 0], [0, 0]]
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
    epochs = tuple(dataclasses.replace(each, flow=infinite) for each in made.epochs)
    assert math.isnan(trained_slope(dataclasses.replace(made, epochs=epochs)))
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
    lead, trains, *questions, highest, _ = told(study(STORY, rates=RATES))
    assert lead == (
        "Yes: with the initialisation repaired the gradient is there at the start, and VGG38 still does "
        "not train at the paper's learning rate without BatchNorm; with it, it does. It does so, too, where "
        "each has its best learning rate."
    )
    assert trains == (
        "At the paper's learning rate train: BatchNorm, skips, BatchNorm + He; do not, or not with every "
        "seed: VGG38, He."
    )
    assert questions[0] == (
        "Does VGG38 with He initialisation train without BatchNorm? No (0.01, 95 % interval 0.01 … 0.01, "
        "n = 2)."
    )
    assert [question.partition("? ")[2].split(" (")[0] for question in questions] == [
        "No", "Yes", "Yes", "Yes", "Undecided", "Undecided",
    ]  # fmt: skip
    assert highest == "Highest learning rate that trains: He none, BatchNorm ≥ 0.01, BatchNorm + He ≥ 0.01."


RAISES = (
    "At the paper's learning rate, yes: BatchNorm raises the accuracy of a VGG38 that is well initialised "
    "already. It does so, too, where each has its best learning rate."
)
ADDS_NONE = "No: to a VGG38 that is well initialised already, BatchNorm adds no accuracy here."


@pytest.mark.parametrize(
    ("role", "changes", "lead"),
    [
        ("he", {"accuracy": 0.3}, RAISES),  # which trains without BatchNorm
        ("he", {"gradient": 1e-17}, RAISES),  # whose gradient is not restored
        ("bn+he", {"accuracy": 0.015}, RAISES),  # which is more than guessing, and not training
        ("bn+he", {"accuracy": 0.01}, ADDS_NONE),
    ],
)
def test_the_lead_says_no_more_than_the_verdicts(role: str, changes: dict[str, float], lead: str) -> None:
    assert told(study({**STORY, role: STORY[role]._replace(**changes)}))[0] == lead


def test_what_batchnorm_adds_may_be_the_range_of_learning_rates() -> None:
    """He alone does as well at a rate that is not the paper's."""
    found = study(STORY, rates={**RATES, "he@0.01": 0.55})
    claim = checked(found)["R8"]
    assert (checked(found)["R3"].verdict, claim.verdict) == ("holds", "does not hold")
    assert "He and BatchNorm at lr 0.001 − He alone at lr 0.01" in claim.parts[0].measured
    assert told(found)[0].endswith(
        "Where each has its best learning rate it does not: what it adds is the range of rates."
    )
    missing = study(STORY, rates=RATES, replaced={"he@0.01-s1": None})
    claim = checked(missing)["R8"]
    assert (claim.verdict, claim.reason) == ("undecided", "he@0.01: seed 1 not run yet")


def test_seeds_that_disagree_settle_nothing() -> None:
    shapes = {**STORY, "he": Shape(0.3, 1e-5, 1.0, 0.5)}
    better = run("he", 1, Shape(0.6, 1e-5, 1.0, 0.5))
    lead = told(study(shapes, replaced={"he-s1": better}))[0]
    assert lead == "These runs do not settle it: runs are missing, or the seeds are too few or disagree."


def test_remedies_without_all_their_runs_are_named_apart() -> None:
    trains = told(study(STORY, replaced={"he-s1": None}))[1]
    assert trains.endswith("do not, or not with every seed: VGG38; not run to the end: He.")


def test_the_answer_says_whether_smooth_networks_are_the_accurate_ones() -> None:
    """In `SMOOTH` β falls as accuracy rises; turned round it rises; among noise nothing is said."""
    assert "Over all remedies the smoother a network is" in " ".join(told(study(SMOOTH)))
    rough = {role: shape._replace(beta=1e4 / shape.beta) for role, shape in SMOOTH.items()}
    (sentence,) = [text for text in told(study(rough)) if "Over all remedies" in text]
    assert sentence.startswith("Over all remedies the less smooth a network is through training, the more")
    assert "a network that does not train lies on a plateau, which is smooth. Among those that" in sentence
    assert "ρ = " in sentence
    assert "Over all remedies" not in " ".join(told(study(SIGNAL)))
