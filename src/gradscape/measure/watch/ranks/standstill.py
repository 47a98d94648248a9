"""Place in a training's code where a thread stands."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path
from types import FrameType

import torch

TORCH = str(Path(torch.__file__).parent)
LIBRARIES = (TORCH, sysconfig.get_paths()["stdlib"], str(Path(__file__).parents[3]))
# Where a process may wait for others: collectives, DDP's own, and the backward pass that contains them.
WAITS = (f"{TORCH}/distributed/", f"{TORCH}/nn/parallel/distributed.py")
BACKWARD = "_engine_run_backward"


def standstill(thread: int) -> tuple[str, bool]:
    """Return the innermost line of the user's code in which a thread stands, and whether it may wait there.

    Args:
        thread: Identifier of a thread of this process.

    Returns:
        Place, as "train.py:40 in main", empty if not known; True within torch.distributed or a backward pass.
    """
    innermost = frame = sys._current_frames().get(thread)
    if innermost is None or frame is None:
        return "", False
    code = innermost.f_code
    waits = code.co_filename.startswith(WAITS) or code.co_name == BACKWARD
    while frame.f_back is not None and _is_library(frame):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} in {frame.f_code.co_name}", waits


def _is_library(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    return name.startswith(LIBRARIES) or "-packages" in name or name.startswith("<")
