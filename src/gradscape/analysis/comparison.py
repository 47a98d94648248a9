"""Two trainings compared: the first step and layer where they differ beyond what seeds explain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscape._codec import encode
from gradscape._text import count_noun
from gradscape.analysis.trainings import OF_LAYERS, Table, Training, training
from gradscape.analysis.variation import OWN, Judged, judge, limit
from gradscape.config.arguments import typed
from gradscape.errors import ConfigError
from gradscape.records.comparison import Comparison, Difference, DifferenceTable, Setting
from gradscape.records.encoding import Values

LEVEL = 0.01  # probability that seeds alone make any cell differ
LASTING = {"step": 5, "epoch": 3}  # rows of a median, and medians in a row that must differ
ENOUGH = 4  # times as many rows: fewer are judged one by one, for too few medians share no row
LOG = float(np.log10(np.e))
LOSSES = ("loss", "valid_loss")
NORMS = ("relative_update", "weight", "second_moment")


@typed()
def compare(a: Any, b: Any, seeds_of_a: Sequence[Any] = (), seeds_of_b: Sequence[Any] = ()) -> Comparison:
    """Find where two trainings first differ beyond what seeds explain, in which layer, in what, by how much.

    Of loss, mean |∂L/∂W|, ‖ΔW‖ / ‖W‖, ‖W‖ and, where both have outputs, mean h², logarithms are compared at
    the steps that all histories have. A difference must last: medians over 5 steps (3 epochs) are judged, of
    fewer than four times as many rows the rows themselves, and 5 (3) in a row must be beyond the limit. The
    variation that seeds explain is that between the seeds, if any are given (Student's t, pooled over the
    steps); else that of the two trainings' own steps, together with what seeds of small networks do for good,
    and the verdict is weaker. The limit is Bonferroni's, over all medians: with a probability of 1 % at most
    seeds alone make any of them differ, as far as logarithms are normal.

    Args:
        a, b: Watch, its history, record, folder or path of a run, or rows that `integrations.read_jsonl`
            returned.
        seeds_of_a, seeds_of_b: The same of other seeds of the training a or b.

    Raises:
        ConfigError: One is none of these, one is read by steps and another by epochs, or they have no step in
            common.
        StoreError: A folder holds no run, or is damaged.

    Example:
        >>> gs.compare(flow, flow.history()).equal
        True
    """
    sides = (
        [training(a, "a"), *(training(each, f"seeds_of_a[{i}]") for i, each in enumerate(seeds_of_a))],
        [training(b, "b"), *(training(each, f"seeds_of_b[{i}]") for i, each in enumerate(seeds_of_b))],
    )
    rows = [np.asarray(_common_rows(sides, each)) for side in sides for each in side]
    one, other = sides[0][0], sides[1][0]
    at_a, at_b = rows[0], rows[len(sides[0])]
    steps, lasting = one.steps[at_a], LASTING[one.row]
    kept = lasting if len(steps) >= ENOUGH * lasting else 1
    judged = dict(_judged(sides, rows, kept))
    tests = sum(each.tests for _, each, *_ in judged.values())
    limits = {name: limit(each.freedom, tests, LEVEL) for name, (_, each, *_) in judged.items()}
    found = [
        replace(each, signed=signed)
        for name, (layers, result, ratios, signed) in judged.items()
        for each in _differences(name, layers, result, ratios, limits[name], steps, kept, lasting)
    ]
    order = _order(one)
    place = {difference: order.get(difference.layer, len(order)) for difference in found}
    equal, unequal = _first_unequal(one, other, at_a, at_b)
    return Comparison(
        names=(one.name, other.name),
        row=one.row,
        steps=steps,
        rows=(len(one.steps), len(other.steps)),
        seeds=(len(sides[0]), len(sides[1])),
        kept=kept,
        lasting=min(lasting, len(steps)),
        tests=tests,
        level=LEVEL,
        differences=tuple(sorted(found, key=lambda each: (each.step, place[each], -each.times))),
        equal_rows=equal,
        first_unequal=unequal,
        settings=tuple(_settings(one, other, at_a, at_b)),
        only_a=_alone(one, other),
        only_b=_alone(other, one),
        tables={
            name: DifferenceTable(layers, ratios, _as_rows(result.error, len(steps)), limits[name])
            for name, (layers, result, ratios, _) in judged.items()
        },
        losses=np.stack([_losses(one, at_a), _losses(other, at_b)]),
        notes=tuple(_notes(one, other, steps, lasting)),
    )


def _common_rows(sides: Sequence[Sequence[Training]], of: Training) -> NDArray[np.intp]:
    """Return the rows of one history whose steps all of them have.

    Raises:
        ConfigError: There are none, or rows are of different kinds.
    """
    everyone = [each for side in sides for each in side]
    kinds = {each.row: each.name for each in everyone}
    if len(kinds) > 1:
        raise ConfigError(
            "b: expected two watches or two runs, for a watch is read by steps and a run by epochs; got "
            f"steps of {kinds['step']} and epochs of {kinds['epoch']}"
        )
    common = reduce(np.intersect1d, [each.steps for each in everyone])
    if not len(common):
        reach = "; ".join(
            f"{each.name}: {len(each.steps)} from {each.steps[0]} to {each.steps[-1]}"
            for each in everyone[:4]
        )
        raise ConfigError(
            f"b: no {everyone[0].row} was read of all of them ({reach}); give both watches the same every=, "
            "and a capacity= that keeps the steps to compare"
        )
    found: NDArray[np.intp] = np.searchsorted(of.steps, common)
    return found


def _judged(
    sides: Sequence[Sequence[Training]], rows: Sequence[NDArray[np.intp]], kept: int
) -> Iterator[tuple[str, tuple[tuple[str, ...], Judged, Values, bool]]]:
    """Yield each quantity that all histories have: layers, what was judged, and log ratios of the rows.

    The last value is True of a loss that is not always positive, see `Difference`.
    """
    everyone = [each for side in sides for each in side]
    for name, table in everyone[0].tables.items():
        others = [each.tables.get(name) for each in everyone]
        tables = [each for each in others if each is not None]
        layers = tuple(layer for layer in table.layers if all(layer in each.layers for each in tables))
        if len(tables) < len(everyone) or not layers:
            continue
        values = [_columns(each, layers)[at] for each, at in zip(tables, rows, strict=True)]
        signed = name in LOSSES and any((np.isfinite(each) & (each <= 0)).any() for each in values)
        logs = _in_sizes(values) if signed else _logarithms(values)
        a, b = logs[: len(sides[0])], logs[len(sides[0]) :]
        yield name, (layers, judge(a, b, kept, _own(name, layers, everyone[0].sizes)), _ratios(a, b), signed)


def _columns(table: Table, layers: Sequence[str]) -> Values:
    """Return the columns (T, L) of these layers."""
    places = {layer: place for place, layer in enumerate(table.layers)}
    return table.values[:, [places[layer] for layer in layers]]


def _in_sizes(values: Sequence[Values]) -> list[Values]:
    """Return losses over the median size of all, in the unit of base-10 logarithms: near 1 both are alike."""
    finite = np.concatenate([each[np.isfinite(each)] for each in values])
    size = np.median(np.abs(finite)) or 1.0
    return [LOG * each / size for each in values]


def _logarithms(values: Sequence[Values]) -> list[Values]:
    """Return base-10 logarithms of sizes."""
    with np.errstate(divide="ignore"):
        return [np.log10(np.abs(each)) for each in values]


def _ratios(a: Sequence[Values], b: Sequence[Values]) -> Values:
    """Return (T, L) differences of mean logarithms; infinite where one side is missing, NaN where both."""
    with np.errstate(invalid="ignore"):
        means = [
            np.nan_to_num(np.mean(side, axis=0), nan=-np.inf, posinf=np.inf, neginf=-np.inf)
            for side in (a, b)
        ]
        found: Values = means[1] - means[0]
    return found


def _own(name: str, layers: Sequence[str], sizes: Mapping[str, int]) -> Values:
    """Return (L,) standard deviation of what a seed does to a quantity for good, in log10.

    A norm of n independent normal numbers has a standard deviation of 1 / √(2n) of itself. The model's input
    is no matter of its weights.
    """
    fixed = [layer == "input" and name == "second_moment" for layer in layers]
    base = np.where(fixed, 0.0, OWN[name])
    counts = np.array([sizes.get(layer, np.inf) if name in NORMS else np.inf for layer in layers])
    return np.sqrt(base**2 + LOG**2 / (2 * counts))


def _differences(
    name: str,
    layers: Sequence[str],
    judged: Judged,
    ratios: Values,
    limits: Values,
    steps: NDArray[np.int64],
    kept: int,
    lasting: int,
) -> Iterator[Difference]:
    """Yield the first lasting difference of each layer."""
    windows = len(judged.difference)
    lasting = min(lasting, windows)
    with np.errstate(invalid="ignore"):
        beyond = np.abs(judged.difference) > limits * judged.error
    for column, layer in enumerate(layers):
        signs = np.where(beyond[:, column], np.sign(judged.difference[:, column]), 0)
        sums = np.convolve(signs, np.ones(lasting), "valid")
        starts = np.flatnonzero(np.abs(sums) == lasting)
        if not len(starts):
            continue
        row = _onset(ratios[:, column], judged.difference[starts[0], column], int(starts[0]), kept)
        window = min(row, windows - 1)
        yield Difference(
            step=int(steps[row]),
            layer=layer,
            quantity=name,
            log_ratio=float(judged.difference[window, column]),
            expected=float(judged.error[window, column]),
            limit=float(limits[column]),
        )


def _onset(ratios: Values, difference: float, start: int, kept: int) -> int:
    """Return the first row of a window at which half of the window's difference stands; else its first row.

    It stands at none where the seeds' medians are of different rows, or values are missing.
    """
    part = ratios[start : start + kept] * np.sign(difference)
    return start + int(np.argmax(part >= (abs(difference) / 2)))


def _order(one: Training) -> dict[str, float]:
    """Return the place of each layer from input to output; of a module that of its first parameter."""
    names = (
        one.tables["weight"].layers
        if "weight" in one.tables
        else one.tables["mean_abs"].layers
        if "mean_abs" in one.tables
        else ()
    )
    order: dict[str, float] = {name: float(place) for place, name in enumerate(names)}
    last = -1.0
    outputs = one.tables.get("second_moment")
    for module in outputs.layers if outputs else ():
        prefix = module.partition(" (call ")[0] + "."
        own = [place for name, place in order.items() if name.startswith(prefix)]
        last = min(own) if own else last
        order.setdefault(module, last + 0.5)
    return order


def _first_unequal(
    one: Training, other: Training, at_a: NDArray[np.intp], at_b: NDArray[np.intp]
) -> tuple[int, tuple[int, str, str] | None]:
    """Return the number of equal rows in the beginning, and the step, layer and name of what ends them."""
    order = _order(one)
    found: list[tuple[int, float, str, str]] = []
    for name, table in one.numbers.items():
        if name not in other.numbers:
            continue
        layers = [layer for layer in table.layers if layer in other.numbers[name].layers]
        a, b = _columns(table, layers)[at_a], _columns(other.numbers[name], layers)[at_b]
        unequal = (a != b) & ~(np.isnan(a) & np.isnan(b))
        for row, column in zip(*np.nonzero(unequal), strict=True):
            layer = layers[column]
            found.append((int(row), order.get(layer, len(order)), layer, name))
            break
    if not found:
        return len(at_a), None
    row, _, layer, name = min(found)
    return row, (int(one.steps[at_a][row]), layer, name)


def _settings(
    one: Training, other: Training, at_a: NDArray[np.intp], at_b: NDArray[np.intp]
) -> Iterator[Setting]:
    """Yield the settings that differ, and from where on learning rates do."""
    for name in dict.fromkeys([*one.settings, *other.settings]):
        a, b = (encode(each.settings.get(name)) for each in (one, other))
        if a != b and not (name.startswith("shape of ") and (a is None or b is None)):
            yield Setting(name, a, b)
    if one.rates is None or other.rates is None:
        return
    layers = [layer for layer in one.rates.layers if layer in other.rates.layers]
    rates = [_columns(one.rates, layers)[at_a], _columns(other.rates, layers)[at_b]]
    unequal = (rates[0] != rates[1]) & ~np.isnan(rates[0]) & ~np.isnan(rates[1])
    for row, column in zip(*np.nonzero(unequal), strict=True):
        step = one.steps[at_a][row]
        where = f" of {layers[column]}" if layers[column] else ""
        yield Setting(
            f"learning rate{where} at {one.row} {step}", *(float(each[row, column]) for each in rates)
        )
        return


def _alone(one: Training, other: Training) -> tuple[str, ...]:
    """Return the parameter tensors that the other training lacks."""
    known = _tensors(other)
    return tuple(layer for layer in _tensors(one) if layer not in known) if known else ()


def _tensors(one: Training) -> tuple[str, ...]:
    """Return the names of the parameter tensors, in the order of registration."""
    return next((one.numbers[name].layers for name in OF_LAYERS if name in one.numbers), ())


def _losses(one: Training, rows: NDArray[np.intp]) -> Values:
    """Return (T,) losses, NaN where they are not known."""
    table = one.tables.get("loss")
    return np.full(len(rows), np.nan) if table is None else table.values[rows, 0]


def _as_rows(windows: Values, count: int) -> Values:
    """Return values (T, L) of rows from those of windows, the last ones repeated."""
    return np.pad(windows, ((0, count - len(windows)), (0, 0)), mode="edge")


def _notes(one: Training, other: Training, steps: NDArray[np.int64], lasting: int) -> Iterator[str]:
    """Yield what a reader should know of the rows."""
    count = len(steps)
    if count < max(len(one.steps), len(other.steps)):
        yield f"{count} {one.row}s are common, of {len(one.steps)} of a and {len(other.steps)} of b"
    if count < lasting:
        yield f"{count_noun(count, 'row')}: too few to see whether a difference lasts"
    missing = {*one.tables} ^ {*other.tables}
    if missing:
        yield f"not compared, for only one has it: {', '.join(sorted(missing))}"
