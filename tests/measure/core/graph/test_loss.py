"""Losses that were written out, sums of losses, factors, and graphs that must stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from gradscape.measure.core.graph.functions import SeenTerm
from gradscape.measure.core.graph.loss import factor_of, leaves_of, read_loss

N, C = 6, 5
torch.manual_seed(0)
HIDDEN = torch.randn(N, 4)
ROWS = torch.arange(N)
CLASSES = torch.randint(0, C, (N,))
SHARES = torch.softmax(torch.randn(N, C), 1)
VALUES = torch.rand(N, C)
SIGNS = torch.where(torch.rand(N, C) > 0.5, 1.0, -1.0)


def outputs() -> Tensor:
    return HIDDEN @ torch.linspace(-1, 1, 4 * C).reshape(4, C).requires_grad_()


def only_term(loss: Tensor) -> SeenTerm:
    seen = read_loss(loss)
    assert seen.complete
    (term,) = seen.terms
    return term


def names(term: SeenTerm) -> list[str]:
    return [each.name for each in term.operations]


def cross_entropy_by_hand(p: Tensor) -> Tensor:
    return -(VALUES * torch.log(p) + (1 - VALUES) * torch.log(1 - p)).mean()


def clamped(p: Tensor) -> Tensor:
    return p.clamp(1e-7, 1 - 1e-7)


def split(p: Tensor) -> Tensor:
    return (-VALUES * torch.log(p + 1e-7) - (1 - VALUES) * torch.log1p(-p)).sum()


def by_log_sum(z: Tensor) -> Tensor:
    return (torch.logsumexp(z, 1) - z[ROWS, CLASSES]).mean()


def softmax_by_hand(z: Tensor) -> Tensor:
    powers = torch.exp(z - z.max(1, keepdim=True).values)
    return powers / powers.sum(1, keepdim=True)


# Loss of outputs; name, reduction, operations before it, target.
WRITTEN: dict[str, tuple[Callable[[Tensor], Tensor], str, str, list[str], Tensor | None]] = {
    "square": (lambda z: ((z.relu() - VALUES) ** 2).mean(), "mse_loss", "mean", ["relu"], None),
    "pow": (lambda z: (z - VALUES).pow(2).sum(), "mse_loss", "sum", [], None),
    "squares": (lambda z: (z - VALUES).square().sum(1).mean(), "mse_loss", "mean", [], None),
    "reversed": (lambda z: (VALUES - z).abs().mean(), "l1_loss", "mean", [], None),
    "binary": (
        lambda z: cross_entropy_by_hand(z.sigmoid()), "binary_cross_entropy", "mean", ["sigmoid"], VALUES,
    ),
    "clamped": (
        lambda z: cross_entropy_by_hand(clamped(z.sigmoid())),
        "binary_cross_entropy",
        "mean",
        ["sigmoid", "clamp"],
        VALUES,
    ),
    "split": (lambda z: split(z.sigmoid()), "binary_cross_entropy", "sum", ["sigmoid", "add"], VALUES),
    "twice": (
        lambda z: -(VALUES * z.sigmoid().log() + (1 - VALUES) * (1 - z.sigmoid()).log()).mean(),
        "binary_cross_entropy",
        "mean",
        ["sigmoid"],
        VALUES,
    ),
    "logsigmoid": (
        lambda z: -(VALUES * F.logsigmoid(z) + (1 - VALUES) * F.logsigmoid(-z)).mean(),
        "binary_cross_entropy_with_logits",
        "mean",
        [],
        VALUES,
    ),
    "shares": (
        lambda z: -(SHARES * z.log_softmax(-1)).sum(1).mean(), "cross_entropy", "mean", [], SHARES,
    ),
    "log of softmax": (
        lambda z: -(SHARES * z.softmax(1).log()).sum(1).mean(),
        "nll_loss",
        "mean",
        ["softmax", "log"],
        SHARES,
    ),
    "Keras": (
        lambda z: -(SHARES * clamped(z.softmax(1)).log()).sum(-1).mean(),
        "nll_loss",
        "mean",
        ["softmax", "clamp", "log"],
        SHARES,
    ),
    "index": (lambda z: -z.log_softmax(1)[ROWS, CLASSES].mean(), "cross_entropy", "mean", [], CLASSES),
    "range": (lambda z: -z.log_softmax(1)[range(N), CLASSES].mean(), "cross_entropy", "mean", [], CLASSES),
    "gather": (
        lambda z: -z.log_softmax(1).gather(1, CLASSES[:, None]).squeeze(1).sum(),
        "cross_entropy",
        "sum",
        [],
        CLASSES,
    ),
    "log of index": (
        lambda z: -torch.log(z.softmax(1)[ROWS, CLASSES] + 1e-8).mean(),
        "nll_loss",
        "mean",
        ["softmax", "index", "add", "log"],
        CLASSES,
    ),
    "log-sum": (by_log_sum, "cross_entropy", "mean", [], CLASSES),
    "softmax by hand": (
        lambda z: F.nll_loss(softmax_by_hand(z).log(), CLASSES),
        "nll_loss",
        "mean",
        ["sub", "softmax", "log"],
        CLASSES,
    ),
    "hinge": (lambda z: F.relu(1 - SIGNS * z).mean(), "hinge_loss", "mean", [], SIGNS),
    "hinge by clamp": (
        lambda z: torch.clamp(1 - SIGNS * z.tanh(), min=0).sum(), "hinge_loss", "sum", ["tanh"], SIGNS,
    ),
    "softplus": (lambda z: F.softplus(-SIGNS * z).mean(), "soft_margin_loss", "mean", [], SIGNS),
    "log1p": (lambda z: torch.log1p(torch.exp(-SIGNS * z)).mean(), "soft_margin_loss", "mean", [], SIGNS),
    "cosine": (lambda z: (1 - F.cosine_similarity(z, VALUES)).mean(), "cosine_similarity", "mean", [], None),
}  # fmt: skip


@pytest.mark.parametrize("case", WRITTEN)
def test_losses_that_were_written_out(case: str) -> None:
    loss, name, reduction, operations, target = WRITTEN[case]
    term = only_term(loss(outputs()))
    assert (term.name, term.reduction, names(term)) == (name, reduction, operations)
    assert target is None or (term.target is not None and torch.equal(term.target, target))
    assert term.weight == pytest.approx(1)


def test_differences_are_output_minus_target() -> None:
    z = outputs()
    for loss in ((z - VALUES) ** 2, (VALUES - z) ** 2, (z - VALUES).abs(), F.l1_loss(z, VALUES)):
        difference = only_term(loss.mean()).difference
        assert difference is not None
        assert torch.equal(difference, z.detach() - VALUES)
    activated = only_term(((z.sigmoid() - VALUES) ** 2).mean())
    assert activated.output is not None
    assert activated.target is not None
    assert torch.equal(activated.output, z.detach().sigmoid())
    assert torch.allclose(activated.target, VALUES)


def test_a_likelihood_without_its_minus_has_a_negative_weight() -> None:
    z = outputs()
    for loss in (z.log_softmax(1)[ROWS, CLASSES].mean(), (SHARES * z.log_softmax(1)).sum(1).mean()):
        assert only_term(loss).weight == -1
    assert only_term(-cross_entropy_by_hand(z.sigmoid())).weight == -1
    assert only_term(-F.mse_loss(z, VALUES)).weight == -1


# Reduced shapes: of output and target.
BROADCAST = [((N, 1), (N,)), ((N,), (N, 1)), ((N, 1), (1, C)), ((N, 1), (C,))]


@pytest.mark.parametrize("sizes", BROADCAST)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_broadcasts_are_told_with_the_shapes_before(sizes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    weight = torch.ones((), requires_grad=True)
    z, y = torch.randn(sizes[0]) * weight, torch.randn(sizes[1])
    minimal = sizes[1] if sizes[1] != (1, C) else (C,)  # the same without the axis of length one in front
    losses: list[Callable[[Tensor, Tensor], Tensor]] = [
        F.mse_loss,
        F.l1_loss,
        F.smooth_l1_loss,
        lambda z, y: ((z - y) ** 2).mean(),
        lambda z, y: (y - z).abs().sum(),
    ]
    for loss in losses:
        term = only_term(loss(z, y))
        assert term.broadcast
        assert term.shapes == (sizes[0], minimal)
    term = only_term(F.mse_loss(z, y))
    assert term.output is not None
    assert term.target is not None
    assert torch.equal(term.output, z.detach())
    assert torch.equal(term.target, y.reshape(minimal))


def test_equal_shapes_are_no_broadcast() -> None:
    z = outputs()
    for loss in (F.mse_loss(z, VALUES), F.l1_loss(z, VALUES), ((z[:, :1] - VALUES[:, :1]) ** 2).mean()):
        assert not only_term(loss).broadcast


def test_sums_of_losses_are_terms_with_weights() -> None:
    z = outputs()
    weight = torch.randn(3, 3, requires_grad=True)
    penalty = sum(
        each.pow(2).sum() for each in [weight, *[torch.ones(2, requires_grad=True) for _ in range(99)]]
    )
    loss = (
        F.cross_entropy(z, CLASSES) + 0.1 * F.mse_loss(z, VALUES) - 0.5 * z.sigmoid().mean() + penalty
    ) / 4
    seen = read_loss(loss)
    assert [each.name for each in seen.terms] == ["cross_entropy", "mse_loss", "unknown", "penalty"]
    assert [each.weight for each in seen.terms] == pytest.approx([1, 0.1, -0.5, 1])
    assert seen.factor == 0.25
    assert seen.complete
    assert names(seen.terms[2]) == ["sigmoid", "mean"]


def test_stacked_and_elementwise_sums_are_terms() -> None:
    z = outputs()
    several = read_loss(torch.stack([F.mse_loss(z, VALUES), F.cross_entropy(z, CLASSES)]).sum())
    assert [each.name for each in several.terms] == ["mse_loss", "cross_entropy"]
    elements = read_loss(((z - VALUES) ** 2 + 0.1 * (z - VALUES).abs()).mean())
    assert [each.name for each in elements.terms] == ["mse_loss", "l1_loss"]
    assert [each.weight for each in elements.terms] == pytest.approx([1, 0.1])
    assert [each.reduction for each in elements.terms] == ["mean", "mean"]


def test_a_learned_weight_of_a_term_is_passed() -> None:
    spread = torch.zeros((), requires_grad=True)
    seen = read_loss(torch.exp(-spread) * F.mse_loss(outputs(), VALUES) + spread)
    assert [each.name for each in seen.terms] == ["mse_loss", "penalty"]


def test_a_function_of_a_loss_is_unknown_but_has_its_tensors() -> None:
    term = only_term(torch.sqrt(F.mse_loss(outputs(), VALUES)))
    assert (term.name, term.within) == ("unknown", "mse_loss")
    assert term.target is not None
    assert torch.equal(term.target, VALUES)
    each = F.cross_entropy(outputs(), CLASSES, reduction="none")
    focal = only_term(((1 - torch.exp(-each)) ** 2 * each).mean())
    assert (focal.name, focal.within, focal.classes) == ("unknown", "cross_entropy", C)


@pytest.mark.parametrize("loss", [F.mse_loss, lambda z, y: ((z - y) ** 2).mean(), F.l1_loss])
def test_factors_are_a_scale_and_a_number_of_micro_batches(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    value = loss(outputs(), VALUES)
    scale = torch.tensor(1024.0)
    assert factor_of(value) == 1
    assert factor_of(value / 4) == 0.25
    assert factor_of(0.5 * value / 2) == 0.25
    scaled = factor_of(value / 4 * scale)
    assert isinstance(scaled, Tensor)
    assert scaled == 256
    scale.mul_(2)  # as a GradScaler does after the step
    assert scaled == 256
    assert torch.equal(value.detach() / 4 * 1024 / scaled, value.detach())


def test_a_grad_scaler_is_a_factor() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    loss = F.cross_entropy(outputs(), CLASSES)
    assert factor_of(scaler.scale(loss)) == 512
    assert factor_of(scaler.scale(F.cross_entropy(outputs(), CLASSES, reduction="sum"))) == 512


def test_divisors_of_means_are_no_factors() -> None:
    z, mask = outputs(), torch.rand(N) > 0.5
    each = F.cross_entropy(z, CLASSES, reduction="none")
    total = F.cross_entropy(z, CLASSES, reduction="sum")
    means = [
        (F.cross_entropy(z, SHARES), "mean"),
        (total / N, "mean"),
        (total / 100, "mean"),  # tokens of a longer accumulation
        (((z - VALUES) ** 2).sum() / N / C, "mean"),
        ((each * mask).sum() / mask.sum(), "mean"),
        (F.kl_div(z.log_softmax(1), SHARES, reduction="batchmean"), "mean"),
    ]
    for loss, reduction in means:
        assert factor_of(loss) == 1
        assert factor_of(loss / 8) == 0.125
        assert only_term(loss).reduction == reduction
        assert only_term(loss).weight == pytest.approx(1)
    assert factor_of(0.5 * total) == 0.5
    assert only_term(0.5 * total).reduction == "sum"


class Counted(nn.Module):
    """Module that counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.calls = nn.Linear(4, C), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return F.cross_entropy(self.inner(x).relu(), CLASSES)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_compute_no_more_often(reentrant: bool) -> None:
    results = []
    for reads in (False, True):
        torch.manual_seed(0)
        model = Counted()
        given_ = HIDDEN.clone().requires_grad_()
        loss = sum(checkpoint(model, given_, use_reentrant=reentrant) for _ in range(2)) / 2
        assert isinstance(loss, Tensor)
        if reads:
            seen = read_loss(loss)
            assert seen.complete != reentrant
            assert seen.factor == 0.5
            assert all(each.target is None for each in seen.terms)
            assert len(seen.terms) == (0 if reentrant else 2)
        assert model.calls == 2
        loss.backward()
        results.append((model.calls, [p.grad for p in model.parameters()], given_.grad))
    (calls, gradients, inner), (calls_read, gradients_read, inner_read) = results
    assert calls == calls_read == 4
    assert all(torch.equal(a, b) for a, b in zip(gradients, gradients_read, strict=True))
    assert torch.equal(inner, inner_read)


