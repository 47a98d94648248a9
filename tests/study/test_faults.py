"""A small sweep under real faults, by the benchmark that does the same to a large one."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RUNS = 4

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks processes up in /proc"),
]


@pytest.fixture(scope="module")
def faults() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("faults", BENCHMARKS / "faults.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["faults"] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def whole(faults: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("whole")
    assert faults.measured("none", place, RUNS, place).finished == RUNS
    return place


@pytest.mark.parametrize(
    "fault",
    [
        "worker killed",
        pytest.param("command killed", marks=pytest.mark.long),
        pytest.param("worker hung", marks=pytest.mark.long),
        pytest.param("disk full", marks=pytest.mark.long),
        pytest.param("two commands, one killed", marks=pytest.mark.long),
    ],
)
def test_a_sweep_ends_as_if_undisturbed(faults: ModuleType, whole: Path, tmp_path: Path, fault: str) -> None:
    found = faults.measured(fault, tmp_path, RUNS, whole)
    assert (found.finished, found.repeated, found.different) == (RUNS, 0, 0)
    assert found.faults > 0
    assert found.epochs_twice <= 1
