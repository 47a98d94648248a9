"""Rebuilt public failures: each runs both ways, repeats its numbers, and is scored without a trace."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SETS = (
    "scripts",
    "pytorch_reports",
    "traincheck",
    "transformer_faults",
    "emse",
    "deepfd",
    "deepchecker",
    "tracker",
    "forum",
)
QUICK = (
    "script/28_gan_discriminator_wins",
    "report/D11",
    "traincheck/mps-addcmul",
    "transformer/QZK",
    "emse/R6",
    "deepfd/51181393",
    "deepchecker/mlp_wrong_axis",
    "tracker/counts-relu-output",
    "forum/rare-pixels",
)


@pytest.fixture(scope="module", autouse=True)
def _path() -> Iterator[None]:
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


def module(name: str) -> ModuleType:
    return importlib.import_module(f"public_failures.{name}")


def trained(case: object, fixed: bool, steps: int) -> list[float]:
    """Losses and the score of a training, which `score` must not touch."""
    training = case.build(fixed, 1)
    losses = [float(training.step(i)) for i in range(steps)]
    modes = [part.training for part in training.model.modules()]
    grads = [p.grad if p.grad is None else p.grad.clone() for p in training.model.parameters()]
    state = torch.random.get_rng_state()
    score = training.score()
    assert score == score  # a number, even of weights that are none
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [part.training for part in training.model.modules()] == modes
    for p, grad in zip(training.model.parameters(), grads, strict=True):
        assert p.grad is grad if grad is None else torch.equal(p.grad.nan_to_num(), grad.nan_to_num())
    return [*losses, score]


def test_same_seed_same_numbers() -> None:
    every = {case.id: case for name in SETS for case in module(name).CASES}
    for name in QUICK:
        for fixed in (False, True):
            first = trained(every[name], fixed, 3)
            torch.manual_seed(99)  # nothing but the seed decides
            assert torch.tensor(first).allclose(
                torch.tensor(trained(every[name], fixed, 3)), equal_nan=True, rtol=0, atol=0
            )


@pytest.mark.parametrize("name", SETS)
def test_cases_are_described(name: str) -> None:
    kinds = module("case").KINDS
    cases = module(name).CASES
    assert len({case.id for case in cases}) == len(cases)
    for case in cases:
        assert case.kinds, case.id
        assert set(case.kinds) <= set(kinds), case.id
        assert case.fault.endswith("."), case.id
        assert case.cure.endswith("."), case.id


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_each_case_runs_both_ways(name: str) -> None:
    for case in module(name).CASES[::4]:  # `survive` trains them all
        for fixed in (False, True):
            trained(case, fixed, 2)
            training = case.build(fixed, 0)
            if training.batch is not None:
                x, y = training.batch
                output = training.model(**x) if isinstance(x, dict) else training.model(x)
                assert training.loss is not None
                assert training.loss(output, y).ndim == 0, case.id
