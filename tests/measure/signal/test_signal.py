"""Signal propagation against mean-field theory, products of matrices and direct arithmetic in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradscape.errors import ConfigError
from gradscape.measure.signal.jacobian import singular_values
from gradscape.measure.signal.signal import signal
from gradscape.records.signal import SignalRecord

WIDTH, DEPTH = 800, 8


@pytest.fixture
def double() -> Any:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def mlp(
    act: Callable[[], nn.Module], w: float, b: float, width: int = WIDTH, depth: int = DEPTH
) -> Callable[[], nn.Sequential]:
    """Weights N(0, w/width), biases N(0, b), activations between."""

    def make() -> nn.Sequential:
        layers: list[nn.Module] = []
        for _ in range(depth):
            linear = nn.Linear(width, width)
            nn.init.normal_(linear.weight, std=math.sqrt(w / width))
            nn.init.normal_(linear.bias, std=math.sqrt(b))
            layers += [linear, act()]
        return nn.Sequential(*layers[:-1])

    return make


def inputs(correlation: float, width: int = WIDTH) -> Tensor:
    """Eight samples of second moment 1, each pair of which has the given cosine, exactly."""
    basis = torch.linalg.qr(torch.randn(width, 9))[0].T
    return math.sqrt(width) * (math.sqrt(correlation) * basis[0] + math.sqrt(1 - correlation) * basis[1:])


def gauss(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> float:
    """E f(z₁, z₂) of two independent standard normals, by the trapezoidal rule."""
    z = np.linspace(-8, 8, 641)
    weight = np.exp(-(z**2) / 2) * (z[1] - z[0]) / math.sqrt(2 * math.pi)
    return float(np.sum(weight[:, None] * weight * function(z[:, None], z)))


def mean_field(
    act: Callable[[np.ndarray], np.ndarray], w: float, b: float, c: float
) -> tuple[list[float], list[float]]:
    """q and c of each linear layer's output by the recursion of Schoenholz et al. (2017), §2."""
    q, covariance = w + b, w * c + b
    qs, cs = [q], [covariance / q]
    for _ in range(DEPTH - 1):
        r, c = math.sqrt(q), covariance / q
        covariance = b + w * gauss(
            lambda x, y, r=r, c=c: act(r * x) * act(r * (c * x + math.sqrt(max(1 - c * c, 0)) * y))
        )
        q = b + w * gauss(lambda x, _, r=r: act(r * x) ** 2)
        qs.append(q)
        cs.append(covariance / q)
    return qs, cs


