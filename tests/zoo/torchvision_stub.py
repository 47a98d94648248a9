"""torchvision beside a torch whose build it was not made for: its operators declared, so that it imports.

Its wheel brings them compiled for one build of torch and imports beside no other. Models use none of them
but detectors' boxes; calling one says that it is not there. Import this before anything that imports it.
"""

from __future__ import annotations

import torch

NAMES = ("nms", "qnms")  # those that it registers something for as it is imported


def declare() -> None:
    """Declare torchvision's operators, where they are not there."""
    for name in NAMES:
        try:
            getattr(torch.ops.torchvision, name)
        except AttributeError:
            LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
declare()
