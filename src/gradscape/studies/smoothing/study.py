"""Study of smoothness: does BatchNorm smooth the loss of networks that train without it?"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gradscape.config.run import DataConfig, OptimConfig, RunConfig
from gradscape.records.role import Role
from gradscape.studies.batchnorm.study import BATCHNORM
from gradscape.studies.smoothing.report import PARTS, QUESTION
from gradscape.studies.smoothing.roles import BASE, DEFAULT_PAIR, NETWORKS, PAIRS, STARTS, Network, role_of
from gradscape.study.presets import Preset, based_on, choose_interval, round_to_batches
from gradscape.study.reproduction import Reproduction

BATCH = 100  # batch size of the paper


@dataclass(frozen=True, kw_only=True)
class _SmoothingPreset(Preset):
    """Numbers that reduce the study.

    Attributes:
        rates: Learning rates of every network that is compared at its best one, rising.
    """

    rates: tuple[float, ...] = (0.0003, BASE, 0.003, 0.01)


SMALL, PAPER = (BATCHNORM.presets[name] for name in ("small", "paper"))
PRESETS = {
    "quick": _SmoothingPreset(
        data="digits",
        size=8,
        filters=16,
        epochs=10,
        shrink=2,
        train=1_000,
        valid=75,
        augment=False,
        measures=200,  # at every step: at 0.01 a network is between guessing and having learned for ten
        curvature=50,
        landscape=0,
        keep_every=0,
        seeds=3,
        key_seeds=3,
        together=6,
        rates=(BASE, 0.003, 0.01),
        why="to run in minutes on two cores",
    ),
    "small": based_on(
        SMALL,
        _SmoothingPreset,
        landscape=0,
        keep_every=0,
        # So that all learn: augmented, VGG20 without a norm takes 15 epochs to 0.8 of guessing's loss; so, 9.
        augment=False,
        epochs=25,
        measures=90,
        curvature=50,
        rates=(BASE, 0.003),
    ),
    "paper": based_on(PAPER, _SmoothingPreset, landscape=0, keep_every=0),
}


def _roles(preset: _SmoothingPreset, data: DataConfig) -> dict[Role, RunConfig]:
    """Role → run at seed 0: every network at the paper's rate, then those of `NETWORKS` at the others."""

    def run(network: Network, rate: float) -> RunConfig:
        plain = RunConfig(
            net=replace(network.net, filters=preset.filters),
            data=data,
            optim=OptimConfig(lr=rate),
            batch_size=BATCH // preset.shrink,
            epochs=preset.epochs,
        )
        # At every rate: which is the best of a network is known only afterwards.
        return replace(
            plain,
            smoothness_every=choose_interval(plain, preset.measures),
            curvature_images=round_to_batches(preset.curvature, plain),
        )

    same = {role_of(name): run(network, BASE) for name, network in (STARTS | NETWORKS).items()}
    others = {
        role_of(name, rate): run(network, rate)
        for rate in preset.rates
        if rate != BASE
        for name, network in NETWORKS.items()
    }
    return same | others


def _notes(preset: _SmoothingPreset) -> tuple[str, ...]:
    """Sentences on the networks."""
    return (
        "BatchNorm follows every convolution. Weights are LSUV's (Mishkin & Matas 2016), from which the "
        "networks train without a norm too, or, where it says so, PyTorch's default.",
    )


SMOOTHING_STUDY = Reproduction(
    name="smoothing",
    title=QUESTION,
    presets=PRESETS,
    roles=_roles,
    key=(*DEFAULT_PAIR, *(role for pair in PAIRS for role in pair)),
    parts=PARTS,
    notes=_notes,
)