@pytest.mark.slow
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    ("act", "function", "w", "b"),
    [
        (nn.Tanh, np.tanh, 1.5, 0.1),
        (nn.Tanh, np.tanh, 3.0, 0.05),
        (nn.ReLU, lambda x: np.maximum(x, 0), 2.0, 0.0),
    ],
)
def test_wide_networks_follow_mean_field_theory(
    act: type[nn.Module], function: Callable[[np.ndarray], np.ndarray], w: float, b: float
) -> None:
    torch.manual_seed(0)
    record = signal(mlp(act, w, b), inputs(0.6), lambda out: out[:, 0].mean(), seeds=4, jacobian_samples=0)
    qs, cs = mean_field(function, w, b, 0.6)
    linear = record.weights
    assert np.allclose(record.second_moment[:, linear].mean(0), qs, rtol=0.1)  # finite width, 4 draws
    assert np.allclose(
        record.correlation[:, linear].mean(0), cs, atol=0.05
    )  # 0.03 a draw in the chaotic phase
    assert record.input_second_moment[0] == pytest.approx(1)
    assert record.input_correlation[0] == pytest.approx(0.6)


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_chi_is_that_of_mean_field_theory() -> None:
    """χ₁ = σ_w² E φ'(√q* z)² where q has settled (Schoenholz et al. 2017)."""
    for w, b in ((0.8, 0.1), (3.0, 0.05)):
        q = 1.0
        for _ in range(200):
            q = b + w * gauss(lambda x, _, q=q: np.tanh(math.sqrt(q) * x) ** 2)
        expected = w * gauss(lambda x, _, q=q: (1 - np.tanh(math.sqrt(q) * x) ** 2) ** 2)
        torch.manual_seed(0)
        x = math.sqrt((q - b) / w) * inputs(0.3)  # so that q is q* from the first layer on
        record = signal(mlp(nn.Tanh, w, b), x, lambda out: out[:, 0].mean(), seeds=4, jacobian_samples=0)
        assert record.mean_chi == pytest.approx(expected, rel=0.06)
        assert record.depth_scale == pytest.approx(1 / abs(math.log(record.mean_chi)))
        assert record.chi.shape == (4, DEPTH - 1)
        assert math.exp(np.log(record.chi).mean()) == pytest.approx(expected, rel=0.1)
    assert "4 of 8 weight layers, n = 4 seeds" in record.depth_scale_how


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_the_depth_scale_is_nearer_the_asymptotic_one_where_q_has_settled() -> None:
    """Of tanh near criticality, from inputs far from q*: half as far off as a fit to all layers, or less."""
    w, b, q = 1.0, 0.0025, 1.0
    z = np.linspace(-8, 8, 641)
    weight = np.exp(-(z**2) / 2) * (z[1] - z[0]) / math.sqrt(2 * math.pi)
    for _ in range(3_000):
        q = b + w * float(weight @ np.tanh(math.sqrt(q) * z) ** 2)
    chi = w * float(weight @ (1 - np.tanh(math.sqrt(q) * z) ** 2) ** 2)
    torch.manual_seed(0)
    record = signal(
        mlp(nn.Tanh, w, b, 200, depth=24),
        inputs(0.3, 200),
        lambda out: out[:, 0].mean(),
        seeds=4,
        jacobian_samples=0,
    )
    whole = float(np.mean([np.polyfit(np.arange(24), np.log(row), 1)[0] for row in record.energy]))
    assert abs(record.mean_chi - chi) < 0.5 * abs(math.exp(-whole) - chi)


@pytest.mark.usefixtures("double")
def test_the_jacobian_of_a_linear_network_is_the_product_of_its_matrices() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(*(nn.Linear(a, b) for a, b in ((12, 20), (20, 15), (15, 9))))
    product = model[2].weight @ model[1].weight @ model[0].weight
    sigma = torch.linalg.svdvals(product).detach()
    x = torch.randn(5, 12)
    record = signal(model, x, lambda out: out.sum(), jacobian_samples=5)
    assert record.jacobian.largest[0] == pytest.approx(float(sigma[0]), rel=1e-10)
    assert record.jacobian.smallest[0] == pytest.approx(float(sigma[-1]), rel=1e-8)
    assert record.jacobian.mean_square[0] == pytest.approx(float(sigma.square().mean()), rel=1e-10)
    assert record.jacobian.mean_square_error[0] == 0
    assert record.jacobian.samples == 5


def test_the_jacobian_of_an_output_that_is_transposed_is_measured() -> None:
    class Transposed(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input).transpose(1, 2)

    torch.manual_seed(1)
    model = Transposed(3, 2)
    record = signal(model, torch.randn(4, 5, 3), lambda out: out.square().sum())
    assert record.notes == ()
    assert record.jacobian.largest[0] == pytest.approx(float(torch.linalg.svdvals(model.weight)[0].detach()))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("scale", [1.0, 1e-12])
