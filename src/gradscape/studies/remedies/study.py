"""Every remedy of the literature, compared: does BatchNorm do more than repair the initialisation?"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gradscape.config.run import DataConfig, OptimConfig, RunConfig
from gradscape.studies.batchnorm.study import BATCHNORM
from gradscape.studies.remedies.report import PARTS, QUESTION
from gradscape.studies.remedies.roles import BASE, KEY, REMEDIES, at
from gradscape.study.presets import Preset, apart, based_on, whole
from gradscape.study.reproduction import Reproduction

BATCH = 100  # the paper's, as is all else that a remedy does not change


@dataclass(frozen=True)
class _RemediesPreset(Preset):
    """How far the study is cut down.

    Attributes:
        rates: learning rates that each remedy is tried at, beside the paper's.
        key_rates: and those that the key roles alone are.
    """

    rates: tuple[float, ...]
    key_rates: tuple[float, ...]


QUICK, SMALL, PAPER = (BATCHNORM.presets[name] for name in ("quick", "small", "paper"))
# Few images for curvature and landscape in the small ones: so many networks would take days.
PRESETS = {
    "quick": based_on(QUICK, _RemediesPreset, landscape=20, keep_every=0, rates=(0.01,), key_rates=(0.0001,)),
    "small": based_on(
        SMALL,
        _RemediesPreset,
        epochs=5,
        shrink=10,
        train=2_500,
        curvature=20,
        landscape=60,
        keep_every=0,
        why="to run in two to three hours on two cores",
        rates=(0.01,),
        key_rates=(0.0001,),
    ),
    "paper": based_on(PAPER, _RemediesPreset, rates=(0.0001, 0.0005, 0.005, 0.01, 0.05), key_rates=()),
}


def _roles(preset: _RemediesPreset, data: DataConfig) -> dict[str, RunConfig]:
    """Role → run at seed 0: each remedy at the paper's learning rate, measured within; then at others."""
    found = {}
    for role, remedy in REMEDIES.items():
        plain = RunConfig(
            net=remedy.net,
            data=data,
            optim=OptimConfig(lr=BASE),
            batch_size=BATCH // preset.shrink,
            epochs=preset.epochs,
        )
        found[role] = replace(
            plain,
            smoothness_every=apart(plain, preset.measures),
            curvature_images=whole(preset.curvature, plain),
            landscape_images=whole(preset.landscape, plain),
            keep_every=preset.keep_every,
        )
        for rate in (*preset.rates, *(preset.key_rates if role in KEY else ())):
            found[at(role, rate)] = replace(plain, optim=OptimConfig(lr=rate))
    # What claims rest on comes first, other learning rates last.
    return {role: found[role] for role in sorted(found, key=lambda role: ("@" in role, role not in KEY))}


REMEDIES_STUDY = Reproduction(
    name="remedies",
    title=QUESTION,
    presets=PRESETS,
    roles=_roles,
    key=KEY,
    parts=PARTS,
)