def test_saved_tensors_with_hooks_are_not_unpacked() -> None:
    unpacked: list[Tensor] = []

    def unpack(value: Tensor) -> Tensor:
        unpacked.append(value)
        return value

    with torch.autograd.graph.saved_tensors_hooks(lambda value: value, unpack):
        losses = [build(outputs()) / 4 for build, *_ in WRITTEN.values()]
        losses += [F.cross_entropy(outputs(), CLASSES, label_smoothing=0.1), F.mse_loss(outputs(), VALUES)]
    for loss in losses:
        factor_of(loss)
        read_loss(loss)
    assert not unpacked
    assert [each.name for each in read_loss(losses[-1]).terms] == ["mse_loss"]
    losses[-1].backward()
    assert unpacked


def test_gradients_and_graph_are_as_without_reading() -> None:
    def gradients(reads: bool) -> list[Tensor]:
        z = torch.linspace(-1, 1, N * C).reshape(N, C).requires_grad_()
        found = []
        for build, *_ in WRITTEN.values():
            loss = build(z)
            if reads:
                read_loss(loss)
                factor_of(loss)
                leaves_of(loss)
            (first,) = torch.autograd.grad(loss, z, create_graph=True)
            found.append(first)
            if first.requires_grad:
                found += torch.autograd.grad(first.pow(2).sum(), z, retain_graph=True)
                if reads:
                    read_loss(loss)
            loss.backward()
        assert z.grad is not None
        return [*found, z.grad]

    assert all(torch.equal(a, b) for a, b in zip(gradients(False), gradients(True), strict=True))


