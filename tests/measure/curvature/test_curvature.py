"""Eigenvalues, traces and densities against dense matrices in float64, and models left as found."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy, ctc_loss, mse_loss
from torch.utils.data import DataLoader, TensorDataset

from exact import dense_gauss_newton, dense_hessian
from gradscape.errors import ConfigError
from gradscape.measure.core.objective import Objective
from gradscape.measure.curvature import hvp as products_module
from gradscape.measure.curvature.curvature import curvature
from gradscape.measure.curvature.hvp import Products
from gradscape.measure.curvature.lanczos import extremes
from gradscape.measure.curvature.stochastic import spectrum, trace
from gradscape.records.curvature import Spectrum
from products import each_once


class Tied(nn.Module):
    """One matrix in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.tanh(self.second(torch.tanh(self.first(x.flatten(1))))))
        return out


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def conv() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.LeakyReLU(0.1), nn.Flatten(), nn.Linear(6, 3)
    ).double()


def tied() -> nn.Module:
    torch.manual_seed(0)
    return Tied().double()


class Sequence(nn.Module):
    """A recurrent layer or attention over three steps of two numbers, a LayerNorm, a head."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mixing = (
            nn.LSTM(2, 4, batch_first=True)
            if kind == "lstm"
            else nn.MultiheadAttention(2, 1, batch_first=True, dropout=0.0)
        )
        width = 4 if kind == "lstm" else 2
        self.kind, self.norm, self.head = kind, nn.LayerNorm(width), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        steps = x.flatten(1).view(-1, 3, 2)
        mixed = self.mixing(steps)[0] if self.kind == "lstm" else self.mixing(steps, steps, steps)[0]
        out: Tensor = self.head(self.norm(mixed).mean(1))
        return out


MODELS = {
    "mlp": mlp,
    "conv": conv,
    "tied": tied,
    "lstm": lambda: Sequence("lstm").double(),
    "attention": lambda: Sequence("attention").double(),
}


def squared(output: Tensor, y: Tensor) -> Tensor:
    return mse_loss(output, nn.functional.one_hot(y, 3).to(output))


LOSSES = {"cross entropy": cross_entropy, "squared error": squared}


def batch(count: int = 24) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 1, 3, 2, generator=generator, dtype=torch.float64), torch.arange(count) % 3


def trained(model: nn.Module) -> nn.Module:
    """Some passes, so that running statistics are not those of the beginning."""
    for _ in range(5):
        model(batch()[0])
    return model


OF_NORMS = {**{name: (name, "batch") for name in MODELS}, "conv, running": ("conv", "running")}


@each_once("case, loss", OF_NORMS, LOSSES)
def test_eigenvalues_are_the_dense_matrix_s(case: tuple[str, Any], loss: Any) -> None:
    name, bn = case
    model = trained(MODELS[name]())
    dense = dense_hessian(model.train(bn == "batch"), loss, *batch())
    expected = torch.linalg.eigvalsh(dense).numpy()
    found = curvature(model, loss, batch(), k=4, bn=bn, tolerance=1e-9, vectors=True, trace_products=0)
    assert found.ends is not None
    assert found.ends.converged
    scale = abs(expected).max()
    assert np.allclose(found.ends.largest, expected[::-1][:4], rtol=1e-6, atol=1e-9 * scale)
    assert np.allclose(found.ends.smallest, expected[:4], rtol=1e-6, atol=1e-9 * scale)
    vectors = torch.from_numpy(found.ends.largest_vectors)
    assert torch.allclose(dense @ vectors.T, vectors.T * torch.from_numpy(found.ends.largest), atol=1e-7)
    gradient = found.gradient_norm
    assert gradient == pytest.approx(Objective(model, loss, batch(), bn).gradient()[1].norm().item())


@each_once("case, loss", OF_NORMS, LOSSES)
def test_gauss_newton_is_the_dense_matrix(case: tuple[str, Any], loss: Any) -> None:
    name, bn = case
    model = trained(MODELS[name]())
    expected = dense_gauss_newton(model.train(bn == "batch"), loss, *batch())
    product = Products(Objective(model, loss, batch(), bn), "ggn")
    found = torch.stack([product(unit) for unit in torch.eye(product.size, dtype=torch.float64)])
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12)
    hessian = Products(Objective(model, loss, batch(), bn))
    assert torch.allclose(product.gradient, hessian.gradient, atol=1e-14)
    assert product.loss == pytest.approx(hessian.loss)


def test_batches_and_parts_of_them_are_one_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    model, (x, y) = conv(), batch(120)
    whole = Products(Objective(model, cross_entropy, (x, y), "running"))
    assert [b.size for b in whole.objective.batches] == [50, 50, 20]
    several = Products(Objective(model, cross_entropy, [(x[:100], y[:100]), [x[100:], y[100:]]], "running"))
    expected = dense_hessian(model.eval(), cross_entropy, x, y)
    vector = torch.randn(whole.size, dtype=torch.float64)
    assert torch.allclose(whole(vector), expected @ vector)
    assert torch.allclose(several(vector), expected @ vector)
    monkeypatch.setattr(products_module, "free_bytes", lambda device: 0.0)
    again = Products(Objective(model, cross_entropy, (x, y), "running"))
    assert not again.kept
    assert torch.equal(again(vector), whole(vector))
    summed = Objective(model, lambda out, y: cross_entropy(out, y, reduction="sum"), (x, y), "running")
    assert [b.size for b in summed.batches] == [120]


def test_a_layer_s_block_is_the_dense_block() -> None:
    model = mlp()
    found = curvature(model, cross_entropy, batch(), k=1, layers=True, tolerance=1e-9).layers
    assert [(layer.name, layer.parameters) for layer in found] == [("1", 35), ("3", 18)]
    dense = dense_hessian(model, cross_entropy, *batch())
    for layer, block in zip(found, (dense[:35, :35], dense[35:, 35:]), strict=True):
        values = torch.linalg.eigvalsh(block)
        assert layer.ends.largest[0] == pytest.approx(values[-1].item(), rel=1e-6)
        assert layer.ends.smallest[0] == pytest.approx(values[0].item(), rel=1e-6, abs=1e-9)
        assert layer.trace is not None
        assert layer.trace.value == pytest.approx(block.trace().item(), abs=5 * layer.trace.error + 1e-9)


class Quadratic(nn.Module):
    """½ wᵀAw, whatever the batch."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = matrix
        self.w = nn.Parameter(torch.ones(len(matrix), dtype=matrix.dtype))

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * self.w @ self.matrix @ self.w


