"""Hessian-vector products, eigenvalues and a density, beside PyHessian and curvlinops, in one run.

Two networks in eval mode on 500 images. Ways take turns; a gradient, of which a product is so many, is
PyTorch's own over the whole batch, and ours in parts that stay in the cache. `python
benchmarks/curvature_cost.py` takes an hour and writes `results/curvature_cost.json`. The other
packages want an environment of their own: `pip install -c constraints.txt PyHessian curvlinops-for-pytorch .`
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gradscape as gs
from gradscape._machine import cores
from gradscape.measure.core.objective import Objective
from gradscape.measure.curvature.hvp import Products
from gradscape.nets import vgg
from gradscape.records.curvature import CurvatureRecord
from gradscape.train.process import prepare_process
from measure import RESULTS, spread, write

CLASSES, WANTED, STEPS = 100, 5, 80
LIMIT = 200  # products of power iteration that are waited for
RESIDUAL = 1e-3  # of the largest eigenvalue


class Block(nn.Module):
    """He et al. (2016), §4.2, with shortcuts of option A."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.stride, self.added = (1, 0) if width_in == width else (2, width - width_in)
        self.first = nn.Conv2d(width_in, width, 3, self.stride, 1, bias=False)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norms[1](self.second(torch.relu(self.norms[0](self.first(x)))))
        return torch.relu(y + F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added)))


def resnet20() -> nn.Module:
    widths = [16, *[16] * 3, *[32] * 3, *[64] * 3]
    blocks = [Block(a, b) for a, b in pairwise(widths)]
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "VGG38 + BatchNorm": lambda: vgg(blocks=5, classes=CLASSES, image_size=32, seed=0),
    "ResNet-20": resnet20,
}


class Problem:
    """A network with running statistics of its own, and a batch; what each package makes of it."""

    def __init__(self, name: str, images: int) -> None:
        torch.manual_seed(0)
        self.model = NETWORKS[name]()
        self.x = torch.randn(images, 3, 32, 32)
        self.y = torch.randint(0, CLASSES, (images,))
        with torch.no_grad():
            for _ in range(5):
                self.model(self.x[:100])
        self.model.eval()
        self.parameters = list(self.model.parameters())
        self.size = sum(p.numel() for p in self.parameters)

    @cached_property
    def ours(self) -> Products:
        return Products(Objective(self.model, F.cross_entropy, (self.x, self.y), "running"))

    @cached_property
    def pyhessian(self) -> Any:
        from pyhessian import hessian

        return hessian(self.model, F.cross_entropy, data=(self.x, self.y), cuda=False)

    @cached_property
    def curvlinops(self) -> Any:
        from curvlinops import HessianLinearOperator

        data = [(self.x, self.y)]
        return HessianLinearOperator(
            self.model, nn.CrossEntropyLoss(), self.parameters, data, check_deterministic=False
        )

    def split(self, vector: Tensor) -> list[Tensor]:
        cut = torch.split(vector, [p.numel() for p in self.parameters])
        return [piece.view(p.shape) for piece, p in zip(cut, self.parameters, strict=True)]

    def joined(self, parts: Any) -> Tensor:
        return torch.cat([part.detach().reshape(-1) for part in parts])

    def ways(self) -> dict[str, Callable[[Tensor], Tensor]]:
        def gradient(_: Tensor) -> Tensor:
            loss = F.cross_entropy(self.model(self.x), self.y)
            return self.joined(torch.autograd.grad(loss, self.parameters))

        def ours_gradient(_: Tensor) -> Tensor:
            return self.ours.objective.gradient()[1]

        def twice(vector: Tensor) -> Tensor:
            loss = F.cross_entropy(self.model(self.x), self.y)
            first = torch.autograd.grad(loss, self.parameters, create_graph=True)
            return self.joined(torch.autograd.grad(first, self.parameters, self.split(vector)))

        def kept(vector: Tensor) -> Tensor:
            from pyhessian.utils import hessian_vector_product

            found = self.pyhessian
            return self.joined(hessian_vector_product(found.gradsH, found.params, self.split(vector)))

        def linear_operator(vector: Tensor) -> Tensor:
            return self.curvlinops @ vector

        compiled = torch.compile(lambda vector: self.curvlinops @ vector)
        return {
            "gradient, PyTorch": gradient,
            "gradient, ours": ours_gradient,
            "gradscape": self.ours,
            "double backward": twice,
            "PyHessian": kept,
            "curvlinops": linear_operator,
            "curvlinops, compiled": compiled,
        }


