"""The study of remedies as data: what each changes, in which order and at which rates it is run."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gradscape import load
from gradscape.cli.main import main
from gradscape.config.run import RunConfig
from gradscape.config.serialize import to_dict
from gradscape.errors import ConfigError
from gradscape.records.role import Role
from gradscape.studies.batchnorm.study import BATCHNORM
from gradscape.studies.remedies.roles import KEY, REMEDIES, Remedy, densenet40, role_of, vgg38
from gradscape.studies.remedies.study import PRESETS, REMEDIES_STUDY

DENSE = {"family": "densenet", "depth": 40, "filters": 16}
SKIP = {"skip": True}

# What each changes in VGG38 without BatchNorm. Everything else is the paper's.
CHANGES: dict[str, dict[str, Any]] = {
    "plain": {},
    "vgg08": {"depth": 8},
    "he": {"init": "he"},
    "glorot": {"init": "glorot"},
    "orthogonal": {"init": "orthogonal"},
    "delta-orthogonal": {"init": "delta_orthogonal"},
    "lsuv": {"init": "lsuv"},
    "bn": {"norm": "batch"},
    "bn-everywhere": {"norm": "batch", "norm_where": "everywhere"},
    "renorm": {"norm": "renorm"},
    "group": {"norm": "group"},
    "layer": {"norm": "layer"},
    "instance": {"norm": "instance"},
    "weight": {"norm": "weight"},
    "skip": SKIP,
    "stochastic-depth": {**SKIP, "stochastic_depth": 0.5},
    "fixup": {**SKIP, "init": "fixup"},
    "dense": DENSE,
    "relu": {"activation": "relu"},
    "tanh": {"activation": "tanh"},
    "sigmoid": {"activation": "sigmoid"},
    "gelu": {"activation": "gelu"},
    "selu": {"activation": "selu", "init": "he"},
    "bn+he": {"norm": "batch", "init": "he"},
    "bn+lsuv": {"norm": "batch", "init": "lsuv"},
    "bn+selu": {"norm": "batch", "activation": "selu", "init": "he"},
    "bn+skip": {"norm": "batch", **SKIP},
    "he+skip": {"init": "he", **SKIP},
    "weight+lsuv": {"norm": "weight", "init": "lsuv"},
    "bn+dropout": {"norm": "batch", "dropout": 0.1},
    "bn+stochastic-depth": {"norm": "batch", **SKIP, "stochastic_depth": 0.5},
    "bn+dense": {"norm": "batch", **DENSE},
}
MEASURES = ("smoothness_every", "curvature_images", "landscape_images", "keep_every")


def planned(preset: str = "quick", **asked: Any) -> dict[str, RunConfig]:
    return dict(REMEDIES_STUDY.plan(preset, **asked).configs)


def test_each_remedy_changes_what_it_names_and_nothing_else() -> None:
    plain = asdict(REMEDIES["plain"].net)
    found = {
        role: {name: value for name, value in asdict(remedy.net).items() if value != plain[name]}
        for role, remedy in REMEDIES.items()
    }
    assert found == CHANGES
    assert list(found) == list(CHANGES)  # the order of figures and tables


def test_the_plain_network_is_the_papers_and_so_is_that_with_batchnorm() -> None:
    theirs = BATCHNORM.plan("paper").configs
    assert REMEDIES["plain"].net == theirs["vgg38"].net
    assert REMEDIES["vgg08"].net == theirs["vgg08"].net
    assert REMEDIES["bn"].net == theirs["vgg38-bn"].net


def test_networks_and_labels_are_distinct_and_groups_stand_together() -> None:
    assert len({remedy.net for remedy in REMEDIES.values()}) == len(REMEDIES) == 32
    assert len({remedy.label for remedy in REMEDIES.values()}) == len(REMEDIES)
    groups = [remedy.group for remedy in REMEDIES.values()]
    assert 1 + sum(one != other for one, other in pairwise(groups)) == len(set(groups))
    assert Counter(groups) == {
        "nothing": 2, "initialization": 5, "normalization": 7,
        "connections": 4, "activation": 5, "together": 9,
    }  # fmt: skip


def test_densenet_is_the_published_one_there_being_none_of_38_layers() -> None:
    net = densenet40()
    assert (net.growth, net.blocks, net.dense_stages[-1][-1]) == (12, 12, 16 + 3 * 12 * 12)
    with pytest.raises(ConfigError, match=r"no DenseNet of 3 stages has 38 layers.*try --net.depth 37 or 40"):
        densenet40(depth=38)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("data", ["digits", "cifar10", "cifar100"])
def test_every_preset_is_possible_on_every_data_set(preset: str, data: str) -> None:
    chosen = PRESETS[preset]
    roles = planned(preset, data=data)
    assert {run.data.name for run in roles.values()} == {data}
    share, fifth = (75, 299) if data == "digits" else (2_500, 10_000)
    assert {run.data.valid for run in roles.values()} == {min(chosen.valid or share, fifth)}
    count = (9 if preset == "small" else 32) * (1 + len(chosen.rates)) + len(KEY) * len(chosen.key_rates)
    assert len(roles) == count
    # Two roles never share a run.
    assert len(REMEDIES_STUDY.plan(preset, data, 1).runs()) == count


def test_what_claims_rest_on_comes_first_and_other_rates_come_last() -> None:
    roles = list(planned())
    assert roles[:5] == ["plain", "he", "bn", "skip", "bn+he"]
    assert set(roles[:5]) == set(KEY)
    assert roles[5:32] == [role for role in REMEDIES if role not in KEY]
    assert all("@" in role for role in roles[32:])
    plan = REMEDIES_STUDY.plan("quick")
    first = [config.identity for config in plan.configs.values()]
    assert list(plan.runs())[: len(first)] == first  # then the key roles at the second seed
    assert list(plan.runs())[len(first) :] == [plan.roles[role].runs[1] for role in roles[:5]]


@pytest.mark.parametrize(("preset", "every", "key"), [("quick", 1, 2), ("small", 3, 3), ("paper", 3, 3)])
def test_seeds_are_the_presets(preset: str, every: int, key: int) -> None:
    plan = REMEDIES_STUDY.plan(preset)
    seeds = {name: len(role.runs) for name, role in plan.roles.items()}
    assert seeds == {name: key if name in KEY else every for name in plan.roles}
    assert {len(role.runs) for role in REMEDIES_STUDY.plan(preset, seeds=4).roles.values()} == {4}


@pytest.mark.parametrize("preset", PRESETS)
def test_each_remedy_is_tried_at_the_presets_rates_and_key_roles_at_more(preset: str) -> None:
    chosen, plan = PRESETS[preset], REMEDIES_STUDY.plan(preset)
    for remedy in chosen.remedies:
        rates = {0.001, *chosen.rates, *(chosen.key_rates if remedy in KEY else ())}
        roles = [role for role in plan.roles.values() if role.parameters["remedy"] == remedy]
        assert {role.parameters["lr"] for role in roles} == rates
        assert len(roles) == len(rates)
        assert {role.name: replace(role, runs=()) for role in roles} == {
            role.name: role for role in (role_of(remedy, rate) for rate in rates)
        }
        assert all(plan.configs[role.name].optim.lr == role.parameters["lr"] for role in roles)


def test_rates_are_the_presets() -> None:
    assert (PRESETS["quick"].rates, PRESETS["quick"].key_rates) == ((0.01,), (0.0001,))
    assert set(PRESETS["paper"].rates) | {0.001} == {0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05}  # its Table 1
    assert role_of("bn+he", 0.0001) == Role(
        "bn+he@0.0001", "BatchNorm + He, lr 0.0001", "together", {"remedy": "bn+he", "lr": 0.0001}
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_runs_at_other_rates_are_those_of_the_remedy_without_measures(preset: str) -> None:
    roles = planned(preset)
    remedies = {name: role.parameters["remedy"] for name, role in REMEDIES_STUDY.plan(preset).roles.items()}
    bare: dict[str, Any] = dict.fromkeys(MEASURES, 0)
    for role, run in roles.items():
        if role in REMEDIES:
            assert run.smoothness_every > 0
            assert run.curvature_images > 0
            assert run.landscape_images > 0
            assert run.keep_every == PRESETS[preset].keep_every
        else:
            assert run == replace(roles[remedies[role]], optim=run.optim, **bare)
            assert run.optim.min_lr == roles[remedies[role]].optim.min_lr


@pytest.mark.parametrize("preset", PRESETS)
def test_remedies_differ_in_the_network_alone(preset: str) -> None:
    roles = planned(preset)
    width = PRESETS[preset].filters
    for role in PRESETS[preset].remedies:
        net = REMEDIES[role].net
        assert roles[role] == replace(
            roles["plain"], net=replace(net, filters=width) if net.family == "vgg" else net
        )


def test_small_has_few_remedies_on_the_images_of_the_batchnorm_study() -> None:
    plan, theirs = REMEDIES_STUDY.plan("small"), BATCHNORM.plan("small").configs
    assert list(plan.roles) == [
        "plain", "he", "bn", "skip", "bn+he", "vgg08", "lsuv", "bn-everywhere", "fixup",
    ]  # fmt: skip
    for ours, other in (("plain", "vgg38"), ("bn", "vgg38-bn"), ("he", "vgg38-he"), ("vgg08", "vgg08")):
        both = (plan.configs[ours], theirs[other])
        assert len({replace(each, smoothness_every=0) for each in both}) == 1


def test_measures_are_as_many_as_asked_on_whole_mini_batches() -> None:
    run = planned()["plain"]
    assert (run.batch_size, run.smoothness_every) == (20, 25)  # 6 × 1,000 / 20 steps: 12 measures
    assert (run.curvature_images, run.landscape_images) == (20, 20)
    paper = planned("paper")["plain"]
    assert (paper.smoothness_every, paper.curvature_images, paper.landscape_images) == (50, 500, 1_000)


def test_the_paper_preset_is_as_published() -> None:
    plan = REMEDIES_STUDY.plan("paper")
    bare: dict[str, Any] = dict.fromkeys(MEASURES, 0)
    config = to_dict(plan.configs["plain"])
    assert (config["epochs"], config["batch_size"], config["optim"]["lr"]) == (100, 100, 0.001)
    assert (config["data"]["name"], config["data"]["train"]) == ("cifar100", 47_500)
    assert {len(role.runs) for role in plan.roles.values()} == {3}
    theirs = BATCHNORM.plan("paper").configs
    for ours, other in (("plain", "vgg38"), ("bn", "vgg38-bn"), ("bn@0.05", "lr-0.05")):
        assert replace(plan.configs[ours], **bare) == replace(theirs[other], **bare)
    assert plan.notes == ()


def test_it_says_how_it_departs() -> None:
    first, second, third, fourth = REMEDIES_STUDY.plan("quick").notes
    assert first.startswith("Images are 8×8 handwritten digits enlarged to 16×16, not CIFAR-100")
    assert second == (
        "1,000 training images for 6 epochs, not 47,500 for 100, to run in minutes on two cores."
    )
    assert third.startswith("Batch sizes are the paper's divided by 5")
    assert fourth.startswith("No augmentation")
    assert len(REMEDIES_STUDY.plan("small").notes) == 3
    assert any("bfloat16" in note for note in REMEDIES_STUDY.plan("paper", precision="bf16").notes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("papper",), "--preset: expected one of quick, small, paper; got 'papper'; did you mean 'paper'"),
        (("quick", "mnist", None), "data.name: expected one of .*; got 'mnist'"),
        (("quick", None, 0), "--seeds: expected 1 … 10000; got 0"),
        (("quick", None, 1, "fp16"), "precision: 'fp16' is refused"),
    ],
)
def test_plans_that_cannot_be(arguments: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        REMEDIES_STUDY.plan(*arguments)


# A handful, as shallow as each family allows, and narrow.
SHALLOW = {
    "plain": vgg38(depth=14, filters=4),
    "he": vgg38(depth=14, filters=4, init="he"),
    "lsuv": vgg38(depth=8, filters=4, init="lsuv"),
    "bn": vgg38(depth=14, filters=4, norm="batch"),
    "skip": vgg38(depth=14, filters=4, skip=True),
    "stochastic-depth": vgg38(depth=14, filters=4, skip=True, stochastic_depth=0.5),
    "fixup": vgg38(depth=14, filters=4, skip=True, init="fixup"),
    "dense": densenet40(depth=7, growth=4),
    "bn+he": vgg38(depth=14, filters=4, norm="batch", init="he"),
}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_the_whole_of_it_on_a_small_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = PRESETS["quick"]
    few = {"remedies": tuple(SHALLOW), "filters": 4, "rates": (), "key_rates": (0.01,)}
    small = replace(quick, epochs=1, train=40, valid=20, measures=1, **few)
    monkeypatch.setitem(PRESETS, "quick", small)
    for role, remedy in list(REMEDIES.items()):
        if role in SHALLOW:
            monkeypatch.setitem(REMEDIES, role, Remedy(remedy.label, remedy.group, SHALLOW[role]))
        else:
            monkeypatch.delitem(REMEDIES, role)
    assert list(REMEDIES) == list(SHALLOW)
    asked = ["reproduce", "remedies", "--seeds", "1", "--workers", "1", "--out", str(tmp_path)]
    assert main(asked) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said[:7]] == [f"R{number}" for number in range(1, 8)]
    study = load(tmp_path)
    assert len(study.runs) == 9 + 5  # the key roles at two rates
    assert {run.state for run in study.runs.values()} == {"done"}
    for role in SHALLOW:
        (run,) = study.of(role)
        assert run.start is not None
        assert len(run.start.gradients) == SHALLOW[role].depth
        assert set(run.curvature) == {"start", "end"}
        assert run.landscape is not None
        assert run.epochs[0].smoothness
    for role in KEY:
        (run,) = study.of(role_of(role, 0.01).name)
        assert (run.curvature, run.landscape, run.epochs[0].smoothness) == ({}, None, ())
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Figure 1. Every remedy, compared" in page
    assert "not measured" not in page.lower()
    before = contents(tmp_path / "report")
    assert main(["report", str(tmp_path)]) == 0
    assert contents(tmp_path / "report") == before
