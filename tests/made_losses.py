"""Records of losses that were never trained, from arrays as a watch would have read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gradscape.records.loss import LossHistory, LossTerm, Operation, StepReading, TensorSummary

RANDOM = np.random.default_rng(0)


def made_summary(values: ArrayLike, dtype: str = "float32") -> TensorSummary:
    """Numbers of an array."""
    array = np.asarray(values, dtype=np.float64)
    finite = array[np.isfinite(array)]
    rows = array.reshape(*(array.shape[:1] or (1,)), -1)
    known = finite if len(finite) else np.array([math.nan])
    return TensorSummary(
        shape=array.shape,
        dtype=dtype,
        low=float(known.min()),
        high=float(known.max()),
        mean=float(known.mean()),
        std=float(known.std()),
        nonfinite=1 - len(finite) / array.size,
        whole=float((array == np.round(array)).mean()),
        quantiles=tuple(map(float, np.quantile(known, (0.01, 0.1, 0.5, 0.9, 0.99)))),
        broken=tuple(np.flatnonzero(~np.isfinite(rows).all(1)).tolist())[:8],
    )


def made_operations(*each: str | tuple[str, int, tuple[int, ...]]) -> tuple[Operation, ...]:
    """Operations by name, or by name, axis and shape of the result."""
    return tuple(Operation(one, None, ()) if isinstance(one, str) else Operation(*one) for one in each)


def made_term(
    name: str,
    *operations: str | tuple[str, int, tuple[int, ...]],
    output: ArrayLike | None = None,
    target: ArrayLike | None = None,
    **more: Any,
) -> LossTerm:
    """A mean loss between arrays; classes are counted where its targets are class indices."""
    counted: dict[str, Any] = {}
    if target is not None:
        labels = np.asarray(target)
        if (labels == np.round(labels)).all() and labels.min() >= 0 and labels.max() < 1000:
            counted["target_counts"] = tuple(map(int, np.bincount(labels.astype(int).ravel())))
        if labels.ndim > 1 and labels.shape[-1] > 1 and ((labels == 0) | (labels == 1)).all():
            counted["one_hot"] = bool((labels.sum(-1) == 1).all())
    if name in ("cross_entropy", "nll_loss") and output is not None:
        scores = np.asarray(output)
        counted["classes"] = scores.shape[1]
        counted["predicted_counts"] = tuple(
            map(int, np.bincount(scores.argmax(1).ravel(), minlength=scores.shape[1]))
        )
    integers = name in ("cross_entropy", "nll_loss")
    return LossTerm(
        name=name,
        operations=made_operations(*operations),
        reduction="mean",
        output=None if output is None else made_summary(output),
        target=None if target is None else made_summary(target, "int64" if integers else "float32"),
        **{**counted, **more},
    )


def made_history(
    *terms: LossTerm | Sequence[LossTerm],
    values: ArrayLike = (),
    inputs: ArrayLike | None = None,
    **more: Any,
) -> LossHistory:
    """A history with a reading of each term, or of several, at equal distances over the steps of `values`."""
    losses = np.asarray(values, dtype=np.float64)
    every = max(len(losses) // len(terms), 1)
    readings = tuple(
        StepReading(
            step=step * every,
            terms=(each,) if isinstance(each, LossTerm) else tuple(each),
            inputs=None if inputs is None else made_summary(inputs, np.asarray(inputs).dtype.name),
            **more,
        )
        for step, each in enumerate(terms)
    )
    return LossHistory(np.arange(len(losses)), losses, readings)