def symmetric(values: Tensor) -> Tensor:
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(len(values), len(values), dtype=torch.float64))[0]
    return basis @ torch.diag(values.double()) @ basis.T


def drawn(size: int, seed: int = 0) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(size, generator=generator, dtype=torch.float64)


def test_a_quadratic_s_chosen_spectrum() -> None:
    values = torch.cat([torch.tensor([100.0, 50, 50, 20, -30, -7]), torch.linspace(-1, 1, 94)])
    found = curvature(Quadratic(symmetric(values)), lambda out: out, torch.ones(1), k=5, tolerance=1e-8)
    assert found.ends is not None
    assert np.allclose(found.ends.largest, [100, 50, 50, 20, 1], rtol=1e-6)
    assert np.allclose(found.ends.smallest[:3], [-30, -7, -1], rtol=1e-6)


def test_a_linear_model_has_the_closed_form() -> None:
    model = nn.Linear(4, 1, bias=False).double()
    x, y = torch.randn(30, 4, dtype=torch.float64), torch.randn(30, 1, dtype=torch.float64)
    expected = torch.linalg.eigvalsh(2 * x.T @ x / 30).flip(0).numpy()
    for matrix in ("hessian", "ggn"):
        ends = curvature(model, mse_loss, (x, y), k=4, matrix=matrix).ends  # type: ignore[arg-type]
        assert ends is not None
        assert np.allclose(ends.largest, expected, rtol=1e-9)


