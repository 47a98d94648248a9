"""Loss functions that torch computes in one node, or in nodes of a fixed form: what each was given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from gradscape.measure.core.graph.chain import class_axes, operations_before, sizes_before, value_of
from gradscape.measure.core.graph.node import (
    Edge,
    attribute,
    axes,
    inputs,
    kind,
    match,
    saved,
    shape,
    varying,
)
from gradscape.records.loss import Operation

Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class SeenTerm:
    """One loss function, with the tensors that autograd saved for it.

    Tensors are detached and share memory with those of the graph: summarize them, then let go of them.

    Attributes:
        name: Name of the function, as in `LossTerm`; also `hinge_loss`, `cosine_similarity` and `penalty` (a
            function of parameters alone), which torch.nn.functional has not by these names.
        operations: Operations from the last layer with weights, or a leaf, to the function, in order.
        reduction: `mean`, `sum` or `none`, the outermost if there are several; empty if unknown.
        output: Values that the function was given for the model's output; None where autograd did not save
            them, as the logits of most cross-entropies.
        target: Values that it was given beside it; None if not readable.
        log_probabilities: Logarithms of the softmax of a function over classes; None elsewhere.
        difference: Output minus target of a function of that alone, None if not readable.
        broadcast: Whether output and target had different shapes, and one of them was expanded.
        shapes: Shapes of output and target before that; the smallest possible one for a target that is not
            in the graph; empty if not known.
        classes: C, of a function over classes; 0 elsewhere.
        class_axis: Axis of the classes, of what the function was given; None where there is none.
        class_axes: For each operation, the axis of its result that becomes `class_axis`; None where that
            cannot be told.
        weighted: Whether classes, elements or positives have weights.
        ignore_index: Target that is left out; None where the function has no such argument.
        label_smoothing: Share of the target that all classes have alike, 0 to 1.
        weight: Constant in front of the term within the loss; negative for a term that is maximized.
        within: Name of the function inside, of an `unknown` one such as its root; empty elsewhere.
    """

    name: str
    operations: tuple[Operation, ...] = ()
    reduction: str = ""
    output: Tensor | None = None
    target: Tensor | None = None
    log_probabilities: Tensor | None = None
    difference: Tensor | None = None
    broadcast: bool = False
    shapes: Shapes = ()
    classes: int = 0
    class_axis: int | None = None
    class_axes: tuple[int | None, ...] = ()
    weighted: bool = False
    ignore_index: int | None = None
    label_smoothing: float = 0.0
    weight: float | Tensor = 1.0
    within: str = ""


def chained(term: SeenTerm, before: Edge | None) -> SeenTerm:
    """Return a function with the operations before it, and the axes of its classes in them.

    Args:
        term: Function.
        before: Edge of what it was given.
    """
    along = () if term.class_axis is None else class_axes(before, term.class_axis)
    return replace(term, operations=operations_before(before), class_axes=along)


REDUCTIONS = {0: "none", 1: "mean", 2: "sum"}

# A dict of names: node of a loss of output and target, of one shape.
_PAIRS = {
    "MseLoss": "mse_loss",
    "SmoothL1Loss": "smooth_l1_loss",
    "HuberLoss": "huber_loss",
    "BinaryCrossEntropy": "binary_cross_entropy",
    "BinaryCrossEntropyWithLogits": "binary_cross_entropy_with_logits",
    "SoftMarginLoss": "soft_margin_loss",
}
_MARGINS = {"MultiMarginLoss": "multi_margin_loss", "MultilabelMarginLoss": "multilabel_margin_loss"}


def function_at(edge: Edge) -> SeenTerm | None:
    """Return the loss function that a node computes; None if it is none of torch's own.

    Args:
        edge: Edge.
    """
    name = kind(edge)
    if name in _PAIRS:
        return _pair(edge, _PAIRS[name])
    if name in _MARGINS:
        return _margin(edge, _MARGINS[name])
    reader = _READERS.get(name)
    return None if reader is None else reader(edge)


def _reduction(edge: Edge) -> str:
    return REDUCTIONS.get(attribute(edge, "reduction"), "")


def _pair(edge: Edge, name: str) -> SeenTerm:
    """Read a function of an output and a target of one shape, either of which may have been expanded."""
    output, target = saved(edge, "self"), saved(edge, "target")
    given, wanted = [*inputs(edge), None, None][:2]
    if given is None and wanted is not None:  # the target alone has a gradient: the arguments are swapped
        given, wanted, output, target = wanted, given, target, output
    shapes = _shape_given(given, output), _shape_given(wanted, target)
    before = given
    if given is not None and kind(given) == "Expand" and shapes[0]:
        before, output = varying(given)[0], _unexpanded(output, shapes[0])
    if _widened(*shapes):
        target = _unexpanded(target, shapes[1])
    weights = [saved(edge, weight) is not None for weight in ("weight", "pos_weight")]
    return SeenTerm(
        name,
        operations_before(before),
        _reduction(edge),
        output,
        target,
        broadcast=_widened(*shapes),
        shapes=shapes if all(shapes) else (),
        weighted=any(weights),
    )


def _shape_given(edge: Edge | None, value: Tensor | None) -> tuple[int, ...]:
    """Return the shape before an expansion: that of the graph, or what the strides of a constant tell."""
    if edge is not None and kind(edge) == "Expand":
        return sizes_before(edge)
    if edge is not None:
        return shape(edge)
    if value is None:
        return ()
    try:
        strides = value.stride()
    except RuntimeError:  # sparse
        return tuple(value.shape)
    sizes = [1 if not stride else size for size, stride in zip(value.shape, strides, strict=True)]
    while sizes and not strides[len(strides) - len(sizes)] and value.shape[-len(sizes)] > 1:
        sizes.pop(0)
    return tuple(sizes)


def _widened(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Return True if two shapes differ in more than axes of length one at the front."""
    if not one or not other:
        return False
    rank = max(len(one), len(other))
    return (1,) * (rank - len(one)) + one != (1,) * (rank - len(other)) + other