def test_estimated_singular_values_are_those_of_the_svd(scale: float) -> None:
    torch.manual_seed(2)
    matrix = scale * torch.randn(60, 40)
    sigma = torch.linalg.svdvals(matrix)
    x = torch.randn(4, 40, requires_grad=True)
    found = singular_values(x @ matrix.T, x, size=4, dense=0)
    assert found.largest <= float(sigma[0]) * (1 + 1e-9)
    assert float(sigma[0]) - found.largest <= found.largest_error <= 1e-3 * float(sigma[0])
    assert found.how.startswith("Golub-Kahan, ")
    mean = float(sigma.square().mean())
    assert abs(found.mean_square - mean) <= 4 * found.error
    assert 0 < found.error < 0.05 * mean
    assert math.isnan(found.smallest)


@pytest.mark.usefixtures("double")
def test_what_the_jacobian_estimate_does_not_resolve_is_no_error() -> None:
    x = torch.randn(3, 50, requires_grad=True)
    zero = singular_values(x * 0, x, size=3, dense=0)
    assert (zero.largest, zero.mean_square) == (0, 0)
    assert math.isnan(singular_values(x * math.nan, x, size=3, dense=0).largest)
    assert math.isnan(singular_values(x * math.nan, x, size=3).largest)


@pytest.mark.usefixtures("double")
def test_moments_and_shares_are_direct_arithmetic() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 9), nn.ReLU(inplace=True), nn.Linear(9, 5), nn.Tanh(), nn.Linear(5, 3))
    with torch.no_grad():
        model[0].bias[:4] = -100  # dead
        model[2].weight *= 20  # saturated
    x, y = torch.randn(30, 6), torch.randint(0, 3, (30,))
    record = signal(model, (x, y), cross_entropy, jacobian_samples=0)
    values, outputs = x, []
    for layer in model:
        values = layer(values).clone() if not isinstance(layer, nn.ReLU) else values.clamp(min=0)
        values.retain_grad()
        outputs.append(values)
    cross_entropy(values, y).backward()
    assert record.layers == ("0", "1", "2", "3", "4")
    assert record.kinds == ("linear", "activation", "linear", "activation", "linear")
    assert record.widths == (9, 9, 5, 5, 3)
    for place, out in enumerate(outputs):
        rows = out.detach().numpy()
        some = rows[::2]  # of more than 16 samples as many as are at most 16
        some = some[some.any(axis=1)]  # a sample of zeros has no direction
        unit = some / np.linalg.norm(some, axis=1, keepdims=True)
        cosines = (unit @ unit.T)[~np.eye(len(unit), dtype=bool)]
        assert record.second_moment[0, place] == pytest.approx((rows**2).mean(), rel=1e-12)
        assert record.correlation[0, place] == pytest.approx(cosines.mean(), rel=1e-10)
        assert record.gradient[0, place] == pytest.approx(float(out.grad.square().mean()), rel=1e-10)
    for place in (0, 2, 4):
        expected = float(model[place].weight.grad.square().mean())
        assert record.weight_gradient[0, place] == pytest.approx(expected, rel=1e-10)
    assert np.isnan(record.weight_gradient[0, [1, 3]]).all()
    assert record.dead[0, 1] == pytest.approx(4 / 9)
    tanh = outputs[3].detach().numpy()
    assert record.saturated[0, 3] == pytest.approx((1 - tanh**2 < 0.01).mean())
    assert 0.1 < record.saturated[0, 3] < 1
    assert np.isnan(np.delete(record.dead[0], 1)).all()
    assert record.loss[0] == pytest.approx(float(cross_entropy(values, y).detach()))


def test_dead_units_of_a_convolution_are_channels_and_of_a_linear_layer_features() -> None:
    conv = nn.Conv2d(2, 5, 3)
    with torch.no_grad():
        conv.bias[:2] = -100
    record = signal(nn.Sequential(conv, nn.LeakyReLU()), torch.randn(6, 2, 8, 8), lambda out: out.mean())
    assert record.dead[0, 1] == pytest.approx(2 / 5)
    linear = nn.Linear(4, 8)
    with torch.no_grad():
        linear.bias[:2] = -100
    record = signal(nn.Sequential(linear, nn.GELU()), torch.randn(6, 3, 4), lambda out: out.mean())
    assert record.dead[0, 1] == pytest.approx(2 / 8)