def test_restarts_need_little_room() -> None:
    matrix = symmetric(torch.cat([torch.tensor([9.0, 8, 7, -9, -8]), torch.linspace(-5, 6, 395)]))
    found = extremes(lambda v: matrix @ v, drawn(400), 3, 1e-9, room=20, most=4_000, vectors=True)
    expected = torch.linalg.eigvalsh(matrix)
    assert found.converged
    assert torch.allclose(found.largest, expected.flip(0)[:3], rtol=1e-8)
    assert torch.allclose(found.smallest, expected[:3], rtol=1e-8)
    assert found.largest_vectors is not None
    left = matrix @ found.largest_vectors.T - found.largest_vectors.T * found.largest
    assert (left.norm(dim=0) <= found.largest_residuals + 1e-12).all()


def test_a_residual_bounds_the_distance_to_an_eigenvalue() -> None:
    values = torch.randn(300, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    matrix = symmetric(values)
    for most in (6, 10, 20, 40):
        found = extremes(lambda v: matrix @ v, drawn(300), 2, 1e-12, room=100, most=most)
        assert not found.converged
        for value, residual in zip(found.largest, found.largest_residuals, strict=True):
            assert (values - value).abs().min() <= residual


def test_multiple_and_zero_eigenvalues_are_counted() -> None:
    matrix = torch.diag(torch.tensor([3.0, 3, 3, 1, 0, 0, 0, 0, -2, -2]).double())
    found = extremes(lambda v: matrix @ v, drawn(10), 4, 1e-9, room=100, most=100)
    assert torch.allclose(found.largest, torch.tensor([3.0, 3, 3, 1]).double())
    assert torch.allclose(found.smallest, torch.tensor([-2.0, -2, 0, 0]).double(), atol=1e-12)
    nothing = extremes(lambda v: 0 * v, drawn(200), 3, 1e-9, room=50, most=60)
    assert nothing.largest.tolist() == [0, 0, 0]
    assert nothing.converged


def test_copies_of_an_eigenvalue_that_no_krylov_space_has_are_found() -> None:
    """Of a last layer under a squared error, H = I ⊗ XXᵀ, every eigenvalue is there once for each output."""
    torch.manual_seed(0)
    model = nn.Linear(5, 4, bias=False).double()
    x, y = torch.randn(30, 5, dtype=torch.float64), torch.randn(30, 4, dtype=torch.float64)
    expected = np.repeat(torch.linalg.eigvalsh(2 * x.T @ x / 120).flip(0).numpy(), 4)
    ends = curvature(model, mse_loss, (x, y), k=6, trace_products=0).ends
    assert ends is not None
    assert ends.converged
    assert np.allclose(ends.largest, expected[:6], rtol=1e-12)
    assert np.allclose(ends.smallest, expected[::-1][:6], rtol=1e-12)


@pytest.mark.parametrize("room", [40, 150])
@pytest.mark.parametrize("tolerance", [1e-3, 1e-9])
@pytest.mark.parametrize("seed", range(3))
def test_copies_far_from_a_bulk_are_found_and_residuals_bound_still(
    seed: int, tolerance: float, room: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    bulk = torch.randn(400, generator=generator, dtype=torch.float64)
    values = torch.cat([torch.tensor([100.0] * 4 + [90] * 2 + [-50] * 3).double(), bulk])
    matrix = symmetric(values)
    found = extremes(lambda v: matrix @ v, drawn(409, seed), 5, tolerance, room, 600, vectors=True)
    assert found.converged
    wanted = torch.tensor([100.0, 100, 100, 100, 90]).double()
    assert torch.allclose(found.largest, wanted, rtol=10 * tolerance)
    assert torch.allclose(found.smallest[:3], torch.full((3,), -50.0).double(), rtol=10 * tolerance)
    for vectors, ritz, residuals in (
        (found.largest_vectors, found.largest, found.largest_residuals),
        (found.smallest_vectors, found.smallest, found.smallest_residuals),
    ):
        assert vectors is not None
        left = (matrix @ vectors.T - vectors.T * ritz).norm(dim=0)
        assert (left <= residuals * (1 + 1e-6) + 1e-10).all()
        assert (residuals <= tolerance * 100).all()


def test_a_seed_s_numbers_are_its_own_also_where_a_subspace_is_invariant() -> None:
    """A Krylov space ends in one: what begins anew is drawn by the measure's own generator."""
    torch.manual_seed(0)
    model = nn.Linear(5, 4, bias=False).double()
    x, y = torch.randn(30, 5, dtype=torch.float64), torch.randn(30, 4, dtype=torch.float64)
    records = []
    for elsewhere in range(2):
        torch.manual_seed(elsewhere)
        before = torch.get_rng_state()
        records.append(curvature(model, mse_loss, (x, y), k=6, probes=2, steps=10, seed=3))
        assert torch.equal(torch.get_rng_state(), before)
    one, other = records
    assert one.spectrum is not None
    assert other.spectrum is not None
    assert one.ends is not None
    assert other.ends is not None
    assert np.array_equal(one.spectrum.nodes, other.spectrum.nodes)
    assert np.array_equal(one.spectrum.weights, other.spectrum.weights)
    assert np.array_equal(one.ends.largest, other.ends.largest)


REPEATS = 100


def power_law() -> Tensor:
    return symmetric(torch.cat([10.0 / torch.arange(1, 61) ** 1.5, -1.0 / torch.arange(1, 61)]))


def test_a_trace_lies_within_its_error_as_often_as_it_says() -> None:
    matrix = power_law()
    generator = torch.Generator().manual_seed(3)
    within = []
    for _ in range(REPEATS):
        found = trace(lambda v: matrix @ v, lambda: torch.randn(120, generator=generator).double(), 60)
        assert found is not None
        within.append(abs(found.value - matrix.trace().item()) <= 2.09 * found.error)  # t₀.₉₇₅ of 19
    assert 0.88 <= np.mean(within) <= 0.99


@pytest.mark.slow
def test_a_density_lies_within_its_error_as_often_as_it_says() -> None:
    matrix, width = power_law(), 0.3
    values = torch.linalg.eigvalsh(matrix).numpy()
    grid = np.linspace(-1, 4, 11)
    exact = Spectrum(values[None], np.full((1, 120), 1 / 120)).density(grid, width)[1]
    generator, within = torch.Generator().manual_seed(4), []
    for _ in range(REPEATS):
        found = spectrum(lambda v: matrix @ v, lambda: torch.randn(120, generator=generator).double(), 10, 30)
        assert found is not None
        _, density, error = found.density(grid, width)
        within.append(abs(density - exact) <= 2.26 * error)  # t₀.₉₇₅ of 9
    assert 0.88 <= np.mean(within) <= 0.99


@pytest.mark.parametrize("steps", [4, 30])
def test_the_search_for_eigenvalues_begins_with_a_probe(steps: int) -> None:
    """The same first vector gives the same quadrature, to the last bit, whatever the search does next."""
    matrix = power_law()
    found = extremes(lambda v: matrix @ v, drawn(120), 2, 1e-9, room=60, most=400, probe=steps)
    alone = spectrum(lambda v: matrix @ v, drawn(120), 1, steps)
    assert found.converged
    assert found.probe is not None
    assert alone is not None
    assert np.array_equal(found.probe.values.numpy(), alone.nodes[0])
    assert np.array_equal(found.probe.first.numpy(), alone.weights[0])
    expected = torch.linalg.eigvalsh(matrix)
    assert torch.allclose(found.largest, expected.flip(0)[:2], rtol=1e-8)
    assert torch.allclose(found.smallest, expected[:2], rtol=1e-8)


def test_a_probe_costs_no_more_than_the_search_or_its_steps() -> None:
    model = mlp()
    ends, probe, both = (
        curvature(model, cross_entropy, batch(), trace_products=0, tolerance=1e-2, k=k, probes=p, steps=40)
        for k, p in ((1, 0), (0, 1), (1, 1))
    )
    assert both.products == max(ends.products, probe.products) < ends.products + probe.products
    assert both.spectrum is not None
    assert probe.spectrum is not None
    assert np.array_equal(both.spectrum.nodes, probe.spectrum.nodes)
    third = curvature(model, cross_entropy, batch(), k=1, trace_products=0, probes=3, steps=40)
    assert third.spectrum is not None
    assert third.spectrum.nodes.shape == (3, 40)
    assert np.array_equal(third.spectrum.nodes[0], probe.spectrum.nodes[0])


def test_a_basis_without_room_for_a_probe_gives_none() -> None:
    matrix = power_law()
    found = extremes(lambda v: matrix @ v, drawn(120), 1, 1e-6, room=14, most=400, probe=15)
    assert found.converged
    assert found.probe is None


@pytest.mark.parametrize(("time", "known"), [(14, False), (15, True)])
def test_half_a_probe_counts_where_time_runs_out(time: int, known: bool) -> None:
    matrix, products = power_law(), [0]

    def product(vector: Tensor) -> Tensor:
        products[0] += 1
        return matrix @ vector

    found = extremes(product, drawn(120), 1, 1e-6, 60, 400, lambda: products[0] < time, probe=30)
    assert not found.converged
    assert (found.probe is not None) is known
    if found.probe is not None:
        assert len(found.probe.values) == time


@pytest.mark.slow
def test_a_density_integrates_to_one_and_its_mean_is_the_trace() -> None:
    found = curvature(mlp(), cross_entropy, batch(), k=0, probes=40, steps=60)
    assert found.spectrum is not None
    grid, density, error = found.spectrum.density()
    assert np.trapezoid(density, grid) == pytest.approx(1, abs=1e-3)
    assert np.isfinite(error).all()
    dense = dense_hessian(mlp(), cross_entropy, *batch())
    mean = np.trapezoid(density * grid, grid) * len(dense)
    assert mean == pytest.approx(dense.trace().item(), rel=0.2)
    assert found.trace is not None
    assert found.trace.value == pytest.approx(dense.trace().item(), abs=4 * found.trace.error)
    assert found.plot().get_ylabel() == "spectral density"


def test_the_edge_of_stability_of_sgd() -> None:
    model = conv()
    for momentum, nesterov, limit in ((0.0, False, 2), (0.9, False, 3.8), (0.9, True, 3.8 / 2.8)):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum, nesterov=nesterov)
        found = curvature(model, cross_entropy, batch(), k=0, trace_products=0, optimizer=optimizer).stability
        assert found is not None
        assert found.limit == pytest.approx(limit)
    sharpness = torch.linalg.eigvalsh(dense_hessian(model.train(), cross_entropy, *batch()))[-1].item()
    assert found.sharpness == pytest.approx(sharpness, rel=1e-3)
    assert found.reached == pytest.approx(sharpness * 0.1 / (3.8 / 2.8), rel=1e-3)
    assert "below the edge of stability at 1.36" in str(found)


def test_the_edge_of_stability_of_adam() -> None:
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    before = curvature(model, cross_entropy, batch(), k=0, trace_products=0, optimizer=optimizer)
    assert before.stability is None
    assert before.notes == ("Adam has made no step yet: its edge of stability is unknown",)
    for _ in range(3):
        optimizer.zero_grad()
        cross_entropy(model(batch()[0]), batch()[1]).backward()
        optimizer.step()
    found = curvature(model, cross_entropy, batch(), k=0, trace_products=0, optimizer=optimizer).stability
    model.zero_grad()
    cross_entropy(model(batch()[0]), batch()[1]).backward()
    second = [
        (0.999 * optimizer.state[p]["exp_avg_sq"] + 0.001 * p.grad.square()) / (1 - 0.999**4)
        for p in model.parameters()
        if p.grad is not None
    ]
    diagonal = torch.cat([(1 - 0.9**4) * (v.sqrt() + 1e-8).flatten() for v in second])
    dense = dense_hessian(model, cross_entropy, *batch())
    expected = torch.linalg.eigvals(dense / diagonal[:, None]).real.max().item()
    assert found is not None
    assert found.sharpness == pytest.approx(expected, rel=1e-3)
    assert found.limit == pytest.approx(38)
    other = torch.optim.Adagrad(model.parameters())
    notes = curvature(model, cross_entropy, batch(), k=0, trace_products=0, optimizer=other).notes
    assert notes[0].startswith("no edge of stability is known for Adagrad")


def test_everything_is_left_as_found() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(conv(), nn.Dropout(0.5)).train()
    model[0][1].eval()
    x, y = batch()
    cross_entropy(model(x), y).backward()
    state, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    gradients = [p.grad.clone() for p in model.parameters()]  # type: ignore[union-attr]
    random = torch.get_rng_state()
    for bn in ("batch", "running"):
        curvature(model, cross_entropy, (x, y), k=2, bn=bn, probes=1, steps=5, layers=True)  # type: ignore[arg-type]
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(g, p.grad) for g, p in zip(gradients, model.parameters(), strict=True))  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), random)


