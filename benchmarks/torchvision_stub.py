"""torchvision beside a torch without its compiled operators: what its import asks for, nothing runs."""

from __future__ import annotations

import torch

LIBRARY = torch.library.Library("torchvision", "DEF")  # lives as long as the operators are to


def define() -> None:
    """Make `torchvision` importable; its operators raise if they are called."""
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
