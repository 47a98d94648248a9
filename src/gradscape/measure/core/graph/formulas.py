"""Loss functions that were written out: their forms in the graph, by the names of what they equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradscape.measure.core.graph.chain import operations_before, value_of
from gradscape.measure.core.graph.factor import constant_of
from gradscape.measure.core.graph.functions import SeenTerm, chained, difference_of, function_at, of_logits
from gradscape.measure.core.graph.node import (
    Edge,
    attribute,
    axes,
    inputs,
    kind,
    match,
    saved,
    saved_list,
    shape,
    varying,
)  # fmt: skip

_VIEWS = ("View", "UnsafeView", "Squeeze", "Unsqueeze", "ToCopy")
_CLAMPS = ("Clamp", "ClampMin", "ClampMax")


def likelihood_at(edge: Edge, shifted: bool) -> SeenTerm | None:
    """Return the likelihood or distance that an expression equals, up to a sign; None for other forms.

    Args:
        edge: Edge of the expression.
        shifted: Whether a constant tensor is added to it: the target's entropy, of kl_div.
    """
    for reader in _READERS.get(kind(edge), ()):
        if (found := reader(edge)) is not None:
            return _divergence(edge) if shifted and kind(edge) == "Mul" else found
    return _divergence(edge) if shifted and kind(edge) == "Mul" else None


def product(edge: Edge) -> tuple[Tensor, Edge] | None:
    """Return the constant tensor of a product, the innermost of full shape, and what it multiplies.

    Args:
        edge: Edge.
    """
    found, size = None, shape(edge)
    while kind(edge) == "Mul" and len(varying(edge)) == 1:
        constant = saved(edge, "other" if inputs(edge)[0] is not None else "self")
        if constant is not None and (found is None or tuple(constant.shape) == size):
            found = constant
        edge = varying(edge)[0]
    return None if found is None or not found.dim() else (found, edge)


def _is_log_probability(edge: Edge) -> bool:
    if kind(edge) in ("LogSoftmax", "Log"):
        return True
    before = varying(edge)
    return kind(edge) == "Sub" and len(before) == 2 and match(before[1], ("Logsumexp", "*")) == before[:1]


def _over_classes(edge: Edge, axis: int | None, target: Tensor | None) -> SeenTerm:
    """Return the function of log-probabilities, negative since it is a likelihood."""
    size, values = shape(edge), value_of(edge)
    term = SeenTerm(
        "nll_loss",
        reduction="none",
        output=values,
        target=target,
        log_probabilities=values,
        shapes=(size, () if target is None else tuple(target.shape)),
        classes=size[axis] if axis is not None and axis < len(size) else 0,
        class_axis=axis,
        weight=-1.0,
    )
    return of_logits(term, edge)


def _soft_targets(edge: Edge) -> SeenTerm | None:
    """Read target · log-probability."""
    if (parts := product(edge)) is None or not _is_log_probability(parts[1]):
        return None
    target, inner = parts
    nested = kind(varying(edge)[0]) == "Mul"
    return replace(_over_classes(inner, _softmax_axis(inner), target), weighted=nested)


def _softmax_axis(edge: Edge) -> int | None:
    """Return the axis of the last softmax before a value, or its last one."""
    last = next((each for each in reversed(operations_before(edge)) if each.name.endswith("softmax")), None)
    rank = len(shape(edge))
    return last.dim if last is not None and last.dim is not None else rank - 1 if rank else None


def _divergence(edge: Edge) -> SeenTerm | None:
    """Read kl_div: target · log(target) - target · output, the first being a constant."""
    if (parts := product(edge)) is None:
        return None
    return _divergence_of(parts[1], parts[0], -1.0)


def _divergence_of(output: Edge, target: Tensor | None, weight: float) -> SeenTerm:
    values, axis = value_of(output), _softmax_axis(output)
    term = SeenTerm(
        "kl_div",
        reduction="none",
        output=values,
        target=target,
        log_probabilities=values if kind(output) == "LogSoftmax" else None,
        shapes=(shape(output), () if target is None else tuple(target.shape)),
        classes=shape(output)[axis] if axis is not None else 0,
        class_axis=axis,
        weight=weight,
    )
    return chained(term, output)


def _divergence_of_logarithms(edge: Edge) -> SeenTerm | None:
    """Read kl_div with log_target: exp(target) · (target - output)."""
    if (parts := product(edge)) is None or kind(parts[1]) != "Sub" or inputs(parts[1])[0] is not None:
        return None
    (output,) = varying(parts[1])
    return _divergence_of(output, parts[0], 1.0) if _is_log_probability(output) else None


def _picked(edge: Edge) -> SeenTerm | None:
    """Read the log-probability at each target, by index or gather."""
    (inner,) = [*varying(edge), None][:1]
    if inner is None or not _is_log_probability(inner) or (picked := _pick(edge)) is None:
        return None
    return _over_classes(inner, *picked)


def _pick(edge: Edge) -> tuple[int, Tensor] | None:
    """Return the axis that an index or gather picks classes along, and the classes."""
    if kind(edge) == "Gather":
        index, rank = saved(edge, "index"), len(shape(edge))
        if index is None or not (along := axes(edge, rank)):
            return None
        return along[0], index.squeeze(along[0])
    indices = saved_list(edge, "indices")
    used = [(axis, index) for axis, index in enumerate(indices) if index is not None]
    if not used or used[-1][1].dtype not in (torch.int64, torch.int32) or len(used) < 2:
        return None
    return used[-1]


def _log_of_picked(edge: Edge) -> SeenTerm | None:
    """Read the logarithm of the probability at each target."""
    inner: Edge | None = varying(edge)[0]
    while inner is not None and kind(inner) in (*_VIEWS, *_CLAMPS, "Add") and len(varying(inner)) == 1:
        inner = varying(inner)[0]
    if inner is None or kind(inner) not in ("Index", "Gather") or (picked := _pick(inner)) is None:
        return None
    probabilities = value_of(varying(inner)[0])
    values = None if probabilities is None else probabilities.log()
    term, operations = _over_classes(varying(inner)[0], *picked), operations_before(edge)
    along = (*term.class_axes, *[None] * (len(operations) - len(term.class_axes)))
    return replace(term, operations=operations, class_axes=along, output=values, log_probabilities=values)


def _log_sum_minus_picked(edge: Edge) -> SeenTerm | None:
    """Read logsumexp(z) - z[target]."""
    if (sides := match(edge, ("Sub", "*", "*"))) is None or kind(sides[0]) != "Logsumexp":
        return None
    picking = sides[1]
    while kind(picking) in _VIEWS and len(varying(picking)) == 1:
        picking = varying(picking)[0]
    if kind(picking) not in ("Index", "Gather") or (picked := _pick(picking)) is None:
        return None
    logits, (axis, target) = varying(sides[0])[0], picked
    values = saved(sides[0], "self")
    normalized = saved(sides[0], "result")
    if values is not None and normalized is not None and not attribute(sides[0], "keepdim"):
        normalized = normalized.unsqueeze(axis)
    term = SeenTerm(
        "cross_entropy",
        reduction="none",
        output=values,
        target=target,
        log_probabilities=None if values is None or normalized is None else values - normalized,
        shapes=(shape(logits), tuple(target.shape)),
        classes=shape(logits)[axis],
        class_axis=axis,
    )
    return chained(term, logits)


@dataclass(frozen=True)
class _Half:
    """One half of a binary cross-entropy: sign · constant · log(probability or its complement)."""

    sign: int
    constant: Tensor
    log: Edge
    base: Edge
    complement: bool


def _binary(edge: Edge) -> SeenTerm | None:
    """Read y · log(p) + (1 - y) · log(1 - p), with probabilities or with logsigmoid of logits."""
    if len(varying(edge)) != 2:
        return None
    signs = (1, -1 if kind(edge) == "Sub" else 1)
    halves = [_half(each, sign) for each, sign in zip(varying(edge), signs, strict=True)]
    if halves[0] is None or halves[1] is None or not _same(halves[0].base, halves[1].base):
        return None
    if halves[0].complement == halves[1].complement:
        return None
    yes, no = (halves[1], halves[0]) if halves[0].complement else (halves[0], halves[1])
    logits = kind(yes.log) == "LogSigmoid"
    # Of -y · log(p) - (1 - y) · log(1 - p), the first constant is the one with a sign.
    sign = yes.sign if yes.sign == no.sign else halves[1].sign
    return SeenTerm(
        "binary_cross_entropy_with_logits" if logits else "binary_cross_entropy",
        operations_before(varying(yes.log)[0]),
        "none",
        saved(yes.log, "self"),
        yes.constant if yes.sign == sign else -yes.constant,
        shapes=(shape(varying(yes.log)[0]), tuple(yes.constant.shape)),
        weight=-float(sign * signs[0]) if yes.sign == no.sign else -float(sign),
    )


def _same(one: Edge, other: Edge) -> bool:
    """Return True for one value, or one that was computed twice by the same functions."""
    while one != other and kind(one) == kind(other) and len(varying(one)) == len(varying(other)) == 1:
        one, other = varying(one)[0], varying(other)[0]
    return one == other


def _half(edge: Edge, sign: int) -> _Half | None:
    while (constant := constant_of(edge)) is not None and not isinstance(constant[0], Tensor):
        sign, edge = sign * (-1 if constant[0] < 0 else 1), varying(edge)[0]
    parts = product(edge)
    if parts is None or kind(parts[1]) not in ("Log", "Log1P", "LogSigmoid"):
        return None
    base, complement = varying(parts[1])[0], False
    while len(varying(base)) == 1 and kind(base) in (*_CLAMPS, "Add", "Rsub", "Sub", "Neg"):
        complement ^= kind(base) in ("Rsub", "Neg") or (kind(base) == "Sub" and inputs(base)[0] is None)
        base = varying(base)[0]
    return _Half(sign, parts[0], parts[1], base, complement)


def _product_of_equals(edge: Edge) -> SeenTerm | None:
    """Read (output - target) · (output - target)."""
    before = varying(edge)
    if len(before) != 2 or before[0] != before[1] or kind(before[0]) != "Sub":
        return None
    return difference_of(before[0], "mse_loss", saved(edge, "self"))


def _smoothed(edge: Edge) -> SeenTerm | None:
    """Read cross_entropy with label smoothing: a share of nll_loss, and the mean of all log-probabilities."""
    if (sides := match(edge, ("Add", ("Mul", "*"), ("Mul", "*")))) is None:
        return None
    picked, rest = sides
    if kind(picked) == "View":  # of elements, which nll_loss flattened
        picked = varying(picked)[0]
    term = function_at(picked)
    if kind(picked) not in ("NllLoss", "NllLoss2D") or term is None:
        return None
    while kind(rest) in ("Div", "Sum", "MaskedFill", "Neg", "Mul") and len(varying(rest)) == 1:
        rest = varying(rest)[0]
    if kind(rest) != "LogSoftmax":
        return None
    share = constant_of(varying(edge)[1])
    smoothing = term.classes * share[0] if share is not None and isinstance(share[0], float) else 0.0
    return replace(term, label_smoothing=smoothing)


_READERS: dict[str, tuple[Callable[[Edge], SeenTerm | None], ...]] = {
    "Add": (_smoothed, _binary),
    "Sub": (_log_sum_minus_picked, _binary),
    "Mul": (_product_of_equals, _soft_targets, _divergence_of_logarithms),
    "Index": (_picked,),
    "Gather": (_picked,),
    "Log": (_log_of_picked,),
}