def products(problem: Problem, rounds: int) -> dict[str, Any]:
    """Seconds of a product by each way, in turns; and how far it is from ours."""
    ways, times, apart, failed = problem.ways(), {}, {}, {}
    vector = torch.randn(problem.size)
    expected = problem.ours(vector)
    for number in range(rounds + 1):
        for name, way in ways.items() if number % 2 else reversed(ways.items()):
            if name in failed:
                continue
            start = time.perf_counter()
            try:
                found = way(vector)
            except Exception as error:
                failed[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120]}"
                print(name, failed[name], flush=True)
                continue
            if number:  # the first one builds graphs and warms up
                times.setdefault(name, []).append(time.perf_counter() - start)
            elif "gradient" not in name:
                apart[name] = float((found - expected).norm() / expected.norm())
    for name, seconds in times.items():
        print(name, spread(seconds), apart.get(name), flush=True)
    return {"seconds": {n: spread(s) for n, s in times.items()}, "apart": apart, "failed": failed}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def residual(problem: Problem, values: Any, vectors: Any) -> float:
    """The largest ‖Hv − λv‖ of unit vectors, over the largest eigenvalue."""
    left = [
        float((problem.ours(v / v.norm()) - float(value) * v / v.norm()).norm())
        for value, v in zip(values, vectors, strict=True)
    ]
    return max(left) / max(abs(float(value)) for value in values)


def measured(problem: Problem, **asked: Any) -> tuple[float, CurvatureRecord]:
    return timed(
        lambda: gs.curvature(
            problem.model, F.cross_entropy, (problem.x, problem.y), trace_products=0, **asked
        )
    )


def top_of_ours(problem: Problem) -> dict[str, Any]:
    """Both ends of the spectrum, where the others are asked for one."""
    seconds, found = measured(problem, k=WANTED, tolerance=RESIDUAL, vectors=True)
    assert found.ends is not None
    values = found.ends.largest.tolist()
    reached = residual(problem, values, [torch.from_numpy(v) for v in found.ends.largest_vectors])
    return {"seconds": seconds, "products": found.products, "residual": reached, "values": values}


def top_of_pyhessian(problem: Problem) -> dict[str, Any]:
    """Power iteration, whose tolerance is of successive values: tightened until the residual is as small."""
    from pyhessian import hessian

    tried: list[dict[str, Any]] = []
    with counted_products(LIMIT) as count:
        for tolerance in (1e-3, 1e-4, 1e-5, 1e-6):
            before = count()
            way = hessian(problem.model, F.cross_entropy, data=(problem.x, problem.y), cuda=False)
            try:
                seconds, (values, vectors) = timed(
                    lambda way=way, t=tolerance: way.eigenvalues(maxIter=LIMIT, tol=t, top_n=WANTED)
                )
            except TooMany:
                return {"failed": f"not within {LIMIT} products", "tried": tried}
            reached = residual(problem, values, [problem.joined(v) for v in vectors])
            tried.append(
                {"tolerance": tolerance, "seconds": seconds, "products": count() - before}
                | {"residual": reached, "values": values}
            )
            print("PyHessian", tried[-1], flush=True)
            if reached <= RESIDUAL:
                break
    return tried[-1] | {"tried": tried}


class TooMany(Exception):
    """Products, more than are waited for."""


