"""Controls of the paper's sweeps: batch sizes at equal updates and scaled rates, L2 under BatchNorm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gradscape.config.network import NetConfig
from gradscape.config.paths import Value
from gradscape.config.run import DataConfig, OptimConfig, RunConfig
from gradscape.records.role import Role
from gradscape.studies.batchnorm.roles import sized
from gradscape.studies.batchnorm.study import BATCHNORM
from gradscape.studies.controls.report import PARTS, QUESTION
from gradscape.studies.controls.roles import BASE, CONTROLS, SGD_RATE, penalized
from gradscape.study.presets import FULL_SIZE, Preset, based_on
from gradscape.study.reproduction import Reproduction
from gradscape.study.sweep.batch_size_controls import configure

RATE = 0.05  # of the paper's sweep over batch sizes, Table 2
FASTER = (4, 8)  # times SGD_RATE, without L2: the effective rate under L2 lies between them
SETTINGS: Mapping[str, Mapping[str, Value]] = {
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
class _ControlsPreset(Preset):
    """Numbers that reduce the study.

    Attributes:
        sizes: Batch sizes, by the paper's names, from the smallest.
        decays: L2 penalties; the least shows in the norms of the weights within the run.
        noise: Number of mini-batches over which the gradient's noise is measured, at most.
    """

    sizes: tuple[int, ...]
    decays: tuple[float, ...]
    noise: int


SIZES, DECAYS = (50, 100, 400), (0.0, 0.0005, 0.005)
UNMEASURED = {"measures": 0, "curvature": 0, "landscape": 0, "keep_every": 0}
QUICK, SMALL, PAPER = (BATCHNORM.presets[name] for name in ("quick", "small", "paper"))
PRESETS = {
    "quick": based_on(
        QUICK,
        _ControlsPreset,
        **UNMEASURED,
        **FULL_SIZE,
        epochs=6,
        shrink=5,
        key_seeds=2,
        train=720,
        valid=250,  # validation accuracy decides here
        seeds=2,
        sizes=SIZES,
        decays=(0.0, 0.005, 0.02),
        noise=10,
    ),
    "small": based_on(
        SMALL,
        _ControlsPreset,
        **UNMEASURED,
        **FULL_SIZE,
        epochs=6,
        shrink=5,
        train=3_500,
        valid=500,
        sizes=SIZES,
        decays=DECAYS,
        noise=20,
        why="to run in some hours on two cores",
    ),
    "paper": based_on(
        PAPER, _ControlsPreset, **UNMEASURED, sizes=(50, 100, 200, 400, 800), decays=DECAYS, noise=20
    ),
}


def _roles(preset: _ControlsPreset, data: DataConfig) -> dict[Role, RunConfig]:
    """Role → run at seed 0: every batch size under four controls, and every penalty on two networks."""
    return _plan_sizes(preset, data) | _plan_penalties(preset, data)


def _plan_sizes(preset: _ControlsPreset, data: DataConfig) -> dict[Role, RunConfig]:
    """Role → run at seed 0: each batch size under each control; at the reference size all share a run.

    Updates are those of batch 100. Rates go down from 0.05 at the largest size: scaled up from batch 100
    they would reach 0.4, eight times the highest that the paper trains at, and fail for that alone.
    """
    shown = {f"data.{name}": value for name, value in vars(data).items()}
    base = {**shown, "net.depth": 38, "net.norm": "batch", "optim.lr": RATE, "epochs": preset.epochs}

    def run(size: int, control: Mapping[str, Value]) -> RunConfig:
        reference = max(preset.sizes) if "scale_lr" in control else BASE
        of = {**base, "batch_size": reference // preset.shrink}
        plain = configure(of, {**control, "batch_size": size // preset.shrink})
        assert data.train is not None
        whole = min(preset.noise, data.train // plain.batch_size)
        return replace(plain, noise_batches=whole if whole > 1 else 0)

    return {
        sized(name, size, size // preset.shrink, CONTROLS[name]): run(size, control)
        for name, control in SETTINGS.items()
        for size in preset.sizes
    }


def _plan_penalties(preset: _ControlsPreset, data: DataConfig) -> dict[Role, RunConfig]:
    """Role → run at seed 0: SGD with momentum at a constant rate, with and without BatchNorm.

    With BatchNorm there are also runs without a penalty at higher rates: K4 compares the largest penalty with
    them at its effective rate.
    """

    def run(network: str, decay: float, rate: float) -> RunConfig:
        return RunConfig(
            net=NETWORKS[network],
            data=data,
            optim=OptimConfig(name="sgd", lr=rate, min_lr=rate, weight_decay=decay, decayed="weights"),
            batch_size=BASE // preset.shrink,
            epochs=preset.epochs,
        )

    planned = [(network, decay, SGD_RATE) for network in NETWORKS for decay in preset.decays]
    planned += [("bn", 0.0, SGD_RATE * times) for times in FASTER]
    return {penalized(*values): run(*values) for values in planned}


def _notes(preset: _ControlsPreset) -> tuple[str, ...]:
    """Sentences on the controls."""
    return (
        f"Equal updates are those of batch {BASE} in {preset.epochs} epochs.",
        f"Scaled rates are {RATE:g} at batch {max(preset.sizes)} and smaller below, so that none is higher "
        "than the paper's.",
        f"L2 is compared under SGD with momentum 0.9 at a constant rate of {SGD_RATE:g}: BatchNorm on every "
        "convolution, or VGG08 without BatchNorm from He initialization.",
    )


CONTROLS_STUDY = Reproduction(
    name="controls",
    title=QUESTION,
    presets=PRESETS,
    roles=_roles,
    key=(f"batch-{BASE}",),
    parts=PARTS,
    notes=_notes,
)
