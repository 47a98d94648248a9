import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest

import synthetic
from drawings import assert_nothing_is_cut
from gradscape.analysis.claims import ONE_SEED, Claim, answer
from gradscape.analysis.smoothness import over_seeds
from gradscape.records.run import RunRecord, StudyRecord
from gradscape.report.tables import to_csv, to_latex, to_markdown
from gradscape.studies.batchnorm.report import PARTS, claims, figures, tables
from made_records import made_flow, made_smoothness


def checked(study: StudyRecord) -> dict[str, Claim]:
    return {claim.id: claim for claim in claims(study)}


def changed(
    roles: Mapping[str, Callable[[RunRecord], RunRecord]], seeds: int = 3, epochs: int = 8
) -> StudyRecord:
    """The whole study with every seed of some roles changed."""
    whole = synthetic.study(seeds, epochs)
    new = {i: change(whole.runs[i]) for role, change in roles.items() for i in whole.roles[role].runs}
    return synthetic.study(seeds, epochs, replaced=new)


def ending(train: float, valid: float, more_per_seed: float = 0.001) -> Callable[[RunRecord], RunRecord]:
    """A change: the last five epochs' accuracies are these, a little more per seed."""

    def change(run: RunRecord) -> RunRecord:
        more = run.seed * more_per_seed
        last = len(run.epochs)
        return synthetic.with_curves(
            run, train_accuracy=(train + more,) * last, valid_accuracy=(valid + more,) * last
        )

    return change


def gradients(*values: float) -> Callable[[RunRecord], RunRecord]:
    """A change: every epoch's conv gradients, then the linear layer's; seeds differ a bit."""

    def change(run: RunRecord) -> RunRecord:
        depth = run.config["net"]["depth"]
        own = [v * (1 + 1e-4 * depth * run.seed * place) for place, v in enumerate(values, start=1)]
        return dataclasses.replace(run, flow=made_flow([own] * len(run.epochs)))

    return change


def diverged(run: RunRecord) -> RunRecord:
    return dataclasses.replace(
        run, state="diverged", status={"epoch": 3, "step": 17}, epochs=run.epochs[:2], test={}
    )


def test_the_papers_numbers_confirm_the_paper() -> None:
    found = checked(synthetic.study(3))
    assert {name: claim.verdict for name, claim in found.items()} == {
        f"C{number}": "holds" for number in range(1, 10)
    }
    assert {name: len(claim.parts) for name, claim in found.items()} == {
        "C1": 2, "C2": 3, "C3": 2, "C4": 6, "C5": 2, "C6": 9, "C7": 3, "C8": 5, "C9": 5,
    }  # fmt: skip


def running(run: RunRecord) -> RunRecord:
    return dataclasses.replace(run, state="running", epochs=run.epochs[:2], test={})


def test_that_a_network_does_not_train_is_only_claimed_where_vgg08_does() -> None:
    """VGG08 at 1.5 % beats guessing's 1.2 %, but trains as little as those that it is the control of."""
    guesses = {"lr-0.05": ending(0.0105, 0.01)}
    slow = changed(guesses | {"vgg08": ending(0.015, 0.01, 1e-4)})
    alone, plain = checked(slow)["C4"], checked(slow)["C1"].parts[1]
    assert (alone.verdict, plain.verdict) == ("not testable", "not testable")
    why = "vgg08: 3 of 3 runs do not train (training accuracy not above twice guessing's 0.01)"
    assert alone.reason.startswith(why)
    early = changed(guesses | {"vgg08": running})
    alone, plain = checked(early)["C4"], checked(early)["C1"].parts[1]
    assert (alone.verdict, plain.verdict) == ("undecided", "undecided")
    assert "vgg08: seed 0 running, 2 of 8 epochs done" in plain.reason
    assert checked(changed({"vgg08": running}))["C4"].verdict == "holds"  # what trains needs no control


