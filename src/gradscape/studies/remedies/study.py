"""Study of every remedy of the literature: does BatchNorm do more than repair the initialization?"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gradscape.config.run import DataConfig, OptimConfig, RunConfig
from gradscape.records.role import Role
from gradscape.studies.batchnorm.study import BATCHNORM
from gradscape.studies.remedies.report import PARTS, QUESTION
from gradscape.studies.remedies.roles import BASE, CORE, KEY, REMEDIES, role_of
from gradscape.study.presets import FULL_SIZE, Preset, based_on, choose_interval, round_to_batches
from gradscape.study.reproduction import Reproduction

BATCH = 100  # batch size of the paper; whatever a remedy does not change is the paper's


@dataclass(frozen=True)
class _RemediesPreset(Preset):
    """Numbers that reduce the study.

    Attributes:
        rates: Learning rates that each remedy is tried at, beside the paper's.
        key_rates: Learning rates that only the key roles are tried at.
        remedies: Names of the remedies.
    """

    rates: tuple[float, ...]
    key_rates: tuple[float, ...]
    remedies: tuple[str, ...] = tuple(REMEDIES)


QUICK, SMALL, PAPER = (BATCHNORM.presets[name] for name in ("quick", "small", "paper"))
# Few images for curvature and landscape in the small ones: so many networks would take days.
PRESETS = {
    "quick": based_on(
        QUICK,
        _RemediesPreset,
        **FULL_SIZE,
        epochs=6,
        shrink=5,
        curvature=20,
        key_seeds=2,
        landscape=20,
        keep_every=0,
        rates=(0.01,),
        key_rates=(0.0001,),
    ),
    # The BatchNorm study's images, size and epochs, so that the two compare.
    "small": based_on(SMALL, _RemediesPreset, rates=(), key_rates=(), remedies=CORE),
    "paper": based_on(PAPER, _RemediesPreset, rates=(0.0001, 0.0005, 0.005, 0.01, 0.05), key_rates=()),
}


def _roles(preset: _RemediesPreset, data: DataConfig) -> dict[Role, RunConfig]:
    """Role → run at seed 0: each remedy at the paper's learning rate, measured within; then at others."""
    runs = {}
    for name in preset.remedies:
        net = REMEDIES[name].net
        plain = RunConfig(
            net=replace(net, filters=preset.filters) if net.family == "vgg" else net,
            data=data,
            optim=OptimConfig(lr=BASE),
            batch_size=BATCH // preset.shrink,
            epochs=preset.epochs,
        )
        runs[role_of(name)] = replace(
            plain,
            smoothness_every=choose_interval(plain, preset.measures),
            curvature_images=round_to_batches(preset.curvature, plain),
            landscape_images=round_to_batches(preset.landscape, plain),
            keep_every=preset.keep_every,
        )
        for rate in (*preset.rates, *(preset.key_rates if name in KEY else ())):
            runs[role_of(name, rate)] = replace(plain, optim=OptimConfig(lr=rate))
    # Roles that claims rest on come first, other learning rates last.
    order = sorted(runs, key=lambda role: (role.parameters["lr"] != BASE, role.name not in KEY))
    return {role: runs[role] for role in order}


REMEDIES_STUDY = Reproduction(
    name="remedies",
    title=QUESTION,
    presets=PRESETS,
    roles=_roles,
    key=KEY,
    parts=PARTS,
)
