"""Largest eigenvalue of the Hessian along a study's trainings, beside the loss at which it is measured.

`python benchmarks/curvature_by_loss.py STUDY_FOLDER --data-root DIR`, a folder of `gradscape reproduce
--preset small`, whose runs keep weights every third epoch. Of each it measures the loss of 500 training
images in mini-batches of 100, BatchNorm with the statistics of each, its largest eigenvalue, and the squared
norm of a convolution's weights, geometric mean over the convolutions.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.cli.target import ImageSource, load_target
from gradscape.train.process import prepare_process
from measure import machine, write

ROLES = ("vgg08", "vgg08-bn")
IMAGES, BATCH = 500, 100
TOLERANCE = 1e-2  # of the eigenvalue


def of_run(folder: Path, source: ImageSource) -> list[dict[str, Any]]:
    """A row for each epoch whose weights a run has kept."""
    target = load_target(str(folder), source, IMAGES, statistics=True)
    prepare_process(1)
    rows = []
    for epoch, weights in sorted(target.path.items()):
        target.model.load_state_dict({name: torch.as_tensor(w) for name, w in weights.items()})
        found = gs.curvature(
            target.model, cross_entropy, list(target.batches), 1, bn="batch", tolerance=TOLERANCE,
            trace_products=0, probes=0,
        )  # fmt: skip
        assert found.ends is not None
        rows.append(
            {
                "epoch": epoch,
                "loss": found.loss,
                "largest": float(found.ends.largest[0]),
                "weight_norm_squared": squared_norm(target.model),
            }
        )
    return rows


@torch.no_grad()
def squared_norm(model: nn.Module) -> float:
    norms = [m.weight.square().sum().log() for m in model.modules() if isinstance(m, nn.Conv2d)]
    return float(torch.stack(norms).mean().exp())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data-root", type=Path)
    given = parser.parse_args()
    source = ImageSource(data_root=given.data_root, images=IMAGES, batch_size=BATCH, device="cpu")
    study = gs.load(given.folder)
    found = {
        role: [of_run(given.folder / "runs" / name, source) for name in study.roles[role].runs]
        for role in ROLES
    }
    write("curvature_by_loss", {"machine": machine(), "images": IMAGES, "batch": BATCH, "seeds_of": found})
