"""Sweeps: their points and runs, their file, what joins an earlier sweep, and one run for real."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradscape as gs
from cases import tiny
from gradscape._codec import decode, encode
from gradscape.config.run import OptimConfig, RunConfig
from gradscape.config.serialize import from_dict
from gradscape.errors import ConfigError, StoreError
from gradscape.records.role import Role, identities
from gradscape.storage.study_folder import StudyFolder
from gradscape.study.execution_options import Execution
from gradscape.study.plan import ask
from gradscape.study.sweep.batch_size_controls import configure

TINY = {
    "net": {"depth": 8, "filters": 4},
    "data": {"train": 60, "valid": 20, "crop_pad": 1},
    "batch_size": 25,
    "epochs": 2,
}
RATES = {"optim.lr": [0.001, 0.01]}
DEPTHS = {"net.depth": [8, 14]}


def sweep(*axes: dict[str, Any], base: Any = TINY, **settings: Any) -> gs.Sweep:
    return gs.Sweep("small", base, axes, **settings)


def joined(*studies: gs.Sweep) -> dict[str, Any]:
    """What `study.json` holds after these were asked one after the other, through JSON as in a folder."""
    asked: dict[str, Any] | None = None
    for study in studies:
        asked = json.loads(json.dumps(encode(study.merged(asked, Path("DIR")))))
        asked["roles"] = decode(dict[str, Role], asked["roles"])
    assert asked is not None
    return asked


def runs_of(asked: dict[str, Any]) -> set[str]:
    return set(identities(asked["roles"]))


def test_points_are_all_combinations_and_seeds_go_last() -> None:
    study = sweep(DEPTHS, RATES, seeds=2)
    assert list(study.points()) == [
        "net.depth=8 optim.lr=0.001", "net.depth=8 optim.lr=0.01",
        "net.depth=14 optim.lr=0.001", "net.depth=14 optim.lr=0.01",
    ]  # fmt: skip
    assert study.title == "Sweep over net.depth and optim.lr"
    runs = list(study.runs().values())
    assert [run.seed for run in runs] == [0] * 4 + [1] * 4
    base = from_dict(RunConfig, TINY)
    expected = [
        replace(base, net=replace(base.net, depth=depth), optim=replace(base.optim, lr=lr), seed=seed)
        for seed, depth, lr in product((0, 1), (8, 14), (0.001, 0.01))
    ]
    assert runs == expected
    assert list(study.runs()) == [run.identity for run in expected]
    assert study.names()[expected[5].identity] == "net.depth=8 optim.lr=0.01 seed 1"


def test_equal_configurations_are_one_run() -> None:
    study = sweep({"optim.period": [None, 2, 5]})
    assert list(study.points()) == ["optim.period=default", "optim.period=2", "optim.period=5"]
    assert len(study.runs()) == 2  # the period is the run's epochs unless it is given
    assert study.names()[next(iter(study.runs()))] == "optim.period=default seed 0"


def test_conditional_axes_vary_only_where_they_act() -> None:
    slopes = {"net.slope": [0.1, 0.2], "where": {"net.activation": "leaky_relu"}}
    study = sweep({"net.activation": ["leaky_relu", "relu"]}, slopes)
    assert [tuple(point.values()) for point in study.points().values()] == [
        ("leaky_relu", 0.1), ("leaky_relu", 0.2), ("relu", 0.01),
    ]  # fmt: skip
    assert len(sweep(slopes).points()) == 2  # the base's activation, which no axis varies


def test_what_follows_from_a_varied_field_follows() -> None:
    study = sweep({"epochs": [2, 4]})
    assert [config.optim.period for config in study.configs.values()] == [2, 4]
    data = gs.Sweep("a", {}, [{"data.name": ["digits", "cifar10"]}])
    assert [config.data.train for config in data.configs.values()] == [1_422, 47_500]
    asked = joined(data)
    assert (asked["data"], asked["precision"]) == ("several", "fp32")
    assert asked["notes"] == ["Every run trains for 100 epochs."]


def test_a_configuration_can_be_the_base() -> None:
    config = tiny(seed=0, epochs=4, optim=OptimConfig(lr=0.5))
    study = sweep({"epochs": [4, 8]}, base=config)
    assert study.base == {
        "net": {"depth": 8, "filters": 4, "norm_where": "everywhere"},
        "data": {"train": 60, "valid": 20, "crop_pad": 1},
        "optim": {"lr": 0.5},
        "batch_size": 25,
        "epochs": 4,
    }
    assert [c.optim.period for c in study.configs.values()] == [4, 8]
    assert study.configs["epochs=4"] == config
    assert sweep(RATES, base={"net.depth": 8}) == sweep(RATES, base={"net": {"depth": 8}})
    few = replace(config, data=replace(config.data, train=20), batch_size=20)
    assert sweep(RATES, base=few).base["data"]["train"] == 20


def test_exclusions_leave_out_what_they_match_whole() -> None:
    study = sweep(DEPTHS, RATES, exclude=[{"net.depth": 14, "optim.lr": [0.01, 0.001]}])
    assert list(study.points()) == ["net.depth=8 optim.lr=0.001", "net.depth=8 optim.lr=0.01"]
    bad = sweep(
        {"batch_size": [25, 61]}, {"data.train": [60, 100]}, exclude=[{"batch_size": 61, "data.train": 60}]
    )
    assert len(bad.points()) == 3  # what is left out need not be possible


SMALL = st.lists(st.integers(1, 60), min_size=1, max_size=4, unique=True)


@given(sizes=SMALL, epochs=SMALL, seeds=st.integers(1, 3), data=st.data())
@settings(deadline=None)
def test_a_grids_runs_are_the_product_less_what_is_left_out(
    sizes: list[int], epochs: list[int], seeds: int, data: st.DataObject
) -> None:
    grid = list(product(sizes, epochs))
    out = data.draw(st.lists(st.sampled_from(grid), max_size=len(grid) - 1, unique=True))
    study = sweep(
        {"batch_size": sizes}, {"epochs": epochs}, seeds=seeds,
        exclude=[{"batch_size": size, "epochs": count} for size, count in out],
    )  # fmt: skip
    assert len(study.runs()) == (len(grid) - len(out)) * seeds
    assert {(c.batch_size, c.epochs) for c in study.configs.values()} == set(grid) - set(out)


@given(
    train=st.integers(2, 1_422),
    base=st.integers(1, 500),
    size=st.integers(1, 1_422),
    epochs=st.integers(1, 300),
)
@settings(deadline=None)
def test_equal_updates_are_nearest(train: int, base: int, size: int, epochs: int) -> None:
    base, size = min(base, train), min(size, train)
    study = sweep(
        {"batch_size": [size]}, base={"data.train": train, "batch_size": base, "epochs": epochs},
        equal_updates=True,
    )  # fmt: skip
    (config,) = study.configs.values()
    wanted, each = epochs * math.ceil(train / base), math.ceil(train / size)
    assert config.epochs == config.optim.period >= 1
    off = abs(config.epochs * each - wanted)
    assert off <= abs((config.epochs + 1) * each - wanted)
    assert config.epochs == 1 or off <= abs((config.epochs - 1) * each - wanted)
    assert config.epochs == 1 or off <= each / 2


def test_learning_rates_go_with_the_batch_size() -> None:
    base = {"batch_size": 100, "optim": {"lr": 0.1, "min_lr": 0.001}}
    sizes = {"batch_size": [25, 100, 300]}
    linear = sweep(sizes, base=base, scale_lr="linear").configs.values()
    assert [(c.optim.lr, c.optim.min_lr) for c in linear] == [(0.025, 0.00025), (0.1, 0.001), (0.3, 0.003)]
    root = sweep(sizes, base=base, scale_lr="sqrt").configs.values()
    assert [c.optim.lr for c in root] == pytest.approx([0.05, 0.1, 0.1 * math.sqrt(3)])
    # A rate of the point's own is scaled too.
    both = sweep({"batch_size": [50], "optim.lr": [0.4]}, base=base, scale_lr="linear").configs.values()
    assert [c.optim.lr for c in both] == [0.2]
    compared = sweep({"batch_size": [50]}, {"scale_lr": ["none", "linear"]}, base=base)
    assert [c.optim.lr for c in compared.configs.values()] == [0.1, 0.05]
    assert list(compared.points()) == ["batch_size=50 scale_lr=none", "batch_size=50 scale_lr=linear"]
    assert joined(compared)["notes"][-1] == (
        "With scale_lr=linear learning rates, first and last, go in proportion to the batch size, from 100 "
        "(Goyal et al. 2017)."
    )


def test_the_notes_say_what_controls_do() -> None:
    asked = joined(sweep({"batch_size": [5, 50]}, equal_updates=True, scale_lr="sqrt"))
    assert asked["notes"] == [
        "Every run trains on 60 training images of digits.",
        "Epochs are chosen so that every batch size makes about as many updates as batch size 25.",
        "Learning rates, first and last, go with the root of the batch size, from 25 "
        "(Krizhevsky 2014; Malladi et al. 2022).",
    ]
    varied = joined(sweep({"batch_size": [5, 50]}, {"equal_updates": [True, False]}))
    assert varied["notes"][-1].startswith("With equal_updates=yes epochs are chosen so that")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "a/b"}, "name: expected up to 200 letters, digits, '-', '_' and '.'; got 'a/b'"),
        ({"name": ".."}, "name: expected up to 200 letters, digits, '-', '_' and '.'; got '..'"),
        ({"name": 3}, "name: expected up to 200 letters, digits, '-', '_' and '.'; got 3"),
        ({"title": 3}, "title: expected text; got 3"),
        ({"seeds": 0}, "seeds: expected 1 … 10000; got 0"),
        ({"seeds": "3"}, "seeds: expected a whole number; got '3'"),
        ({"base": 3}, "base: expected keys and values; got 3"),
        ({"base": {"net": 38}}, "base.net: expected keys and values; got 38"),
        ({"base": {"net": {"dept": 38}}}, "base: no such field: net.dept; did you mean 'net.depth'?"),
        ({"base": {"lr": 38}}, "base: no such field: lr; did you mean 'optim.lr'?"),
        ({"base": {"net": {"depth": "deep"}}}, "base net.depth: expected a whole number; got 'deep'"),
        ({"base": {"seed": 3}}, "base: seed: give seeds, with --seeds"),
        ({"base": tiny()}, "base: seed: expected none; got 1; give seeds, with --seeds"),
        ({"base": {"scale_lr": "sqrt"}}, "base: scale_lr stands beside base, not in it"),
        ({"base": {"epochs": 0}}, "optim.lr=0.001: epochs: expected 1 … 1000000; got 0"),
        ({"axes": ()}, "axes: expected one or more, such as --axis optim.lr=1e-4,1e-3; got none"),
        ({"axes": RATES}, "axes: expected a list of mappings; got {'optim.lr': [0.001, 0.01]}"),
        ({"axes": 3}, "axes: expected a list of mappings; got 3"),
        (
            {"axes": [RATES, {"optim.lr": [1.0]}]},
            "axis optim.lr: two axes vary it; give all its values in one",
        ),
        ({"axes": [{"net.depth": [8, 9]}]}, "net.depth=9: net.depth: no VGG of 3 stages has 9 layers"),
        (
            {"axes": [{"net.norm": ["bach"]}]},
            "net.norm=bach: net.norm: expected one of none, batch, alg",
        ),
        (
            {"axes": [{"optim.lr": [1e-6]}]},
            "optim.lr=1e-06: optim.min_lr: expected at most",
        ),
        (
            {"axes": [{"net.slope": [0.1], "where": {"net.depth": 8}}, DEPTHS]},
            "axis net.slope: where: a later axis varies net.depth; put it first",
        ),
        (
            {"axes": [{"net.slope": [0.1], "where": {"net.activation": "relu"}}]},
            "axis net.slope: where: it never holds (base: net.activation=leaky_relu); change it",
        ),
        (
            {"axes": [{"optim.lr": {"log": [1, 9], "points": 200}}, {"epochs": range(1, 200)}]},
            "axes: 39,800 combinations are too many; give at most 10,000",
        ),
        ({"exclude": {"optim.lr": 0.01}}, "exclude: expected a list of mappings; got {'optim.lr': 0.01}"),
        ({"exclude": [3]}, "exclude: expected fields and values; got 3"),
        ({"exclude": [{"net.depth": 8}]}, "exclude: net.depth is on no axis; known here: optim.lr"),
        ({"exclude": [{"optim.lr": 0.1}]}, "exclude: optim.lr never is 0.1; its values are 0.001, 0.01"),
        ({"exclude": [{"optim.lr": [0.001, 0.01]}]}, "exclude: no point of 2 is left; leave out fewer"),
        ({"equal_updates": 1}, "equal_updates: expected true or false; got 1"),
        (
            {"equal_updates": True},
            "equal_updates (--equal-updates): no axis varies batch_size; add one, such as --axis",
        ),
        ({"scale_lr": "cubic"}, "scale_lr: expected one of none, linear, sqrt; got 'cubic'"),
        ({"scale_lr": None}, "scale_lr: expected one of none, linear, sqrt; got None"),
        ({"scale_lr": "sqrt"}, "scale_lr (--scale-lr): no axis varies batch_size; add one, such as --axis"),
        ({"axes": [{"scale_lr": ["sqrt"]}]}, "scale_lr (--scale-lr): no axis varies batch_size"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(changes: dict[str, Any], message: str) -> None:
    given = {"name": "a", "base": {}, "axes": [RATES], **changes}
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        gs.Sweep(**given)
    assert "\n" not in str(caught.value)


# The file


TEXT = """
name: depth-and-rate
base: {epochs: 6, data: {name: digits, train: 500}}
axes:
  - net.depth: [8, 20, 38]
  - optim.lr: {log: [1e-4, 1e-2], points: 3}
  - {batch_size: [50, 100], optim.eps: [1e-8, 1e-7]}
  - {net.activation: [leaky_relu, relu]}
  - {net.slope: [0.01, 0.2], where: {net.activation: leaky_relu}}
