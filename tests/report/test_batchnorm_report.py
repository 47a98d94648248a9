import dataclasses
import math
from collections.abc import Callable, Mapping

import pytest

from gradscape.records import RunRecord, StudyRecord
from gradscape.report.claims import ONE_SEED, Claim
from gradscape.report.tables import to_csv, to_latex, to_markdown
from gradscape.study.batchnorm_report import answer, claims, figures, tables

from . import synthetic
from .test_figures import assert_nothing_is_cut


def checked(study: StudyRecord) -> dict[str, Claim]:
    return {claim.id: claim for claim in claims(study)}


def changed(
    roles: Mapping[str, Callable[[RunRecord], RunRecord]], seeds: int = 3, epochs: int = 8
) -> StudyRecord:
    """The whole study with every seed of some roles changed."""
    whole = synthetic.study(seeds, epochs)
    new = {i: change(whole.runs[i]) for role, change in roles.items() for i in whole.roles[role]}
    return synthetic.study(seeds, epochs, replaced=new)


def ending(train: float, valid: float) -> Callable[[RunRecord], RunRecord]:
    """A change: the last five epochs' accuracies are these, a thousandth more per seed."""

    def change(run: RunRecord) -> RunRecord:
        more = run.seed / 1000
        last = len(run.epochs)
        return synthetic.with_curves(
            run, train_accuracy=(train + more,) * last, valid_accuracy=(valid + more,) * last
        )

    return change


def gradients(*values: float) -> Callable[[RunRecord], RunRecord]:
    """A change: every epoch's conv gradients, input to output, then the linear layer's."""

    def change(run: RunRecord) -> RunRecord:
        flow = synthetic.gradient_flow("vgg08", 1, 0)
        kinds = ("conv",) * (len(values) - 1) + ("linear",)
        fields = {field.name: values for field in dataclasses.fields(flow)}
        new = dataclasses.replace(flow, **{**fields, "kinds": kinds, "layers": tuple(map(str, values))})
        return dataclasses.replace(run, epochs=tuple(dataclasses.replace(e, flow=new) for e in run.epochs))

    return change


def diverged(run: RunRecord) -> RunRecord:
    return dataclasses.replace(
        run, state="diverged", status={"epoch": 3, "step": 17}, epochs=run.epochs[:2], test={}
    )


def test_the_papers_numbers_confirm_the_paper() -> None:
    found = checked(synthetic.study(3))
    assert {name: claim.verdict for name, claim in found.items()} == {
        f"C{number}": "holds" for number in range(1, 9)
    }
    assert {name: len(claim.parts) for name, claim in found.items()} == {
        "C1": 2, "C2": 3, "C3": 1, "C4": 6, "C5": 2, "C6": 5, "C7": 14, "C8": 5,
    }  # fmt: skip
    lipschitz, *_ = found["C7"].parts
    assert dict(lipschitz.numbers)[1][0] == pytest.approx(-1)  # 20 against 200
    assert "flat, it counts as smooth" in found["C7"].note


def test_c7_is_against_the_plain_net_and_its_control() -> None:
    for flat in ("vgg38", "vgg38-he"):
        found = checked(smoothness({flat: 10.0}))["C7"]
        assert found.verdict == "does not hold"
        assert sum(part.verdict == "holds" for part in found.parts) == 7


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

    study = changed({"vgg38-bn": bare})
    assert checked(study)["C7"].verdict == "undecided"
    assert checked(study)["C7"].reason == "not measured over training; curvature not measured"
    assert checked(study)["C7"].parts[-1].reason == "curvature not measured"
    assert {figure.name for figure in figures(study)} >= {"figure-4a", "figure-5b", "figure-6c"}
    assert tables(study)[3].rows[2] == ("VGG38 + BatchNorm", "–", "–", "–", "–", "3 of 3")


def test_curvature_that_was_not_asked_for_is_no_part_of_a_claim() -> None:
    def unasked(run: RunRecord) -> RunRecord:
        return dataclasses.replace(run, config={**run.config, "curvature_images": 0}, curvature={})

    study = changed({"batch-50": unasked, "batch-800": unasked})
    assert len(checked(study)["C8"].parts) == 4
    assert checked(study)["C8"].verdict == "holds"


def test_the_table_of_curvature_has_both_ends() -> None:
    table = tables(synthetic.study(1))[3]
    assert table.rows[2] == ("VGG38 + BatchNorm", "10", "20", "-1", "0.05", "1 of 1")
    assert table.rows[-1][0] == "lr 0.05, batch 800"
    several = tables(synthetic.study(3))[3].rows[2]
    assert several[2] == "21 ± 2.5"  # Student's t for 20, 21 and 22


