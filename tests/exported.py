"""A tracker that gives back a study: every run that has begun, each value of it once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gradscape.config.run import RunConfig
from gradscape.integrations.export import epoch_rows, result_rows
from gradscape.storage.run_folder import RunFolder
from gradscape.storage.study_folder import StudyFolder


@dataclass
class Found:
    """What a tracker gives back of a run."""

    values: list[tuple[str, int, float]] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    state: str = ""
    group: str = ""


def expected(folder: RunFolder) -> dict[tuple[str, int], float]:
    """What a tracker is to hold of a run."""
    rows = [
        *epoch_rows(folder.epochs(), folder.flow(), 0.0),
        *result_rows(folder.status().get("test", {}), 0.0),
    ]
    return {(name, row.epoch): value for row in rows for name, value in row.values.items()}


def assert_holds(found: dict[str, Found], study: Path, runs: dict[str, RunConfig]) -> None:
    """Every run that has begun, each value of it once."""
    begun = {c.identity for word, c in runs.items() if word not in ("new", "absent")}
    assert found.keys() == begun
    for identity, run in found.items():
        folder = StudyFolder(study).run(identity)
        assert max(Counter((name, step) for name, step, _ in run.values).values()) == 1
        values = {(name, step): value for name, step, value in run.values}
        truth = expected(folder)
        assert values.keys() == truth.keys()
        for key, value in truth.items():
            assert np.isclose(values[key], value, rtol=1e-6, atol=0), key  # TensorBoard's are float32
        assert run.group == "batchnorm"
