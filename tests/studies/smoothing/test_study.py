"""The smoothing study as data: its pairs, rates, measures, and the runs that are trained as one network."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gradscape import load
from gradscape.cli.main import main
from gradscape.errors import ConfigError
from gradscape.studies.batchnorm.study import BATCHNORM
from gradscape.studies.smoothing import roles
from gradscape.studies.smoothing.roles import BASE, DEFAULT_PAIR, NETWORKS, PAIRS, STARTS, Network
from gradscape.studies.smoothing.study import PRESETS, SMOOTHING_STUDY
from gradscape.study.packs import divide
from gradscape.train.packed import packable

EVERY = (DEFAULT_PAIR, *PAIRS)


@pytest.mark.parametrize("pair", EVERY, ids=lambda pair: pair[1])
def test_a_pair_differs_in_the_norm_alone(pair: tuple[str, str]) -> None:
    normed, plain = (SMOOTHING_STUDY.plan("quick").configs[role] for role in pair)
    assert (normed.net.norm, normed.net.norm_where, plain.net.norm) == ("batch", "everywhere", "none")
    assert replace(plain, net=replace(plain.net, norm="batch", norm_where="everywhere")) == normed
    assert plain.net.init == ("default" if pair == DEFAULT_PAIR else "lsuv")


def test_pairs_are_three_depths_and_the_batchnorm_studys_own() -> None:
    assert [NETWORKS[plain].net.depth for _, plain in PAIRS] == [8, 14, 20]
    ours, theirs = SMOOTHING_STUDY.plan("paper").configs, BATCHNORM.plan("paper").configs
    for role in DEFAULT_PAIR:
        bare: dict[str, Any] = {"smoothness_every": 0, "landscape_images": 0, "keep_every": 0}
        assert replace(ours[role], **bare) == replace(theirs[role], **bare)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("data", ["digits", "cifar10", "cifar100"])
def test_every_preset_is_possible_on_every_data_set(preset: str, data: str) -> None:
    plan = SMOOTHING_STUDY.plan(preset, data)
    assert {run.data.name for run in plan.configs.values()} == {data}
    count = len(STARTS) + len(NETWORKS) * len(PRESETS[preset].rates)
    assert (len(plan.roles), len(plan.runs())) == (count, 3 * count)  # no two roles share a run
    assert count == {"quick": 20, "small": 14, "paper": 26}[preset]


@pytest.mark.parametrize("preset", PRESETS)
def test_runs_at_other_rates_differ_in_the_rate_alone(preset: str) -> None:
    plan = SMOOTHING_STUDY.plan(preset)
    for name in NETWORKS:
        at = {
            role.parameters["lr"]: plan.configs[role.name]
            for role in plan.roles.values()
            if role.parameters["network"] == name
        }
        assert tuple(sorted(at)) == PRESETS[preset].rates
        for rate, run in at.items():
            assert run == replace(at[BASE], optim=replace(at[BASE].optim, lr=rate))
    assert {
        role.parameters["lr"] for role in plan.roles.values() if role.parameters["network"] in STARTS
    } == {BASE}


def test_labels_are_distinct_and_base_roles_come_first() -> None:
    planned = SMOOTHING_STUDY.plan("quick").roles
    assert len({role.label for role in planned.values()}) == len(planned)
    assert list(planned)[:8] == [role for pair in EVERY for role in pair]
    assert set(SMOOTHING_STUDY.key) == set(list(planned)[:8])


def test_the_quick_preset_is_small_and_every_run_is_packed() -> None:
    plan = SMOOTHING_STUDY.plan("quick")
    runs = plan.runs()
    run = next(iter(runs.values()))
    assert (run.data.dataset.size, run.net.filters, run.batch_size, run.data.train) == (8, 16, 50, 1_000)
    assert (run.smoothness_every, run.curvature_images, run.landscape_images) == (1, 50, 0)
    assert all(map(packable, runs.values()))
    packs = divide(runs, runs, plan.together, 1)
    assert all(pack.packed for pack in packs)
    # VGG08 from both weights are of one shape: 12 runs of each norm; 9 of each deeper network.
    assert Counter(len(pack.names) for pack in packs) == {6: 4, 5: 4, 4: 4}
    for pack in packs:
        shapes = {replace(runs[name].net, init="default") for name in pack.names}
        assert len(shapes) == 1


def test_it_says_how_it_departs_and_from_which_weights_it_starts() -> None:
    notes = " ".join(SMOOTHING_STUDY.plan("quick").notes)
    assert "Images are 8×8 handwritten digits, not CIFAR-100" in notes
    assert "Convolutions have 16 filters, not 32." in notes
    assert "Weights are LSUV's (Mishkin & Matas 2016)" in notes
    assert len(SMOOTHING_STUDY.plan("paper").notes) == 1
    small = PRESETS["small"]
    assert (small.data, small.size, small.filters, small.epochs) == ("cifar100", 16, 16, 25)
    assert (small.train, small.augment) == (None, False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("smal",), "--preset: expected one of quick, small, paper; got 'smal'; did you mean 'small'"),
        (("quick", None, 0), "--seeds: expected 1 … 10000; got 0"),
    ],
)
def test_plans_that_cannot_be(arguments: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SMOOTHING_STUDY.plan(*arguments)


@pytest.mark.slow
@pytest.mark.long  # with those of the other studies
@pytest.mark.usefixtures("undrawn")
def test_the_whole_of_it_on_a_small_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = replace(
        PRESETS["quick"], epochs=2, train=100, valid=20, filters=8, measures=4, rates=(BASE, 0.01)
    )
    monkeypatch.setitem(PRESETS, "quick", quick)
    for name, network in NETWORKS.items():
        shallow = replace(network.net, depth=min(network.net.depth, 14))
        monkeypatch.setitem(roles.NETWORKS, name, Network(network.label, network.pair, shallow))
    assert main(["reproduce", "smoothing", "--seeds", "2", "--workers", "1", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said[:4]] == ["S1", "S2", "S3", "S4"]
    study = load(tmp_path)
    assert {run.state for run in study.runs.values()} == {"done"}
    assert all(len(study.of(role)) == 2 for role in study.roles)
    for run in study.runs.values():
        assert {measure.along for epoch in run.epochs for measure in epoch.smoothness} == {
            "gradient",
            "step",
            "relative",
        }
        assert set(run.curvature) == {"start", "end"}
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Smoother is less of a measure." in page
    before = page
    assert main(["report", str(tmp_path)]) == 0
    assert (tmp_path / "report" / "index.html").read_text() == before
