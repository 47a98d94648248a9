"""The same network by PyHessian and by curvlinops, where they are installed: `pip install '.[compare]'`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradscape.measure.core.objective import Objective
from gradscape.measure.curvature.curvature import curvature
from gradscape.measure.curvature.hvp import Matrix, Products
from libraries import skip_without

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.LeakyReLU(0.01), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(64, 5),
    )  # fmt: skip
    for _ in range(5):
        model(batch()[0])
    return model.eval()


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(60, 3, 8, 8, generator=generator), torch.arange(60) % 5


@pytest.mark.parametrize("matrix", ["hessian", "ggn"])
def test_products_are_curvlinops(matrix: Matrix) -> None:
    skip_without("curvlinops")
    import curvlinops as theirs

    kind = {"hessian": theirs.HessianLinearOperator, "ggn": theirs.GGNLinearOperator}[matrix]
    model = network()
    operator = kind(model, nn.CrossEntropyLoss(), list(model.parameters()), [batch()])
    products = Products(Objective(model, cross_entropy, batch(), "running"), matrix)
    vector = torch.randn(products.size)
    torch.testing.assert_close(products(vector), operator @ vector, rtol=1e-4, atol=1e-6)


def test_eigenvalues_and_trace_are_pyhessian_s() -> None:
    skip_without("pyhessian")
    import pyhessian as theirs

    model = network()
    other = theirs.hessian(model, cross_entropy, data=batch(), cuda=False)
    values, _ = other.eigenvalues(maxIter=500, tol=1e-6, top_n=3)
    traces = torch.tensor(other.trace(maxIter=200, tol=0.0))
    model.zero_grad()
    found = curvature(model, cross_entropy, batch(), k=3, trace_products=60)
    assert found.ends is not None
    assert found.trace is not None
    assert found.ends.largest == pytest.approx(values, rel=1e-3)
    error = (traces.var() / len(traces) + found.trace.error**2) ** 0.5
    assert found.trace.value == pytest.approx(float(traces.mean()), abs=4 * float(error))
