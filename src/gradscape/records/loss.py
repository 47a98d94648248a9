"""Loss of a training, and what it was made of: functions, outputs, targets and inputs, as plain values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradscape._codec import Record
from gradscape._text import count_noun
from gradscape.records.display import Displayable
from gradscape.records.encoding import Values
from gradscape.records.spikes import Spike

if TYPE_CHECKING:
    from matplotlib.axes import Axes


# Losses that compare real numbers, one by one.
REGRESSION = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")

SEARCHED = 3  # first readings whose whole graph is searched, for layers, leaves and reshapes


@dataclass(frozen=True, repr=False)
class TensorSummary(Record):
    """Numbers of a tensor; statistics are over its finite values, NaN where there is none.

    Attributes:
        shape: Its shape.
        dtype: Its dtype, such as `float32`.
        low, high: Smallest and largest value.
        mean, std: Mean and standard deviation.
        nonfinite: Share of values that are infinite or NaN, 0 to 1.
        whole: Share of values that are whole numbers, 0 to 1.
        quantiles: Quantiles of the values at 1, 10, 50, 90 and 99 %; empty if not computed.
        broken: First rows, along its first axis, that have an infinite value or NaN, eight at most.
    """

    shape: tuple[int, ...]
    dtype: str
    low: float
    high: float
    mean: float
    std: float
    nonfinite: float
    whole: float
    quantiles: tuple[float, ...] = ()
    broken: tuple[int, ...] = ()

    @property
    def is_integer(self) -> bool:
        """True if the dtype is one of integers or truth values."""
        return self.dtype.startswith(("int", "uint", "bool"))


@dataclass(frozen=True, repr=False)
class Operation(Record):
    """Operation between the last layer with weights and the loss.

    Attributes:
        name: Name, such as `softmax`, `log_softmax`, `sigmoid`, `log`, `relu`, `clamp`, `view`, `expand`.
        dim: Axis that it works over, from 0; None where it has none, or several.
        shape: Shape of its result.
        bounds: Smallest and largest value of its result, where its arguments say so, as those of a clamp or a
            hardtanh do, infinite on an open side; empty elsewhere.
    """

    name: str
    dim: int | None
    shape: tuple[int, ...]
    bounds: tuple[float, ...] = ()


@dataclass(frozen=True, repr=False)
class LossTerm(Record):
    """One loss function of a step, read from the graph that autograd built.

    Attributes:
        name: Name of the function, as in `torch.nn.functional` where it is there: `cross_entropy`,
            `nll_loss`, `mse_loss`, `l1_loss`, `smooth_l1_loss`, `huber_loss`, `binary_cross_entropy`,
            `binary_cross_entropy_with_logits`, `kl_div`, …; `unknown` where it cannot be told.
        operations: Operations from the last layer with weights to the function, in the order in which they
            were computed.
        reduction: `mean`, `sum` or `none`; empty if unknown.
        output: Values that the function was given for the model's output; None if they cannot be read.
        target: Values that it was given beside it; None if they cannot be read.
        broadcast: Whether output and target had different shapes, and one of them was expanded.
        shapes: Shapes of output and target before that; empty if not known.
        classes: C, of a function over classes; 0 elsewhere.
        class_axes: For each operation, the axis of its result that is the classes' in what the function was
            given; None where that cannot be told; empty of a function without classes.
        weighted: Whether it has class weights, or positive weights.
        ignored: Share of targets that it leaves out, 0 to 1.
        target_counts: Counts of the classes among whole-numbered targets from 0, at most 1,000 of them;
            empty elsewhere.
        predicted_counts: Counts of the largest output among them, in the same order; empty elsewhere.
        one_hot: Whether each target is 0 but for a single 1 along the axis of the outputs.
    """

    name: str
    operations: tuple[Operation, ...]
    reduction: str
    output: TensorSummary | None
    target: TensorSummary | None
    broadcast: bool = False
    shapes: tuple[tuple[int, ...], ...] = ()
    classes: int = 0
    class_axes: tuple[int | None, ...] = ()
    weighted: bool = False
    ignored: float = 0.0
    target_counts: tuple[int, ...] = ()
    predicted_counts: tuple[int, ...] = ()
    one_hot: bool = False

    def has(self, *names: str) -> bool:
        """Return True if an operation of one of these names is there.

        Args:
            names: Names of operations.
        """
        return any(each.name in names for each in self.operations)


@dataclass(frozen=True, repr=False)
class RunningGap(Record):
    """BatchNorm module whose running statistics are the farthest from the batch's that it is trained on.

    Attributes:
        layer: Name of the module.
        gap: Difference between what eval and train mode make of the batch, before scale and bias: of means,
            and of standard deviations, in running deviations; its root mean square over channels.
        momentum: Weight of a batch in the running statistics, 0 to 1.
        batches: Number of batches that they are of.
    """

    layer: str
    gap: float
    momentum: float
    batches: int

    @property
    def initial(self) -> float:
        """Share of the running statistics that their initial values, 0 and 1, still make up."""
        return float((1 - self.momentum) ** self.batches)


@dataclass(frozen=True, repr=False)
class SequenceInput(Record):
    """Batch of sequences that a recurrent or attention layer was given.

    Attributes:
        layer: Name of the module.
        kind: Its class, such as `LSTM`.
        batch_first: Whether it takes the first axis for samples and the second for places, or the reverse.
        shape: Shape of the input, of three axes.
    """

    layer: str
    kind: str
    batch_first: bool
    shape: tuple[int, ...]


@dataclass(frozen=True, repr=False)
class StepReading(Record):
    """Whole step as a watch saw it beside gradients: loss, data and modes.

    Attributes:
        step: Optimizer's step, from 0.
        terms: Loss functions that the backward pass began with.
        inputs: Numbers of the model's main input.
        input_features: (low, high) over features of their standard deviations within the batch, the features
            along the last axis of a two-dimensional input; empty elsewhere.
        equal_samples: Share of samples of the batch that are equal to another one, 0 to 1.
        output: Numbers of the model's main output.
        output_features: (low, high) over its features of their standard deviations within the batch, the
            features along the last axis of a two-dimensional output; empty elsewhere.
        divisor: Sizes of the numbers that the loss divides its elements by; None without any, and at later
            readings.
        evaluating: Names of dropout and normalization modules that were in eval mode while others trained, or
            all of them.
        still_norms: Names of modules under `spectral_norm` in eval mode, in which no norm is estimated.
        running_gap: Largest, over the BatchNorm modules among these, of the root mean square over channels of
            (batch's mean − running mean)/√(running variance + ε); NaN where there is none, or unread.
        modal: Number of dropout and normalization modules of the model that act otherwise in eval mode.
        single_sample_norms: Names of BatchNorm modules in train mode that had one value per channel.
        outside: Number of parameter tensors in the loss's graph that neither the model nor an optimizer has.
        calls: Number of the model's calls since the step before.
        silent_calls: Number of those whose output no gradient has reached, such as evaluations and targets.
        running: BatchNorm module in train mode with the largest gap, of those called once; None early on,
            where there is none, and where autograd does not tell.
        dropped: Names of dropout modules in train mode that leave out half of their input or more,
        kept: and the share that one after the other leaves of a signal, 0 to 1.
        linear_widths: Numbers of features of a network that is linear, from its input to its output, one more
            than layers; empty where something nonlinear lies between two layers, and at later readings.
        torn_reshapes: Shapes before and after each reshape that does not split or merge axes but mixes them;
            empty at later readings.
        crossed: Shapes (N,) and (N, 1) of two factors within the loss whose product is (N, N); empty without
            any, and at later readings.
        sequences: First input of each recurrent and attention layer.
    """

    step: int
    terms: tuple[LossTerm, ...]
    inputs: TensorSummary | None = None
    input_features: tuple[float, ...] = ()
    equal_samples: float = 0.0
    output: TensorSummary | None = None
    output_features: tuple[float, ...] = ()
    divisor: TensorSummary | None = None
    evaluating: tuple[str, ...] = ()
    still_norms: tuple[str, ...] = ()
    running_gap: float = math.nan
    modal: int = 0
    single_sample_norms: tuple[str, ...] = ()
    outside: int = 0
    calls: int = 0
    silent_calls: int = 0
    running: RunningGap | None = None
    dropped: tuple[str, ...] = ()
    kept: float = 1.0
    linear_widths: tuple[int, ...] = ()
    torn_reshapes: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = ()
    crossed: tuple[tuple[int, ...], ...] = ()
    sequences: tuple[SequenceInput, ...] = ()


@dataclass(frozen=True, eq=False, repr=False)
class LossHistory(Displayable, Record):
    """Loss at every step of a training, and what it was made of at some of them.

    Attributes:
        steps: (T,) Optimizer's step of each value, from 0.
        values: (T,) Loss whose backward pass the step used, the mean over micro-batches; factors in front of
            it, such as a GradScaler's, are divided out.
        readings: Readings of the whole step, at the first ones and some later.
        spikes: Steps at which it is far above those before, the last eight, with their batches and rows.
        small: Steps with a batch of at most half the usual size, and its share of that, 0 to 1: the last 500,
            as far as batches are known.
    """

    steps: NDArray[np.int64]
    values: Values
    readings: tuple[StepReading, ...] = ()
    spikes: tuple[Spike, ...] = ()
    small: tuple[tuple[int, float], ...] = ()

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the loss over steps, its spikes marked; return the axes.

        Args:
            ax: Axes to draw on; by default those of a new figure.
        """
        from matplotlib import pyplot
        from matplotlib.ticker import MaxNLocator

        axes = pyplot.subplots()[1] if ax is None else ax
        axes.plot(self.steps, self.values)
        for spike in self.spikes:
            axes.axvline(spike.first, color="tab:red", linewidth=0.8, linestyle=":")
        axes.set(xlabel="step", ylabel="loss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return axes

    def __str__(self) -> str:
        if not len(self.values):
            return "no loss was seen"
        finite = self.values[np.isfinite(self.values)]
        last = float(finite[-1]) if len(finite) else math.nan
        return f"loss of {count_noun(len(self.values), 'step')}: {self.values[0]:.3g} … {last:.3g}"
