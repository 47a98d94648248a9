"""The controls study's claims, figures, tables and answer, from runs that were never run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest

import synthetic
from drawings import assert_nothing_is_cut
from gradscape.analysis.claims import ONE_SEED, Claim, answer
from gradscape.analysis.noise import slopes, step_noise
from gradscape.analysis.weight_norm import typical
from gradscape.records.gradients import FlowHistory
from gradscape.records.noise import RunNoise
from gradscape.records.run import RunRecord, StudyRecord
from gradscape.report.tables import to_csv, to_latex, to_markdown
from gradscape.studies.batchnorm.roles import sized
from gradscape.studies.controls.claims import claims
from gradscape.studies.controls.report import QUESTION, figures, tables
from gradscape.studies.controls.roles import CONTROLS, penalized
from made_records import made_flow, made_noise

SIZES = ("50", "100", "400")
LAST = "400"
DECAYS = ("0", "0.0005", "0.005")
SAME = {"updates-100": "batch-100", "linear-400": "batch-400", "sqrt-400": "batch-400"}
# Validation accuracy: at equal epochs the larger the better, and under no control.
ACCURACY = {
    "batch-50": 0.18, "batch-100": 0.37, "batch-400": 0.43,
    "updates-50": 0.2, "updates-400": 0.3,
    "linear-50": 0.45, "linear-100": 0.46, "sqrt-50": 0.46, "sqrt-100": 0.47,
    **{f"bn-l2-{decay}": 0.4 for decay in DECAYS},
    "bn-lr-0.08": 0.4, "bn-lr-200000": 0.4,
    "plain-l2-0": 0.5, "plain-l2-0.0005": 0.5, "plain-l2-0.005": 0.4,
}  # fmt: skip


def is_sgd(role: str) -> bool:
    return "l2" in role or "bn-lr" in role


def rate(role: str) -> float:
    control, size = role.split("-")[0], role.split("-")[-1]
    if "bn-lr" in role:
        return float(role.removeprefix("bn-lr-"))
    if "l2" in role:
        return 0.02
    share = int(size) / int(LAST)
    return 0.05 * {"linear": share, "sqrt": share**0.5}.get(control, 1.0)


def flow(role: str, epochs: int, seed: int = 0) -> FlowHistory:
    """Eight layers; a penalty λ makes ‖w‖ 10^(-100 λ) times per epoch, and a seed a little more of it."""
    decay = float(role.rpartition("-")[2]) if "l2" in role else 0.0
    norms = [
        [3.0 * (1 + i) * 10 ** (-100 * decay * epoch) * (1 + seed * decay) for i in range(8)]
        for epoch in range(1, 1 + epochs)
    ]
    same = np.full((epochs, 8), 0.01)
    return made_flow(same, weight=norms, relative_update=2 * same)


def noise(role: str, seed: int) -> RunNoise:
    size = int(role.rpartition("-")[2])
    traces = tuple((size // part, steep(size // part, seed)) for part in (1, 2, 4) if size % part == 0)
    return RunNoise(made_noise(size, 0.1, 5.0 * (1 + 0.1 * seed) / size), traces)


def steep(size: int, seed: int, slope: float = -1.0) -> float:
    """tr Σ of batches of a size, of which a seed makes the slope a little steeper."""
    return 5.0 * size ** (slope - 0.01 * seed)


def run(role: str, seed: int, accuracy: float, epochs: int = 6) -> RunRecord:
    made = synthetic.run("batch-100", seed, epochs)
    more = np.random.default_rng([seed, len(role), sum(map(ord, role))]).normal(0, 0.002)
    lr = rate(role)
    records = tuple(
        dataclasses.replace(
            each, lr=lr, smoothness=(), valid_accuracy=accuracy + more,
            train_accuracy=accuracy + 0.05,
        )
        for each in made.epochs
    )  # fmt: skip
    size = 100 if is_sgd(role) else int(role.rpartition("-")[2])
    return dataclasses.replace(
        made,
        identity=f"{role}-s{seed}",
        config={**made.config, "batch_size": size, "optim": {"name": "adam", "lr": lr, "eps": 1e-8}},
        epochs=records,
        flow=flow(role, epochs, seed),
        curvature={},
        landscape=None,
        noise=None if is_sgd(role) else noise(role, seed),
    )


def study(
    seeds: int = 3,
    accuracy: Mapping[str, float] | None = None,
    replaced: Mapping[str, RunRecord | None] | None = None,
) -> StudyRecord:
    """The whole study; `replaced`: identity → another record, or None for a run without a folder."""
    ends = {**ACCURACY, **(accuracy or {})}
    order = [
        sized(control, int(size), int(size), group) for control, group in CONTROLS.items() for size in SIZES
    ]
    order += [penalized(network, float(decay)) for network in ("bn", "plain") for decay in DECAYS]
    order += [penalized("bn", 0.0, rate(role)) for role in ends if role.startswith("bn-lr")]
    roles = {
        role.name: dataclasses.replace(
            role, runs=tuple(f"{SAME.get(role.name, role.name)}-s{seed}" for seed in range(seeds))
        )
        for role in order
    }
    runs = {f"{role}-s{seed}": run(role, seed, end) for role, end in ends.items() for seed in range(seeds)}
    for identity, record in (replaced or {}).items():
        if record is None:
            del runs[identity]
        else:
            runs[identity] = record
    asked = {"title": QUESTION, "data": "cifar100", "seeds": list(range(seeds)), "notes": []}
    return StudyRecord("controls", "small", asked, roles, runs)


def checked(found: StudyRecord) -> dict[str, Claim]:
    return {claim.id: claim for claim in claims(found)}


def verdicts(found: StudyRecord) -> dict[str, str]:
    return {name: claim.verdict for name, claim in checked(found).items()}


def test_a_finding_that_equal_updates_do_not_keep() -> None:
    found = study()
    assert verdicts(found) == {
        "K1": "holds", "K2": "does not hold", "K3": "holds", "K4": "holds", "K5": "holds", "K6": "holds",
    }  # fmt: skip
    assert {name: len(claim.parts) for name, claim in checked(found).items()} == {
        "K1": 1, "K2": 1, "K3": 1, "K4": 3, "K5": 1, "K6": 1,
    }  # fmt: skip
    lead, _ = answer(claims(found))
    assert lead == (
        "Larger batches do better at equal epochs and the same rate, as in the paper. "
        "At equal updates larger batches are not ahead. "
        "Where the rate goes with the batch size, batch sizes end alike. "
        "Under BatchNorm L2 shrinks the weights, which raises the effective rate, and does no more. "
        "At the same weights the gradient's noise goes as one over the batch size. "
        "Where the rate goes with the root of the batch size, batch sizes end alike."
    )


def test_scaled_rates_are_held_to_equal_accuracy_as_their_authors_claim() -> None:
    """Higher was asked of them, which no one had said; and a lower accuracy "refuted" it."""
    apart = study(accuracy={"linear-100": 0.3})
    assert checked(apart)["K3"].verdict == "does not hold"  # higher by 0.13
    assert "Epochs are equal, updates are not." in checked(apart)["K3"].note
    assert checked(study(accuracy={"linear-100": 0.425}))["K3"].verdict == "holds"


def test_comparisons_of_what_guesses_are_not_tested() -> None:
    found = checked(study(accuracy={"batch-100": -0.045}))  # in training 0.05 above that of validation
    assert (found["K1"].verdict, found["K1"].tests) == ("not testable", 0)
    assert (
        found["K1"].reason
        == "batch-100: 3 of 3 runs end at guessing (training accuracy no better than guessing's 0.012)"
    )


def test_one_seed_decides_nothing_and_shows_its_numbers() -> None:
    found = study(1)
    for claim in claims(found):
        assert claim.verdict == "undecided"
        assert claim.reason.startswith(ONE_SEED)
    lead, _ = answer(claims(found))
    assert lead.startswith("Open here: ")
    assert lead.endswith("one seed per run claims nothing.")


def test_k4_is_held_to_the_same_effective_rate() -> None:
    """L2 changes the accuracy; so does the rate that it comes to, without it."""
    end = {"bn-l2-0.005": 0.2}
    assert [part.verdict for part in checked(study(accuracy=end))["K4"].parts] == [
        "holds",
        "holds",
        "does not hold",
    ]
    slower = study(accuracy=end | {"bn-lr-0.08": 0.2, "bn-lr-200000": 0.2})
    assert checked(slower)["K4"].verdict == "holds"
    parts = checked(study())["K4"].parts
    assert dict(parts[0].numbers)[2] == pytest.approx(-3, abs=0.01)  # 0.005 over six epochs
    assert dict(parts[1].numbers)[2] == pytest.approx(6, abs=0.02)
    assert "L2 0.005 over L2 0, last epoch" in parts[0].measured
    low = {f"bn-lr-200000-s{seed}": run("bn-lr-0.08", seed, 0.4) for seed in range(3)}
    beyond = checked(study(replaced=low))["K4"]
    assert beyond.verdict == "not testable"
    assert "no run without L2 is on the other side of its effective rate at seeds [0, 1, 2]" in beyond.reason


def test_k4_is_open_where_a_run_diverged_whose_last_epoch_is_not_the_others() -> None:
    early = run("bn-l2-0.005", 0, 0.4, epochs=2)
    over = dataclasses.replace(early, state="diverged", status={"epoch": 3, "step": 17})
    parts = checked(study(replaced={"bn-l2-0.005-s0": over}))["K4"].parts
    assert [part.verdict for part in parts[:2]] == ["undecided", "undecided"]
    assert parts[0].reason == "bn-l2-0.005: seed 0 diverged in epoch 3, step 17"


@pytest.mark.parametrize("norm", [np.nan, np.inf])
def test_k4_names_a_seed_without_norms_and_is_open(norm: float) -> None:
    made = run("bn-l2-0.005", 1, 0.4)
    assert made.flow is not None
    norms = made.flow.weight.copy()
    norms[2, 0] = norm
    bare = dataclasses.replace(made, flow=dataclasses.replace(made.flow, weight=norms))
    parts = checked(study(replaced={"bn-l2-0.005-s1": bare}))["K4"].parts
    assert [(part.verdict, part.reason) for part in parts] == [
        ("undecided", "bn-l2-0.005: seed 1 has no ‖w‖")
    ] * 3


def test_k5_is_the_slope_at_the_weights_of_one_run() -> None:
    (part,) = checked(study())["K5"].parts
    assert [value for _, value in part.numbers] == pytest.approx([0, -0.01, -0.02])
    level = {}
    for seed in range(3):
        traces = tuple((size, steep(size, seed, 0.0)) for size in (100, 50, 25))
        same = dataclasses.replace(noise("batch-100", seed), traces=traces)
        level[f"batch-100-s{seed}"] = dataclasses.replace(run("batch-100", seed, 0.4), noise=same)
    assert verdicts(study(replaced=level))["K5"] == "does not hold"


def test_runs_without_noise_are_named() -> None:
    old = dataclasses.replace(noise("batch-100", 1), traces=())  # from before they were kept
    bare = dataclasses.replace(run("batch-100", 1, 0.37), noise=old)
    found = study(replaced={"batch-100-s1": bare})
    claim = checked(found)["K5"]
    assert (claim.verdict, claim.reason) == ("undecided", "batch-100: seed 1 has no noise")
    assert set(slopes(found, "batch-100")) == {0, 2}


def test_typical_is_the_geometric_mean_over_convolutions() -> None:
    made = run("batch-50", 0, 0.2)
    product = float(np.prod([3.0 * (1 + i) for i in range(7)]))
    assert typical(made, "weight") == pytest.approx([product ** (1 / 7)] * 6)
    zero = made_flow(np.full((6, 8), 0.01), relative_update=np.zeros((6, 8)))
    found = typical(dataclasses.replace(made, flow=zero), "relative_update")
    assert found == pytest.approx([2.0**-149] * 6, rel=1e-3)  # the smallest float32


def test_step_noise_is_the_rate_times_the_root_of_the_trace() -> None:
    made = run("linear-100", 0, 0.4)
    assert step_noise(made) == pytest.approx(0.0125 * (5 / 100) ** 0.5)
    assert np.isnan(step_noise(dataclasses.replace(made, noise=None)))


def test_tables_have_every_run_and_both_formats() -> None:
    first, second, third = tables(study())
    assert len(first.rows) == 12
    assert first.rows[0][:5] == ("equal epochs", "50", "50", "0.05", "6")
    assert first.rows[1][7] == "0.368(1)"
    assert first.rows[6][:4] == ("rate ∝ batch", "50", "50", "0.00625")
    assert len(second.rows) == 8
    norm = 3 * 5040 ** (1 / 7)  # the geometric mean of 3, 6, … 21
    assert second.rows[0][4:8] == tuple(
        f"{value:.3g} (all 3 equal)" for value in (norm, norm, 0.02 / norm**2, 0.02)
    )
    assert third.rows[1][4:6] == ("0.055 ± 0.012", "55 ± 12")
    for table in (first, second, third):
        assert to_csv(table).count("\n") >= len(table.rows)
        assert to_markdown(table)
        assert to_latex(table).isascii()


def test_an_infinite_noise_scale_is_said() -> None:
    lost = {}
    for seed, square in ((0, -0.1), (1, 0.1), (2, -0.1)):
        made = run("batch-50", seed, 0.18)
        found = RunNoise(made_noise(50, square, 0.1), ())
        lost[made.identity] = dataclasses.replace(made, noise=found)
    assert tables(study(replaced=lost))[2].rows[0][5] == "∞ in 2 of 3"


def test_figures_show_every_size_and_penalty_and_nothing_is_cut() -> None:
    drawn = figures(study())
    assert [figure.name for figure in drawn] == [
        "figure-1a", "figure-1b", "figure-1c", "figure-1d", "figure-1e", "figure-2a", "figure-2b",
        "figure-2c", "figure-2d", "figure-2e", "figure-2f", "figure-3a", "figure-3b",
    ]  # fmt: skip
    by_name = {figure.name: figure.drawing for figure in drawn}
    rates = by_name["figure-2e"].axes[0]
    assert rates.get_yscale() == "log"
    heights = [line.get_ydata()[-1] for line in rates.lines[:3]]
    assert heights == sorted(heights)  # the larger the penalty, the higher the effective rate
    noises = by_name["figure-3a"].axes[0]
    *_, guide = noises.lines
    assert guide.get_label() == "1 / B"
    x, y = guide.get_xdata(), guide.get_ydata()
    assert np.allclose(np.asarray(x) * np.asarray(y), 5.5)
    for drawing in by_name.values():
        assert_nothing_is_cut(drawing)


@pytest.mark.slow
def test_missing_and_diverged_runs_are_named() -> None:
    lost = dataclasses.replace(
        run("batch-50", 0, 0.18), state="diverged", status={"epoch": 3, "step": 17}, noise=None, test={},
        epochs=run("batch-50", 0, 0.18).epochs[:2],
    )  # fmt: skip
    gone = {f"sqrt-100-s{seed}": None for seed in range(3)}
    found = study(replaced={"batch-50-s0": lost, **gone})
    claim = checked(found)["K6"]
    assert claim.verdict == "undecided"
    assert claim.reason.startswith("sqrt-100: seed 0 not run yet")
    captions = {figure.name: figure.caption for figure in figures(found)}
    assert "batch 50: seed 0 diverged in epoch 3, step 17" in captions["figure-1a"]
    assert "rate ∝ √batch, batch 100: not run yet" in captions["figure-3b"]
    for figure in figures(found):
        assert_nothing_is_cut(figure.drawing)
