"""One loss function over its readings: the operations before it, and numbers of outputs and targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradscape.records.encoding import Values
from gradscape.records.loss import REGRESSION as REGRESSION
from gradscape.records.loss import LossHistory, LossTerm, Operation, StepReading, TensorSummary

# What moves values, or takes some of them, and changes none.
MOVES = frozenset(
    (
        "view", "reshape", "unsafe_view", "flatten", "squeeze", "unsqueeze", "transpose", "permute", "t",
        "select", "slice", "narrow", "index", "index_select", "gather", "expand", "clone", "alias",
        "contiguous", "to", "pixel_shuffle",
        "split", "chunk", "unbind", "movedim", "as_strided", "diagonal", "masked_select",
    )
)  # fmt: skip
# What takes a mean or the largest of several: the result is within the range that they have.
POOLS = frozenset(
    (
        "mean", "max", "amax", "min", "amin", "avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool1d",
        "max_pool2d", "max_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
        "adaptive_max_pool2d", "max_pool2d_with_indices", "max_pool3d_with_indices",
    )
)  # fmt: skip
CLAMPS = frozenset(("clamp", "clamp_min", "clamp_max", "minimum", "maximum"))
# Operations that leave a raw output what it is, or cut it: none makes a probability of it.
CUTS = MOVES | POOLS | CLAMPS | {"relu", "relu6", "hardtanh", "leaky_relu", "prelu", "threshold"}
SOFTMAX = ("softmax", "log_softmax")
# Least and largest value of what an operation gives.
RANGES = {
    "sigmoid": (0.0, 1.0), "hardsigmoid": (0.0, 1.0), "softmax": (0.0, 1.0), "tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0), "relu": (0.0, math.inf), "relu6": (0.0, 6.0), "softplus": (0.0, math.inf),
    "exp": (0.0, math.inf), "abs": (0.0, math.inf), "sqrt": (0.0, math.inf), "gelu": (-0.17, math.inf),
    "silu": (-0.2785, math.inf), "mish": (-0.3089, math.inf), "hardswish": (-0.375, math.inf),
    "logsigmoid": (-math.inf, 0.0), "log_softmax": (-math.inf, 0.0), "sin": (-1.0, 1.0), "cos": (-1.0, 1.0),
}  # fmt: skip
LEVELS: tuple[float, ...] = (
    0.0,
    0.01,
    0.1,
    0.5,
    0.9,
    0.99,
    1.0,
)  # of a summary's least, quantiles and largest
NORMAL: tuple[float, ...] = (
    0.0,
    0.159,
    0.5,
    0.841,
    1.0,
)  # of its least, mean ± standard deviation and largest, of a normal
ROUNDING = 1e-3  # of a range: what lies beyond it by less is within it

BINARY = ("binary_cross_entropy", "binary_cross_entropy_with_logits")
CATEGORICAL = ("cross_entropy", "nll_loss")


@dataclass(frozen=True)
class TermSeries:
    """Readings of one loss function of a training.

    Attributes:
        terms: The function at each reading, one at least.
        readings: Readings that they are of.
        stuck: Whether the training's loss stays where guessing is, or breaks.
        values: Whole loss at each reading; NaN where it is not known.
    """

    terms: tuple[LossTerm, ...]
    readings: tuple[StepReading, ...]
    stuck: bool = False
    values: tuple[float, ...] = ()

    @property
    def first(self) -> LossTerm:
        """First reading's."""
        return self.terms[0]

    @property
    def name(self) -> str:
        """Name of the function."""
        return self.first.name

    @property
    def alone(self) -> bool:
        """True if the loss is this function and nothing else, at every reading."""
        return all(len(reading.terms) == 1 for reading in self.readings)

    @property
    def batch(self) -> int:
        """Number of samples of the first reading, the first axis of targets or inputs; 0 if unknown."""
        for seen in (self.first.target, self.readings[0].inputs):
            if seen is not None and seen.shape:
                return seen.shape[0]
        return 0

    @property
    def samples(self) -> int:
        """Number of samples of all readings, as `batch` counts them; 0 if unknown."""
        shapes = [term.target.shape for term in self.terms if term.target is not None]
        return sum(shape[0] if shape else 1 for shape in shapes)

    @property
    def units(self) -> int:
        """Number of outputs of a sample or a place in it; 1 where the batch's is the only axis."""
        if self.first.classes:
            return self.first.classes
        shape = self.first.output.shape if self.first.output is not None else ()
        if len(shape) > 3:
            return shape[1]  # channels of images
        return shape[-1] if len(shape) > 1 else 1

    @property
    def target_counts(self) -> NDArray[np.int64]:
        """(C,) Counts of the classes among the targets of all readings."""
        return _sum_of([term.target_counts for term in self.terms])

    @property
    def target(self) -> Sample | None:
        """Targets of all readings; None if they were not read."""
        seen = [term.target for term in self.terms if term.target is not None]
        return Sample.of(seen) if seen else None

    @property
    def output(self) -> Sample | None:
        """Outputs of all readings; None if they were not read."""
        seen = [term.output for term in self.terms if term.output is not None]
        return Sample.of(seen) if seen else None

    @property
    def bound(self) -> Bound | None:
        """Range of the output: that of its last operation but moves and pools, if it is known.

        None also where the outputs seen are beyond that range: something else has come after it.
        """
        place = last_place(self.first)
        if place < 0:
            return None
        operation, after = self.first.operations[place], self.first.operations[place + 1 :]
        low, high = operation.bounds or RANGES.get(operation.name, (-math.inf, math.inf))
        if math.isinf(low) and math.isinf(high):
            return None
        output, slack = self.output, ROUNDING * min(high - low, 1.0)
        if output is not None and (output.low < low - slack or output.high > high + slack):
            return None
        return Bound(operation, low, high, pooled=any(each.name in POOLS for each in after))


