"""Process of a run: its threads, memory and device, and a description of them."""

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

from gradscape._machine import processor
from gradscape._text import count_noun
from gradscape.errors import ConfigError
from gradscape.version import __version__

# Options of mallopt(3), from malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
LARGEST_INT = 2**31 - 1

_alone = threading.RLock()


def prepare_process(threads: int) -> None:
    """Set up a fresh process: number of threads, flushing of denormals, retention of freed memory.

    Flushing applies to the calling thread and those started later, hence before any parallel operation.
    Gradients of 1e-20 have squares of 1e-40, which take a CPU a hundred times as long and are negligible next
    to Adam's epsilon.

    Args:
        threads: Number of threads to compute with.
    """
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    _keep_memory()


@contextmanager
def same_threads() -> Iterator[None]:
    """Restore torch's number of threads on exit."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def keep_threads(threads: int, report: Callable[[str], None]) -> None:
    """Continue a run with the number of threads it was begun with, since sums round differently with others.

    Args:
        threads: Number of threads that the run was begun with.
        report: Callback for a message, if the number changes.
    """
    if (here := torch.get_num_threads()) != threads:
        report(f"continues with {count_noun(threads, 'thread')}, as it was begun, instead of {here}")
        torch.set_num_threads(threads)


def _keep_memory() -> None:
    """Make glibc retain freed memory for the next tensor; other C libraries are not affected.

    By default it returns every tensor of some megabytes to the system, which maps and zeroes each page of the
    next one again, in every operation of every step: a tenth of a step in float32, a quarter in bfloat16.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, LARGEST_INT)
    mallopt(M_TOP_PAD, 64 * 2**20)


def return_memory() -> None:
    """Release the memory that `_keep_memory` retains, after a measurement that took gigabytes once."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        return


def find_device(name: str) -> torch.device:
    """Return the device of a name.

    Args:
        name: `auto`, `cpu` or `cuda`.

    Raises:
        ConfigError: If the name is another, or there is no CUDA device.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device: expected auto, cpu or cuda; got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: there is no CUDA device; give --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


@contextmanager
def compute_on(device: torch.device, precision: str) -> Iterator[None]:
    """Use a CUDA stream of the calling thread's own, and TF32 only for tf32; no effect on other devices.

    Args:
        device: Device of the run.
        precision: Precision from `settle`.
    """
    if device.type != "cuda":
        yield
        return
    kind = "tf32" if precision == "tf32" else "ieee"
    torch.backends.cudnn.conv.fp32_precision = kind  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = kind
    torch.backends.cudnn.benchmark = True
    with torch.cuda.stream(torch.cuda.Stream(device)):  # type: ignore[no-untyped-call]
        yield


def lock_gpu(device: torch.device) -> AbstractContextManager[object]:
    """Return a lock for GPU work other than replays, which one thread may do at a time; no-op elsewhere.

    cuDNN times the algorithms of a new convolution and then empties the allocator's cache, which torch
    forbids while another thread captures a graph. Such work is bound by Python, which runs one thread at a
    time anyway.

    Args:
        device: Device of the run.
    """
    return _alone if device.type == "cuda" else nullcontext()


def environment(device: torch.device) -> dict[str, Any]:
    """Describe host, process, device, threads and versions of a run, for its status.

    Args:
        device: Device of the run.
    """
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        **({} if device.type == "cuda" else {"processor": processor()}),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "gradscape": __version__,
        },
    }
