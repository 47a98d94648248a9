"""Records of what was measured: plain values and arrays, no torch; each is imported when it is first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradscape.records.activations import ActivationHistory
    from gradscape.records.check import CheckRecord, Trial
    from gradscape.records.comparison import Comparison, Difference
    from gradscape.records.coordinates import CoordinateCheck
    from gradscape.records.curvature import CurvatureRecord
    from gradscape.records.diagnosis import Diagnosis, Finding, Symptom
    from gradscape.records.gradients import FlowHistory, OptimizerFacts
    from gradscape.records.landscape import LandscapeRecord
    from gradscape.records.lr_range import LrRange
    from gradscape.records.noise import NoiseRecord, RunNoise
    from gradscape.records.replay import ReplayRecord
    from gradscape.records.role import Role
    from gradscape.records.run import EpochRecord, RunRecord, StudyRecord
    from gradscape.records.signal import RunStart, SignalRecord
    from gradscape.records.smoothness import SmoothnessRecord, StepSmoothness
    from gradscape.records.spikes import Spike
    from gradscape.records.transformer import TransformerHistory

_HOMES = {
    "ActivationHistory": "activations",
    "CheckRecord": "check",
    "Comparison": "comparison",
    "CoordinateCheck": "coordinates",
    "CurvatureRecord": "curvature",
    "Diagnosis": "diagnosis",
    "Difference": "comparison",
    "EpochRecord": "run",
    "Finding": "diagnosis",
    "FlowHistory": "gradients",
    "LandscapeRecord": "landscape",
    "LrRange": "lr_range",
    "NoiseRecord": "noise",
    "OptimizerFacts": "gradients",
    "ReplayRecord": "replay",
    "Role": "role",
    "RunNoise": "noise",
    "RunRecord": "run",
    "RunStart": "signal",
    "SignalRecord": "signal",
    "SmoothnessRecord": "smoothness",
    "Spike": "spikes",
    "StepSmoothness": "smoothness",
    "StudyRecord": "run",
    "Symptom": "diagnosis",
    "TransformerHistory": "transformer",
    "Trial": "check",
}
__all__ = [
    "ActivationHistory",
    "CheckRecord",
    "Comparison",
    "CoordinateCheck",
    "CurvatureRecord",
    "Diagnosis",
    "Difference",
    "EpochRecord",
    "Finding",
    "FlowHistory",
    "LandscapeRecord",
    "LrRange",
    "NoiseRecord",
    "OptimizerFacts",
    "ReplayRecord",
    "Role",
    "RunNoise",
    "RunRecord",
    "RunStart",
    "SignalRecord",
    "SmoothnessRecord",
    "Spike",
    "StepSmoothness",
    "StudyRecord",
    "Symptom",
    "TransformerHistory",
    "Trial",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"gradscape.records.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'gradscape.records' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
