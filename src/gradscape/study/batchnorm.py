"""The paper's study: how does BatchNorm solve the vanishing gradients problem? Its 14 runs and presets."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from gradscape.config import DATASETS, DataConfig, OptimConfig, Precision, RunConfig
from gradscape.errors import ConfigError, nearest
from gradscape.net_config import NetConfig
from gradscape.study.batchnorm_report import PARTS, QUESTION
from gradscape.study.reproduction import PresetPlan, Reproduction

LEARNING_RATES = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05)  # Table 1, at batch size 100
BATCH_SIZES = (50, 100, 150, 200, 400, 800)  # Table 2, at learning rate 0.05
BASELINES = ("vgg08", "vgg38", "vgg38-bn", "vgg38-he")  # Figures 1, 2 and 4, claims C1 to C3 and C7
SMOOTHNESS_AT = (0.001, 0.05)  # learning rates of the runs that are measured within: Figures 4 to 6
SELDOM = 50  # steps from one measure of smoothness to the next, at most


@dataclass(frozen=True)
class Preset:
    """How far the study is cut down.

    Attributes:
        data: data set unless another is asked for.
        epochs: passes over the training images.
        shrink: the paper's batch sizes are divided by it, so that fewer images give as many updates.
        train, valid: images kept, at most; None keeps the paper's share.
        augment: crop and flip as the data set allows, or not at all.
        measures: measures of smoothness in a run, at least; half as many where batch sizes are compared.
        curvature: images on which the Hessian's spectrum is measured before and after training; 0 for none.
        landscape: images on which the loss is measured around the trained weights.
        keep_every: epochs from one kept set of weights to the next, of the networks that are compared.
        seeds: seeds of every run.
        baseline_seeds: seeds of the three baselines, on which most claims rest.
        why: in the report, beside the numbers.
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
    baseline_seeds: int
    why: str


PRESETS = {
    "quick": Preset(
        data="digits",
        epochs=6,
        shrink=5,
        train=1_000,
        valid=75,
        augment=False,
        measures=12,
        curvature=20,
        landscape=100,
        keep_every=1,
        seeds=1,
        baseline_seeds=2,
        why="to run in minutes on two cores",
    ),
    "small": Preset(
        data="cifar100",
        epochs=6,
        shrink=5,
        train=3_500,
        valid=500,
        augment=True,
        measures=12,
        curvature=100,
        landscape=300,
        keep_every=1,
        seeds=2,
        baseline_seeds=2,
        why="to run in about an hour on two cores",
    ),
    "paper": Preset(
        data="cifar100",
        epochs=100,
        shrink=1,
        train=None,
        valid=None,
        augment=True,
        measures=12,
        curvature=500,
        landscape=1_000,
        keep_every=5,
        seeds=3,
        baseline_seeds=3,
        why="as published",
    ),
}


def plan(preset: str, data: str | None, seeds: int | None, precision: Precision = "fp32") -> PresetPlan:
    """The 14 distinct runs under 16 roles.

    Args:
        preset: a key of `PRESETS`.
        data: data set, or None for the preset's.
        seeds: seeds of every role, or None for the preset's.
        precision: that every run asks for.

    Raises:
        ConfigError: no such preset, data set or precision, fewer than one seed.
    """
    if preset not in PRESETS:
        raise ConfigError(
            f"--preset: {preset!r} is not one of {', '.join(PRESETS)}{nearest(preset, PRESETS)}"
        )
    chosen = PRESETS[preset]
    data = chosen.data if data is None else data
    if seeds is not None and seeds < 1:
        raise ConfigError(f"--seeds: {seeds} is not possible; give 1 or more")
    planned = plan_roles(chosen, plan_data(chosen, data))
    roles = {role: replace(run, precision=precision) for role, run in planned.items()}
    baselines = [roles[role] for role in BASELINES]
    return PresetPlan(
        study="batchnorm",
        preset=preset,
        data=data,
        precision=precision,
        title=QUESTION,
        roles=roles,
        seeds={
            role: seeds or (chosen.baseline_seeds if run in baselines else chosen.seeds)
            for role, run in roles.items()
        },
        notes=notes(chosen, roles["vgg38-bn"]),
    )


