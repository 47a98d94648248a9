"""Page on a watched training or a run: verdict, evidence and figures, without scripts and requests."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradscape.analysis.outcomes import task
from gradscape.measure.diagnose.from_run import recorded
from gradscape.records.diagnosis import Diagnosis
from gradscape.records.gradients import FlowHistory
from gradscape.records.run import RunRecord
from gradscape.report.figures.base import Figure
from gradscape.report.figures.curves import Series, curves
from gradscape.report.figures.style import LOOKS
from gradscape.report.figures.watch import figures
from gradscape.report.pages.verdict import rendered

SPLITS = {"train": "training", "valid": "validation"}


def watch_page(history: FlowHistory, diagnosis: Diagnosis) -> str:
    """Return the page's text; the same arguments give the same text.

    Args:
        history: Rows of the watch.
        diagnosis: Diagnosis of the rows.
    """
    return _page(history, diagnosis, figures(history, diagnosis))


def run_page(run: RunRecord, diagnosis: Diagnosis) -> str:
    """Return the page of a run: the verdict, its curves, and its gradients epoch by epoch.

    Args:
        run: Record with one epoch at least.
        diagnosis: Diagnosis of the run.
    """
    history = recorded(run)
    words = [run.identity, run.state, f"{len(run.epochs)} of {run.config['epochs']} epochs"]
    words += [
        f"test accuracy {result['accuracy']:.3f} ({which} weights)" for which, result in run.test.items()
    ]
    return _page(history, diagnosis, [*_curves(run), *figures(history, diagnosis)], *words)


def _page(history: FlowHistory, diagnosis: Diagnosis, drawn: Sequence[Figure], *words: str) -> str:
    return rendered("watched.html.j2", diagnosis, drawn, history=history, table=_rows(history), words=words)


def _curves(run: RunRecord) -> list[Figure]:
    """Accuracy and loss over the epochs, of training and validation images."""
    cut, guess = (run.state in ("diverged", "stopped"),), 1 / task(run)[0]
    found = []
    for what, level in (("accuracy", guess), ("loss", -math.log(guess))):
        series = [
            Series(label, (run.curve(f"{split}_{what}"),), cut, look)
            for look, (split, label) in zip(LOOKS, SPLITS.items(), strict=False)
        ]
        drawing = curves(series, what, reference=("guessing", level))
        caption = f"{what.capitalize()} after each epoch; of training images the mean over the epoch."
        found.append(Figure(what, what.capitalize(), caption, "Training", drawing))
    return found


def _rows(history: FlowHistory) -> list[tuple[str, str, str, str, str]]:
    """Rows of each parameter tensor at the last step: name, elements, mean |∂L/∂W|, RMS, ‖ΔW‖/‖W‖."""
    if not len(history.steps):
        return []
    update = history.relative_update
    return [
        (
            name,
            f"{history.sizes[column]:,}",
            *(f"{values[-1, column]:.2e}" for values in (history.mean_abs, history.rms, update)),
        )  # type: ignore[misc]
        for column, name in enumerate(history.layers)
    ]