exclude:
  - {net.depth: 38, optim.lr: 0.01}
seeds: 3
equal_updates: no
scale_lr: none
"""


def test_a_study_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(TEXT)
    study = gs.Sweep.read(tmp_path / "study.yaml")
    assert study == gs.Sweep(
        "depth-and-rate",
        {"epochs": 6, "data.name": "digits", "data.train": 500},
        [
            {"net.depth": [8, 20, 38]},
            {"optim.lr": [1e-4, 1e-3, 1e-2]},
            {"batch_size": [50, 100], "optim.eps": [1e-8, 1e-7]},
            {"net.activation": ["leaky_relu", "relu"]},
            {"net.slope": [0.01, 0.2], "where": {"net.activation": "leaky_relu"}},
        ],
        seeds=3,
        exclude=[{"net.depth": 38, "optim.lr": 0.01}],
    )
    assert len(study.runs()) == (3 * 3 - 1) * 2 * 3 * 3
    study.save(tmp_path / "again.yaml")
    gs.Sweep.read(tmp_path / "again.yaml").save(tmp_path / "third.yaml")
    assert (tmp_path / "again.yaml").read_bytes() == (tmp_path / "third.yaml").read_bytes()
    assert (tmp_path / "again.yaml").read_text().startswith("name: depth-and-rate\nbase:\n")


RATE = st.floats(3e-5, 1)
WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)
AXES = {
    "optim.lr": RATE,
    "optim.eps": st.floats(0, 1),
    "net.norm": st.sampled_from(["none", "batch", "algorithm1"]),
    "data.flip": st.sampled_from([True, False, None]),
    "optim.period": st.one_of(st.none(), st.integers(1, 9)),
    "batch_size": st.integers(1, 60),
}


@st.composite
def studies(draw: st.DrawFn) -> gs.Sweep:
    """Any of a few fields on axes, alone or zipped, with conditions, controls and exclusions."""
    fields = draw(st.lists(st.sampled_from(list(AXES)), min_size=1, unique=True))
    axes: list[dict[str, Any]] = []
    while fields:
        together = [fields.pop() for _ in range(min(len(fields), draw(st.integers(1, 2))))]
        count = draw(st.integers(1, 3))
        columns = {name: draw(st.lists(AXES[name], min_size=count, max_size=count)) for name in together}
        where = draw(st.sampled_from([{}, {"where": {"net.depth": [8, 14]}}]))
        axes.append({**columns, **where})
    sized = any("batch_size" in axis for axis in axes)
    study = gs.Sweep(
        draw(st.from_regex(r"\A[a-z0-9_][a-z0-9_.-]*\Z")),
        TINY,
        axes,
        seeds=draw(st.integers(1, 4)),
        equal_updates=sized and draw(st.booleans()),
        scale_lr=draw(st.sampled_from(["none", "linear", "sqrt"])) if sized else "none",
        title=draw(WORDS),
    )
    points = list(study.points().values())
    out = draw(st.lists(st.sampled_from(points), max_size=len(points) - 1, unique_by=str))
    return replace(study, exclude=out)


@pytest.mark.slow
@given(study=studies(), ending=st.sampled_from(["yaml", "json"]))
@settings(deadline=None)
def test_a_study_survives_its_file(
    tmp_path_factory: pytest.TempPathFactory, study: gs.Sweep, ending: str
) -> None:
    path = tmp_path_factory.mktemp("study") / f"study.{ending}"
    study.save(path)
    again = gs.Sweep.read(path)
    assert again == study
    assert again.runs() == study.runs()
    assert list(again.points()) == list(study.points())
    assert len(study.points()) == len(set(study.points()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read study file"),
        ("a: [", "is not YAML"),
        ("3", "study.yaml: a study: expected keys and values; got 3"),
        ("", "study.yaml: a study: expected keys and values; got None"),
        ("name: a", "study.yaml: axes: expected one or more"),
        (
            "axs: []",
            "study.yaml, line 1: axs: no such key; known here: name, title, base, axes, exclude, seeds",
        ),
        ("axes: [{optim.lr: [fast]}]", "study.yaml, line 1: axis optim.lr: expected a number; got 'fast'"),
        (
            "axes: [{optim.lr: [1e-3]}]\nseeds: many",
            "study.yaml, line 2: seeds: expected a whole number; got 'many'",
        ),
    ],
)
def test_files_that_cannot_be_are_named(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "study.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        gs.Sweep.read(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot write study file .*a\.yaml: No such file"):
        sweep(RATES).save(tmp_path / "nowhere" / "a.yaml")


# Adding later


def test_more_values_axes_and_seeds_join_what_was_asked() -> None:
    first = joined(sweep(RATES))
    more = joined(sweep(RATES), sweep({"optim.lr": [0.1, 0.01]}, seeds=2))
    assert {name: len(role.runs) for name, role in more["roles"].items()} == {
        "optim.lr=0.001": 1, "optim.lr=0.01": 2, "optim.lr=0.1": 2,
    }  # fmt: skip
    assert more["seeds"] == [0, 1]
    assert runs_of(first) < runs_of(more)
    deeper = joined(sweep(RATES), sweep({"net.depth": [14]}, base={**TINY, "optim": {"lr": 0.1}}))
    assert deeper["axes"] == ["optim.lr", "net.depth"]
    assert deeper["title"] == "Sweep over optim.lr and net.depth"
    assert {name: role.parameters for name, role in deeper["roles"].items()} == {
        "optim.lr=0.001 net.depth=8": {"optim.lr": 0.001, "net.depth": 8},
        "optim.lr=0.01 net.depth=8": {"optim.lr": 0.01, "net.depth": 8},
        "optim.lr=0.1 net.depth=14": {"optim.lr": 0.1, "net.depth": 14},
    }
    assert joined(sweep(RATES, title="Rates"), sweep(DEPTHS))["title"] == "Rates"
    assert joined(sweep(RATES, title="Rates"), sweep(DEPTHS, title="Depths"))["title"] == "Depths"


def test_asked_once_more_nothing_changes() -> None:
    for study in (sweep(RATES, DEPTHS, seeds=2), sweep({"batch_size": [5, 9]}, equal_updates=True)):
        assert joined(study, study) == joined(study)


@st.composite
def parts(draw: st.DrawFn) -> gs.Sweep:
    """Sweeps that one folder can hold."""
    known: dict[str, list[Any]] = {
        "optim.lr": [0.001, 0.01, 0.1], "net.depth": [8, 14, 20], "net.norm": ["none", "batch"],
    }  # fmt: skip
    names = draw(st.lists(st.sampled_from(list(known)), min_size=1, unique=True))
    axes = [{name: draw(st.lists(st.sampled_from(known[name]), min_size=1, unique=True))} for name in names]
    sizes = draw(st.lists(st.sampled_from([10, 25, 50]), min_size=1, unique=True))
    return sweep({"batch_size": sizes}, *axes, seeds=draw(st.integers(1, 3)), equal_updates=True)


@pytest.mark.slow
@given(one=parts(), other=parts())
@settings(deadline=None)
def test_a_union_has_the_same_runs_in_any_order(one: gs.Sweep, other: gs.Sweep) -> None:
    forth, back = joined(one, other), joined(other, one)
    assert runs_of(forth) == runs_of(back) == set(one.runs()) | set(other.runs())
    assert forth["seeds"] == back["seeds"]
    assert {frozenset(role.parameters.items()) for role in forth["roles"].values()} == {
        frozenset(role.parameters.items()) for role in back["roles"].values()
    }
    for name, role in forth["roles"].items():
        assert name == role.name == " ".join(f"{field}={value}" for field, value in role.parameters.items())
        config = configure(one.given, role.parameters)
        assert list(role.runs) == [replace(config, seed=seed).identity for seed in range(len(role.runs))]


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        (
            sweep(RATES),
            gs.Sweep("big", TINY, [RATES]),
            "DIR holds sweep 'small', not 'big'; give another folder",
        ),
        (
            sweep(RATES),
            sweep(RATES, base={**TINY, "epochs": 3}),
            "DIR holds a base of epochs 2, not 3; give another folder with --out",
        ),
        (
            sweep({"batch_size": [5]}),
            sweep({"batch_size": [5]}, scale_lr="sqrt"),
            "DIR holds a base of scale_lr none, not sqrt; give another folder with --out",
        ),
        (
            sweep({"batch_size": [5]}, equal_updates=True),
            sweep({"batch_size": [6]}, equal_updates=True, base={**TINY, "batch_size": 30}),
            "DIR holds a base of batch_size 25, not 30; give another folder with --out",
        ),
    ],
)
def test_what_is_no_part_of_the_sweep_is_refused(before: gs.Sweep, now: gs.Sweep, message: str) -> None:
    asked = joined(before)
    with pytest.raises(StoreError, match=re.escape(message)):
        now.merged(asked, Path("DIR"))


def test_a_base_may_differ_in_what_an_axis_varies() -> None:
    other = sweep({"batch_size": [5]}, base={**TINY, "batch_size": 30})
    assert len(runs_of(joined(sweep({"batch_size": [5]}), other, sweep(DEPTHS)))) == 3


def test_another_studys_folder_is_refused(tmp_path: Path) -> None:
    from gradscape.studies.batchnorm.study import BATCHNORM

    folder = StudyFolder(tmp_path)
    ask(folder, BATCHNORM.plan("quick", None, 1))
    with pytest.raises(
        StoreError, match="holds study 'batchnorm', not 'sweep'; give another folder with --o"
    ):
        ask(folder, sweep(RATES))
    ask(StudyFolder(tmp_path / "sweep"), sweep(RATES))
    with pytest.raises(
        StoreError, match="holds study 'sweep', not 'batchnorm'; give another folder with --o"
    ):
        ask(StudyFolder(tmp_path / "sweep"), BATCHNORM.plan("quick", None, 1))


# For real


@pytest.mark.slow
def test_a_sweep_from_python_runs_and_goes_on(tmp_path: Path) -> None:
    record = sweep({"optim.lr": [0.01]}).run(tmp_path / "study", Execution(workers=1))
    assert record == gs.load(tmp_path / "study")
    assert [run.state for run in record.runs.values()] == ["done"]
    assert "Sweep over optim.lr" in (tmp_path / "study" / "report" / "index.html").read_text()
    more = sweep({"net.norm": ["none"]}, seeds=2).run(str(tmp_path / "study"), Execution(workers=2))
    assert len(more.runs) == 3
    assert more.asked["axes"] == ["optim.lr", "net.norm"]
    assert set(record.runs) < set(more.runs)


def test_only_the_commands_options_say_how_a_sweep_is_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="execution: expected Execution; got 2"):
        sweep(RATES).run(tmp_path, 2)  # type: ignore[arg-type]


def test_more_runs_than_can_be_looked_at_are_refused_before_they_are_made() -> None:
    axes = [
        {"optim.lr": {"range": [0.001, 0.05], "step": 0.001}},
        {"net.slope": {"range": [0.01, 0.5], "step": 0.1}},
    ]
    with pytest.raises(ConfigError, match=r"seeds: expected at most 100,000 runs, not 2,\d00,000; got 10000"):
        gs.Sweep("a", {"net.depth": 8, "net.norm": "none"}, axes, seeds=10_000)
