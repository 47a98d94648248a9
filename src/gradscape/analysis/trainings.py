"""Trainings to be compared, from a watch, a history, a run or the lines of a log, in one form."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gradscape.errors import ConfigError, brief
from gradscape.records.encoding import Values
from gradscape.records.gradients import FlowHistory
from gradscape.records.run import RunRecord, StudyRecord
from gradscape.storage.run_folder import RunFolder
from gradscape.storage.study_folder import load

NUMBERS = ("mean_abs", "max_abs", "rms", "zeros", "nonfinite", "weight", "update", "relative_update")
OF_LAYERS = ("mean_abs", "relative_update", "weight")
OF_OUTPUTS = ("second_moment",)
ENVIRONMENT = ("versions", "device", "processor", "threads", "computed_in", "fused")  # of a run's status
_KEY = re.compile(r"(gradient|activation)/(.+)/([a-z_]+)")

Row = Literal["step", "epoch"]


@dataclass(frozen=True)
class Table:
    """A quantity of every layer at every row.

    Attributes:
        layers: (L) Names; a loss is of the layer with an empty name.
        values: (T, L) Values: infinite where one is not finite, NaN where there is none.
    """

    layers: tuple[str, ...]
    values: Values


@dataclass(frozen=True)
class Training:
    """Numbers and settings that a training is compared by.

    Attributes:
        name: Name of the training.
        row: Kind of a row.
        steps: (T,) Steps or epochs of the rows, rising.
        tables: Quantities that are compared, by name.
        numbers: All that was read, by name: equal trainings have the same numbers here, bit for bit.
        sizes: Number of elements per parameter tensor, and of numbers per output, as far as they are known.
        settings: Settings of the training, by name.
        rates: Learning rates; None where they are not known.
    """

    name: str
    row: Row
    steps: NDArray[np.int64]
    tables: Mapping[str, Table]
    numbers: Mapping[str, Table]
    sizes: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    rates: Table | None = None


def training(thing: Any, name: str) -> Training:
    """Return what a user gave in the one form.

    Args:
        thing: Watch, its history, record, folder or path of a run, or rows of `read_jsonl`.
        name: Name of the argument, which names what has no name of its own.

    Raises:
        ConfigError: It is something else, or has no row.
        StoreError: The folder holds no run, or is damaged.
    """
    if callable(getattr(thing, "history", None)):
        thing = thing.history()  # a watch's type is not imported: it needs torch
    elif isinstance(thing, RunFolder):
        thing = thing.record()
    elif isinstance(thing, str | Path):
        thing = load(thing)
    match thing:
        case FlowHistory():
            found = _of_history(thing, name)
        case RunRecord():
            found = _of_run(thing)
        case StudyRecord():
            raise ConfigError(
                f"{name}: expected one run; got a study of {len(thing.runs)}; give the folder of one of "
                "them, such as DIR/runs/<identity>"
            )
        case [*rows] if all(isinstance(row, Mapping) for row in rows):
            found = _of_rows(rows, name)
        case _:
            raise ConfigError(
                f"{name}: expected a watch, its history, a run or its folder, or rows of read_jsonl; got "
                f"{brief(thing)}; type: gs.compare(flow_a, flow_b)"
            )
    if not len(found.steps):
        raise ConfigError(f"{name}: no {found.row} has been read yet; train first, then compare")
    return found


def _of_history(history: FlowHistory, name: str) -> Training:
    numbers = _numbers(history)
    if history.loss is not None and len(history.loss.steps):
        known = dict(zip(history.loss.steps.tolist(), history.loss.values.tolist(), strict=True))
        losses = [known.get(step, np.nan) for step in history.steps.tolist()]
        numbers["loss"] = Table(("",), _marked(np.array(losses)[:, None], known, history.steps))
    return Training(
        name=name,
        row=history.row,
        steps=history.steps,
        tables={key: numbers[key] for key in ("loss", *OF_LAYERS, *OF_OUTPUTS) if key in numbers},
        numbers=numbers,
        sizes=dict(zip(history.layers, history.sizes, strict=True)) | _widths(history),
        settings=dict(_settings(history)),
        rates=None if history.rates is None else Table(history.layers, history.rates),
    )


def _marked(values: Values, known: Mapping[int, float], steps: NDArray[np.int64]) -> Values:
    """Return losses with infinity for those that were seen and are NaN."""
    seen = np.array([step in known for step in steps.tolist()])[:, None]
    return np.where(np.isnan(values) & seen, np.inf, values)


def _numbers(history: FlowHistory) -> dict[str, Table]:
    """Return every table of a history, those of outputs too; infinity where a gradient was not finite."""
    bad = history.nonfinite > 0
    found = {}
    for name in NUMBERS:
        values = getattr(history, name)
        found[name] = Table(history.layers, np.where(bad & np.isnan(values), np.inf, values))
    if (outputs := history.activations) is not None:
        moment = np.where(outputs.nonfinite & np.isnan(outputs.second_moment), np.inf, outputs.second_moment)
        found["second_moment"] = Table(outputs.layers, moment)
        for name in ("correlation", "dead", "saturated"):
            found[name] = Table(outputs.layers, getattr(outputs, name))
    return found


def _widths(history: FlowHistory) -> dict[str, int]:
    """Return the number of units of each layer's output."""
    outputs = history.activations
    return {} if outputs is None else dict(zip(outputs.layers, outputs.widths, strict=True))


