"""Roles of the BatchNorm study, with their labels in its report and its claims."""

from __future__ import annotations

from gradscape.records.role import Role

PAPER = "Investigating the Optimization of Convolutional Networks, s1705386, University of Edinburgh, 2020-21"
RATES = ("0.0001", "0.0005", "0.001", "0.005", "0.01", "0.05")
BATCHES = ("50", "100", "150", "200", "400", "800")
BAND = (1e-4, 1e-1)  # §5.3: range of gradients with BatchNorm
NETWORKS = {
    "vgg08": "VGG08",
    "vgg08-bn": "VGG08 + BatchNorm",
    "vgg38": "VGG38",
    "vgg38-bn": "VGG38 + BatchNorm",
    "vgg38-he": "VGG38, He initialization",
}
BATCH_NAMES = "Batch sizes are the paper's names for the runs."


def sized(control: str, size: int, used: int, group: str = "batch sizes") -> Role:
    """Return the role of the runs of one batch size, with the size that they have in words where it differs.

    Args:
        control: Control under which the size varies; `batch` for none.
        size: Batch size in the paper.
        used: Batch size of the runs.
        group: Group of the role.
    """
    label = f"batch {size}" if used == size else f"batch {size}, here {used}"
    return Role(f"{control}-{size}", label, group, {"control": control, "batch_size": size})