def test_a_time_limit_gives_what_is_known_so_far() -> None:
    heard: list[str] = []
    found = curvature(
        mlp(),
        cross_entropy,
        batch(),
        k=3,
        tolerance=1e-12,
        probes=3,
        time_limit=1e-9,
        layers=True,
        report=heard.append,
    )
    assert not found.complete
    assert found.ends is not None
    assert not found.ends.converged
    assert (found.ends.largest_residuals > 0).all()
    assert (found.trace, found.spectrum, found.layers) == (None, None, ())
    assert "the time limit ended it" in str(found)
    assert heard[0].startswith("53 parameters; a product takes ")
    assert heard[0].endswith("ended after 1e-09 s")


def test_a_loader_s_one_pass_is_kept() -> None:
    x, y = batch()
    loader = DataLoader(TensorDataset(x, y), batch_size=10, shuffle=True)
    found = curvature(mlp(), cross_entropy, loader, k=1, trace_products=0)
    assert found.notes == ("3 batches of one pass of the loader, in the order it drew then",)
    whole = curvature(mlp(), cross_entropy, (x, y), k=1, trace_products=0)
    assert found.ends is not None
    assert whole.ends is not None
    assert found.ends.largest == pytest.approx(whole.ends.largest, rel=1e-6)


def test_batches_are_asked_once_whatever_is_measured() -> None:
    model, asked = mlp(), iter([batch()])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found = curvature(model, cross_entropy, asked, k=1, trace_products=0, optimizer=optimizer)
    assert found.stability is not None
    assert found.ends is not None
    assert found.stability.sharpness == pytest.approx(found.ends.largest[0], rel=1e-3)


