"""Engine of studies: plan the runs, have them done, write the report.

A study of your own imports from here alone; `examples/own_study.py` is one.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradscape.analysis.claims import Claim, Evidence, above, below, differences, equivalent
    from gradscape.analysis.evidence import beats, equals, finals, oftener, trains
    from gradscape.config.network import NetConfig
    from gradscape.config.run import DataConfig, OptimConfig, RunConfig
    from gradscape.records.role import Role
    from gradscape.records.run import RunRecord, StudyRecord
    from gradscape.report.build import Page, ReportParts
    from gradscape.report.figures.base import Figure
    from gradscape.report.figures.curves import both_splits, one_split
    from gradscape.report.figures.gradient_flow import flow_figure
    from gradscape.report.pages.overview import Overview
    from gradscape.report.table_cells import ours, seeds_ended, with_interval
    from gradscape.report.tables import Table
    from gradscape.study.execution_options import Execution
    from gradscape.study.presets import Preset, based_on
    from gradscape.study.reproduction import Reproduction

_HOMES = {
    "gradscape.analysis.claims": ("Claim", "Evidence", "above", "below", "differences", "equivalent"),
    "gradscape.analysis.evidence": ("beats", "equals", "finals", "oftener", "trains"),
    "gradscape.config.network": ("NetConfig",),
    "gradscape.config.run": ("DataConfig", "OptimConfig", "RunConfig"),
    "gradscape.records.role": ("Role",),
    "gradscape.records.run": ("RunRecord", "StudyRecord"),
    "gradscape.report.build": ("Page", "ReportParts"),
    "gradscape.report.figures.base": ("Figure",),
    "gradscape.report.figures.curves": ("both_splits", "one_split"),
    "gradscape.report.figures.gradient_flow": ("flow_figure",),
    "gradscape.report.pages.overview": ("Overview",),
    "gradscape.report.table_cells": ("ours", "seeds_ended", "with_interval"),
    "gradscape.report.tables": ("Table",),
    "gradscape.study.execution_options": ("Execution",),
    "gradscape.study.presets": ("Preset", "based_on"),
    "gradscape.study.reproduction": ("Reproduction",),
}
__all__ = [
    "Claim",
    "DataConfig",
    "Evidence",
    "Execution",
    "Figure",
    "NetConfig",
    "OptimConfig",
    "Overview",
    "Page",
    "Preset",
    "ReportParts",
    "Reproduction",
    "Role",
    "RunConfig",
    "RunRecord",
    "StudyRecord",
    "Table",
    "above",
    "based_on",
    "beats",
    "below",
    "both_splits",
    "differences",
    "equals",
    "equivalent",
    "finals",
    "flow_figure",
    "oftener",
    "one_split",
    "ours",
    "seeds_ended",
    "trains",
    "with_interval",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'gradscape.study' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
