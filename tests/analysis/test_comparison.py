"""Where two trainings differ: planted differences are found where they are, and noise is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

import gradscape as gs
import synthetic
from gradscape._codec import decode
from gradscape.analysis.variation import OWN
from gradscape.errors import ConfigError
from gradscape.records.comparison import Comparison
from gradscape.records.encoding import Values
from gradscape.records.gradients import FlowHistory, OptimizerFacts
from gradscape.records.loss import LossHistory
from gradscape.report.interactive.comparison import comparison_document
from made_records import made_flow

ROWS, LAYERS = 60, 4
TABLES = ("mean_abs", "relative_update", "weight")
ADAM = OptimizerFacts("Adam", 1e-3, 1e-8, None, (0, 1, 2, 3))


def noise(seed: int, rows: int = ROWS, size: float = 0.05) -> dict[str, Values]:
    """Tables that vary around 1 by so much in log10, a loss too."""
    rng = np.random.default_rng(seed)
    return {name: 10.0 ** rng.normal(0, size, (rows, LAYERS)) for name in (*TABLES, "loss")}


def still(rows: int = ROWS) -> dict[str, Values]:
    return {name: np.ones((rows, LAYERS)) for name in (*TABLES, "loss")}


def history(tables: dict[str, Values], steps: Sequence[int] | None = None, **changes: Any) -> FlowHistory:
    """A watch's history of four linear layers with these tables and the loss of the first column."""
    rows = np.arange(len(tables["weight"])) if steps is None else np.array(steps, dtype=np.int64)
    made = made_flow(np.ones((len(rows), LAYERS)), [f"{place}.weight" for place in range(LAYERS)])
    given = {name: tables[name] for name in TABLES}
    loss = LossHistory(rows, tables["loss"][:, 0])
    values = {"row": "step", "steps": rows, "loss": loss, "sizes": (10_000,) * LAYERS, **given, **changes}
    return replace(made, **values)


def planted(tables: dict[str, Values], name: str, row: int, layer: int, factor: float) -> dict[str, Values]:
    """The same tables with a factor on a quantity of a layer from a row on."""
    values = tables[name].copy()
    values[row:, layer] *= factor
    return {**tables, name: values}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("row", [0, 23, 50])
def test_a_planted_difference_is_found_where_it_is_and_no_other(name: str, row: int) -> None:
    found = gs.compare(history(noise(0)), history(planted(noise(1), name, row, 2, 10.0)))
    assert found.first is not None
    assert (found.first.step, found.first.layer, found.first.quantity) == (row, "2.weight", name)
    assert found.first.log_ratio == pytest.approx(1.0, abs=0.15)
    assert found.differences == (found.first,)
    assert found.differs
    assert f"they differ from step {row} on, first in 2.weight: " in str(found)


def test_without_noise_ratio_and_times_are_exact() -> None:
    found = gs.compare(history(still()), history(planted(still(), "mean_abs", 20, 1, 4.0)))
    (only,) = found.differences
    assert (only.step, only.layer) == (20, "1.weight")
    assert only.log_ratio == pytest.approx(math.log10(4), rel=1e-12)
    assert only.expected == pytest.approx(OWN["mean_abs"] * math.sqrt(2), rel=1e-3)
    assert only.times == pytest.approx(only.log_ratio / only.expected)
    assert found.equal_rows == 20
    assert found.first_unequal == (20, "1.weight", "mean_abs")
    assert "4 times that of a (log10 +0.60)" in str(found)


def test_the_first_layer_is_the_first_of_those_that_differ_at_the_first_step() -> None:
    tables = planted(still(), "mean_abs", 12, 3, 10.0)
    tables = planted(planted(tables, "weight", 12, 1, 0.1), "relative_update", 30, 0, 10.0)
    found = gs.compare(history(still()), history(tables))
    places = [(each.step, each.layer, each.quantity) for each in found.differences]
    assert places == [
        (12, "1.weight", "weight"), (12, "3.weight", "mean_abs"), (30, "0.weight", "relative_update")
    ]  # fmt: skip


def test_a_loss_is_compared_too() -> None:
    found = gs.compare(history(still()), history(planted(still(), "loss", 10, 0, 3.0)))
    assert found.first is not None
    assert (found.first.step, found.first.layer, found.first.quantity) == (10, "", "loss")
    assert "first in loss of b is 3 times" in found.verdict