@pytest.mark.parametrize("kind", [nn.Sigmoid, nn.Hardtanh, nn.Hardsigmoid, nn.Softsign])
def test_saturation_is_where_autograd_finds_no_slope(kind: type[nn.Module]) -> None:
    x = torch.linspace(-20.03, 20, 401).reshape(-1, 1).double()
    act, grid = kind(), torch.linspace(-4, 4, 8001).double().requires_grad_()
    largest = torch.autograd.grad(act(grid).sum(), grid)[0].max()
    slope = torch.autograd.grad(act(z := x.clone().requires_grad_()).sum(), z)[0]
    record = signal(act, x, lambda out: out.mean(), jacobian_samples=0)
    assert record.saturated[0, 0] == pytest.approx(float((slope < 0.01 * largest).double().mean()))


class Recurrent(nn.Module):
    def __init__(self, kind: str = "LSTM", batch_first: bool = True, ints: bool = True) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8) if ints else nn.Identity()
        self.rnn = getattr(nn, kind)(8, 16, num_layers=2, batch_first=batch_first)
        self.head = nn.Linear(16, 3)
        self.batch_first = batch_first

    def forward(self, x: Tensor) -> Tensor:
        out = self.rnn(self.embed(x))[0]
        return self.head(out[:, -1] if self.batch_first else out[-1])


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).mean(1))


def convnet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 3),
    )  # fmt: skip


TARGETS = torch.randint(0, 3, (9,))
KINDS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "conv": (convnet, torch.randn(9, 3, 8, 8)),
    "lstm": (Recurrent, torch.randint(0, 20, (9, 5))),
    "gru, time first": (lambda: Recurrent("GRU", False, False), torch.randn(5, 9, 8)),
    "transformer": (Transformer, torch.randn(9, 7, 16)),
}


@pytest.mark.parametrize("name", KINDS)
def test_networks_of_every_kind_are_measured(name: str) -> None:
    make, x = KINDS[name]
    record = signal(make, (x, TARGETS), cross_entropy, jacobian_samples=4)
    assert record.second_moment.shape == (3, len(record.layers))
    assert record.samples == 9
    assert np.isfinite(record.second_moment).all()
    assert np.isfinite(record.correlation).all()
    assert (record.gradient > 0).all()
    assert (record.weight_gradient[:, record.weights] > 0).all()
    assert (record.jacobian.largest > 0).all()
    assert (record.jacobian.mean_square > 0).all()
    assert record.jacobian.samples == 4
    assert not record.nonfinite.any()
    if name == "lstm":
        assert record.kinds == ("embedding", "recurrent", "linear")
        assert "inputs are integers" in record.notes[0]
    assert len({*record.loss}) == 3


@pytest.mark.parametrize("name", KINDS)
def test_the_jacobian_is_estimated_for_networks_of_every_kind(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, x = KINDS[name]
    full = signal(make, (x, TARGETS), cross_entropy, seeds=1, jacobian_samples=4).jacobian
    monkeypatch.setattr("gradscape.measure.signal.jacobian.DENSE", 0)
    found = signal(make, (x, TARGETS), cross_entropy, seeds=1, jacobian_samples=4).jacobian
    assert "Hutchinson" in found.how
    if name != "transformer":  # whose dropout differs
        assert found.largest[0] == pytest.approx(full.largest[0], rel=0.05)
        assert abs(found.mean_square[0] - full.mean_square[0]) < 4 * found.mean_square_error[0]


def test_dict_batches_and_models_with_a_loss_of_their_own() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, values: Tensor, labels: Tensor) -> dict[str, Tensor]:
            out = self.head(values)
            return {"loss": cross_entropy(out, labels), "logits": out}

    batch = {"values": torch.randn(9, 4), "labels": TARGETS}
    own = signal(Own, batch, None)
    given = signal(Own, batch, lambda out, b: cross_entropy(out["logits"], b["labels"]))
    assert np.array_equal(own.gradient, given.gradient)
    assert own.layers == ("head",)
    both = signal(Own, ((torch.randn(9, 4), TARGETS), TARGETS), lambda out, y: out["loss"])
    assert both.samples == 9


