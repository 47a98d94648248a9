"""What the sizes of a coordinate check say, from made-up power laws."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from gradscape._codec import decode
from gradscape.errors import ConfigError
from gradscape.records.coordinates import CoordinateCheck
from gradscape.records.width_exponents import ends, fitted, in_words, nearest
from gradscape.stats.student_t import Interval, student_t

WIDTHS = np.array([64.0, 128.0, 256.0, 512.0])
LAYERS = ("first", "second", "head")


def made(
    initial: Any = (0, 0, -0.5), change: Any = (0, 0, 0), effective: Any = (0, 0, 0), noise: float = 0.02,
    steps: int = 2, layers: tuple[str, ...] = LAYERS, seeds: int = 5, **others: Any,
) -> CoordinateCheck:  # fmt: skip
    """Sizes that go as width^a, of one exponent for each layer, with log-normal noise."""
    generator = np.random.default_rng(0)

    def laws(exponents: Any) -> np.ndarray:
        powers = WIDTHS[:, None] ** np.asarray(exponents, dtype=float)
        shape = (seeds, len(WIDTHS), steps + 1, len(layers))
        return np.asarray(powers[None, :, None] * generator.lognormal(0, noise, shape))

    changes, own = laws(change), laws(effective)
    changes[:, :, 0] = own[:, :, 0] = 0
    values: dict[str, Any] = {
        "widths": (64, 128, 256, 512), "layers": layers, "kinds": ("linear",) * len(layers),
        "output": layers[-1], "readout": "", "sizes": laws(initial), "changes": changes, "effective": own,
        "losses": np.ones(changes.shape[:3]), "optimizer": "Adam", "batches": 1, "samples": 8, "notes": (),
    }  # fmt: skip
    return CoordinateCheck(**(values | others))


def test_the_interval_is_student_s_over_the_seeds_own_slopes() -> None:
    generator = np.random.default_rng(1)
    sizes = WIDTHS**0.7 * generator.lognormal(0, 0.1, (4, 4))
    slopes = [np.polyfit(np.log(WIDTHS), np.log(row), 1)[0] for row in sizes]
    found = fitted(WIDTHS, sizes)
    assert found is not None
    half = student_t(3) * np.std(slopes, ddof=1) / 2
    assert ends(found) == pytest.approx((np.mean(slopes) - half, np.mean(slopes) + half), rel=1e-9)
    for bad in (0.0, math.inf, math.nan):
        sizes[1, 2] = bad
        assert fitted(WIDTHS, sizes) is None


def test_all_flat_is_as_mup_should_be_and_its_output_may_shrink_before_training() -> None:
    found = made()
    assert found.verdict == "flat"
    assert found.heading == (
        "scales with width as muP should: outputs and updates of 3 layers keep their size after 2 steps"
    )
    assert made(initial=(0, -0.5, 0)).verdict == "shrinks"


@pytest.mark.parametrize(
    ("exponents", "verdict", "heading"),
    [
        ({"effective": (0, 1, 0), "change": (0, 1, 1)}, "grows",
         "first second, whose effective update goes as width^1.00"),
        ({"change": (0, 1, 0)}, "grows", "first second, whose change of its output goes as width^1.00"),
        ({"initial": (0, 0.5, 1)}, "grows", "first second, whose initial output goes as width^0.50"),
        ({"effective": (-0.5, 0, 0)}, "shrinks", "first first, whose effective update goes as width^−0.50"),
        ({"effective": (-0.5, 1, 0)}, "grows", "first second"),  # what grows is graver
    ],
)  # fmt: skip
def test_the_first_layer_that_is_not_flat_is_named(exponents: Any, verdict: str, heading: str) -> None:
    found = made(**exponents, noise=1e-4)
    assert found.verdict == verdict
    assert found.heading.startswith(f"{verdict} with width: {heading}")
    assert (found.first == "second") == (verdict == "grows")


def test_what_an_interval_leaves_open_is_undecided() -> None:
    found = made(noise=1.5)
    assert found.verdict == "undecided"
    assert "take more seeds" in found.heading
    assert made(effective=(0, 0.25, 0)).by_layer[1].verdict == "undecided"


def test_layers_that_do_not_move_are_still_and_nothing_moving_is_no_success() -> None:
    found = made()
    still = np.zeros_like(found.changes)
    assert replace(found, changes=still, effective=still).verdict == "still"
    frozen = found.effective.copy()
    frozen[..., 1] = 0  # a frozen layer whose input moves is judged by what comes out
    assert replace(found, effective=frozen).by_layer[1].verdict == "flat"
    frozen_change = found.changes.copy()
    frozen_change[..., 1] = 0
    assert replace(found, effective=frozen, changes=frozen_change).by_layer[1].verdict == "still"
    assert replace(found, effective=frozen, changes=frozen_change).verdict == "flat"
    assert replace(found, effective=frozen, changes=frozen_change).heading.endswith("; second did not move")


def test_a_width_that_diverges_is_told_and_steps_before_are_judged() -> None:
    found = made(effective=(0, 1, 0), steps=3)
    sizes = found.sizes.copy()
    sizes[2, 3, 2:, 1] = math.inf
    broken = replace(found, sizes=sizes)
    assert broken.verdict == "diverges"
    assert broken.judged_step == 1
    assert broken.divergence == {512: 2}
    assert broken.heading.startswith("not finite at width 512 (step 2); grows with width: first second")
    nothing = replace(found, sizes=np.full_like(sizes, math.nan))
    assert nothing.judged_step == -1
    assert nothing.heading.startswith("not finite at width 64 (step 0)")
    assert "–" in str(nothing)


def test_a_readout_that_is_scaled_afterwards_is_judged_by_what_comes_out() -> None:
    layers = ("first", "second", "head", "(output)")
    exponents = {"initial": (0, 0, 0, -1), "change": (0, 0, 1, 0), "effective": (0, 0, 1, math.nan)}
    assert made(layers=layers, **exponents).first == "head"
    found = made(layers=layers, readout="head", **exponents)
    assert found.verdict == "flat"
    assert "(scaled)" in str(found)


@pytest.mark.parametrize(
    ("mean", "half", "words", "near"),
    [
        (0.98, 0.07, "0.98 (0.91 … 1.05)", "1"), (-0.5, 0.1, "−0.50 (−0.60 … −0.40)", "−½"),
        (1.5, 0.2, "1.50 (1.30 … 1.70)", "1½"), (0.5, 0.3, "0.50 (0.20 … 0.80)", ""),
        (-0.001, 0.001, "0.00 (−0.00 … 0.00)".replace("−0.00", "0.00"), "0"),
    ],
)  # fmt: skip
def test_exponents_are_rounded_to_halves_that_their_interval_allows(
    mean: float, half: float, words: str, near: str
) -> None:
    exponent = Interval(mean, mean - half, mean + half, 5)
    assert in_words(exponent) in (words, "0.00")
    assert nearest(exponent) == near
    assert in_words(None) == "–"
    assert nearest(Interval(1.0, None, None, 5)) == "1"


def test_it_is_stored_and_drawn() -> None:
    found = made()
    assert decode(CoordinateCheck, found.to_dict()) == found
    values = found.to_dict()
    assert values["verdict"] == "flat"
    assert values["exponents"][0]["effective"]["n"] == 5
    axes = found.plot(Figure().add_subplot(), "sizes", 0)
    assert axes.get_ylabel() == "mean |x| before training"
    assert len(axes.lines) == 3
    for draw in found.drawings.values():
        assert draw(Figure().add_subplot()).has_data()
    with pytest.raises(ConfigError, match=r"^of: expected one of sizes, changes, effective; got 'size'$"):
        found.plot(Figure().add_subplot(), "size")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^step: expected 0 … 2; got 3$"):
        found.plot(Figure().add_subplot(), step=3)


def test_a_deep_network_is_a_short_table() -> None:
    layers = tuple(f"blocks.{i}.mlp" for i in range(60))
    found = made(*[(0,) * 60] * 3, layers=layers)
    lines = found.table()
    assert len(lines) == 26
    assert lines[13] == "…"
    axes = found.plot(Figure().add_subplot())
    assert len(axes.get_legend().get_texts()) == 2