def test_frozen_parameters_are_held_and_half_precision_is_widened() -> None:
    model = mlp()
    model[1].requires_grad_(False)
    found = curvature(model, cross_entropy, batch(), k=1, trace_products=0)
    assert found.parameters == 18
    assert found.notes == ("frozen, held as they are: 1.weight, 1.bias",)
    x, y = batch()
    low = curvature(mlp().bfloat16(), cross_entropy, (x.bfloat16(), y), k=1, trace_products=0)
    assert low.notes == ("bfloat16 parameters: computed in float32",)
    full = curvature(mlp(), cross_entropy, (x, y), k=1, trace_products=0)
    assert full.ends is not None
    assert low.ends is not None
    assert low.ends.largest == pytest.approx(full.ends.largest, rel=0.05)


def test_a_model_with_a_derivative_within_has_the_dense_matrix_s_eigenvalue() -> None:
    class Slopes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))

        def forward(self, x: Tensor) -> Tensor:
            return torch.func.vmap(torch.func.grad(lambda row: self.net(row).sum()))(x)

    torch.manual_seed(0)
    model, x = Slopes().double(), torch.randn(8, 2).double()

    def loss(output: Tensor, _: Tensor) -> Tensor:
        return output.square().mean()

    found = curvature(model, loss, (x, x), k=1, trace_products=0, tolerance=1e-9)
    dense = dense_hessian(model, loss, x, x)
    assert found.ends is not None
    assert found.ends.largest[0] == pytest.approx(float(torch.linalg.eigvalsh(dense)[-1]), rel=1e-6)


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return 2 * g


