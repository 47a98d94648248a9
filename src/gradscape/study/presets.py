"""Presets of a study: numbers that reduce it, and how they depart from the paper."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from gradscape.config.run import DATASETS, DataConfig, RunConfig

SELDOM = 50  # steps from one measure of smoothness to the next, at most
PAPER_FILTERS = 32  # §5.2
ORIGINAL_DIGITS = 8  # pixels of an edge


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Numbers that reduce a study.

    Attributes:
        data: Data set unless another is chosen.
        epochs: Number of passes over the training images.
        shrink: Divisor of the paper's batch sizes, so that fewer images give as many updates.
        train, valid: Number of images at most, for validation no more than a fifth; None for the paper's
            share.
        augment: Crop and flip as the data set allows, or not at all.
        measures: Number of measures of smoothness in a run, at least.
        curvature: Number of images on which the Hessian's spectrum is measured before and after training; 0
            for none.
        landscape: Number of images on which the loss is measured around the trained weights.
        keep_every: Number of epochs from one stored set of weights to the next, of the compared networks.
        seeds: Number of seeds of every run.
        key_seeds: Number of seeds of the study's key roles, on which most claims rest.
        why: Reason in the report, beside the numbers.
        size: Edge in pixels that images are averaged down to; None for images as they are.
        filters: Number of filters of every convolution.
        together: Number of runs that are trained as one network on a CPU, at most, where they differ in seed,
            learning rate, initialization and measures alone; 1 for each by itself. It changes the last bits
            of their numbers.
    """

    data: str
    epochs: int
    shrink: int
    train: int | None
    valid: int | None
    augment: bool
    measures: int
    curvature: int
    landscape: int
    keep_every: int
    seeds: int
    key_seeds: int
    why: str
    size: int | None = None
    filters: int = PAPER_FILTERS
    together: int = 1


FULL_SIZE: dict[str, Any] = {"size": None, "filters": PAPER_FILTERS, "together": 1}  # of a reduced preset's
P = TypeVar("P", bound=Preset)


def based_on(base: Preset, kind: type[P], **changes: Any) -> P:
    """Return a preset of another kind with the base's values, some changed, and those that only its kind has.

    Args:
        base: Preset to start from.
        kind: Class of the result.
        changes: Values that differ from the base's, or that only `kind` has.
    """
    return kind(**{**vars(base), **changes})


def plan_data(preset: Preset, data: str) -> DataConfig:
    """Return the images of a preset's runs; the paper normalizes with CIFAR-10's statistics.

    Args:
        preset: Preset of the study.
        data: Name of the data set.
    """
    values: dict[str, Any] = {
        "name": data,
        "size": preset.size,
        "statistics": "own" if data == "digits" else "cifar10",
    }
    if not preset.augment:
        values |= {"crop_pad": 0, "flip": False}
    plain = DataConfig(**values)
    valid = min(preset.valid or DATASETS[data].valid, DATASETS[data].pool // 5)
    left = DATASETS[data].pool - valid
    return replace(plain, valid=valid, train=min(preset.train or left, left))


def round_to_batches(images: int, run: RunConfig) -> int:
    """Round a number of images up to whole mini-batches; one at least, and no more than there are.

    Args:
        images: Number of images.
        run: Configuration of the run.
    """
    assert run.data.train is not None
    return min(math.ceil(images / run.batch_size), run.data.train // run.batch_size) * run.batch_size


def choose_interval(run: RunConfig, measures: int) -> int:
    """Return the number of steps from one measure of smoothness to the next.

    Args:
        run: Configuration of the run.
        measures: Number of measures in the run, at least.
    """
    assert run.data.train is not None
    steps = run.epochs * math.ceil(run.data.train / run.batch_size)
    return max(1, min(SELDOM, steps // measures))


def departures(preset: Preset, run: RunConfig) -> tuple[str, ...]:
    """Return sentences on how a run of this preset departs from the paper's.

    Args:
        preset: Preset of the study.
        run: Configuration of a run.
    """
    data, edge, sentences = run.data, run.data.dataset.size, []
    if data.name == "digits":
        larger = "" if edge == ORIGINAL_DIGITS else f" enlarged to {edge}×{edge}"
        sentences.append(f"Images are 8×8 handwritten digits{larger}, not CIFAR-100.")
    elif data.name == "cifar10":
        sentences.append("Images are CIFAR-10, not CIFAR-100.")
    if data.name != "digits" and data.size is not None:
        sentences.append(f"Images are averaged down to {edge}×{edge} pixels.")
    if run.net.filters != PAPER_FILTERS and run.net.family == "vgg":
        sentences.append(f"Convolutions have {run.net.filters} filters, not {PAPER_FILTERS}.")
    if data.train != 47_500 or run.epochs != 100:
        sentences.append(
            f"{data.train:,} training images for {run.epochs} epochs, not 47,500 for 100, {preset.why}."
        )
    if preset.shrink != 1:
        sentences.append(f"Batch sizes are the paper's divided by {preset.shrink}.")
    if not preset.augment:
        sentences.append("No augmentation: so few updates are better spent on the images themselves.")
    if run.precision == "bf16":
        sentences.append(
            "Convolutions and activations are in bfloat16, not float32; small gradients differ in it."
        )
    if run.precision == "tf32":
        sentences.append("Products are rounded to TF32, which the paper's GPU did not have.")
    return tuple(sentences)
