"""Constant factors in a loss: a GradScaler's scale, an accumulation's share, and the divisors of means."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from gradscape.measure.core.graph.chain import sizes_before
from gradscape.measure.core.graph.node import Edge, attribute, inputs, is_number, kind, saved, shape, varying

SUMS = ("Sum", "Nansum")
# Nodes that give the same single value on.
_SAME = (
    "View", "UnsafeView", "Squeeze", "Unsqueeze", "ToCopy", "CopyBackwards", "Clone", "Alias",
)  # fmt: skip


@dataclass(frozen=True)
class Front:
    """Constants in front of an expression, and the expression.

    Attributes:
        number: Product of the numbers, without its sign.
        tensors: Factors on the device of the loss.
        divisors: Divisors among tensors.
        sign: 1 or -1.
        averaged: Whether a constant made a sum a mean, which is none of the factors.
        rest: Edge of the expression.
    """

    number: float
    tensors: tuple[Tensor, ...]
    divisors: tuple[Tensor, ...]
    sign: int
    averaged: bool
    rest: Edge

    @property
    def factor(self) -> float | Tensor:
        """Product of the factors; a new tensor, on their device, if there are tensors among them."""
        product: float | Tensor = self.number
        for tensor in self.tensors:
            product = tensor * product
        for tensor in self.divisors:
            product = product / tensor
        return product


def constant_of(edge: Edge) -> tuple[float | Tensor, bool] | None:
    """Return a product's constant and whether it divides; None where a node is no product with one.

    Args:
        edge: Edge.
    """
    name, before = kind(edge), inputs(edge)
    if name == "Neg":
        return -1.0, False
    if name not in ("Mul", "Div") or len(varying(edge)) != 1 or (name == "Div" and before[0] is None):
        return None
    constant = saved(edge, "other" if before[0] is not None else "self")
    if constant is None:
        constant = attribute(edge, "other")
        if isinstance(constant, bool) or not isinstance(constant, int | float):
            return None
        return float(constant), name == "Div"
    if is_number(constant) and not constant.is_complex():
        return float(constant), name == "Div"
    return constant, name == "Div"


def front(edge: Edge) -> Front:
    """Return the constants without axes in front of an expression.

    Args:
        edge: Edge of the whole.
    """
    constants: list[tuple[float | Tensor, bool]] = []
    while True:
        if (constant := constant_of(edge)) is not None and _is_scalar(constant[0]):
            constants.append(constant)
        elif not _same(edge):
            break
        edge = varying(edge)[0]
    averaged = _take_divisors(constants, edge)
    numbers = [(value, divides) for value, divides in constants if not isinstance(value, Tensor)]
    product = math.prod((1 / value if divides and value else value for value, divides in numbers), start=1.0)
    tensors = [(value, divides) for value, divides in constants if isinstance(value, Tensor)]
    return Front(
        abs(product) or 1.0,
        tuple(value for value, divides in tensors if not divides),
        tuple(value for value, divides in tensors if divides),
        -1 if product < 0 else 1,
        averaged,
        edge,
    )


def _is_scalar(value: float | Tensor) -> bool:
    return not isinstance(value, Tensor) or not value.dim()


def _same(edge: Edge) -> bool:
    """Return True for a node that gives a single value on unchanged."""
    before = varying(edge)
    if kind(edge) not in _SAME or len(before) != 1:
        return False
    return math.prod(shape(edge)) == 1 and math.prod(sizes_before(edge) or shape(before[0])) == 1


def _take_divisors(constants: list[tuple[float | Tensor, bool]], edge: Edge) -> bool:
    """Remove the constants that make a sum a mean; return whether there were any.

    A tensor counts if it divides: a number of unmasked values, or a sum of weights. A number counts if it is
    a product of sizes, or no less than half of all values, as the tokens of a longer accumulation are. A
    smaller one is a number of micro-batches or a weight. More than one number counts if their product is
    that of all sizes.
    """
    if not (sizes := summed_sizes(edge)):
        return False
    count, total, averaged = math.prod(sizes), 1.0, False
    counts = {count, *sizes, *(count / size for size in sizes if size)} - {0, 1}
    for constant in reversed(list(constants)):
        value, divides = constant
        if isinstance(value, Tensor):
            if divides and not averaged:
                constants.remove(constant)
            return averaged or divides
        if value == -1:
            continue
        divisor = abs(value if divides or not value else 1 / value)
        fits = any(math.isclose(total * divisor, each, rel_tol=1e-6) for each in counts)
        if not (fits or (not averaged and divisor >= max(count / 2, 2))):
            break
        constants[constants.index(constant)] = (math.copysign(1.0, value), False)
        averaged, total = True, total * divisor
    return averaged


# Loss functions that have one value for all classes, which are their axis 1, or their only one.
_OVER_CLASSES = ("NllLoss", "NllLoss2D", "MultiMarginLoss", "MultilabelMarginLoss")


def summed_sizes(edge: Edge) -> tuple[int, ...]:
    """Return the shape that a sum, or a function with the reduction `sum`, was taken over.

    Args:
        edge: Edge.
    """
    if kind(edge) in SUMS:
        return sizes_before(edge) or shape(varying(edge)[0])
    if attribute(edge, "reduction") != 2 or not varying(edge):
        return ()
    sizes = shape(varying(edge)[0])
    if kind(edge) in _OVER_CLASSES:
        return sizes[:1] + sizes[2:] if len(sizes) > 1 else (1,)
    return sizes