def test_a_graph_that_was_freed_has_its_names() -> None:
    loss = F.cross_entropy(outputs(), CLASSES)
    loss.backward()
    term = only_term(loss)
    assert (term.name, term.target, term.reduction) == ("cross_entropy", None, "mean")


class Doubled(torch.autograd.Function):
    """Function that autograd has only the name of."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return 2 * gradients[0]


def double(x: Tensor) -> Tensor:
    result = Doubled.apply(x)
    assert isinstance(result, Tensor)
    return result


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, when it first compiles
def test_compiled_functions_end_the_reading() -> None:
    model = nn.Sequential(nn.Linear(4, C), nn.ReLU())
    outside = only_term(F.cross_entropy(torch.compile(model, backend="aot_eager")(HIDDEN), CLASSES))
    assert (outside.name, outside.operations) == ("cross_entropy", ())

    def loss() -> Tensor:
        return F.cross_entropy(model(HIDDEN), CLASSES)

    inside = read_loss(torch.compile(loss, backend="aot_eager")() / 2)
    assert (inside.terms, inside.factor, inside.complete) == ((), 0.5, False)


def nested(layout: torch.layout) -> Tensor:
    parts = [torch.ones(2, 3), torch.ones(4, 3)]
    return torch.nested.nested_tensor(parts, layout=layout, requires_grad=True)


ODD: dict[str, Callable[[], Tensor]] = {
    "no graph": lambda: torch.ones(()),
    "leaf": lambda: torch.ones((), requires_grad=True),
    "complex": lambda: (torch.ones(3, dtype=torch.complex64, requires_grad=True) * 1j).abs().sum(),
    "sparse": lambda: torch.sparse.mm(torch.eye(N).to_sparse(), outputs()).sum(),
    "jagged": lambda: nested(torch.jagged).sin().values().mean(),
    "nested": lambda: nested(torch.strided).relu(),
    "custom": lambda: double(F.mse_loss(double(outputs()), VALUES)),
    "in place": lambda: outputs().relu_().mul_(2).mean(),
    "slices": lambda: outputs().index_put((ROWS[:2],), VALUES[:2]).sum(),
    "residual": lambda: (outputs() + outputs()).mean(),
    "parts": lambda: torch.cat([outputs(), outputs()]).mean(),
    "unbound": lambda: sum(torch.unbind(outputs()))[0],
    "product": lambda: outputs().prod(),
    "wide": lambda: F.mse_loss(outputs().double(), VALUES.double()).float(),
    "empty": lambda: F.mse_loss(outputs()[:0], VALUES[:0]),
    "zero": lambda: 0 * F.mse_loss(outputs(), VALUES),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_odd_graphs_raise_nothing(case: str) -> None:
    root = ODD[case]()
    seen = read_loss(root)
    assert isinstance(seen.terms, tuple)
    assert factor_of(root) is not None
    leaves, complete = leaves_of(root)
    assert complete
    assert all(each.requires_grad for each in leaves)


def test_long_sums_are_cut_but_not_deep() -> None:
    z = outputs()
    loss = sum(F.mse_loss(z, VALUES + shift) for shift in range(200))
    assert isinstance(loss, Tensor)
    seen = read_loss(loss)
    assert not seen.complete
    assert 0 < len(seen.terms) < 100


def test_leaves_end_at_the_number_of_nodes() -> None:
    model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(20)])
    loss = model(HIDDEN).sum()
    leaves, complete = leaves_of(loss)
    assert complete
    assert {id(each) for each in leaves} == {id(each) for each in model.parameters()}
    few, complete = leaves_of(loss, 10)
    assert not complete
    assert len(few) < 10


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_the_axis_of_classes_is_followed_through_views(dim: int) -> None:
    layer = nn.Linear(4, C)
    z = layer(torch.randn(2, 3, 4))
    loss = F.nll_loss(z.softmax(dim).log().transpose(1, 2), torch.randint(0, C, (2, 3)))
    term = only_term(loss)
    assert names(term) == ["softmax", "log", "transpose"]
    assert term.operations[0].dim == dim
    assert term.class_axes == (2, 2, 1)
    flat = only_term(F.cross_entropy(z.softmax(dim).reshape(-1, C), torch.randint(0, C, (6,))))
    assert names(flat) == ["softmax", "view"]
    assert flat.class_axes == (2, 1)


LAYERS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": nn.Linear(4, C),
    "no bias": nn.Linear(4, C, bias=False),
    "bias by hand": lambda x: x @ torch.ones(4, C, requires_grad=True) + torch.ones(C, requires_grad=True),
    "conv": lambda x: nn.Conv1d(1, C, 4)(x[:, None])[:, :, 0],
    "norm": lambda x: nn.LayerNorm(C)(nn.Linear(4, C)(x).relu()),
    "batch norm": lambda x: nn.BatchNorm1d(C)(nn.Linear(4, C)(x).relu()),
    "scale by hand": lambda x: nn.Linear(4, C)(x).relu() * torch.ones(C, requires_grad=True),
}


@pytest.mark.parametrize("case", LAYERS)
def test_operations_begin_after_the_last_layer(case: str) -> None:
    term = only_term(F.mse_loss(LAYERS[case](HIDDEN).tanh(), VALUES))
    assert [name for name in names(term) if name not in ("select", "view")] == ["tanh"]


def test_a_temperature_is_an_operation() -> None:
    scale = torch.ones((), requires_grad=True)
    assert names(only_term(F.cross_entropy(outputs().relu() * scale.exp(), CLASSES))) == ["relu", "mul"]
    assert names(only_term(F.cross_entropy(outputs().relu() / 0.07, CLASSES))) == ["relu", "div"]


ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], list[str]]] = {
    "none": (lambda z: z, []),
    "relu": (F.relu, ["relu"]),
    "leaky": (F.leaky_relu, ["leaky_relu"]),
    "elu": (F.elu, ["elu"]),
    "gelu": (F.gelu, ["gelu"]),
    "silu": (F.silu, ["silu"]),
    "softplus": (F.softplus, ["softplus"]),
    "tanh": (torch.tanh, ["tanh"]),
    "sigmoid": (torch.sigmoid, ["sigmoid"]),
    "clamp": (lambda z: z.clamp(0, 1), ["clamp"]),
    "relu6": (F.relu6, ["hardtanh"]),
    "prelu": (lambda z: F.prelu(z, torch.full((1,), 0.2, requires_grad=True)), ["prelu"]),
    "swish": (lambda z: z * torch.sigmoid(z), ["mul"]),
    "softmax": (lambda z: z.softmax(1), ["softmax"]),
    "wrong axis": (lambda z: z.softmax(0), ["softmax"]),
    "log_softmax": (lambda z: z.log_softmax(1), ["log_softmax"]),
    "dropout": (lambda z: F.dropout(z, 0.5, training=True), ["mul"]),
    "cast": (lambda z: z.double().float(), ["to", "to"]),
    "slice": (lambda z: z[:, :3], ["slice"]),
    "permuted": (lambda z: z.permute(1, 0).t(), ["permute", "transpose"]),
    "pool": (lambda z: z[:, :, None].expand(-1, -1, 2).mean(2), ["unsqueeze", "expand", "mean"]),
}  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(ACTIVATIONS)), max_size=3),
    st.sampled_from(
        ["cross_entropy", "mse_loss", "binary_cross_entropy_with_logits", "l1_loss", "huber_loss"]
    ),
    st.sampled_from(["mean", "sum", "none"]),
    st.integers(2, 5),
    st.integers(3, 6),
)
def test_activations_and_losses_are_told_apart(
    activations: list[str], name: str, reduction: str, n: int, classes: int
) -> None:
    z = torch.randn(n, 4) @ torch.randn(4, classes, requires_grad=True)
    wanted: list[str] = []
    for each in activations:
        function, told = ACTIVATIONS[each]
        z, size = function(z), z.shape[1]
        wanted += told if each != "slice" or size > 3 else []
    target = torch.randint(0, z.shape[1], (n,)) if name == "cross_entropy" else torch.rand(z.shape)
    term = only_term(getattr(F, name)(z, target, reduction=reduction))
    assert (term.name, term.reduction) == (name, reduction)
    assert names(term) == wanted
    if name != "l1_loss":
        assert term.target is not None
        assert torch.equal(term.target, target)
    if name == "cross_entropy":
        assert term.classes == z.shape[1]
        assert term.log_probabilities is not None
        assert torch.equal(term.log_probabilities, z.detach().log_softmax(1))
    elif name != "l1_loss":
        assert term.output is not None
        assert torch.equal(term.output, z.detach())
