"""Study of the paper: how does BatchNorm solve the vanishing gradients problem? Its 15 runs and presets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gradscape.config.network import NetConfig
from gradscape.config.run import DataConfig, OptimConfig, RunConfig
from gradscape.records.role import Role
from gradscape.studies.batchnorm.report import PARTS, QUESTION
from gradscape.studies.batchnorm.roles import NETWORKS, sized
from gradscape.study.presets import Preset, choose_interval, round_to_batches
from gradscape.study.reproduction import Reproduction

LEARNING_RATES = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05)  # Table 1, at batch size 100
BATCH_SIZES = (50, 100, 150, 200, 400, 800)  # Table 2, at learning rate 0.05
SHALLOW, DENSER = 8, 4  # VGG08 is measured four times as often: it is small and learns within an epoch
SMOOTHNESS_AT = (0.001, 0.05)  # learning rates of the runs that are measured within: Figures 4 to 6


PRESETS = {
    "quick": Preset(
        data="digits",
        size=8,
        filters=16,
        epochs=60,
        shrink=2,
        train=1_000,
        valid=75,
        augment=False,
        measures=12,
        curvature=50,
        landscape=100,
        keep_every=10,
        seeds=1,
        key_seeds=3,
        together=9,
        why="to run in minutes on two cores",
    ),
    "small": Preset(
        data="cifar100",
        size=16,
        filters=16,
        epochs=15,
        shrink=1,
        train=None,
        valid=None,
        augment=True,
        measures=12,
        curvature=100,
        landscape=300,
        keep_every=3,
        seeds=3,
        key_seeds=3,
        together=3,  # seeds: larger packs gain little where the arithmetic of 16×16 images takes the time
        why="to run within a night on two cores",
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
        key_seeds=3,
        why="as published",
    ),
}


def _roles(preset: Preset, data: DataConfig) -> dict[Role, RunConfig]:
    """Role → run at seed 0; the roles `lr-0.001` and `vgg38-bn`, `lr-0.05` and `batch-100` share a run."""

    def run(depth: int, norm: Any, lr: float = 0.001, batch: int = 100, **net: Any) -> RunConfig:
        plain = RunConfig(
            net=NetConfig(depth=depth, norm=norm, filters=preset.filters, **net),
            data=data,
            optim=OptimConfig(lr=lr),
            batch_size=batch // preset.shrink,
            epochs=preset.epochs,
        )
        if lr not in SMOOTHNESS_AT:
            return plain
        measured = replace(plain, landscape_images=round_to_batches(preset.landscape, plain))
        spectra = replace(measured, curvature_images=round_to_batches(preset.curvature, plain))
        if lr == SMOOTHNESS_AT[0]:
            # C7 rests on the pair that trains, measured between guessing and having learned.
            every = choose_interval(plain, preset.measures * (DENSER if depth == SHALLOW else 1))
            return replace(spectra, smoothness_every=every, keep_every=preset.keep_every)
        # Equally many steps for all batch sizes, so that equal updates compare.
        fewest = replace(plain, batch_size=max(BATCH_SIZES) // preset.shrink)
        every = choose_interval(fewest, preset.measures // 2)
        # One seed decides nothing: curvature would be most of the time.
        return replace(measured if preset.seeds == 1 else spectra, smoothness_every=every)

    baselines = {
        "vgg08": run(SHALLOW, "none"),
        # Both of this pair train, so that their smoothness compares; VGG08 has no blocks to normalize.
        "vgg08-bn": run(SHALLOW, "batch", norm_where="everywhere"),
        "vgg38": run(38, "none"),
        "vgg38-bn": run(38, "batch"),
        "vgg38-he": run(38, "none", init="he"),
    }
    networks = {Role(name, NETWORKS[name], "networks"): config for name, config in baselines.items()}
    rates = {
        Role(f"lr-{lr}", f"lr {lr}", "learning rates", {"lr": lr}): run(38, "batch", lr=lr)
        for lr in LEARNING_RATES
    }
    sizes = {
        sized("batch", size, size // preset.shrink): run(38, "batch", lr=0.05, batch=size)
        for size in BATCH_SIZES
    }
    return networks | rates | sizes


BATCHNORM = Reproduction(
    name="batchnorm",
    title=QUESTION,
    presets=PRESETS,
    roles=_roles,
    key=(*NETWORKS, *(f"lr-{rate}" for rate in LEARNING_RATES)),
    parts=PARTS,
)
