"""Disk space that the runs of a study need, from their configurations."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from gradscape.config.run import RunConfig
from gradscape.errors import StoreError
from gradscape.study.shapes import convolutions, features

COPIES = 12  # of the weights: in three checkpoints, one of them being written, with the best and Adam's two
EPOCH = 110  # bytes of a tensor's gradients in one epoch
FIXED = 150_000  # bytes of a run's other files


def run_disk_bytes(config: RunConfig) -> int:
    """Return the bytes that a run's folder takes at most, to within a tenth.

    Args:
        config: Configuration of the run.
    """
    data = config.data.dataset
    layers = convolutions(config.net, data.size)
    weights = sum(layer.kernel**2 * layer.inputs * layer.outputs + 3 * layer.outputs for layer in layers)
    weights += features(config.net, data.size) * data.classes
    kept = config.epochs // config.keep_every + 2 if config.keep_every else 0
    return 4 * weights * (COPIES + kept) + EPOCH * (3 * len(layers) + 2) * config.epochs + FIXED


def require_space(configs: Iterable[RunConfig], folder: Path) -> None:
    """Refuse to begin runs that the disk does not hold.

    Args:
        configs: Configurations of the runs that have not ended.
        folder: Folder of the study, which need not be there.

    Raises:
        StoreError: The disk has less room.
    """
    needed = sum(map(run_disk_bytes, configs))
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise StoreError(
            f"{folder}: the runs need about {_gigabytes(needed)} of disk; {_gigabytes(free)} is free; "
            "make room, or give a folder on another disk with --out"
        )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2g} GB" if count < 1e12 else f"{count / 1e9:.0f} GB"