def _settings(history: FlowHistory) -> Iterator[tuple[str, Any]]:
    """Yield what is known of how a watched training was set up."""
    for place, facts in enumerate(history.optimizers):
        prefix = f"optimizers[{place}]." if len(history.optimizers) > 1 else "optimizer."
        for key, value in asdict(facts).items():
            if key not in ("members", "plain"):
                yield prefix + key, _once(value)
    if len(history.steps) > 1:
        yield "every", int(np.median(np.diff(history.steps)))
    yield "seen", history.seen
    yield "modules", history.modules
    yield "dtypes", _once(history.dtypes)
    if history.untrained is not None:
        yield "frozen", history.untrained.frozen
        yield "without optimizer", history.untrained.names
    for layer, shape in zip(history.layers, history.shapes or history.sizes, strict=True):
        yield f"shape of {layer}", shape


def _once(value: Any) -> Any:
    """Return the only value of a tuple that repeats one; anything else as it is."""
    return value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value


def _of_run(run: RunRecord) -> Training:
    if run.flow is None or not run.epochs or len(run.flow.steps) != len(run.epochs):
        raise ConfigError(f"run {run.identity} has no epoch with its gradients yet; train one, then compare")
    numbers = _numbers(run.flow)
    for name in ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy"):
        values = np.array(run.curve(name))[:, None]
        numbers[name] = Table(("",), np.where(np.isnan(values), np.inf, values))
    tables = {"loss": numbers["train_loss"], "valid_loss": numbers["valid_loss"]}
    environment = {name: run.status[name] for name in ENVIRONMENT if name in run.status}
    return Training(
        name=run.identity,
        row="epoch",
        steps=run.flow.steps,
        tables=tables | {name: numbers[name] for name in OF_LAYERS},
        numbers=numbers,
        sizes=dict(zip(run.flow.layers, run.flow.sizes, strict=True)),
        settings=dict(_leaves({**run.config, **environment})),
        rates=Table(("",), np.array(run.curve("lr"))[:, None]),
    )


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted path and value of every leaf."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _of_rows(rows: Sequence[Mapping[str, Any]], name: str) -> Training:
    """Return the training that `JsonLines` logged; of a step that stands there twice, the later line."""
    try:
        by_step = {int(row["step"]): row for row in rows}
    except (KeyError, TypeError, ValueError):
        raise ConfigError(
            f"{name}: expected rows that JsonLines wrote, each with a step; got {brief(rows[0])}; type: "
            "gs.compare(read_jsonl('a.jsonl'), read_jsonl('b.jsonl'))"
        ) from None
    steps = sorted(by_step)
    columns: dict[str, dict[str, None]] = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        if match := _KEY.fullmatch(key):
            columns.setdefault(match[3], {})[match[2]] = None
    numbers = {
        name: _column_table(by_step, steps, name, list(layers))
        for name, layers in columns.items()
        if name in (*NUMBERS, "relative", *OF_OUTPUTS, "correlation", "dead", "saturated")
    }
    if any("loss" in row for row in rows):
        numbers["loss"] = _column_table(by_step, steps, "loss", [""])
    tables = {key: numbers[key] for key in ("loss", *OF_LAYERS, *OF_OUTPUTS) if key in numbers}
    if rows and not tables:
        raise ConfigError(
            f"{name}: no row has a loss, {', '.join(OF_LAYERS)} or {OF_OUTPUTS[0]}; write them with "
            "trackers.JsonLines(path).follow(flow)"
        )
    settings = {"every": int(np.median(np.diff(steps)))} if len(steps) > 1 else {}
    return Training(name, "step", np.array(steps, dtype=np.int64), tables, numbers, settings=settings)


def _column_table(
    by_step: Mapping[int, Mapping[str, Any]], steps: Sequence[int], name: str, layers: Sequence[str]
) -> Table:
    """Return a quantity of logged rows; infinity where what was logged is NaN."""
    kind = "activation" if name in (*OF_OUTPUTS, "correlation", "dead", "saturated") else "gradient"
    keys = [f"{kind}/{layer}/{name}" if layer else name for layer in layers]
    absent = object()
    values = np.full((len(steps), len(layers)), np.nan)
    for t, step in enumerate(steps):
        row = by_step[step]
        for column, key in enumerate(keys):
            value = row.get(key, absent)
            if isinstance(value, int | float):
                values[t, column] = np.inf if np.isnan(value) else value
    return Table(tuple(layers), values)