def by_ctc(out: Tensor, y: Tensor) -> Tensor:
    return ctc_loss(out.log_softmax(1), y[:1] + 1, torch.tensor(24), torch.tensor(1))


def by_once(out: Tensor, _: Tensor) -> Tensor:
    return Once.apply(out).exp().sum()  # type: ignore[no-any-return,no-untyped-call]


def steep(out: Tensor, _: Tensor) -> Tensor:
    return (out - out.detach()).pow(1.5).sum()


def broken() -> nn.Module:
    model = mlp()
    with torch.no_grad():
        model[1].weight[0, 0] = math.nan
    return model


X, Y = batch()
ONE = (torch.ones(1, 1, 2, 2).double(), Y[:1])
WIDE = torch.ones(24, 7).double()
WRONG: list[tuple[str, Any, dict[str, Any]]] = [
    (r"must be a tensor of one number", (mlp(), lambda out, y: out, (X, Y)), {}),
    (r"_ctc_loss_backward has no second derivative, .*gradscape.noise", (mlp(), by_ctc, (X, Y)), {}),
    (r"marked @once_differentiable has no second", (mlp(), by_once, (X, Y)), {}),
    (r"marked @once_differentiable has no second", (mlp(), by_once, (X, Y)), {"matrix": "ggn"}),
    (r"a second derivative of the loss is not finite, .*gradscape.noise", (mlp(), steep, (X, Y)), {}),
    (r"the loss is nan and its gradient not finite", (broken(), cross_entropy, (X, Y)), {}),
    (r"k: expected 0 to 53 eigenvalues of 53 parameters; got 54", (mlp(), cross_entropy, (X, Y)), {"k": 54}),
    (r"matrix: expected hessian or ggn; got 'hesse'", (mlp(), cross_entropy, (X, Y)), {"matrix": "hesse"}),
    (r"bn: expected one of batch, running; got 'eval'", (mlp(), cross_entropy, (X, Y)), {"bn": "eval"}),
    (r"trace_products: expected 6 .*; got 3", (mlp(), cross_entropy, (X, Y)), {"trace_products": 3}),
    (r"probes: expected 0 or more, .*; got -1 of 80 steps", (mlp(), cross_entropy, (X, Y)), {"probes": -1}),
    (r"tolerance: expected a number between 0 and 1;", (mlp(), cross_entropy, (X, Y)), {"tolerance": 2}),
    (r"time_limit: expected seconds above 0; got 0", (mlp(), cross_entropy, (X, Y)), {"time_limit": 0}),
    (r"batches: there is none; give one at least", (mlp(), cross_entropy, []), {}),
    (r"batches: got int; give a batch, several, or a DataLoader", (mlp(), cross_entropy, 3), {}),
    (r"layer 1 \(Linear\) was given float64 \(24, 7\) and wants", (mlp(), cross_entropy, (WIDE, Y)), {}),
    (r"layer 1 \(BatchNorm2d\) was given .*more than 1 value", (conv(), cross_entropy, ONE), {"bn": "batch"}),
    (r"no parameter of Sequential has a gradient", (mlp().requires_grad_(False), cross_entropy, (X, Y)), {}),
    (r"matrix: 'ggn' needs", (mlp(), None, (X, Y)), {"matrix": "ggn"}),
    (r"model: expected Module; got 3; type: gs.curvature", (3, None, (X, Y)), {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("message", "given", "settings"), WRONG, ids=[message[:24] for message, _, _ in WRONG]
)
def test_what_cannot_be_measured_is_one_line(message: str, given: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        curvature(*given, **settings)
    assert "\n" not in str(caught.value)