def plan_data(preset: Preset, data: str) -> DataConfig:
    """The data set's share of a preset; the paper normalises with CIFAR-10's statistics."""
    values: dict[str, Any] = {"name": data, "statistics": "own" if data == "digits" else "cifar10"}
    if not preset.augment:
        values |= {"crop_pad": 0, "flip": False}
    whole = DataConfig(**values)
    valid = min(preset.valid or DATASETS[data].valid, DATASETS[data].valid)
    left = DATASETS[data].pool - valid
    return replace(whole, valid=valid, train=min(preset.train or left, left))


def plan_roles(preset: Preset, data: DataConfig) -> dict[str, RunConfig]:
    """Role → run at seed 0; the roles `lr-0.001` and `vgg38-bn`, `lr-0.05` and `batch-100` share a run."""

    def run(depth: int, norm: Any, lr: float = 0.001, batch: int = 100, init: Any = "default") -> RunConfig:
        plain = RunConfig(
            net=NetConfig(depth=depth, norm=norm, init=init),
            data=data,
            optim=OptimConfig(lr=lr),
            batch_size=batch // preset.shrink,
            epochs=preset.epochs,
        )
        if lr not in SMOOTHNESS_AT:
            return plain
        measured = replace(plain, landscape_images=whole(preset.landscape, plain))
        spectra = replace(measured, curvature_images=whole(preset.curvature, plain))
        if lr == SMOOTHNESS_AT[0]:
            every = apart(plain, preset.measures)
            return replace(spectra, smoothness_every=every, keep_every=preset.keep_every)
        # Equally many steps for all batch sizes, so that equal updates compare.
        fewest = replace(plain, batch_size=max(BATCH_SIZES) // preset.shrink)
        every = apart(fewest, preset.measures // 2)
        # One seed decides nothing: curvature would be most of the time.
        return replace(measured if preset.seeds == 1 else spectra, smoothness_every=every)

    baselines = {
        "vgg08": run(8, "none"),
        "vgg38": run(38, "none"),
        "vgg38-bn": run(38, "batch"),
        "vgg38-he": run(38, "none", init="he"),
    }
    rates = {f"lr-{lr}": run(38, "batch", lr=lr) for lr in LEARNING_RATES}
    sizes = {f"batch-{size}": run(38, "batch", lr=0.05, batch=size) for size in BATCH_SIZES}
    return baselines | rates | sizes


def whole(images: int, run: RunConfig) -> int:
    """So many images, in whole mini-batches; one at least, and no more than there are."""
    assert run.data.train is not None
    return min(math.ceil(images / run.batch_size), run.data.train // run.batch_size) * run.batch_size


def apart(run: RunConfig, measures: int) -> int:
    """Steps from one measure of smoothness to the next, for so many in a run."""
    assert run.data.train is not None
    steps = run.epochs * math.ceil(run.data.train / run.batch_size)
    return max(1, min(SELDOM, steps // measures))


def notes(preset: Preset, run: RunConfig) -> tuple[str, ...]:
    """How this preset departs from the paper, in sentences."""
    data, said = run.data, []
    if data.name != "cifar100":
        name = {"digits": "8×8 handwritten digits enlarged to 16×16", "cifar10": "CIFAR-10"}[data.name]
        said.append(
            f"Images are {name}, not CIFAR-100: the paper's numbers stand beside ours for orientation."
        )
    if data.train != 47_500 or run.epochs != 100:
        said.append(
            f"{data.train:,} training images for {run.epochs} epochs, not 47,500 for 100, {preset.why}."
        )
    if preset.shrink != 1:
        said.append(f"Batch sizes are the paper's divided by {preset.shrink}; tables and figures name both.")
    if not preset.augment:
        said.append("No augmentation: so few updates are better spent on the images themselves.")
    if run.precision == "bf16":
        said.append(
            "Convolutions and activations are in bfloat16, not float32; small gradients differ in it."
        )
    if run.precision == "tf32":
        said.append("Products are rounded to TF32, which the paper's GPU did not have.")
    return tuple(said)


BATCHNORM = Reproduction(
    name="batchnorm",
    title=QUESTION,
    presets={name: preset.data for name, preset in PRESETS.items()},
    plan=plan,
    parts=PARTS,
)