def test_shared_modules_are_counted_by_calls() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.act = nn.Linear(4, 4), nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.linear(self.act(self.linear(x))))

    record = signal(Twice, torch.randn(9, 4), lambda out: out.sum(), seeds=1)
    assert record.layers == ("linear", "act", "linear (call 2)", "act (call 2)")


def test_activations_called_as_functions_are_seen_once() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.act = nn.Linear(4, 8), nn.Linear(8, 8), nn.GELU()
            nn.init.constant_(self.one.bias, -100)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.nn.functional.relu(self.one(x), inplace=True)
            return self.act((10 + self.two(x)).tanh().sigmoid())

    model = Functional()
    record = signal(nn.Sequential(model), torch.randn(9, 4), lambda out: out.sum())
    assert record.layers == ("0.one", "0 relu", "0.two", "0 tanh", "0 sigmoid", "0.act")
    assert record.kinds == ("linear", "activation", "linear", "activation", "activation", "activation")
    assert record.dead[0, 1] == 1
    assert record.saturated[0, 3] == 1
    assert record.saturated[0, 4] == 0
    assert np.isfinite(record.gradient).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, when it first compiles
def test_wrapped_parametrised_and_checkpointed_networks_show_their_layers() -> None:
    from torch.utils.checkpoint import checkpoint

    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
            self.two = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 2))

        def forward(self, x: Tensor) -> Tensor:
            return self.two(checkpoint(self.one, x, use_reentrant=False))

    model = Checkpointed()
    record = signal(torch.compile(model, backend="eager"), torch.randn(9, 4), lambda out: out.sum())
    assert record.layers == ("one", "two")
    assert (record.weight_gradient > 0).all()
    assert record.notes == ()


def test_half_precision_and_frozen_networks_are_measured() -> None:
    half = signal(nn.Linear(4, 2).bfloat16(), torch.randn(9, 4).bfloat16(), lambda out: out.sum())
    assert half.gradient[0, 0] == pytest.approx(1, rel=1e-5)
    assert half.jacobian.largest[0] > 0
    frozen = signal(nn.Linear(4, 2).requires_grad_(False), torch.randn(9, 4), lambda out: out.sum())
    assert frozen.gradient[0, 0] == pytest.approx(1, rel=1e-5)
    assert np.isnan(frozen.weight_gradient[0, 0])


