"""Lines of a watch's folder: rows, losses and readings of distributions, with their tables in base64."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscape._codec import encode, finite_or_not
from gradscape.records.activations import ActivationHistory
from gradscape.records.distributions import WIDTH, DistributionHistory, LayerQuantiles
from gradscape.records.encoding import Values
from gradscape.records.gradients import OUTPUT_TABLES, FlowHistory, over, slice_rows
from gradscape.records.loss import LossHistory
from gradscape.storage.json_files import with_checksum

# Tables of a row; the others of a `FlowHistory` follow from them.
COLUMNS = ("mean_abs", "max_abs", "rms", "zeros", "nonfinite", "agreement", "weight", "update")


@dataclass(frozen=True)
class WatchRow:
    """A row as its line has it: see `FlowHistory` for the numbers.

    Attributes:
        step, skipped, clipped: Numbers of the row.
        tables: Those of each parameter tensor.
        outputs: Those of each layer's output.
    """

    step: int
    skipped: bool
    clipped: float
    tables: Values
    outputs: Values


def row_line(history: FlowHistory, place: int) -> bytes:
    """Return the line of a row.

    Args:
        history: History of a watch.
        place: Place of the row.
    """
    tables = [getattr(history, name)[place] for name in COLUMNS]
    if history.rates is not None:
        tables.append(history.rates[place])
    values: dict[str, Any] = {
        "step": int(history.steps[place]),
        "skipped": bool(history.skipped[place]),
        "clipped": None if history.clipped is None else encode(float(history.clipped[place])),
        "tables": packed(np.array(tables), "<f8"),
    }
    if history.activations is not None:
        outputs = [getattr(history.activations, name)[place] for name in OUTPUT_TABLES]
        values["outputs"] = packed(np.array(outputs, dtype=np.float64), "<f8")
    return with_checksum(values)


def row_of(values: dict[str, Any]) -> WatchRow:
    """Return a row as its line has it.

    Args:
        values: Values of the line.
    """
    return WatchRow(
        step=int(values["step"]),
        skipped=bool(values["skipped"]),
        clipped=float(1.0 if values["clipped"] is None else finite_or_not(values["clipped"])),
        tables=unpacked(values["tables"], "<f8"),
        outputs=unpacked(values.get("outputs", ""), "<f8"),
    )


def packed(values: NDArray[Any], dtype: str) -> str:
    """Return numbers in base64.

    Args:
        values: Numbers in any shape.
        dtype: Type that they are written as.
    """
    return base64.b64encode(np.ascontiguousarray(values, dtype=dtype).tobytes()).decode()


def unpacked(text: str, dtype: str) -> NDArray[Any]:
    """Return the numbers of `packed`, in one axis.

    Args:
        text: Numbers in base64.
        dtype: Type that they were written as.
    """
    return np.frombuffer(base64.b64decode(text, validate=True), dtype=dtype)


def without_rows(history: FlowHistory) -> FlowHistory:
    """Return a history with what `watch.json` holds of it.

    Args:
        history: History of a watch.
    """
    bare = slice_rows(history, slice(0))
    loss = history.loss
    return replace(
        bare,
        loss=None if loss is None else replace(loss, steps=loss.steps[:0], values=loss.values[:0]),
        transformer=history.transformer,
    )


def joined_history(
    bare: FlowHistory, rows: list[WatchRow], losses: list[tuple[NDArray[np.int64], Values]]
) -> FlowHistory:
    """Return a history with rows and losses.

    Args:
        bare: History as `watch.json` holds it.
        rows: Its rows.
        losses: Steps and values of the losses, part by part.
    """
    count, tensors = len(rows), len(bare.layers)
    tables = np.array([row.tables for row in rows]).reshape(count, -1, tensors)
    named: dict[str, Any] = {
        name: tables[:, place] if count else np.empty((0, tensors)) for place, name in enumerate(COLUMNS)
    }
    steps = np.array([row.step for row in rows], dtype=np.int64)
    clipped = np.array([row.clipped for row in rows], dtype=np.float64)
    return replace(
        bare,
        steps=steps,
        skipped=np.array([row.skipped for row in rows], dtype=np.bool_),
        **named,
        last_mean_abs=named["mean_abs"],
        relative=over(named["rms"] * np.sqrt(bare.sizes), named["weight"]),
        relative_update=over(named["update"], named["weight"]),
        rates=tables[:, len(COLUMNS)] if count and bare.rates is not None else None,
        clipped=None if bare.clipped is None else clipped,
        activations=_outputs(bare.activations, rows, steps),
        loss=_loss(bare.loss, losses),
    )


def _outputs(
    bare: ActivationHistory | None, rows: list[WatchRow], steps: NDArray[np.int64]
) -> ActivationHistory | None:
    if bare is None:
        return None
    shape = (len(rows), len(OUTPUT_TABLES), len(bare.layers))
    tables = np.array([row.outputs for row in rows]).reshape(shape)
    named: dict[str, Any] = {name: tables[:, place] for place, name in enumerate(OUTPUT_TABLES)}
    return replace(bare, **{**named, "nonfinite": named["nonfinite"].astype(np.bool_)}, steps=steps)


def layers_of_outputs(history: FlowHistory) -> list[tuple[str, ...]]:
    """Return the layers of outputs and of distributions, each of which may become more.

    Args:
        history: History of a watch.
    """
    outputs, quantiles = history.activations, history.distributions
    named = {} if quantiles is None else quantiles.quantities
    return [() if outputs is None else outputs.layers, *(each.layers for each in named.values())]


def distribution_line(history: DistributionHistory, place: int) -> bytes:
    """Return the line of a reading of distributions; float32 holds its numbers as they are.

    Args:
        history: Distributions of a training.
        place: Place of the reading.
    """
    tables = np.concatenate([each.table[place].ravel() for each in history.quantities.values()])
    return with_checksum({"step": int(history.steps[place]), "tables": packed(tables, "<f4")})


def joined_distributions(
    bare: DistributionHistory | None, readings: list[tuple[int, Values]]
) -> DistributionHistory | None:
    """Return distributions with their readings.

    Args:
        bare: Distributions as `watch.json` holds them; None for none.
        readings: Step and numbers of each line.
    """
    if bare is None:
        return None
    steps = np.array([step for step, _ in readings], dtype=np.int64)
    parts, first = {}, 0
    tables = np.array([table for _, table in readings], dtype=np.float64).reshape(len(readings), -1)
    for quantity, each in bare.quantities.items():
        count = WIDTH * len(each.layers)
        part = tables[:, first : first + count].reshape(len(readings), len(each.layers), WIDTH)
        parts[quantity], first = LayerQuantiles.of(each.layers, part), first + count
    return DistributionHistory(steps, **parts)


def _loss(bare: LossHistory | None, losses: list[tuple[NDArray[np.int64], Values]]) -> LossHistory | None:
    if bare is None or not losses:
        return bare
    steps, values = (np.concatenate([each[which] for each in losses]) for which in (0, 1))
    return replace(bare, steps=steps, values=values)