@contextmanager
def counted_products(limit: int) -> Iterator[Callable[[], int]]:
    """PyHessian's, of all that it is asked for."""
    module = sys.modules["pyhessian.hessian"]
    plain, count = module.hessian_vector_product, 0

    def counting(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count > limit:
            raise TooMany
        return plain(*arguments)

    module.hessian_vector_product = counting  # type: ignore[attr-defined]
    try:
        yield lambda: count
    finally:
        module.hessian_vector_product = plain  # type: ignore[attr-defined]


def top_of_curvlinops(problem: Problem) -> dict[str, Any]:
    from scipy.sparse.linalg import LinearOperator, eigsh

    plain, count = problem.curvlinops.to_scipy(), 0

    def product(vector: Any) -> Any:
        nonlocal count
        count += 1
        return plain @ vector

    operator = LinearOperator(plain.shape, matvec=product, dtype=plain.dtype)
    seconds, (values, vectors) = timed(lambda: eigsh(operator, k=WANTED, which="LA", tol=RESIDUAL))
    reached = residual(problem, values, list(torch.from_numpy(vectors.T.copy()).float()))
    return {
        "seconds": seconds,
        "products": count,
        "residual": reached,
        "values": values[::-1].tolist(),
    }


def density_of_ours(problem: Problem) -> dict[str, Any]:
    seconds, found = measured(problem, k=0, probes=1, steps=STEPS)
    return {"seconds": seconds, "products": found.products}


def density_of_pyhessian(problem: Problem) -> dict[str, Any]:
    seconds, _ = timed(lambda: problem.pyhessian.density(iter=STEPS, n_v=1))
    return {"seconds": seconds}


def density_of_curvlinops(problem: Problem) -> dict[str, Any]:
    from curvlinops.papyan2020traces.spectrum import lanczos_approximate_spectrum

    limits = (-10.0, 10.0)  # given: to find them would take products of its own
    operator = problem.curvlinops
    seconds, _ = timed(lambda: lanczos_approximate_spectrum(operator, STEPS, boundaries=limits))
    return {"seconds": seconds}


PARTS: dict[str, dict[str, Callable[[Problem], dict[str, Any]]]] = {
    "eigenvalues": {
        "gradscape": top_of_ours,
        "curvlinops": top_of_curvlinops,
        "PyHessian": top_of_pyhessian,
    },
    "density": {
        "gradscape": density_of_ours,
        "curvlinops": density_of_curvlinops,
        "PyHessian": density_of_pyhessian,
    },
}


def profile(problem: Problem) -> dict[str, Any]:
    """Arithmetic of a product and of a gradient, and the share of a product's time in convolutions."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled
    from torch.utils.flop_counter import FlopCounterMode

    vector = torch.randn(problem.size)
    ways = {"gradient": problem.ways()["gradient, ours"], "product": problem.ours}
    for way in ways.values():
        way(vector)
    operations = {}
    for name, way in ways.items():
        with FlopCounterMode(display=False) as counter:
            way(vector)
        operations[name] = counter.get_total_flops()
    with profiled(activities=[ProfilerActivity.CPU]) as trace:
        problem.ours(vector)
    times = {event.key: event.self_cpu_time_total for event in trace.key_averages()}
    convolutions = sum(time for name, time in times.items() if "convolution" in name)
    return {"operations": operations, "convolutions": convolutions / sum(times.values())}


def attempted(work: Callable[[Problem], dict[str, Any]], problem: Problem) -> dict[str, Any]:
    """What came of it, or why nothing did, and after how long."""
    start = time.perf_counter()
    try:
        return work(problem)
    except Exception as error:
        why = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160]}"
        return {"failed": why, "after": time.perf_counter() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--parts", nargs="+", default=["products", "profile", *PARTS])
    arguments = parser.parse_args()
    prepare_process(threads=cores())
    path: Path = RESULTS / "curvature_cost.json"
    found: dict[str, Any] = json.loads(path.read_text())["networks"] if path.exists() else {}
    for name in arguments.networks:
        problem, known = Problem(name, arguments.images), found.setdefault(name, {})
        known |= {"parameters": problem.size, "images": arguments.images}
        for part in arguments.parts:
            print(name, part, flush=True)
            if part == "products":
                known[part] = products(problem, arguments.rounds)
            elif part == "profile":
                known[part] = profile(problem)
            else:
                known[part] = {}
                for package, work in PARTS[part].items():
                    known[part][package] = attempted(work, problem)
                    print(package, known[part][package], flush=True)
            write("curvature_cost", {"networks": found, "threads": cores()})


if __name__ == "__main__":
    main()