def test_a_loss_that_is_negative_is_compared_by_its_size() -> None:
    a, b = still(), still()
    a["loss"] = -a["loss"]
    b["loss"] = -b["loss"] * 3
    found = gs.compare(history(a), history(b))
    assert found.first is not None
    assert found.first.quantity == "loss"
    assert found.first.log_ratio == pytest.approx(-2 * math.log10(math.e) / 2)  # the median size is 2
    assert "first in loss of b is 1 times its median size below that of a, " in found.verdict
    b["loss"] = np.full_like(b["loss"], 1e9)  # a ratio of which the logarithm would be that of no number
    b["loss"][:2] = -1
    assert "times its median size above that of a" in gs.compare(history(a), history(b)).verdict
    assert not gs.compare(history(a), history(a)).differs


def test_equal_histories_are_equal_bit_for_bit() -> None:
    found = gs.compare(history(noise(0)), history(noise(0)))
    assert found.equal
    assert found.equal_rows == ROWS
    assert not found.differs
    assert found.verdict == "equal bit for bit for 60 common steps"


def test_rounding_is_named_and_is_no_difference() -> None:
    other = noise(0)
    other["weight"][17, 3] = np.nextafter(other["weight"][17, 3], 2)
    found = gs.compare(history(noise(0)), history(other))
    assert not found.differs
    assert not found.equal
    assert (found.equal_rows, found.first_unequal) == (17, (17, "3.weight", "weight"))
    assert "first number that differs at all: weight of 3.weight at step 17, after 17 equal rows" in str(
        found
    )


def test_a_spike_is_no_difference_and_what_lasts_is() -> None:
    spike = still()
    spike["mean_abs"][30:32, 1] = 1e6
    assert not gs.compare(history(still()), history(spike)).differs
    spike["mean_abs"][30:42, 1] = 1e6
    found = gs.compare(history(still()), history(spike)).first
    assert found is not None
    assert found.step == 30


@pytest.mark.parametrize(("value", "sign"), [(0.0, -1), (math.nan, -1), (math.inf, 1)])
def test_a_quantity_that_ends_is_a_difference_from_there(value: float, sign: int) -> None:
    other = noise(1)
    other["mean_abs"][25:, 1] = value
    found = gs.compare(history(noise(0)), history(other))
    assert found.first is not None
    assert (found.first.step, found.first.layer, found.first.quantity) == (25, "1.weight", "mean_abs")
    assert found.first.log_ratio == sign * math.inf
    assert "in one alone" in str(found)
    assert not gs.compare(history(other), history(other)).differs
    both = noise(2)
    both["mean_abs"][25:, 1] = value
    assert not gs.compare(history(other), history(both)).differs


def test_a_gradient_that_is_not_finite_is_no_gradient_that_is_missing() -> None:
    bad, missing = noise(0), noise(1)
    bad["mean_abs"][:, 0] = missing["mean_abs"][:, 0] = math.nan
    nonfinite = np.zeros((ROWS, LAYERS))
    nonfinite[:, 0] = 1
    found = gs.compare(history(missing), history(bad, nonfinite=nonfinite))
    assert found.first is not None
    assert (found.first.layer, found.first.log_ratio) == ("0.weight", math.inf)


def test_few_rows_are_judged_as_far_as_they_go() -> None:
    with pytest.raises(ConfigError, match="a: no step has been read yet; train first, then compare"):
        gs.compare(history(still(0)), history(still()))
    one = gs.compare(history(still(1)), history(planted(still(1), "mean_abs", 0, 0, 1e9)))
    assert not one.differs  # one row has no variation of its own
    assert one.verdict.startswith("1 common step cannot tell whether they differ beyond noise")
    assert "1 row: too few to see whether a difference lasts" in str(one)
    six = gs.compare(history(still(6)), history(planted(still(6), "mean_abs", 0, 0, 1e9)))
    assert six.differs
    assert gs.compare(history(still(1)), history(still(1))).equal


