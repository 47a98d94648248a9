"""What the smoothing study claims, from runs that were never run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import pytest

from gradscape.analysis.claims import ONE_SEED, Claim, Evidence
from gradscape.records.run import RunRecord, StudyRecord
from gradscape.studies.smoothing.claims import claims
from gradscape.studies.smoothing.measures import (
    BETA,
    LIPSCHITZ,
    MEASURES,
    RELATIVE,
    SCALED,
    SHARPEST,
    best_pairs,
    best_rate,
)
from gradscape.studies.smoothing.roles import DEFAULT_PAIR, PAIRS
from smoothed import GUESS, NORMED, PLAIN, diverged, run, study

BN, NONE = [pair[0] for pair in PAIRS], [pair[1] for pair in PAIRS]
# log10 of the planted numbers with BatchNorm over without, the scale-free one first.
PLANTED = (-1.0, math.log10(0.5), -2.0)


def checked(found: StudyRecord) -> dict[str, Claim]:
    return {claim.id: claim for claim in claims(found)}


def numbers(part: Evidence) -> list[float]:
    return [value for _, value in part.numbers]


def by_seed(number: float, seeds: int = 3) -> list[float]:
    return [number + 0.01 * seed for seed in range(seeds)]


@pytest.mark.parametrize("name", ["S1", "S2", "S4"])
def test_every_measure_is_a_part_with_the_planted_ratio_and_the_scale_free_one_comes_first(name: str) -> None:
    parts = checked(study())[name].parts
    assert [part.measured.split(",")[0].removeprefix("log10 of the ") for part in parts] == [
        "effective β relative to the weights' size",
        "Lipschitz estimate of the loss along the gradient",
        "effective β along the gradient",
    ]
    for part, planted in zip(parts, PLANTED, strict=True):
        assert numbers(part) == pytest.approx(by_seed(planted))


def test_curvature_after_training_is_a_claim_of_its_own_that_names_the_losses_there() -> None:
    claim = checked(study({role: NORMED._replace(norm=3.0) for role in BN}))["S5"]
    assert [part.measured.split(",")[0].removeprefix("log10 of the ") for part in claim.parts] == [
        "Hessian's largest eigenvalue times ‖w‖² after training",
        "Hessian's largest eigenvalue after training",
    ]
    for part in claim.parts:
        assert numbers(part) == pytest.approx(by_seed(-2.0))
    assert claim.note.startswith("Not at equal loss")
    assert "Losses there: VGG08 + BatchNorm 2, VGG08 2, VGG14 + BatchNorm 2, " in claim.note


def test_the_ratios_of_figure_and_table_are_those_of_the_claims() -> None:
    found = study({BN[2]: NORMED._replace(relative=0.3)})
    flat, learning = (SCALED, SHARPEST), (RELATIVE, LIPSCHITZ, BETA)
    for pair, name, measures in (
        ([DEFAULT_PAIR], "S1", learning),
        (PAIRS, "S2", learning),
        (list(best_pairs(found)), "S4", learning),
        (PAIRS, "S5", flat),
    ):
        for ratios, part in zip(map(MEASURES.get, measures), checked(found)[name].parts, strict=True):
            means = [sum(ratios(found, each)[seed] for each in pair) / len(pair) for seed in range(3)]
            assert numbers(part) == pytest.approx(means)


def test_smoother_by_every_measure_holds() -> None:
    lighter = {role: NORMED._replace(norm=3.0) for role in (*BN, "vgg08-bn")}
    found = checked(study(lighter))
    assert {claim.verdict for claim in found.values()} == {"holds"}
    assert {name: len(claim.parts) for name, claim in found.items()} == {
        "S1": 3,
        "S2": 3,
        "S3": 9,
        "S4": 3,
        "S5": 2,
    }


def test_larger_weights_alone_are_not_smoother_by_measures_free_of_scale() -> None:
    """Weights ten times as large make β and λmax a hundredth, and the Lipschitz estimate a tenth."""
    scaled = PLAIN._replace(norm=30.0, beta=1.0, lipschitz=0.1, largest=10.0)
    found = checked(study(dict.fromkeys(BN, scaled)))
    relative, lipschitz, beta = found["S2"].parts
    times_norm, sharpest = found["S5"].parts
    assert numbers(relative) == pytest.approx(by_seed(0.0))
    assert numbers(times_norm) == pytest.approx(by_seed(0.0))
    assert [part.verdict for part in (lipschitz, beta, sharpest)] == ["holds"] * 3
    assert "holds" not in (found["S2"].verdict, found["S5"].verdict)


def test_what_is_smoother_and_what_is_rougher_is_named() -> None:
    rough = {role: NORMED._replace(beta=1_000.0, norm=3.0) for role in BN}
    claim = checked(study(rough))["S2"]
    split = (
        "smoother by effective β relative to the weights' size, Lipschitz estimate of the loss; rougher by "
        "effective β"
    )
    assert claim.verdict == "does not hold"
    assert claim.sentence == (
        "BatchNorm does not smooth the loss at the same learning rate and equal loss, on average over pairs, "
        f"by every measure: {split}."
    )
    assert claim.note.endswith(f"By measure: {split}.")
    assert numbers(claim.parts[2]) == pytest.approx(by_seed(1.0))


def test_pairs_count_alike_in_a_mean_of_log_ratios() -> None:
    part = checked(study({BN[2]: NORMED._replace(relative=0.1)}))["S2"].parts[0]
    assert numbers(part) == pytest.approx(by_seed((-1 - 1 - 2) / 3))
    assert "mean of 3 pairs (VGG08 + BatchNorm over VGG08; VGG14 + BatchNorm over VGG14; " in part.measured


def test_equal_loss_leaves_the_plateau_out_and_equal_step_counts_it() -> None:
    """VGG08 without BatchNorm guesses for two of its four epochs, where its β is a thousandth."""
    flat = {}
    for seed in range(3):
        small, losses = PLAIN._replace(relative=0.01, beta=0.1, lipschitz=1e-3), (GUESS, GUESS, 2.0, 2.0)
        made, idle = (run(NONE[0], seed, shape, losses) for shape in (PLAIN, small))
        flat[made.identity] = dataclasses.replace(made, epochs=(*idle.epochs[:2], *made.epochs[2:]))
    found = checked(study(replaced=flat))
    assert numbers(found["S2"].parts[0]) == pytest.approx(by_seed(-1))
    relative, _, _, lipschitz, _, _, beta, _, _ = found["S3"].parts
    assert numbers(relative) == pytest.approx(by_seed(-1 + 3 / 2))
    assert numbers(lipschitz) == pytest.approx(by_seed(math.log10(0.5) + 3 / 2))
    assert numbers(beta) == pytest.approx(by_seed(-2 + 3 / 2))
    assert relative.measured.endswith("VGG08 + BatchNorm over VGG08, mean over training")


def test_how_long_each_stays_at_a_loss_changes_nothing_at_equal_loss() -> None:
    """Both have the same β at each loss, ten times as large at the higher; one stays high, one low."""

    def planted(role: str, losses: Sequence[float]) -> dict[str, RunRecord]:
        made = {}
        for seed in range(3):
            low, high = (run(role, seed, NORMED._replace(relative=value), losses) for value in (1.0, 10.0))
            epochs = [
                a if loss < 2 else b for a, b, loss in zip(low.epochs, high.epochs, losses, strict=True)
            ]
            made[low.identity] = dataclasses.replace(low, epochs=tuple(epochs))
        return made

    with_norm, without = DEFAULT_PAIR
    stays = planted(with_norm, (1.5, 1.5, 1.5, 1.5, 3.0)) | planted(without, (1.5, 3.0, 3.0, 3.0, 3.0))
    part = checked(study(replaced=stays))["S1"].parts[0]
    assert numbers(part) == pytest.approx(by_seed(0.0))
    assert "at equal loss" in part.measured

    apart = planted(with_norm, (1.5, 1.5)) | planted(without, (3.0, 3.0))
    part = checked(study(replaced=apart))["S1"].parts[0]
    assert part.verdict == "not testable"
    assert "seeds 0, 1, 2 share no loss at which both were measured" in part.reason


def test_the_best_rate_is_of_the_highest_training_accuracy_and_of_equal_ones_the_lowest() -> None:
    assert best_rate(study(), BN[0]) == 0.001  # all are equal
    better = {f"{BN[0]}@0.01": NORMED._replace(accuracy=0.7), f"{BN[0]}@0.003": NORMED._replace(accuracy=0.7)}
    assert best_rate(study(better), BN[0]) == 0.003
    assert best_rate(study({BN[0]: NORMED._replace(accuracy=0.59)}), BN[0]) == 0.003


def test_a_run_that_diverged_counts_as_guessing_and_a_rate_without_ended_runs_is_not_chosen() -> None:
    higher = {f"{NONE[0]}@0.01": PLAIN._replace(accuracy=0.7)}
    lost = {f"{NONE[0]}@0.01-s1": diverged(f"{NONE[0]}@0.01", 1)}
    assert best_rate(study(higher), NONE[0]) == 0.01
    assert best_rate(study(higher, replaced=lost), NONE[0]) == 0.001  # (0.7 + 0.01 + 0.7) / 3 < 0.5
    gone = {f"{NONE[0]}@0.01-s{seed}": None for seed in range(3)}
    assert best_rate(study(higher, replaced=gone), NONE[0]) == 0.001
    one_left = {f"{NONE[0]}@0.01-s{seed}": None for seed in (1, 2)}
    assert best_rate(study(higher, replaced=one_left), NONE[0]) == 0.01
    nothing = {f"{NONE[0]}{rate}-s{seed}": None for rate in ("", "@0.003", "@0.01") for seed in range(3)}
    assert best_rate(study(replaced=nothing), NONE[0]) == 0.001


def test_each_network_is_compared_at_its_own_best_rate() -> None:
    best = {
        f"{BN[0]}@0.01": NORMED._replace(accuracy=0.9, relative=0.1),
        f"{NONE[0]}@0.003": PLAIN._replace(accuracy=0.9, relative=1000.0),
    }
    claim = checked(study(best))["S4"]
    assert numbers(claim.parts[0]) == pytest.approx(by_seed((-4 - 1 - 1) / 3))
    assert "(VGG08 + BatchNorm at lr 0.01 over VGG08 at lr 0.003; " in claim.parts[0].measured
    assert "beyond which a better one may lie: VGG08 + BatchNorm (0.01), VGG14 + " in claim.note
    assert "VGG08 (0.003)" not in claim.note
    assert numbers(checked(study(best))["S2"].parts[0]) == pytest.approx(by_seed(-1))


def test_while_a_run_at_any_rate_is_open_the_best_is_not_known() -> None:
    found = checked(study(replaced={f"{BN[1]}@0.003-s2": None}))
    assert (found["S4"].verdict, found["S4"].tests) == ("undecided", 0)
    assert f"{BN[1]}@0.003: seed 2 not run yet" in found["S4"].reason
    assert found["S2"].tests == 3


def test_a_pair_of_which_one_guesses_is_left_out() -> None:
    found = checked(study({NONE[2]: PLAIN._replace(accuracy=0.01)}))
    assert "mean of 2 pairs" in found["S2"].parts[0].measured
    assert f"Left out, for a network that guesses is flat: {NONE[2]}: 3 of 3 runs" in found["S2"].note
    assert len(found["S3"].parts) == 6
    none = {role: PLAIN._replace(accuracy=0.01) for role in NONE}
    assert checked(study(none))["S2"].verdict == "not testable"
    assert checked(study(none))["S4"].verdict != "not testable"  # they train at other rates


def test_what_was_not_measured_is_said_and_decides_nothing() -> None:
    bare = {}
    for seed in range(3):
        made = run(BN[0], seed, NORMED)
        epochs = tuple(dataclasses.replace(each, smoothness=()) for each in made.epochs)
        bare[made.identity] = dataclasses.replace(made, epochs=epochs)
    claim = checked(study(replaced=bare))["S2"]
    assert claim.verdict == "not testable"
    words = f"{BN[0]} and {NONE[0]}: seeds 0, 1, 2 share no loss at which both were measured"
    assert words in claim.parts[0].reason
    assert [part.verdict for part in claim.parts] == ["not testable"] * 3
    unknown = {f"{BN[0]}-s{seed}": run(BN[0], seed, NORMED._replace(norm=math.nan)) for seed in range(3)}
    assert checked(study(replaced=unknown))["S5"].parts[0].reason == "curvature or ‖w‖ not measured"
    flat = {
        f"{BN[0]}-s{seed}": dataclasses.replace(run(BN[0], seed, NORMED), curvature={}) for seed in range(3)
    }
    assert checked(study(replaced=flat))["S5"].parts[1].reason == "curvature not measured"


def test_a_seed_without_a_number_leaves_its_part_open_and_is_named() -> None:
    name = f"{BN[0]}-s2"
    light = {name: run(BN[0], 2, NORMED._replace(norm=math.nan))}
    scaled, plain = checked(study(replaced=light))["S5"].parts
    assert (scaled.verdict, len(scaled.numbers)) == ("undecided", 2)
    assert scaled.reason == f"{BN[0]}: seed 2 has no eigenvalue above 0 or no ‖w‖ after training"
    assert len(plain.numbers) == 3
    exploded = {name: run(BN[0], 2, NORMED._replace(relative=math.inf))}
    part = checked(study(replaced=exploded))["S3"].parts[0]
    assert (part.verdict, len(part.numbers)) == ("undecided", 2)
    assert part.reason == f"{BN[0]} and {NONE[0]}: seed 2 not measured over training"
    reason = checked(study(replaced=exploded))["S2"].parts[0].reason
    assert reason == f"{BN[0]} and {NONE[0]}: seed 2 shares no loss at which both were measured"


def test_one_seed_claims_nothing() -> None:
    for claim in claims(study(seeds=1)):
        assert (claim.verdict, claim.tests) == ("undecided", 0)
        assert ONE_SEED in claim.reason
