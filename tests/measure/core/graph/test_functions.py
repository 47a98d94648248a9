"""Every loss function of torch is told by its name, with the tensors that it was given."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gradscape.measure.core.graph.functions import SeenTerm
from gradscape.measure.core.graph.loss import read_loss

N, C = 6, 5
Loss = Callable[..., Tensor]

torch.manual_seed(0)
HIDDEN = torch.randn(N, 4)
CLASSES = torch.randint(0, C, (N,))
SHARES = torch.softmax(torch.randn(N, C), 1)
VALUES = torch.rand(N, C)
SIGNS = torch.where(torch.rand(N, C) > 0.5, 1.0, -1.0)
WEIGHT = torch.rand(C) + 0.5


def outputs() -> Tensor:
    weight = torch.linspace(-1, 1, 4 * C).reshape(4, C).requires_grad_()
    return HIDDEN @ weight


def only_term(loss: Tensor) -> SeenTerm:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = read_loss(loss)
    assert seen.complete
    (term,) = seen.terms
    assert term.weight == pytest.approx(1)
    assert seen.factor == pytest.approx(1)
    return term


def same(value: Tensor | None, expected: Tensor) -> bool:
    return value is not None and not value.requires_grad and torch.equal(value, expected.detach())


# Function, target: of output and target, of one shape.
PAIRS: dict[str, Tensor] = {
    "mse_loss": VALUES,
    "smooth_l1_loss": VALUES,
    "huber_loss": VALUES,
    "binary_cross_entropy_with_logits": VALUES,
    "soft_margin_loss": SIGNS,
    "multi_margin_loss": CLASSES,
    "multilabel_margin_loss": CLASSES[:, None].repeat(1, C),
}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", PAIRS)
def test_functions_of_one_node(name: str, reduction: str) -> None:
    output = outputs()
    term = only_term(getattr(F, name)(output, PAIRS[name], reduction=reduction))
    assert (term.name, term.reduction, term.operations) == (name, reduction, ())
    assert same(term.output, output)
    assert same(term.target, PAIRS[name])
    assert not term.weighted
    assert not term.broadcast


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_l1_loss_has_the_difference(reduction: str) -> None:
    output = outputs()
    term = only_term(F.l1_loss(output, VALUES, reduction=reduction))
    assert (term.name, term.reduction) == ("l1_loss", reduction)
    assert same(term.difference, output - VALUES)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("sizes", [(C,), (N, C), (2, C, 3), (2, C, 3, 2), (2, C, 3, 2, 2)])
def test_cross_entropy_of_classes(
    sizes: tuple[int, ...], smoothing: float, weight: Tensor | None, reduction: str
) -> None:
    output = torch.randn(sizes, requires_grad=True)
    axis = min(len(sizes) - 1, 1)
    target = torch.randint(0, C, sizes[:axis] + sizes[axis + 1 :])
    loss = F.cross_entropy(
        output, target, weight=weight, label_smoothing=smoothing, ignore_index=1, reduction=reduction
    )
    term = only_term(loss)
    single = reduction == "none" and len(sizes) == 1
    assert (term.name, term.reduction) == ("cross_entropy", "none" if single else reduction)
    assert (term.classes, term.class_axis, term.ignore_index) == (C, axis, 1)
    assert same(term.target, target)
    assert same(term.log_probabilities, output.log_softmax(axis))
    assert same(term.output, output)  # a leaf
    assert term.weighted == (weight is not None)
    assert term.label_smoothing == pytest.approx(smoothing)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("sizes", [(N, C), (2, C, 3)])
def test_cross_entropy_of_shares(sizes: tuple[int, ...], weight: Tensor | None, reduction: str) -> None:
    output, target = torch.randn(sizes, requires_grad=True), torch.softmax(torch.randn(sizes), 1)
    term = only_term(F.cross_entropy(output, target, weight=weight, reduction=reduction))
    assert (term.name, term.reduction, term.operations) == ("cross_entropy", reduction, ())
    assert (term.classes, term.class_axis) == (C, 1)
    assert same(term.target, target)
    assert same(term.log_probabilities, output.log_softmax(1))
    assert term.weighted == (weight is not None)


def test_nll_loss_after_a_log_softmax_is_cross_entropy() -> None:
    term = only_term(F.nll_loss(torch.log_softmax(outputs(), -1), CLASSES))
    assert (term.name, term.operations) == ("cross_entropy", ())
    wrong = only_term(F.nll_loss(torch.log_softmax(outputs(), 0), CLASSES))
    assert wrong.name == "nll_loss"
    assert [(each.name, each.dim, each.shape) for each in wrong.operations] == [("log_softmax", 0, (N, C))]


def test_binary_cross_entropy() -> None:
    output = outputs().sigmoid()
    term = only_term(F.binary_cross_entropy(output, VALUES))
    assert (term.name, term.reduction, term.weighted) == ("binary_cross_entropy", "mean", False)
    assert [each.name for each in term.operations] == ["sigmoid"]
    assert same(term.output, output)
    assert same(term.target, VALUES)
    for which in ("weight", "pos_weight"):
        assert only_term(F.binary_cross_entropy_with_logits(output, VALUES, **{which: WEIGHT})).weighted


def gaussian() -> Tensor:
    z = outputs()
    return F.gaussian_nll_loss(z, VALUES, z.exp())


OTHERS: dict[str, tuple[str, Callable[[], Tensor]]] = {
    "kl_div": ("kl_div", lambda: F.kl_div(outputs().log_softmax(1), SHARES, reduction="batchmean")),
    "kl_div, log": (
        "kl_div",
        lambda: F.kl_div(outputs().log_softmax(1), SHARES.log(), reduction="sum", log_target=True),
    ),
    "ctc": (
        "ctc_loss",
        lambda: F.ctc_loss(
            outputs().reshape(N, 1, C).log_softmax(2),
            torch.tensor([[1, 2]]),
            torch.tensor([N]),
            torch.tensor([2]),
        ),
    ),
    "poisson": ("poisson_nll_loss", lambda: F.poisson_nll_loss(outputs(), VALUES)),
    "poisson, rates": (
        "poisson_nll_loss",
        lambda: F.poisson_nll_loss(outputs().exp(), VALUES, log_input=False, full=True),
    ),
    "gaussian": ("gaussian_nll_loss", lambda: F.gaussian_nll_loss(outputs(), VALUES, torch.ones(N, C))),
    "gaussian, variances": ("gaussian_nll_loss", gaussian),
    "hinge embedding": ("hinge_embedding_loss", lambda: F.hinge_embedding_loss(outputs(), SIGNS)),
    "cosine embedding": (
        "cosine_embedding_loss",
        lambda: F.cosine_embedding_loss(outputs(), VALUES, SIGNS[:, 0]),
    ),
    "triplet": ("triplet_margin_loss", lambda: F.triplet_margin_loss(outputs(), VALUES, SHARES)),
    "triplet, distance": (
        "triplet_margin_loss",
        lambda: F.triplet_margin_with_distance_loss(outputs(), VALUES, SHARES),
    ),
    "multilabel": (
        "binary_cross_entropy_with_logits",
        lambda: F.multilabel_soft_margin_loss(outputs(), VALUES),
    ),
    "weighted squares": ("mse_loss", lambda: F.mse_loss(outputs(), VALUES, weight=VALUES)),
    "weighted Huber": ("huber_loss", lambda: F.huber_loss(outputs(), VALUES, weight=VALUES)),
    "no beta": ("l1_loss", lambda: F.smooth_l1_loss(outputs(), VALUES, beta=0.0)),
    "margin ranking": ("margin_ranking_loss", lambda: F.margin_ranking_loss(outputs(), VALUES, SIGNS)),
}


@pytest.mark.parametrize("case", OTHERS)
def test_functions_of_several_nodes(case: str) -> None:
    name, loss = OTHERS[case]
    assert only_term(loss()).name == name