def smoothness(beta: dict[str, float]) -> StudyRecord:
    """A study in which these roles have another β."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "BETA", {**synthetic.BETA, **beta})
        return synthetic.study(3)


def test_one_seed_decides_nothing() -> None:
    study = synthetic.study(1)
    for claim in claims(study)[:6]:
        assert claim.verdict == "undecided"
        assert claim.reason == ONE_SEED
        assert all(len(part.numbers) == 1 for part in claim.parts)
    assert answer(study, claims(study))[0] == (
        "These runs do not settle it: one seed per run claims nothing."
    )


def test_gradients_can_be_settled_while_the_rates_are_not() -> None:
    study = synthetic.study(3, replaced={"lr-0.05-s1": None})
    lead = answer(study, claims(study))[0]
    assert lead.startswith("Without it the deep network's gradients vanish")
    assert lead.endswith("stays open here: runs are missing, or the seeds are too few or disagree.")


def test_c1_is_about_twice_guessing() -> None:
    fails = changed({"vgg38": ending(0.5, 0.5)})
    assert [part.verdict for part in checked(fails)["C1"].parts] == ["holds", "does not hold"]
    assert checked(changed({"vgg08": ending(0.015, 0.01)}))["C1"].verdict == "does not hold"
    (part, _) = checked(synthetic.study(2))["C1"].parts
    assert part.measured == "VGG08: train accuracy, mean of the last 2 epochs (twice guessing is 0.02)"


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
    assert ratio.numbers[0] == (0, (pytest.approx(19.0),))
    assert slope.numbers[0] == (0, (pytest.approx(3.0),))
    assert smallest.numbers[0] == (0, (1e-21,))
    assert [part.verdict for part in (ratio, slope, smallest)] == ["holds"] * 3


def test_c2_counts_a_zero_as_the_smallest_float32() -> None:
    study = changed({"vgg08": gradients(1e-2, 1e-2, 1e-2), "vgg38": gradients(0.0, 1e-3, 1e-2)})
    ratio, _, smallest = checked(study)["C2"].parts
    assert ratio.numbers[0][1][0] == pytest.approx(-2 + 149 * math.log10(2))
    assert smallest.numbers[0] == (0, (0.0,))


@pytest.mark.parametrize(
    ("values", "verdicts"),
    [
        ((1e-2, 1e-2, 1e-2), ["does not hold", "does not hold", "does not hold"]),
        ((1e-5, 1e-6, 1e-2), ["holds", "does not hold", "does not hold"]),
        ((1e-17, 1e-2, 1e-19), ["holds", "holds", "holds"]),
    ],
)
def test_c2_can_fail(values: tuple[float, ...], verdicts: list[str]) -> None:
    study = changed({"vgg08": gradients(1e-2, 1e-2, 1e-2), "vgg38": gradients(*values)})
    assert [part.verdict for part in checked(study)["C2"].parts] == verdicts


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((1e-4, 1e-1, 5.0), "holds"),  # ends included; the linear layer does not count
        ((9e-5, 1e-1, 1e-2), "does not hold"),
        ((1e-3, 0.2, 1e-2), "does not hold"),
    ],
)
def test_c3_is_the_band_over_convolutions(values: tuple[float, ...], verdict: str) -> None:
    assert checked(changed({"vgg38-bn": gradients(*values)}))["C3"].verdict == verdict


def test_a_diverged_run_does_not_train() -> None:
    study = changed({"lr-0.05": diverged})
    parts = checked(study)["C4"].parts
    assert [part.verdict for part in parts] == ["holds"] * 5 + ["does not hold"]
    assert parts[5].numbers == ((0, (0.01,)), (1, (0.01,)), (2, (0.01,)))
    assert "“BatchNorm trains at any of six rates” (C4)" in answer(study, claims(study))[0]


@pytest.mark.parametrize(
    ("better", "equal", "verdicts"),
    [
        (0.05, 0.0, ["holds", "holds"]),
        (-0.05, 0.0, ["does not hold", "holds"]),
        (0.05, 0.03, ["holds", "does not hold"]),
    ],
)
def test_c5_pairs_seeds(better: float, equal: float, verdicts: list[str]) -> None:
    study = changed({"lr-0.001": ending(0.5, 0.4), "lr-0.01": ending(0.5 + equal, 0.4 + better)})
    found = checked(study)["C5"]
    assert [part.verdict for part in found.parts] == verdicts
    assert found.parts[0].numbers[2] == (2, (pytest.approx(better),))


def test_c6_wants_50_to_be_worst() -> None:
    study = changed({"batch-50": ending(0.4, 0.366)})
    parts = checked(study)["C6"].parts
    assert [part.verdict for part in parts[:4]] == ["holds"] * 4
    assert parts[4].verdict != "holds"


def test_missing_runs_are_named_and_leave_claims_open() -> None:
    found = checked(synthetic.broken_study())
    assert found["C1"].verdict == "undecided"
    assert found["C1"].reason == "vgg08: seed 0 not run yet, seed 1 not run yet"
    assert found["C4"].verdict == "does not hold"  # both seeds of lr 0.05 diverged: nothing can mend that
    assert found["C4"].parts[0].reason == "lr-0.0001: seed 1 running, 3 of 8 epochs done"
    assert found["C6"].verdict == "undecided"
    assert "batch-400: seed 0 not run yet" in found["C6"].reason


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
        "batch size,here,acc train,acc valid,acc valid (paper),seeds",
        "50,50,0.500(1),0.400(2),0.180(1),1 of 2",
        "100,20,0.500(1) ± 0.000,0.405(2) ± 0.064,0.368(1),2 of 2",
        "150,150,0.500(1) ± 0.000,0.405(2) ± 0.064,0.365(2),2 of 2",
        "200,200,0.500(1) ± 0.000,0.405(2) ± 0.064,0.372(1),2 of 2",
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
    assert list(rows) == list(study.roles)
    assert rows["vgg08"] == ("not run yet", "not run yet", "–", "0 of 2")
    assert rows["lr-0.05"] == ("diverged", "diverged", "–", "0 of 2")
    assert rows["batch-50"][3] == "1 of 2"


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


def test_no_label_is_cut() -> None:
    for figure in figures(synthetic.broken_study()):
        assert_nothing_is_cut(figure.drawing)


def test_the_answer_counts_the_claims() -> None:
    study = synthetic.study(3)
    assert answer(study, claims(study))[2] == (
        "Of the paper's 8 claims: 8 hold (C1, C2, C3, C4, C5, C6, C7 and C8)."
    )