def test_a_model_is_left_as_found() -> None:
    model = nn.Sequential(convnet(), nn.Dropout())
    model[0][1].eval()
    model[0][0].weight.requires_grad_(False)
    model(torch.randn(9, 3, 8, 8)).sum().backward()
    heard: list[int] = []
    model[0][5].weight.register_hook(lambda _: heard.append(1))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    modes, random = [m.training for m in model.modules()], torch.get_rng_state()
    x = torch.randn(9, 3, 8, 8)
    random = torch.get_rng_state()
    record = signal(model, (x, TARGETS), cross_entropy)
    assert torch.equal(torch.get_rng_state(), random)
    assert np.isnan(record.weight_gradient[0, 0])
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert (parameter.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(parameter.grad, gradient)
    assert [m.training for m in model.modules()] == modes
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert heard == []
    again = signal(model, (x, TARGETS), cross_entropy)
    assert np.array_equal(again.gradient, record.gradient)
    with pytest.raises(ConfigError):
        signal(model, x[:, :1], lambda out: out.sum())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_tiny_gradients_do_not_vanish_in_the_measurement() -> None:
    record = signal(nn.Linear(4, 2), torch.randn(9, 4), lambda out: 1e-30 * out.sum(), jacobian_samples=0)
    assert record.gradient[0, 0] == pytest.approx(1e-60, rel=1e-5)


def test_the_layer_that_makes_a_value_non_finite_is_named() -> None:
    class Root(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x - 100).sqrt()

    x = torch.randn(9, 4)
    loss = lambda out: out.sum()  # noqa: E731
    record = signal(nn.Sequential(nn.Linear(4, 4), Root(), nn.Linear(4, 2)), x, loss)
    assert record.nonfinite[0].tolist() == [False, True, True]
    assert record.origin == "1"
    bad = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    nn.init.constant_(bad[1].bias, math.inf)
    assert signal(bad, x, loss).origin == "1, whose weights are not finite"
    assert "comes from operations after the batch" in signal(nn.Linear(4, 2), x * math.nan, loss).origin
    assert "first non-finite value: 1" in str(record)


def test_a_batch_that_does_not_fit_is_refused_with_the_layer_and_what_it_wants() -> None:
    def message(model: nn.Module, batch: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            signal(model, batch, lambda out, *_: out.sum())
        assert "\n" not in str(caught.value)
        return str(caught.value)

    deep = nn.Sequential(nn.Sequential(nn.Linear(8, 5)), nn.ReLU(), nn.Linear(6, 2))
    told = message(deep, torch.randn(3, 8))
    assert told.startswith(
        "batch: layer 2 (Linear) was given float32 (3, 5) and wants (…, 6); change the batch"
    )
    assert "wants (N, 3, H, W)" in message(convnet(), torch.randn(4, 1, 8, 8))
    assert "layer 5 (Linear)" in message(convnet(), torch.randn(4, 3, 9, 11))
    assert "wants (N, T, 8)" in message(Recurrent(ints=False), torch.randn(4, 5, 9))
    assert "wants integers from 0 to 19" in message(Recurrent(), torch.full((4, 5), 20))
    assert "wants (N, 8)" in message(nn.Sequential(nn.LSTMCell(8, 4)), torch.randn(4, 9))
    assert "no tensor with samples in tuple" in message(deep, (1, 2, 3))
    assert "got set; give (x, y)" in message(deep, set())
    assert "no tensor with samples in str" in message(deep, ("a", "b"))
    assert "missing 1 required positional argument" in message(nn.Bilinear(2, 2, 2), torch.randn(3, 2))
    assert "must be Tensor, not dict" in message(deep, {"wrong": torch.randn(3, 8)})


def test_factories_and_losses_that_fail_are_refused_in_one_line() -> None:
    def broken() -> nn.Module:
        raise ValueError("no such width\nand more")

    x, loss = torch.randn(4, 3), lambda out: out.sum()
    wrong: list[tuple[Any, Any, str]] = [
        (broken, loss, r"^make_model: broken\(\) raised ValueError: no such width \(test_signal.py, line "),
        (lambda: None, loss, r"expected a torch Module from <lambda>\(\); got NoneType"),
        ("model", loss, "expected a module or a function making one; got str"),
        (
            nn.Linear(3, 2),
            lambda out: out,
            r"returned a tensor of shape \(4, 2\); it must be a tensor of one",
        ),
        (nn.Linear(3, 2), lambda out: 1.0, "returned 1.0"),
        (nn.Linear(3, 2), lambda out: {"a": out, "b": 1}, "loss: returned a dict of a, b; it must be a"),
        (nn.Linear(3, 2), lambda out: (out.sum(), out), "loss: returned 2 values; it must be"),
        (nn.Linear(3, 2), lambda out: out.sum() + 0j, r"loss: returned a complex tensor of shape \(\)"),
        (nn.Linear(3, 2), nn.CrossEntropyLoss, r"got the class CrossEntropyLoss; type CrossEntropyLoss\(\)"),
        (nn.Linear(3, 2), lambda out: out.detach().sum(), "nothing in it has a gradient"),
        (nn.Linear(3, 2), lambda out, y: out, r"loss: failed on \(float32 \(4, 2\)\): TypeError"),
        (nn.Linear(3, 2), None, "none is given and the model's output has none"),
    ]
    for model, given, message in wrong:
        with pytest.raises(ConfigError, match=message):
            signal(model, x, given)
    with pytest.raises(ConfigError, match="seeds: expected 1 or more; got 0"):
        signal(nn.Linear(3, 2), x, loss, seeds=0)
    with pytest.raises(ConfigError, match="jacobian_samples: expected 0 or more; got -1"):
        signal(nn.Linear(3, 2), x, loss, jacobian_samples=-1)
    makes = iter((nn.Sequential(nn.Linear(3, 2)), nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))))
    with pytest.raises(ConfigError, match="the same layers with every seed; got others; type: seeds=1"):
        signal(lambda: next(makes), x, loss, seeds=2)


