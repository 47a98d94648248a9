"""Margins, distances and densities that were written out, or that torch computes in several nodes."""

from __future__ import annotations

from collections.abc import Callable

from gradscape.measure.core.graph.chain import operations_before, value_of
from gradscape.measure.core.graph.formulas import product
from gradscape.measure.core.graph.functions import SeenTerm
from gradscape.measure.core.graph.node import Edge, attribute, kind, match, saved, shape, varying

_NORMS = ("Norm", "LinalgVectorNorm")


def margin_at(edge: Edge) -> SeenTerm | None:
    """Return the function of margins, distances or densities that an expression equals; None if it is none.

    Args:
        edge: Edge of the expression.
    """
    for reader in _READERS.get(kind(edge), ()):
        if (found := reader(edge)) is not None:
            return found
    return None


def _positive_part(edge: Edge) -> bool:
    return kind(edge) == "Relu" or (attribute(edge, "min") == 0 and attribute(edge, "max") is None)


def _hinge(edge: Edge) -> SeenTerm | None:
    """Read max(0, margin - target · output), of which margin_ranking_loss is one of a difference."""
    inner = varying(edge)[0]
    if not _positive_part(edge) or kind(inner) not in ("Rsub", "Sub", "Add") or len(varying(inner)) != 1:
        return None
    if (parts := product(varying(inner)[0])) is None:
        return None
    target, output = parts
    ranking = kind(output) == "Sub"
    return SeenTerm(
        "margin_ranking_loss" if ranking else "hinge_loss",
        operations_before(varying(output)[0] if ranking else output),
        "none",
        None if ranking else value_of(output),
        -target if kind(inner) == "Add" else target,
        shapes=(shape(output), tuple(target.shape)),
    )


def _triplet(edge: Edge) -> SeenTerm | None:
    """Read max(0, |anchor - positive| - |anchor - negative| + margin)."""
    inner = varying(edge)[0]
    sides = match(inner, ("Sub", ("Add", "*"), "*")) or match(inner, ("Add", ("Sub", "*", "*")))
    if not _positive_part(edge) or sides is None or any(kind(each) not in _NORMS for each in sides):
        return None
    anchor = varying(sides[0])[0]
    while kind(anchor) in ("Add", "Sub"):
        anchor = varying(anchor)[0]
    return SeenTerm("triplet_margin_loss", operations_before(anchor), "none", value_of(anchor))


def _soft_margin(edge: Edge) -> SeenTerm | None:
    """Read log(1 + exp(-target · output)), as softplus too."""
    inner = varying(edge)[0]
    if kind(edge) == "Log1P" and kind(inner) == "Exp":
        inner = varying(inner)[0]
    elif kind(edge) == "Log1P":
        return None
    negated = kind(inner) == "Neg"
    if (parts := product(varying(inner)[0] if negated else inner)) is None:
        return None
    target = parts[0] if negated else -parts[0]
    return SeenTerm("soft_margin_loss", operations_before(parts[1]), "none", value_of(parts[1]), target)


def _embedding(edge: Edge) -> SeenTerm | None:
    """Read hinge_embedding_loss and cosine_embedding_loss: one of two forms where the target is 1 or -1."""
    hinge = match(edge, ("Add", ("Where", ("ClampMin", ("Sub", "*"))), ("Where", "*")))
    if hinge is not None and hinge[0] == hinge[1]:
        return SeenTerm("hinge_embedding_loss", operations_before(hinge[0]), "none", value_of(hinge[0]))
    cosine = match(edge, ("Add", ("Where", ("Sub", "*")), ("Where", ("ClampMin", ("Sub", "*")))))
    if cosine is None or cosine[0] != cosine[1] or kind(cosine[0]) != "Div":
        return None
    first = match(varying(cosine[0])[0], ("Sum", ("Mul", "*")))
    return SeenTerm("cosine_embedding_loss", operations_before(first[0]) if first else (), "none")


def _cosine(edge: Edge) -> SeenTerm | None:
    """Read the sum of products of vectors of length one, which a loss has with a minus."""
    (inner,) = varying(edge)
    if kind(inner) != "Mul" or not (units := varying(inner)) or not all(map(_is_unit, units)):
        return None
    before = varying(units[0])[0]
    return SeenTerm("cosine_similarity", operations_before(before), "none", value_of(before), weight=-1.0)


def _is_unit(edge: Edge) -> bool:
    """Return True for a vector that is divided by its norm."""
    before = varying(edge)
    if kind(edge) != "Div" or len(before) != 2:
        return False
    divisor = before[1]
    while kind(divisor) in ("Clone", "ClampMin", "Expand", "Unsqueeze", "Clamp", "Add"):
        divisor = varying(divisor)[0]
    return kind(divisor) in _NORMS and varying(divisor) == before[:1]


def _poisson(edge: Edge) -> SeenTerm | None:
    """Read rate - target · log(rate), of a rate or its logarithm."""
    if len(varying(edge)) != 2 or (parts := product(varying(edge)[1])) is None:
        return None
    (rate, _), (target, log) = varying(edge), parts
    logarithm = kind(rate) == "Exp" and varying(rate)[0] == log
    if not logarithm and (kind(log) != "Log" or rate not in (varying(log)[0], *varying(varying(log)[0]))):
        return None
    output = log if logarithm else rate
    return SeenTerm("poisson_nll_loss", operations_before(output), "none", value_of(output), target)


def _gaussian(edge: Edge) -> SeenTerm | None:
    """Read log(variance) + (output - target)² / variance, twice the loss."""
    found = match(edge, ("Add", ("Log", "*"), ("Div", ("Pow", ("Sub", "*")), "*")))
    if found is None or found[0] != found[2]:
        return None
    difference = saved(varying(varying(edge)[1])[0], "self")
    return SeenTerm(
        "gaussian_nll_loss",
        operations_before(found[1]),
        "none",
        value_of(found[1]),
        difference=difference,
        weight=2.0,
    )


_READERS: dict[str, tuple[Callable[[Edge], SeenTerm | None], ...]] = {
    "Add": (_embedding, _gaussian),
    "Sub": (_poisson,),
    "Sum": (_cosine,),
    "Relu": (_hinge, _triplet),
    "ClampMin": (_hinge, _triplet),
    "Clamp": (_hinge, _triplet),
    "Softplus": (_soft_margin,),
    "Log1P": (_soft_margin,),
}