def test_common_steps_are_compared_and_none_is_refused() -> None:
    a = history(still(60), range(0, 120, 2))
    b = history(planted(still(40), "mean_abs", 20, 1, 10.0), range(0, 120, 3))
    found = gs.compare(a, b)
    assert found.steps.tolist() == list(range(0, 120, 6))
    assert found.first is not None
    assert found.first.step == 60
    assert found.rows == (60, 40)
    assert "20 steps are common, of 60 of a and 40 of b" in str(found)
    assert "every 2 → 3" in str(found)
    with pytest.raises(
        ConfigError, match=r"b: no step was read of all of them .*; give both watches the same"
    ):
        gs.compare(a, history(still(60), range(1, 121, 2)))


def test_steps_are_not_compared_with_epochs() -> None:
    with pytest.raises(
        ConfigError, match=r"expected two watches or two runs, .* got steps of a and epochs of b"
    ):
        gs.compare(history(still()), history(still(), row="epoch"))


def test_what_is_nothing_of_these_is_refused() -> None:
    flow = history(still())
    for thing in (3, None, {"a": 1}, [1, 2], nn.Linear(2, 2)):
        with pytest.raises(
            ConfigError, match="b: expected a watch, its history, a run or its folder, or rows"
        ):
            gs.compare(flow, thing)
    with pytest.raises(ConfigError, match=r"seeds_of_a\[1\]: expected a watch"):
        gs.compare(flow, flow, seeds_of_a=[flow, 3])
    with pytest.raises(ConfigError, match=r"expected rows that JsonLines wrote, each with a step"):
        gs.compare(flow, [{"loss": 3.0}])
    with pytest.raises(ConfigError, match=r"b: no row has a loss, mean_abs"):
        gs.compare(flow, [{"step": 3, "gradient/skipped": 0.0}])
    with pytest.raises(ConfigError, match=r"expected one run; got a study of \d+; give the folder of one"):
        gs.compare(flow, synthetic.study(seeds=1))


# Seeds ----------------------------------------------------------------------------------------------


def seeds(first: int, count: int, offset: float, **changes: float) -> list[FlowHistory]:
    """Histories of seeds, each with an offset of its own in log10 for good."""
    found = []
    for seed in range(first, first + count):
        own = 10 ** (offset * np.random.default_rng([7, seed]).normal())
        tables = {name: values * own for name, values in noise(seed).items()}
        for name, factor in changes.items():
            tables[name] = tables[name] * factor
        found.append(history(tables))
    return found


def test_what_seeds_explain_is_no_difference_and_what_they_do_not_is_one() -> None:
    loose, firm = seeds(0, 8, 0.3), seeds(0, 8, 0.0)
    far = seeds(100, 4, 0.3, mean_abs=3.0)
    near = seeds(100, 4, 0.0, mean_abs=3.0)
    assert not gs.compare(loose[0], far[0], loose[1:], far[1:]).differs
    found = gs.compare(firm[0], near[0], firm[1:], near[1:])
    assert found.first is not None
    assert (found.first.step, found.first.layer, found.first.quantity) == (0, "0.weight", "mean_abs")
    assert {each.quantity for each in found.differences} == {"mean_abs"}
    assert found.by_seeds
    assert "between seeds (n = 8 and 4 seeds)" in str(found)


def test_without_seeds_the_text_says_that_the_verdict_is_weaker() -> None:
    a, b = history(noise(0)), history(noise(1))
    found = gs.compare(a, b)
    assert not found.by_seeds
    assert found.verdict == "they do not differ beyond noise over 60 common steps"
    assert "no other seeds were compared: the verdict is weaker" in str(found)
    assert "stronger with other seeds of both: seeds_of_a=" in str(found)
    page = comparison_document(a, b)
    assert "seeds_of_a" not in str(page)
    assert "gradscape compare with --seeds-of-a" in page["notes"][-1]


def test_seeds_that_disagree_on_what_is_zero_are_not_judged_there() -> None:
    some = seeds(0, 3, 0.0)
    dead = some[1].mean_abs.copy()
    dead[:, 0] = 0
    other = seeds(10, 1, 0.0)[0]
    found = gs.compare(some[0], other, [replace(some[1], mean_abs=dead), some[2]])
    assert not [
        each for each in found.differences if each.layer == "0.weight" and each.quantity == "mean_abs"
    ]