def test_c7_is_decided_by_the_pair_that_trains() -> None:
    """Against VGG38, which guesses on a plateau, BatchNorm is rougher whatever it does to who trains."""
    found = checked(smoothness({"vgg38": 0.01, "vgg38-he": 0.01}))["C7"]
    assert found.verdict == "holds"
    lipschitz, *_ = found.parts
    assert dict(lipschitz.numbers)[0] == pytest.approx(-1)  # 5 against 50
    assert "VGG08 + BatchNorm over VGG08, at equal loss: where a mini-batch's is 0.2" in lipschitz.measured
    aside = "vgg38: 3 of 3 runs end at guessing (training accuracy no better than guessing's 0.012)"
    assert f"Left out, for a network that guesses is flat: {aside}; vgg38-he: 3 of 3" in found.note
    rough = checked(smoothness({"vgg08-bn": 500.0}))["C7"]
    assert (rough.verdict, len(rough.refuting)) == ("does not hold", 3)


def test_c7_is_not_testable_without_a_pair_that_trains() -> None:
    """The published verdict "does not hold" rested on such controls alone."""
    guesses = changed({"vgg08": ending(0.0105, 0.01, 1e-4)})
    found = checked(guesses)["C7"]
    assert found.verdict == "not testable"
    assert "vgg08: 3 of 3 runs end at guessing" in found.reason
    assert found.tests == 0
    sentences = answer(claims(guesses), PARTS.lead)[1]
    assert "Not testable here: BatchNorm smooths the loss (C7): vgg08" in sentences


def test_c7_compares_only_what_was_measured_where_both_were_learning() -> None:
    def plateau(run: RunRecord) -> RunRecord:
        """The first epoch's measures are at the loss of guessing, and a thousand times as smooth."""
        first, *others = run.epochs
        flat = tuple(
            made_smoothness(
                m.step, m.along, m.lr, (4.6, 4.6), m.line.changes[0] / 1000, m.line.distances[0], loss=4.6
            )
            for m in first.smoothness
        )
        return dataclasses.replace(run, epochs=(dataclasses.replace(first, smoothness=flat), *others))

    plain, flat = checked(synthetic.study(3))["C7"], checked(changed({"vgg08": plateau}))["C7"]
    for one, other in zip(flat.parts, plain.parts, strict=True):
        assert dict(one.numbers) == pytest.approx(dict(other.numbers))
    only = changed({"vgg08": lambda run: dataclasses.replace(plateau(run), epochs=plateau(run).epochs[:1])})
    reason = checked(only)["C7"].reason
    assert reason.startswith("vgg08-bn and vgg08: seeds 0, 1, 2 share no loss at which both were measured")


def test_a_seed_in_its_first_epoch_does_not_empty_the_figures_of_smoothness() -> None:
    begun = changed(
        {"vgg08": lambda run: dataclasses.replace(run, state="running", epochs=()) if run.seed == 2 else run}
    )
    whole = synthetic.study(2)
    found, expected = (
        over_seeds(each, "vgg08", "gradient", lambda measure: (measure.beta, measure.lipschitz))
        for each in (begun, whole)
    )
    assert len(found[0])
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_c8_is_at_equal_epochs_and_at_equal_updates() -> None:
    parts = checked(smoothness({"batch-50": 5.0}))["C8"].parts
    assert {part.verdict for part in parts} == {"does not hold"}
    assert [part.measured.rpartition("mean over ")[2] for part in parts[:2]] == [
        "training", "the first 480 steps",
    ]  # fmt: skip


def test_what_was_not_measured_is_left_open() -> None:
    def bare(run: RunRecord) -> RunRecord:
        epochs = tuple(dataclasses.replace(epoch, smoothness=()) for epoch in run.epochs)
        return dataclasses.replace(run, epochs=epochs, curvature={})

    study = changed({"vgg08-bn": bare})
    assert checked(study)["C7"].verdict == "not testable"
    assert "vgg08-bn and vgg08: seeds 0, 1, 2 share no loss at which both" in checked(study)["C7"].reason
    assert {figure.name for figure in figures(study)} >= {"figure-4a", "figure-5b", "figure-6c"}
    assert tables(study)[3].rows[1] == ("VGG08 + BatchNorm", "–", "–", "–", "–", "3 of 3")


def test_curvature_that_was_not_asked_for_is_no_part_of_a_claim() -> None:
    def unasked(run: RunRecord) -> RunRecord:
        return dataclasses.replace(run, config={**run.config, "curvature_images": 0}, curvature={})

    study = changed({"batch-50": unasked, "batch-800": unasked})
    assert len(checked(study)["C8"].parts) == 4
    assert checked(study)["C8"].verdict == "holds"