def _unexpanded(value: Tensor | None, sizes: tuple[int, ...]) -> Tensor | None:
    """Return a tensor as it was before its expansion from a shape."""
    if value is None:
        return None
    full = (1,) * (value.dim() - len(sizes)) + sizes
    for axis, size in enumerate(full):
        if size == 1:
            value = value.narrow(axis, 0, 1)
    return value.reshape(sizes) if value.shape == full else None


def _partner(own: tuple[int, ...], result: tuple[int, ...]) -> tuple[int, ...]:
    """Return the smallest shape that gives a shape together with another; that one if it is the same."""
    if own == result:
        return own
    full = (1,) * (len(result) - len(own)) + own
    sizes = [size if mine != size else 1 for mine, size in zip(full, result, strict=True)]
    while sizes and sizes[0] == 1:
        sizes.pop(0)
    return tuple(sizes)


def difference_of(edge: Edge, name: str, value: Tensor | None) -> SeenTerm:
    """Read a function of the difference of output and target, which `Sub` computed.

    Args:
        edge: Edge of the difference.
        name: Name of the function.
        value: The difference, if it was saved.
    """
    first, second = [*inputs(edge), None, None][:2]
    given, wanted = (second, first) if first is None else (first, second)
    if first is None and value is not None:
        value = -value
    own, before = () if given is None else shape(given), given
    if given is not None and kind(given) == "Expand":  # as l1_loss does to both
        own, before = sizes_before(given), varying(given)[0]
    other = _partner(own, shape(edge)) if wanted is None else shape(wanted)
    output, target = value_of(before), value_of(wanted)
    if target is None and output is not None and value is not None:
        target = output - value
    broadcast = _widened(own, other)
    return SeenTerm(
        name,
        operations_before(before),
        output=output,
        target=None if broadcast else target,
        difference=value,
        broadcast=broadcast,
        shapes=(own, other) if own else (),
    )


def _margin(edge: Edge, name: str) -> SeenTerm:
    given = varying(edge)[0]
    rank = len(shape(given))
    term = SeenTerm(
        name,
        reduction=_reduction(edge),
        output=saved(edge, "self"),
        target=saved(edge, "target"),
        classes=shape(given)[-1] if rank else 0,
        class_axis=rank - 1 if rank else None,
        weighted=saved(edge, "weight") is not None,
    )
    return chained(term, given)


def _nll(edge: Edge) -> SeenTerm:
    """Read nll_loss, or cross_entropy, which is the same after a log_softmax over the classes."""
    given = varying(edge)[0]
    output, target = saved(edge, "self"), saved(edge, "target")
    before = _unflattened(given)
    sizes = shape(before)
    if before is not given:
        output = None if output is None else output.reshape(sizes)
        target = None if target is None else target.reshape(sizes[:1] + sizes[2:])
    axis = 0 if len(sizes) == 1 else 1
    term = SeenTerm(
        "nll_loss",
        reduction=_reduction(edge),
        output=output,
        target=target,
        log_probabilities=output,
        shapes=(sizes, () if target is None else tuple(target.shape)),
        classes=sizes[axis] if len(sizes) > axis else 0,
        class_axis=axis,
        weighted=saved(edge, "weight") is not None,
        ignore_index=attribute(edge, "ignore_index"),
    )
    return of_logits(term, before)


def _unflattened(given: Edge) -> Edge:
    """Return what nll_loss was given, before its own view of outputs with three axes, or five and more."""
    before = varying(given)
    if kind(given) not in ("View", "UnsafeView") or len(before) != 1:
        return given
    inner, sizes = shape(before[0]), shape(given)
    own = len(inner) not in (2, 4) and sizes[:2] == inner[:2] and len(sizes) == 4 and sizes[2] == 1
    return before[0] if own else given


def of_logits(term: SeenTerm, before: Edge) -> SeenTerm:
    """Return a function of log-probabilities with its operations: cross_entropy, if they are a log_softmax.

    That is so only of a log_softmax over the axis of its classes.

    Args:
        term: Function of log-probabilities.
        before: Edge of these.
    """
    if kind(before) != "LogSoftmax" or axes(before, len(shape(before))) != (term.class_axis,):
        return chained(term, before)
    logits = varying(before)[0]
    return chained(replace(term, name="cross_entropy", output=value_of(logits)), logits)


def _ctc(edge: Edge) -> SeenTerm:
    given = varying(edge)[0]
    output, sizes = saved(edge, "log_probs"), shape(given)
    term = SeenTerm(
        "ctc_loss",
        reduction="none",
        output=output,
        target=saved(edge, "targets"),
        log_probabilities=output,
        classes=sizes[-1] if sizes else 0,
        class_axis=len(sizes) - 1 if sizes else None,
    )
    return chained(term, given)


def _squared(edge: Edge) -> SeenTerm | None:
    if attribute(edge, "exponent") != 2 or (inner := match(edge, ("Pow", "*"))) is None:
        return None
    return difference_of(inner[0], "mse_loss", saved(edge, "self")) if kind(inner[0]) == "Sub" else None


def _absolute(edge: Edge) -> SeenTerm | None:
    (inner,) = varying(edge)
    return difference_of(inner, "l1_loss", saved(edge, "self")) if kind(inner) == "Sub" else None


_READERS: dict[str, Callable[[Edge], SeenTerm | None]] = {
    "NllLoss": _nll,
    "NllLoss2D": _nll,
    "CtcLoss": _ctc,
    "Pow": _squared,
    "Abs": _absolute,
}