def test_a_difference_of_medians_that_stands_at_no_row_begins_with_its_window() -> None:
    one, other = still(), still()
    one["mean_abs"][3::5, 1] = one["mean_abs"][4::5, 1] = 1e9
    other["mean_abs"][:, 1] = math.nan  # it is read only where that of the other is large
    other["mean_abs"][3::5, 1] = other["mean_abs"][4::5, 1] = 1e8
    found = gs.compare(history(one), history(other)).first
    assert found is not None
    assert (found.step, found.layer, found.log_ratio) == (0, "1.weight", pytest.approx(8))


def test_seeds_whose_zeros_are_at_different_steps_are_compared() -> None:
    many = []
    for seed, zeros in enumerate([(3, 4), (0, 1), (2, 3)]):
        tables = noise(seed, size=0.01)
        tables["mean_abs"][:, 1] *= 1e6
        for place in zeros:
            tables["mean_abs"][place::5, 1] = 0
        many.append(history(tables))
    others = [history(noise(10 + seed, size=0.01)) for seed in range(2)]
    found = gs.compare(many[0], others[0], many[1:], others[1:]).first
    assert found is not None
    assert (found.step, found.layer, found.log_ratio) == (0, "1.weight", pytest.approx(-6, abs=0.1))


@pytest.mark.parametrize("offset", [0.0, 0.02])
def test_seeds_of_one_training_are_almost_never_called_different(offset: float) -> None:
    many = seeds(0, 80, offset)
    alone = [gs.compare(a, b).differs for a, b in zip(many[::2], many[1::2], strict=True)]
    assert sum(alone) == 0
    groups = [many[first : first + 4] for first in range(0, 80, 4)]
    with_seeds = [gs.compare(g[0], g[2], g[1:2], g[3:]).differs for g in groups]
    assert sum(with_seeds) == 0


# Properties -----------------------------------------------------------------------------------------

DRAWS = {"seed": st.integers(0, 10_000), "factor": st.floats(0.01, 100), "row": st.integers(0, 30)}


@settings(deadline=None, max_examples=10)
@given(**DRAWS)
def test_it_is_symmetric_but_for_the_sign(seed: int, factor: float, row: int) -> None:
    a, b = history(noise(seed)), history(planted(noise(seed + 1), "mean_abs", row, 1, factor))
    one, other = gs.compare(a, b), gs.compare(b, a)
    assert [(e.step, e.layer, e.quantity) for e in one.differences] == [
        (e.step, e.layer, e.quantity) for e in other.differences
    ]
    assert [e.log_ratio for e in one.differences] == [-e.log_ratio for e in other.differences]
    assert [e.times for e in one.differences] == pytest.approx([e.times for e in other.differences])


@settings(deadline=None, max_examples=6)
@given(order=st.permutations(range(4)), scale=st.sampled_from([2.0**-20, 0.5, 4.0, 2.0**30]), **DRAWS)
def test_the_order_of_seeds_and_the_scale_of_a_quantity_do_not_matter(
    order: list[int], scale: float, seed: int, factor: float, row: int
) -> None:
    a = [noise(seed + k) for k in range(4)]
    b = [planted(noise(seed + 10 + k), "mean_abs", row, 1, factor) for k in range(2)]

    def result(sides: list[dict[str, Values]], others: list[dict[str, Values]]) -> list[tuple[Any, ...]]:
        mine, theirs = [history(each) for each in sides], [history(each) for each in others]
        found = gs.compare(mine[0], theirs[0], mine[1:], theirs[1:])
        return [(e.step, e.layer, e.quantity, round(e.log_ratio, 9)) for e in found.differences]

    before = result(a, b)
    assert result([a[k] for k in order], b[::-1]) == before
    scaled = [[{**each, "mean_abs": each["mean_abs"] * scale} for each in side] for side in (a, b)]
    assert result(*scaled) == before


# Settings, layers and the record --------------------------------------------------------------------


def test_settings_that_differ_are_named() -> None:
    slow, fast = np.full((ROWS, LAYERS), 1e-3), np.full((ROWS, LAYERS), 1e-3)
    fast[40:] = 2e-3
    a = history(still(), optimizers=(ADAM,), rates=slow, dtypes=("float32",) * 4, modules=("Linear",))
    b = history(
        still(), optimizers=(replace(ADAM, lr=2e-3),), rates=fast, dtypes=("bfloat16",) * 4,
        modules=("Linear", "Dropout"),
    )  # fmt: skip
    found = {each.name: (each.a, each.b) for each in gs.compare(a, b).settings}
    assert found == {
        "optimizer.lr": (1e-3, 2e-3),
        "modules": (["Linear"], ["Linear", "Dropout"]),
        "dtypes": ("float32", "bfloat16"),
        "learning rate of 0.weight at step 40": (1e-3, 2e-3),
    }