def test_the_table_of_curvature_has_both_ends() -> None:
    table = tables(synthetic.study(1))[3]
    assert table.rows[3] == ("VGG38 + BatchNorm", "10", "20", "-1", "0.05", "1 of 1")
    assert table.rows[-1][0] == "lr 0.05, batch 800"
    several = tables(synthetic.study(3))[3].rows[3]
    assert several[2] == "21 ± 2.5"  # Student's t for 20, 21 and 22


def smoothness(beta: dict[str, float]) -> StudyRecord:
    """A study in which these roles have another β."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "BETA", {**synthetic.BETA, **beta})
        return synthetic.study(3)


def test_one_seed_decides_nothing() -> None:
    study = synthetic.study(1)
    for claim in claims(study):
        assert claim.verdict == "undecided"
        assert claim.reason.startswith(ONE_SEED)
        assert all(len(part.numbers) == 1 for part in claim.parts)
    assert answer(claims(study), PARTS.lead)[0].endswith("one seed per run claims nothing.")


def test_gradients_can_be_settled_while_the_rates_are_not() -> None:
    study = synthetic.study(3, replaced={"lr-0.05-s1": None})
    lead = answer(claims(study), PARTS.lead)[0]
    assert lead.startswith("Without BatchNorm VGG08 trains and VGG38 does not. VGG38's gradients vanish")
    assert lead.endswith(
        "Open here: BatchNorm trains at any of six rates (C4): runs or measures are missing."
    )


def test_c1_is_about_twice_guessing() -> None:
    fails = changed({"vgg38": ending(0.5, 0.5)})
    assert [part.verdict for part in checked(fails)["C1"].parts] == ["holds", "does not hold"]
    slow = checked(changed({"vgg08": ending(0.015, 0.01)}))["C1"]
    assert slow.verdict == "does not hold"
    assert "0 of 3 (95 % 0 … 71 %) of the seeds train" in slow.reason
    idle = checked(changed({"vgg08": ending(0.0101, 0.01, 1e-4)}))["C1"].parts[1]
    assert (idle.verdict, idle.reason.split(" ")[0]) == (
        "not testable",
        "vgg08:",
    )  # nothing trains in this time
    (part, _) = checked(synthetic.study(2))["C1"].parts
    assert part.measured == "VGG08: train accuracy, mean of the last 2 epochs (twice guessing is 0.02)"


def test_seeds_that_all_give_one_answer_do_not_train() -> None:
    """Their equal accuracies deviate as shares of 47,500 images do; those of 40 images could be any."""
    stuck = changed({"vgg38": ending(0.01, 0.01, 0.0)})
    part = checked(stuck)["C1"].parts[1]
    half = 4.3027 * math.sqrt(0.01 * 0.99 / 47_500 / 3)
    assert part.verdict == "holds"
    assert part.interval is not None
    assert part.interval.half == pytest.approx(half, rel=1e-2)
    few = {
        name: dataclasses.replace(run, config={**run.config, "data": {**run.config["data"], "train": 40}})
        for name, run in stuck.runs.items()
    }
    assert checked(dataclasses.replace(stuck, runs=few))["C1"].parts[1].verdict == "undecided"
    perfect = checked(changed({"vgg08": ending(1.0, 1.0, 0.0)}))["C1"].parts[0]
    assert perfect.verdict == "holds"


def test_guessing_follows_the_data() -> None:
    def ten(run: RunRecord) -> RunRecord:
        return dataclasses.replace(run, config={**run.config, "data": {"name": "digits", "train": 1_000}})

    study = changed({role: ten for role in synthetic.ACCURACY if role not in synthetic.SAME})
    assert "twice guessing is 0.2" in checked(study)["C1"].parts[0].measured


def test_c2_compares_slopes_and_floors() -> None:
    study = changed(
        {"vgg08": gradients(1e-2, 1e-2, 1e-2), "vgg38": gradients(1e-21, 1e-18, 1e-15, 1e-12, 1.0)}
    )
    ratio, slope, smallest = checked(study)["C2"].parts
    assert ratio.numbers[0] == (0, pytest.approx(19.0))
    assert slope.numbers[0] == (0, pytest.approx(3.0))
    assert smallest.numbers[0] == (0, pytest.approx(-21.0))
    assert [part.verdict for part in (ratio, slope, smallest)] == ["holds"] * 3


def test_c2_counts_a_zero_as_the_smallest_float32() -> None:
    study = changed({"vgg08": gradients(1e-2, 1e-2, 1e-2), "vgg38": gradients(0.0, 1e-3, 1e-2)})
    ratio, _, smallest = checked(study)["C2"].parts
    assert ratio.numbers[0][1] == pytest.approx(-2 + 149 * math.log10(2))
    assert smallest.numbers[0] == (0, pytest.approx(-149 * math.log10(2)))


@pytest.mark.parametrize(
    ("values", "verdicts"),
    [
        ((1e-2, 1e-3, 1e-2), ["does not hold", "does not hold", "does not hold"]),
        ((1e-5, 1e-6, 1e-2), ["holds", "does not hold", "does not hold"]),
        ((1e-19, 1e-2, 1e-20), ["holds", "holds", "holds"]),  # the linear layer's is no convolution's
    ],
)
def test_c2_can_fail(values: tuple[float, ...], verdicts: list[str]) -> None:
    study = changed({"vgg08": gradients(1e-2, 1e-2, 1e-2), "vgg38": gradients(*values)})
    assert [part.verdict for part in checked(study)["C2"].parts] == verdicts


def test_c3_is_of_the_mean_and_does_not_fail_the_surer_the_more_seeds_there_are() -> None:
    """One seed of eight just below the range, as happens with enough seeds, whatever is measured."""

    def near(run: RunRecord) -> RunRecord:
        values = (9e-5 if run.seed == 7 else 3e-4 + 1e-5 * run.seed, 0.05 - 1e-4 * run.seed, 1.0)
        return gradients(*values)(run)

    assert checked(changed({"vgg38-bn": near}, seeds=8))["C3"].verdict == "holds"


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((1.1e-4, 0.9e-1, 5.0), "holds"),  # the linear layer does not count
        ((9e-5, 1e-1, 1e-2), "does not hold"),
        ((1e-3, 0.2, 1e-2), "does not hold"),
    ],
)
def test_c3_is_the_band_over_convolutions(values: tuple[float, ...], verdict: str) -> None:
    assert checked(changed({"vgg38-bn": gradients(*values)}))["C3"].verdict == verdict


def test_gradients_of_a_run_that_diverged_are_not_said_to_be_in_range() -> None:
    """Its epochs before are; the one in which the loss became infinite is not recorded."""
    claim = checked(changed({"vgg38-bn": lambda run: diverged(run) if run.seed == 2 else run}))["C3"]
    assert claim.verdict == "undecided"
    assert claim.parts[0].reason == "vgg38-bn: seed 2 diverged in epoch 3, step 17"


def test_a_seed_without_curvature_leaves_open_which_network_is_flatter() -> None:
    bare = changed({"batch-50": lambda run: dataclasses.replace(run, curvature={}) if run.seed == 2 else run})
    part = checked(bare)["C8"].parts[-1]
    assert (part.verdict, len(part.numbers)) == ("undecided", 2)
    assert part.reason == "batch-50: seed 2 has no curvature after training"


def test_a_diverged_run_does_not_train() -> None:
    study = changed({"lr-0.05": diverged}, seeds=6)
    claim = checked(study)["C4"]
    assert [part.verdict for part in claim.parts] == ["holds"] * 5 + ["does not hold"]
    assert {value for _, value in claim.parts[5].numbers} == {0.01}
    assert claim.verdict == "undecided"  # six seeds that agree to the last digit: p 0.031, after Holm 0.19
    assert checked(changed({"lr-0.05": diverged}, seeds=9))["C4"].verdict == "does not hold"
    best = checked(changed({"lr-0.05": diverged}))["C9"]
    assert best.parts[-1].reason.startswith("lr-0.05: 3 of 3 runs end at guessing")


@pytest.mark.parametrize(
    ("better", "equal", "verdicts"),
    [
        (0.05, 0.0, ["holds", "holds"]),
        (-0.05, 0.0, ["does not hold", "holds"]),
        (0.05, 0.03, ["holds", "does not hold"]),
    ],
)
def test_c5_pairs_seeds(better: float, equal: float, verdicts: list[str]) -> None:
    study = changed({"lr-0.001": ending(0.5, 0.4), "lr-0.01": ending(0.5 + equal, 0.4 + better, 0.002)})
    found = checked(study)["C5"]
    assert [part.verdict for part in found.parts] == verdicts
    assert found.parts[0].numbers[2] == (2, pytest.approx(better + 0.002))


def test_c6_wants_50_to_be_worse_than_each_other() -> None:
    study = changed({"batch-50": ending(0.4, 0.366)})
    verdicts = [part.verdict for part in checked(study)["C6"].parts]
    assert verdicts[:4] == ["holds"] * 4
    assert verdicts[4:].count("holds") == 2  # 400 and 800


def test_c9_is_the_papers_own_finding_that_0_0005_trains_best() -> None:
    worse = checked(changed({"lr-0.0005": ending(0.5, 0.4, 0.002)}))["C9"]
    assert worse.verdict == "undecided"  # p 0.012 alone, of five parts
    worst = checked(changed({"lr-0.0005": ending(0.3, 0.4, 0.002)}))["C9"]
    assert worst.verdict == "does not hold"
    assert "lr 0.0005 − lr 0.001" in " ".join(part.measured for part in worst.refuting)


def test_the_papers_numbers_in_text_stand_beside_ours_at_the_last_epoch() -> None:
    table = tables(synthetic.study(1))[5]
    assert [row[0] for row in table.rows] == ["lr 0.01", "lr 0.001", "batch 400", "batch 100"]
    assert [(row[2], row[4]) for row in table.rows] == [
        ("–", "0.4784"), ("–", "0.4544"), ("0.5188", "0.4189"), ("0.4133", "0.3724"),
    ]  # fmt: skip
    last = synthetic.study(1).runs["batch-400-s0"].epochs[-1].valid_accuracy
    assert table.rows[2][3] == f"{last:.3f}"


def test_missing_runs_are_named_and_leave_claims_open() -> None:
    found = checked(synthetic.broken_study())
    assert found["C1"].verdict == "undecided"
    assert found["C1"].reason.startswith("vgg08: seed 0 not run yet, seed 1 not run yet")
    assert found["C4"].verdict == "undecided"
    assert found["C4"].parts[0].reason == "lr-0.0001: seed 1 running, 3 of 8 epochs done"
    parts = found["C6"].parts
    assert (parts[0].verdict, parts[0].reason) == ("undecided", "batch-400: seed 0 not run yet")
    assert found["C6"].verdict == "not testable"  # batch 50 diverged, and a run that did is not compared


def test_gradients_that_are_not_finite_are_not_judged() -> None:
    found = checked(changed({"vgg38": gradients(math.nan, 1.0, 1.0)}))["C2"]
    assert found.verdict == "undecided"
    assert "vgg38: seed 0 has no finite gradients" in found.reason


@pytest.mark.parametrize(
    ("epochs", "text"), [(2, "epoch"), (5, "epoch"), (6, "2 epochs"), (15, "5 epochs"), (20, "5 epochs")]
)
def test_final_values_say_how_many_epochs_they_average(epochs: int, text: str) -> None:
    study = synthetic.study(2, epochs=epochs)
    assert f"mean of the last {text}" in checked(study)["C1"].parts[0].measured
    assert f"Mean of the last {text}" in tables(study)[0].caption


def test_table_2_is_the_papers_notation_with_our_interval() -> None:
    jitter = (0.398, 0.399, 0.4, 0.401, 0.402)  # deviation 0.00158

    def flat(run: RunRecord) -> RunRecord:
        shift = 0.01 * run.seed
        valid = (*(0.0,) * 10, *(value + shift for value in jitter))
        return synthetic.with_curves(run, train_accuracy=(0.5,) * 15, valid_accuracy=valid)

    def here(run: RunRecord) -> RunRecord:
        return dataclasses.replace(flat(run), config={**run.config, "batch_size": 20})

    study = changed({f"batch-{n}": flat for n in (50, 150, 200)} | {"batch-100": here}, seeds=2, epochs=15)
    gone: dict[str, RunRecord | None] = {f"batch-{n}-s{s}": None for n in (400, 800) for s in (0, 1)}
    lost = {"batch-50-s1": diverged(study.runs["batch-50-s1"])}
    study = synthetic.study(2, epochs=15, replaced={**study.runs, **gone, **lost})
    assert to_csv(tables(study)[1]).splitlines() == [
        "batch size (paper),here,acc train,acc valid,acc valid (paper),seeds",
        "50,50,0.500(1),0.400(2),0.180(1),1 of 2",
        "100,20,0.500(1) (all 2 equal),0.405(2) ± 0.064,0.368(1),2 of 2",
        "150,150,0.500(1) (all 2 equal),0.405(2) ± 0.064,0.365(2),2 of 2",
        "200,200,0.500(1) (all 2 equal),0.405(2) ± 0.064,0.372(1),2 of 2",
        "400,–,not run yet,not run yet,0.427(2),0 of 2",
        "800,–,not run yet,not run yet,0.438(2),0 of 2",
    ]


def test_table_1_has_the_papers_numbers_beside_ours() -> None:
    table = tables(synthetic.study(1))[0]
    assert table.columns[:3] == ("learning rate", "loss train", "loss train (paper)")
    assert [row[0] for row in table.rows] == ["0.0001", "0.0005", "0.001", "0.005", "0.01", "0.05"]
    assert table.rows[4][2::2] == ("1.603(3)", "1.943(1)", "0.547(3)", "0.479(1)")
    assert not any("±" in cell for row in table.rows for cell in row), "one seed has no interval"


def test_table_3_has_every_role() -> None:
    study = synthetic.broken_study()
    rows = {row[0]: row[1:] for row in tables(study)[2].rows}
    assert list(rows) == list(study.labels().values())
    assert rows["VGG08"] == ("not run yet", "not run yet", "–", "0 of 2")
    assert rows["lr 0.05"] == ("diverged", "diverged", "–", "0 of 2")
    assert rows["batch 50"][3] == "1 of 2"


def test_latex_needs_no_unicode() -> None:
    for study in (synthetic.study(2), synthetic.broken_study()):
        for table in tables(study):
            assert to_latex(table).isascii()
            assert to_markdown(table)


def test_captions_name_what_is_missing() -> None:
    captions = {figure.name: figure.caption for figure in figures(synthetic.broken_study())}
    assert captions["figure-1b"].endswith("VGG08: not run yet.")
    assert "113 of 608 values are exactly 0: triangles on the axis floor." in captions["figure-1a"]
    lost = "lr 0.05: seed 0 diverged in epoch 1, step 17; seed 1 diverged in epoch 1, step 40"
    assert lost in captions["figure-3a"]
    assert "batch 800: not run yet" in captions["figure-3d"]


@pytest.mark.slow
def test_legends_name_what_is_missing() -> None:
    drawn = {figure.name: figure.drawing for figure in figures(synthetic.broken_study())}
    labels = [text.get_text() for text in drawn["figure-3c"].legends[0].get_texts()]
    assert labels == [
        "batch 50 (1 of 2 diverged)",
        "batch 100 (diverged)",
        "batch 150",
        "batch 200",
        "batch 400 (1 of 2 not run yet)",
        "batch 800 (not run yet)",
    ]
    lone = synthetic.study(1, replaced={"lr-0.05-s0": synthetic.diverged("lr-0.05", 0, 3, 17)})
    drawing = {figure.name: figure.drawing for figure in figures(lone)}["figure-3a"]
    assert drawing.legends[0].get_texts()[5].get_text() == "lr 0.05 (diverged in epoch 3, step 17)"


@pytest.mark.slow
def test_no_label_is_cut() -> None:
    for figure in figures(synthetic.broken_study()):
        assert_nothing_is_cut(figure.drawing)


def test_the_answer_counts_the_claims() -> None:
    study = synthetic.study(3)
    assert answer(claims(study), PARTS.lead)[2] == (
        "Of 9 claims: 9 hold (C1, C2, C3, C4, C5, C6, C7, C8 and C9)."
    )