@dataclass(frozen=True)
class Bound:
    """Range of an output.

    Attributes:
        operation: Operation that it comes from.
        low, high: Its ends, infinite on an open side.
        pooled: Whether a mean or a maximum follows.
    """

    operation: Operation
    low: float
    high: float
    pooled: bool

    @property
    def is_constant(self) -> bool:
        """True if it is a softmax of one number."""
        operation = self.operation
        return operation.name in SOFTMAX and operation.dim is not None and operation.shape[operation.dim] == 1

    @property
    def words(self) -> str:
        """Values within it, in words."""
        if math.isinf(self.high):
            return f"cannot be below {self.low:.3g}"
        if math.isinf(self.low):
            return f"cannot be above {self.high:.3g}"
        return f"can only be in {self.low:.3g} … {self.high:.3g}"


@dataclass(frozen=True)
class Sample:
    """Numbers of a tensor over several readings.

    Attributes:
        low, high: Smallest and largest value.
        mean, variance: Mean and variance of all values.
        whole: Least share of a reading's values that are whole numbers.
        nonfinite: Mean share of values that are infinite or NaN.
        values: Values at equal steps of probability, of all readings.
    """

    low: float
    high: float
    mean: float
    variance: float
    whole: float
    nonfinite: float
    values: Values

    @classmethod
    def of(cls, seen: Sequence[TensorSummary]) -> Sample:
        """Return the numbers of these readings together.

        Args:
            seen: Numbers of a tensor at each reading, one at least.
        """
        means = np.array([each.mean for each in seen])
        variances = np.array([each.std for each in seen]) ** 2
        return cls(
            low=min(each.low for each in seen),
            high=max(each.high for each in seen),
            mean=float(means.mean()),
            variance=float(variances.mean() + means.var()),
            whole=min(each.whole for each in seen),
            nonfinite=float(np.mean([each.nonfinite for each in seen])),
            values=np.concatenate([spread(each) for each in seen]),
        )

    @property
    def rms(self) -> float:
        """Root of the mean square."""
        return math.sqrt(self.mean**2 + self.variance)

    @property
    def is_classes(self) -> bool:
        """True if all values are whole numbers from 0."""
        return self.whole == 1 and self.low >= 0

    @property
    def is_signs(self) -> bool:
        """True if all values are −1, 0 or 1, the ends among them."""
        return self.whole == 1 and self.low == -1 and self.high == 1

    @property
    def is_at_ends(self) -> bool:
        """True if each value is the smallest or the largest: no others have as large a variance."""
        most = (self.mean - self.low) * (self.high - self.mean)
        return most > 0 and math.isclose(self.variance, most, rel_tol=ROUNDING)

    def beyond(self, low: float, high: float) -> float:
        """Return the mean square distance of values to a range, over their variance.

        Args:
            low: Lower end of the range.
            high: Its upper end.
        """
        distance = float(((self.values - np.clip(self.values, low, high)) ** 2).mean())
        if distance == 0:
            return 0.0
        return distance / self.variance if self.variance > 0 else math.inf


def spread(seen: TensorSummary, points: int = 200) -> Values:
    """Return values at equal steps of probability, straight lines between the quantiles that are known.

    Args:
        seen: Numbers of a tensor.
        points: Number of values.
    """
    known: list[float]
    if seen.quantiles:
        levels, known = LEVELS, [seen.low, *seen.quantiles, seen.high]
    else:
        levels, known = NORMAL, [seen.low, seen.mean - seen.std, seen.mean, seen.mean + seen.std, seen.high]
    at = (np.arange(points) + 0.5) / points
    found: Values = np.interp(at, levels, np.clip(known, seen.low, seen.high))
    return found


def series_of(history: LossHistory, stuck: bool = False) -> list[TermSeries]:
    """Return the loss functions of a training, each with all its readings.

    Args:
        history: Loss of a training and what it was made of.
        stuck: Whether the loss stays where guessing is, or breaks.
    """
    groups: dict[tuple[object, ...], list[tuple[LossTerm, StepReading]]] = {}
    for reading in history.readings:
        for place, term in enumerate(reading.terms):
            key = (place, term.name, *(each.name for each in term.operations))
            groups.setdefault(key, []).append((term, reading))
    value_at = dict(zip(history.steps.tolist(), history.values.tolist(), strict=True))
    return [
        TermSeries(
            tuple(term for term, _ in group),
            tuple(reading for _, reading in group),
            stuck,
            tuple(value_at.get(reading.step, math.nan) for _, reading in group),
        )
        for group in groups.values()
    ]


def last_place(term: LossTerm) -> int:
    """Return the place of the last operation that changes values by more than a mean; −1 if there is none.

    Args:
        term: Loss function.
    """
    still = MOVES | POOLS
    return max((place for place, each in enumerate(term.operations) if each.name not in still), default=-1)


def softmax_place(term: LossTerm) -> int:
    """Return the place of the softmax that the loss is given, directly or by its logarithm; −1 if none.

    Args:
        term: Loss function.
    """
    for place in range(len(term.operations) - 1, -1, -1):
        if term.operations[place].name in SOFTMAX:
            return place
        if term.operations[place].name not in CUTS | {"log", "add", "neg"}:
            break
    return -1


def _sum_of(counts: Sequence[tuple[int, ...]]) -> NDArray[np.int64]:
    total = np.zeros(max((len(each) for each in counts), default=0), dtype=np.int64)
    for each in counts:
        total[: len(each)] += np.array(each, dtype=np.int64)
    return total
