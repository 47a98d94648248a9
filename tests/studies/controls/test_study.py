"""The controls of the paper's sweeps as data: which runs, at which rates, over how many updates."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gradscape import load
from gradscape.cli.main import main
from gradscape.config.run import RunConfig
from gradscape.errors import ConfigError
from gradscape.studies.batchnorm.study import BATCHNORM
from gradscape.studies.controls import study as controls
from gradscape.studies.controls.study import CONTROLS_STUDY, PRESETS
from gradscape.study.network_cost import LAYER, NORM, STEP, run_macs


def updates(run: RunConfig) -> int:
    assert run.data.train is not None
    return run.epochs * math.ceil(run.data.train / run.batch_size)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("data", ["digits", "cifar10", "cifar100"])
def test_every_preset_is_possible_on_every_data_set(preset: str, data: str) -> None:
    planned = CONTROLS_STUDY.plan(preset, data, None)
    assert all(run.data.name == data for run in planned.configs.values())
    share, fifth = (75, 299) if data == "digits" else (2_500, 10_000)
    assert {run.data.valid for run in planned.configs.values()} == {
        min(PRESETS[preset].valid or share, fifth)
    }
    sizes, decays = len(PRESETS[preset].sizes), len(PRESETS[preset].decays)
    # At batch 100 the updates are those of equal epochs; at the largest size so are the rates.
    assert len(planned.roles) == 4 * sizes + 2 * decays + 2
    assert len(CONTROLS_STUDY.plan(preset, data, 1).runs()) == 4 * sizes - 3 + 2 * decays + 2


def test_the_paper_preset_has_the_papers_runs_at_equal_epochs() -> None:
    ours, theirs = CONTROLS_STUDY.plan("paper", seeds=1).configs, BATCHNORM.plan("paper", seeds=1).configs
    for size in (50, 100, 200, 400, 800):
        bare = {"smoothness_every": 0, "curvature_images": 0, "landscape_images": 0, "noise_batches": 0}
        assert replace(ours[f"batch-{size}"], **bare) == replace(theirs[f"batch-{size}"], **bare)  # type: ignore[arg-type]
        assert ours[f"batch-{size}"].noise_batches == 20


@pytest.mark.parametrize("preset", PRESETS)
def test_updates_are_equal_to_within_half_an_epoch(preset: str) -> None:
    roles = CONTROLS_STUDY.plan(preset, None, 1).configs
    wanted = updates(roles["batch-100"])
    for size in PRESETS[preset].sizes:
        run = roles[f"updates-{size}"]
        assert abs(updates(run) - wanted) <= updates(run) / run.epochs / 2
        assert run.optim.lr == 0.05
        assert run.optim.period == run.epochs  # the cosine ends where the run does


@pytest.mark.parametrize("preset", PRESETS)
def test_rates_go_with_the_batch_or_its_root_and_end_at_the_papers(preset: str) -> None:
    roles, sizes = CONTROLS_STUDY.plan(preset, None, 1).configs, PRESETS[preset].sizes
    for size in sizes:
        ratio = size / max(sizes)
        for role, factor in ((f"linear-{size}", ratio), (f"sqrt-{size}", math.sqrt(ratio))):
            run, same = roles[role], roles[f"batch-{size}"]
            assert run.optim.lr == pytest.approx(0.05 * factor)
            assert run.optim.min_lr == pytest.approx(2e-5 * factor)
            assert replace(run, optim=same.optim) == same
    assert roles["linear-100"] != roles["batch-100"]


def test_penalties_differ_in_nothing_else() -> None:
    roles = CONTROLS_STUDY.plan("quick", seeds=1).configs
    for network in ("bn", "plain"):
        none = roles[f"{network}-l2-0"]
        assert (none.optim.name, none.optim.weight_decay) == ("sgd", 0)
        assert none.optim.min_lr == none.optim.lr
        for decay in PRESETS["quick"].decays:
            run = roles[f"{network}-l2-{decay:g}"]
            assert run == replace(none, optim=replace(none.optim, weight_decay=decay))
    assert roles["bn-l2-0"].net.norm_where == "everywhere"
    for rate in (0.08, 0.16):  # what L2 is held to at the effective rate that it comes to
        none = roles["bn-l2-0"].optim
        assert roles[f"bn-lr-{rate:g}"] == replace(
            roles["bn-l2-0"], optim=replace(none, lr=rate, min_lr=rate)
        )


def test_noise_is_measured_over_whole_mini_batches_alone() -> None:
    for run in CONTROLS_STUDY.plan("quick", seeds=1).configs.values():
        assert run.data.train is not None
        assert run.noise_batches * run.batch_size <= run.data.train
    assert CONTROLS_STUDY.plan("quick", seeds=1).configs["batch-400"].noise_batches == 9


def test_noise_has_its_price() -> None:
    run = CONTROLS_STUDY.plan("quick", seeds=1).configs["batch-100"]
    bare = replace(run, noise_batches=0)
    more = run_macs(run) - run_macs(bare)
    assert more == pytest.approx(run_macs(replace(bare, epochs=2)) - run_macs(replace(bare, epochs=1)), rel=1)
    # Whole, in halves and in quarters; a step is of 20 images with a quarter of the pixels, normalized in ten
    # layers of each of three sizes, and waits for 39 layers to start.
    normed = 10 * 32 * (16**2 + 8**2 + 4**2)
    images = 20 * (3 * 140_230_000 / 4 + NORM * normed)
    assert more == pytest.approx(3 * 10 * (images + STEP + 39 * LAYER), rel=0.01)


def test_it_says_how_it_departs_and_what_it_compares() -> None:
    text = " ".join(CONTROLS_STUDY.plan("quick").notes)
    assert "720 training images for 6 epochs" in text
    assert "Equal updates are those of batch 100 in 6 epochs." in text
    assert "Scaled rates are 0.05 at batch 400" in text
    assert len(CONTROLS_STUDY.plan("paper").notes) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("smal",), "--preset: expected one of quick, small, paper; got 'smal'; did you mean 'small'"),
        (("quick", "mnist", None), "data.name: expected one of .*; got 'mnist'"),
        (("quick", None, 0), "--seeds: expected 1 … 10000; got 0"),
    ],
)
def test_plans_that_cannot_be(arguments: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CONTROLS_STUDY.plan(*arguments)


@pytest.mark.slow
@pytest.mark.long  # with those of the other studies
@pytest.mark.usefixtures("undrawn")
def test_the_whole_of_it_on_a_small_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = PRESETS["quick"]
    small = replace(quick, epochs=1, train=80, valid=20, sizes=(100, 200), decays=(0.0, 0.5), noise=2)
    monkeypatch.setitem(PRESETS, "quick", small)
    networks = {n: replace(net, depth=14) for n, net in controls.NETWORKS.items()}
    monkeypatch.setattr(controls, "NETWORKS", networks)
    assert main(["reproduce", "controls", "--seeds", "1", "--workers", "1", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said[:5]] == ["K1", "K2", "K3", "K4", "K5"]
    study = load(tmp_path)
    assert len(study.runs) == 11
    assert {run.state for run in study.runs.values()} == {"done"}
    for role in study.roles:
        (first,) = study.of(role)
        assert (first.noise is None) == ("l2" in study.roles[role].parameters)
        assert len(first.flow.weights) in (14, 38)
    norms = [study.of(f"bn-l2-{decay}")[0].flow.weight[-1].sum() for decay in ("0", "0.5")]
    assert norms[1] < norms[0]
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Figure 3b. Noise of a step and accuracy" in page
    assert "not measured" not in page
