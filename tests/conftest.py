"""What every test has: helper modules beside it, one thread, and no cache but its own."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

sys.path.insert(0, str(Path(__file__).parent))
from libraries import pytest_terminal_summary as pytest_terminal_summary
from live.browsing import chromium as chromium

if not Path("/dev/nvidia0").exists():
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported, by whichever test comes first
os.environ["OMP_NUM_THREADS"] = "1"  # xdist runs a process per core; also for the processes tests start
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a background job's: Ctrl-C tests would wait forever
    signal.signal(signal.SIGINT, signal.default_int_handler)
gc.disable()  # while the tests are collected: nothing of them is garbage


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Paths of caches, none of them made: numbering folders takes the longer the more there are."""
    root = tmp_path_factory.mktemp("caches")
    return (root / str(number) for number in count())


@pytest.fixture(autouse=True)
def own_cache(caches: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADSCAPE_CACHE", str(next(caches)))


@pytest.fixture(autouse=True)
def process_as_found() -> Iterator[None]:
    """A command sets up its process: it flushes denormals, which Hypothesis refuses, and takes all cores."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True)
def skip_without_cuda(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("gpu"):
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out where CI is set what takes minutes: all checks have to end within twenty of them."""
    if "CI" in os.environ:
        left_out = pytest.mark.skip(reason="takes a minute or more: run make test-slow without CI set")
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(left_out)


def pytest_collection_finish() -> None:
    """Have the collector pass over half a million objects of the tests themselves, and come seldom.

    Left alone it takes a sixth of all time. Another twentieth goes into the call stacks
    that `torch.manual_seed` writes out for each kind of device that is not in use, for errors to come.
    """
    for device in ("cuda", "mtia", "xpu"):
        if module := sys.modules.get(f"torch.{device}"):
            module.traceback = SimpleNamespace(format_stack=list)  # type: ignore[attr-defined]
    gc.freeze()
    gc.set_threshold(10_000, 10, 30)
    gc.enable()


def pytest_sessionfinish() -> None:
    """Give the collector its objects back: libraries look for what is left at the end."""
    gc.unfreeze()


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty pictures in reports, of a test that is about all the rest: they take most of the time."""
    from undrawn import rendering

    monkeypatch.setattr("gradscape.report.build.rendering", rendering)


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train the runs of a study in this process, where its workers are not the point."""
    from inline_executor import Inline

    monkeypatch.setattr(
        "gradscape.executors.processes.Processes", lambda work, count, tell, *options: Inline(work, tell)
    )


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """A folder that the first who asks for it makes, for all processes; none writes there after."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    common = shared / "once"
    common.mkdir(exist_ok=True)

    def folder_of(name: str, make: Callable[[Path], object]) -> Path:
        folder, unfinished = common / name, common / f"{name}.part"
        with FileLock(common / f"{name}.lock"):
            if not folder.exists():
                make(unfinished)
                unfinished.rename(folder)
        return folder

    return folder_of


@pytest.fixture(scope="session")
def cifar100_root() -> Path:
    """The folder that holds the real CIFAR-100, or skip."""
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    root = Path(os.environ.get("GRADSCAPE_TEST_DATA", beside))
    if not (root / "cifar-100-python" / "train").is_file():
        pytest.skip("no CIFAR-100; name the folder that holds it in GRADSCAPE_TEST_DATA")
    return root