def test_a_model_that_cuts_its_graph_is_told_so_and_not_what_autograd_wants() -> None:
    class Detached(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return self[1](self[0](x).detach())

    record = signal(Detached(nn.Linear(5, 5), nn.Linear(5, 2)), torch.randn(9, 5), lambda out: out.sum())
    assert record.notes[0] == (
        "Jacobian not measured: no gradient comes from the output back to the input: detach(), .data, "
        "torch.no_grad() or an operation without a second derivative is between"
    )


def test_an_operation_without_a_second_derivative_is_a_note() -> None:
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return gradient

    class Layer(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return Once.apply(x)

    record = signal(nn.Sequential(nn.Linear(50, 50), Layer()), torch.randn(9, 50), lambda out: out.sum())
    assert "an operation without a second derivative is between" in record.notes[0]
    assert np.isnan(record.jacobian.largest).all()
    assert record.gradient[0, 0] > 0


@pytest.fixture(scope="module")
def record() -> SignalRecord:
    return signal(convnet, (torch.randn(9, 3, 8, 8), TARGETS), cross_entropy)


def test_a_record_is_drawn_printed_and_written_out(record: SignalRecord) -> None:
    import json

    import matplotlib.pyplot as plt

    axes = record.plot()
    assert axes.get_xlabel().startswith("layer")
    assert len(axes.get_lines()[0].get_xdata()) == len(record.layers)
    plt.close("all")
    written = json.loads(json.dumps(record.to_dict()))
    assert written["layers"] == list(record.layers)
    assert written["depth_scale"] == record.depth_scale
    assert written["jacobian"]["largest"] == record.jacobian.largest.tolist()
    told = str(record)
    assert told.startswith("signal through 6 layers, 9 samples, n = 3 seeds")
    assert "depth scale" in told
    assert "largest singular value" in told


def test_the_table_of_a_deep_network_leaves_out_its_middle() -> None:
    deep = nn.Sequential(*(nn.Linear(4, 4) for _ in range(40)))
    told = str(signal(deep, torch.randn(5, 4), lambda out: out.sum(), jacobian_samples=0))
    assert "…\n" in told
    assert len(told.splitlines()) < 32


def test_a_watch_that_is_under_way_sees_nothing_of_it() -> None:
    import gradscape as gs

    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, flow = torch.randn(9, 4), gs.watch(model, optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        cross_entropy(model(x), TARGETS).backward()
        expected = [float(p.grad.abs().mean()) for p in model.parameters()]
        signal(model, (100 * x, TARGETS), cross_entropy)
        optimizer.step()
        signal(model, (100 * x, TARGETS), cross_entropy)
    history = flow.history()
    assert history.steps.tolist() == [0, 1, 2]
    assert not history.skipped.any()
    assert history.mean_abs[-1] == pytest.approx(expected, rel=1e-5)
