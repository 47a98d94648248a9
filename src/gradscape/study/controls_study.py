"""Controls of the paper's sweeps: batch sizes at equal updates and scaled rates, L2 under BatchNorm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gradscape.config import DataConfig, OptimConfig, Precision, RunConfig
from gradscape.errors import ConfigError, nearest
from gradscape.net_config import NetConfig
from gradscape.study import batchnorm
from gradscape.study.controls import configure
from gradscape.study.controls_report import PARTS, QUESTION
from gradscape.study.fields import Value
from gradscape.study.reproduction import PresetPlan, Reproduction

RATE = 0.05  # of the paper's sweep over batch sizes, Table 2
BASE = 100  # batch size that the others are compared with, and whose updates are equalled
SGD_RATE = 0.02  # constant, so that the effective rate moves with ‖w‖ alone; 0.05 trains VGG38 no better
CONTROLS: Mapping[str, Mapping[str, Value]] = {
    "batch": {},
    "updates": {"equal_updates": True},
    "linear": {"scale_lr": "linear"},
    "sqrt": {"scale_lr": "sqrt"},
}
NETWORKS = {
    # Everywhere, so that all convolutions are free of scale.
    "bn": NetConfig(depth=38, norm="batch", norm_where="everywhere"),
    # From PyTorch's default weights SGD, which sees how small a gradient is, does not move it in a short run.
    "plain": NetConfig(depth=8, norm="none", init="he"),
}


@dataclass(frozen=True)
class Preset:
    """How far the study is cut down.

    Attributes:
        cut: the BatchNorm study's preset that data set, epochs, batch sizes and augmentation are those of.
        train, valid: images kept, at most, for validation no more than a fifth of all; None keeps the rest.
        sizes: batch sizes, by the paper's names, from the smallest.
        decays: L2 penalties: the least shows in the norms of the weights in so many updates.
        noise: mini-batches over which the gradient's noise is measured, at most.
        seeds: seeds of every run.
    """

    cut: batchnorm.Preset
    train: int | None
    valid: int
    sizes: tuple[int, ...]
    decays: tuple[float, ...]
    noise: int
    seeds: int


PRESETS = {
    "quick": Preset(
        cut=batchnorm.PRESETS["quick"],
        train=720,
        valid=250,
        sizes=(50, 100, 400),
        decays=(0.0, 0.005, 0.02),
        noise=10,
        seeds=2,
    ),
    "small": Preset(
        cut=batchnorm.PRESETS["small"],
        train=3_500,
        valid=500,
        sizes=(50, 100, 400),
        decays=(0.0, 0.0005, 0.005),
        noise=20,
        seeds=3,
    ),
    "paper": Preset(
        cut=batchnorm.PRESETS["paper"],
        train=None,
        valid=2_500,
        sizes=(50, 100, 200, 400, 800),
        decays=(0.0, 0.0005, 0.005),
        noise=20,
        seeds=3,
    ),
}


def plan(preset: str, data: str | None, seeds: int | None, precision: Precision = "fp32") -> PresetPlan:
    """Every batch size under four controls, and every penalty on two networks.

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
    if seeds is not None and seeds < 1:
        raise ConfigError(f"--seeds: {seeds} is not possible; give 1 or more")
    chosen = PRESETS[preset]
    data = chosen.cut.data if data is None else data
    shown = plan_data(chosen, data)
    planned = plan_sizes(chosen, shown) | plan_penalties(chosen, shown)
    roles = {role: replace(run, precision=precision) for role, run in planned.items()}
    return PresetPlan(
        study="controls",
        preset=preset,
        data=data,
        precision=precision,
        title=QUESTION,
        roles=roles,
        seeds=dict.fromkeys(roles, seeds or chosen.seeds),
        notes=notes(chosen, roles[f"batch-{BASE}"]),
    )


def plan_data(preset: Preset, data: str) -> DataConfig:
    """As in the BatchNorm study, but with more validation images where there are few: they decide here."""
    whole = batchnorm.plan_data(preset.cut, data)
    valid = min(preset.valid, whole.dataset.pool // 5)
    left = whole.dataset.pool - valid
    return replace(whole, valid=valid, train=min(preset.train or left, left))


def plan_sizes(preset: Preset, data: DataConfig) -> dict[str, RunConfig]:
    """Role → run at seed 0: each batch size under each control; at the size it refers to all share a run.

    Updates are those of batch 100. Rates go down from 0.05 at the largest size: scaled up from batch 100
    they would reach 0.4, eight times the highest that the paper trains at, and fail for that alone.
    """
    shown = {f"data.{name}": value for name, value in vars(data).items()}
    base = {**shown, "net.depth": 38, "net.norm": "batch", "optim.lr": RATE, "epochs": preset.cut.epochs}

    def run(size: int, control: Mapping[str, Value]) -> RunConfig:
        reference = max(preset.sizes) if "scale_lr" in control else BASE
        of = {**base, "batch_size": reference // preset.cut.shrink}
        plain = configure(of, {**control, "batch_size": size // preset.cut.shrink})
        assert data.train is not None
        whole = min(preset.noise, data.train // plain.batch_size)
        return replace(plain, noise_batches=whole if whole > 1 else 0)

    return {
        f"{name}-{size}": run(size, control) for name, control in CONTROLS.items() for size in preset.sizes
    }


def plan_penalties(preset: Preset, data: DataConfig) -> dict[str, RunConfig]:
    """Role → run at seed 0: SGD with momentum at a constant rate, with and without BatchNorm."""
    return {
        f"{network}-l2-{decay:g}": RunConfig(
            net=net,
            data=data,
            optim=OptimConfig(name="sgd", lr=SGD_RATE, min_lr=SGD_RATE, weight_decay=decay),
            batch_size=BASE // preset.cut.shrink,
            epochs=preset.cut.epochs,
        )
        for network, net in NETWORKS.items()
        for decay in preset.decays
    }


def notes(preset: Preset, run: RunConfig) -> tuple[str, ...]:
    """How this preset departs from the paper, and what its controls are, in sentences."""
    return (
        *batchnorm.notes(preset.cut, run),
        f"Equal updates are those of batch {BASE} in {run.epochs} epochs.",
        f"Scaled rates are {RATE:g} at batch {max(preset.sizes)} and smaller below, so that none is higher "
        "than the paper's.",
        f"L2 is compared under SGD with momentum 0.9 at a constant rate of {SGD_RATE:g}: BatchNorm on every "
        "convolution, or VGG08 without BatchNorm from He initialisation.",
    )


CONTROLS_STUDY = Reproduction(
    name="controls",
    title=QUESTION,
    presets={name: preset.cut.data for name, preset in PRESETS.items()},
    plan=plan,
    parts=PARTS,
)