def test_layers_that_one_alone_has_are_a_difference() -> None:
    other = history(still(), layers=("0.weight", "1.weight", "extra.weight", "3.weight"))
    found = gs.compare(history(still()), other)
    assert (found.only_a, found.only_b) == (("2.weight",), ("extra.weight",))
    assert found.differs
    assert "layers of b alone: extra.weight" in str(found)
    assert found.tables["mean_abs"].layers == ("0.weight", "1.weight", "3.weight")


def test_runs_are_compared_by_epochs_with_their_configurations() -> None:
    a, b = synthetic.run("vgg38-bn", 0), synthetic.run("vgg38-bn", 1)
    assert not gs.compare(a, b).differs
    assert [each.name for each in gs.compare(a, b).settings] == ["seed"]
    plain = gs.compare(a, synthetic.run("vgg38", 0))
    assert plain.row == "epoch"
    assert plain.first is not None
    assert plain.first.step == 1
    assert plain.verdict.startswith("they differ from epoch 1 on, first in ")
    other = {**b.config, "optim": {**b.config["optim"], "lr": 0.5}}
    more = gs.compare(a, replace(b, config=other))
    assert ("optim.lr", 0.5) in [(each.name, each.b) for each in more.settings]
    with pytest.raises(ConfigError, match="has no epoch with its gradients yet"):
        gs.compare(a, replace(b, epochs=(), flow=None))


def test_the_record_is_read_back_and_drawn() -> None:
    from matplotlib.figure import Figure

    found = gs.compare(history(noise(0)), history(planted(noise(1), "weight", 20, 2, 10.0)))
    values = found.to_dict()
    assert values["differs"] is True
    assert values["first"]["layer"] == "2.weight"
    assert decode(Comparison, values) == found
    for quantity in ("", "mean_abs", "loss"):
        axes = Figure().add_subplot()
        assert found.plot(axes, quantity) is axes
    free = Figure().add_axes((0.1, 0.1, 0.8, 0.8))
    assert len(found.plot(free).figure.axes) == 2  # map and color bar, for there is no room for the losses
    axes = found.plot(Figure().add_subplot())
    panel = axes.figure.axes[1]
    assert [line.get_label() for line in panel.get_lines()] == ["a", "b"]
    assert axes.get_xlabel() == "step"
    assert [set(line.get_xdata()) for line in axes.get_lines()] == [{20}, {20}]
    assert repr(found).startswith("<Comparison: they differ from step 20 on, first in 2.weight")


# Real trainings -------------------------------------------------------------------------------------


def trained(seed: int, freeze: int = 10**6, lr: float = 0.1) -> FlowHistory:
    """A small network on random clusters, whose second layer is frozen from a step on."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    centers = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    with gs.watch(model, optimizer) as flow:
        for step in range(80):
            if step == freeze:
                model[2].weight.requires_grad_(False)
            y = torch.randint(4, (32,))
            optimizer.zero_grad()
            cross_entropy(model(centers[y] + torch.randn(32, 16)), y).backward()
            optimizer.step()
    return flow.history()


def test_a_layer_that_is_frozen_in_a_real_training_is_named_at_its_step() -> None:
    plain, frozen = trained(0), trained(0, freeze=30)
    found = gs.compare(plain, frozen)
    assert found.equal_rows == 30
    assert found.first is not None
    assert (found.first.step, found.first.layer) == (30, "2.weight")
    other = gs.compare(trained(1), frozen).first
    assert other is not None
    assert (other.step, other.layer) == (30, "2.weight")
    assert not gs.compare(plain, trained(1)).differs


@pytest.mark.slow
def test_a_doubled_learning_rate_is_named_at_once() -> None:
    found = gs.compare(trained(0), trained(3, lr=0.2), [trained(1), trained(2)])
    assert found.first is not None
    assert (found.first.step, found.first.quantity) == (0, "relative_update")
    assert found.first.log_ratio > math.log10(2) / 2
