"""The process a run is executed in: its threads, its memory, its device, and what is said of them."""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch

from gradscape._text import counted
from gradscape.errors import ConfigError
from gradscape.version import __version__

# Options of mallopt(3), from malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
LARGEST_INT = 2**31 - 1

_alone = threading.RLock()


def prepare_process(threads: int) -> None:
    """Set a fresh process up: its threads, denormals flushed, memory kept.

    Flushing sets the calling thread and those started later, hence before any parallel operation.
    Gradients of 1e-20 have squares of 1e-40, on which a CPU takes a hundred times as long; next to
    Adam's epsilon they are nothing.
    """
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    _keep_memory()


@contextmanager
def same_threads() -> Iterator[None]:
    """Leave the number of threads that the process computes with as found."""
    found = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(found)


def keep_threads(threads: int, report: Callable[[str], None]) -> None:
    """Go on with as many threads as a run was begun with: over others sums are rounded otherwise."""
    if (here := torch.get_num_threads()) != threads:
        report(f"goes on with {counted(threads, 'thread')}, as it was begun, not {here}")
        torch.set_num_threads(threads)


def _keep_memory() -> None:
    """Let glibc keep freed memory for the next tensor; does nothing where the C library is another.

    By default it gives every tensor of some megabytes back to the system, and each page of the next one is
    fetched and zeroed again, in every operation of every step: a tenth of a step in float32, a quarter in
    bfloat16.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, LARGEST_INT)
    mallopt(M_TOP_PAD, 64 * 2**20)


def return_memory() -> None:
    """Give back what `_keep_memory` has the C library keep: after a measure that took gigabytes for once."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        return


def find_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` as a device that is here."""
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device: {name!r} is not one of auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: no CUDA device is here; give --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


@contextmanager
def compute_on(device: torch.device, precision: str) -> Iterator[None]:
    """On CUDA: a stream of the calling thread's own, and TF32 only where it was asked for."""
    if device.type != "cuda":
        yield
        return
    kind = "tf32" if precision == "tf32" else "ieee"
    torch.backends.cudnn.conv.fp32_precision = kind  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = kind
    torch.backends.cudnn.benchmark = True
    with torch.cuda.stream(torch.cuda.Stream(device)):  # type: ignore[no-untyped-call]
        yield


def alone(device: torch.device) -> AbstractContextManager[object]:
    """What a thread does on a GPU other than replay a graph: one of all threads at a time.

    cuDNN times the algorithms of a convolution that a thread shows it first, then empties the allocator's
    cache, which torch forbids while another thread captures. Such work is Python's, which does one thread's
    at a time anyway.
    """
    return _alone if device.type == "cuda" else nullcontext()


def environment(device: torch.device) -> dict[str, Any]:
    """Where and with what a run is executed, for its status."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "gradscape": __version__,
        },
    }
