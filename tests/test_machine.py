"""What a machine is called, and what of it a process may use."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from gradscape import _machine

GIB = 2**30
V1 = "4:memory:/box\n2:cpu,cpuacct:/box\n1:name=systemd:/\n0::/\n"


def files(root: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 64 cores of which control groups are all that limits."""
    monkeypatch.setattr(_machine, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(_machine, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(_machine.os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return tmp_path


def test_a_processor_is_named_by_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    monkeypatch.setattr(_machine, "Path", lambda name: cpuinfo)
    assert _machine.processor() == (platform.processor() or platform.machine())  # no such file
    cpuinfo.write_text("processor\t: 0\nmodel name\t: AMD EPYC\nprocessor\t: 1\nmodel name\t: other\n")
    assert _machine.processor() == "AMD EPYC"


@pytest.mark.parametrize(
    ("own", "texts", "cores"),
    [
        ("", {}, 64),  # no control groups
        ("0::/\n", {"cpu.max": "max 100000"}, 64),
        ("0::/\n", {"cpu.max": "250000 100000"}, 3),  # a container, which sees its own group as the root
        ("0::/\n", {"cpu.max": "50000 100000"}, 1),
        # A job of a service: the narrowest limit counts, that of a parent too.
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "400000 100000"}, 4),
        ("0::/a/b\n", {"a/b/cpu.max": "200000 100000", "a/cpu.max": "400000 100000"}, 2),
        (V1, {"cpu/box/cpu.cfs_quota_us": "-1", "cpu/box/cpu.cfs_period_us": "100000"}, 64),
        (V1, {"cpu/box/cpu.cfs_quota_us": "150000", "cpu/box/cpu.cfs_period_us": "50000"}, 3),
        # In a container the host's path is not there, and the root is the container's own.
        (V1, {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
    ],
)
def test_cores_are_those_of_the_quota(groups: Path, own: str, texts: dict[str, str], cores: int) -> None:
    files(groups, {"own": own, **{f"cgroup/{name}": text for name, text in texts.items()}})
    assert _machine.cores() == cores


@pytest.mark.parametrize(
    ("own", "texts", "free"),
    [
        ("0::/\n", {"memory.max": str(4 * GIB), "memory.current": str(3 * GIB)}, 1.0),
        (
            "0::/a\n",
            {
                "a/memory.max": str(4 * GIB),
                "a/memory.current": str(3 * GIB),
                "a/memory.stat": f"anon {GIB}\ninactive_file {2 * GIB}",
            },
            3.0,
        ),
        (V1, {"memory/memory.limit_in_bytes": str(GIB), "memory/memory.usage_in_bytes": str(GIB // 2)}, 0.5),
        ("0::/\n", {"memory.max": str(GIB), "memory.current": str(2 * GIB)}, 0.0),  # lowered since
    ],
)
def test_free_memory_is_what_the_group_has_left(
    groups: Path, own: str, texts: dict[str, str], free: float
) -> None:
    files(groups, {"own": own, **{f"cgroup/{name}": text for name, text in texts.items()}})
    assert _machine.memory_free() == free * GIB


def test_without_a_limit_free_memory_is_the_machine_s(groups: Path) -> None:
    before = _machine.memory_free()
    files(groups, {"own": "0::/a\n", "cgroup/a/memory.max": "max", "cgroup/a/memory.current": str(GIB)})
    assert _machine.memory_free() == pytest.approx(before, rel=0.2)


@pytest.mark.parametrize(
    ("asked", "threads"), [("1", 1), ("6", 6), ("4,2", 4), ("", 64), ("0", 64), ("many", 64)]
)
def test_threads_are_those_that_the_environment_asks_for(
    groups: Path, monkeypatch: pytest.MonkeyPatch, asked: str, threads: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert _machine.default_threads() == threads
