"""Whether alerts cry wolf, and whether trainings that fail give theirs: `gs.watch(..., on_finding=…)`.

The networks of `healthy_nets` are trained with AdamW; one counts as healthy if its loss falls below 0.6 of
guessing's, or of its first where that is less, within 400 steps. Each is diagnosed at every moment that
`measure/watch/moments.py` names, as if diagnosing took no time, so that the result is no matter of the
machine: after 20, 50 and 100 steps, then every 100, and 50 after one with a finding that is not told yet. The
failing cases and their repaired twins are those of a folder of files with `build(fixed)` and `STEPS`; a
failing one is trained until its first alert of grade fail, or to its end.

    python benchmarks/alerts.py --cases DIR    # some ten minutes on a core; writes results/alerts.json
"""

from __future__ import annotations

import argparse
import importlib.util
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from healthy_nets import written_by_hand

import gradscape as gs
from gradscape.measure.core.batch import Batch
from gradscape.measure.watch.alerts import AlertOptions, Alerts
from gradscape.measure.watch.watch import Watch
from gradscape.records.alert import Alert
from gradscape.records.diagnosis import Diagnosis
from gradscape.records.gradients import FlowHistory
from gradscape.train.process import prepare_process
from measure import write

STEPS, LEARNT, SPAN = 400, 0.6, 20
RATES = (1e-3, 3e-3)  # tried in order until one trains
TWIN_STEPS = 600  # of a repaired twin, at most


class Listener:
    """Alerts of a watch at every moment, whatever a diagnosis costs, and what was told at each of them."""

    def __init__(self, flow: Watch) -> None:
        self.moments: list[tuple[int, list[str]]] = []
        self.flow, self.seconds = flow, 0.0
        self.alerts = Alerts(flow, self.diagnose, AlertOptions(alert_on="warn"), clock=lambda: 0.0)
        flow.on_step(self.alerts.after_step)

    def diagnose(self, history: FlowHistory) -> Diagnosis:
        start = time.perf_counter()
        diagnosis = gs.diagnose(history)
        self.seconds += time.perf_counter() - start
        self.moments.append(
            (self.flow.steps, [each.verdict for each in diagnosis.findings if each.grade == "fail"])
        )
        return diagnosis

    @property
    def fails(self) -> list[Alert]:
        return [alert for alert in self.alerts.told if alert.grade == "fail"]

    def row(self) -> dict[str, Any]:
        told = [
            {"step": alert.step, "grade": alert.grade, "verdict": alert.verdict} for alert in self.alerts.told
        ]
        return {
            "told": told,
            "diagnoses": len(self.moments),
            # What one diagnosis alone would have told, at any moment: what standing in two spares.
            "fails_unconfirmed": sorted({verdict for _, verdicts in self.moments for verdict in verdicts}),
            "ms_per_diagnosis": 1e3 * self.seconds / max(1, len(self.moments)),
        }


def healthy(model: Any) -> dict[str, Any]:
    """A network, trained with the first rate at which it learns."""
    row: dict[str, Any] = {}
    for rate in RATES:
        torch.manual_seed(0)
        net = model.make()
        optimizer = torch.optim.AdamW(net.parameters(), lr=rate)
        generator, losses = torch.Generator().manual_seed(0), []
        with gs.watch(net, optimizer) as flow:
            listener = Listener(flow)
            for _ in range(STEPS):
                batch = Batch.of(model.task.draw(generator))
                loss = batch.loss(model.task.loss, batch.output(net))
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                losses.append(loss.item())
        learns = sum(losses[-SPAN:]) / SPAN < LEARNT * min(losses[0], model.task.guessing)
        row = {"model": model.name, "lr": rate, "steps": STEPS, "learns": learns, **listener.row()}
        if learns:
            break
    return row


def case(path: Path, fixed: bool) -> dict[str, Any]:
    """A case, or its repaired twin."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    build: Callable[[bool], Any] = module.build
    model, optimizer, step, _ = build(fixed)
    steps = min(module.STEPS, TWIN_STEPS) if fixed else module.STEPS
    done = 0
    with gs.watch(model, optimizer) as flow:
        listener = Listener(flow)
        while done < steps and (fixed or not listener.fails):
            step(done)
            done += 1
    return {"case": path.stem, "steps": done, **listener.row()}


def is_told(row: dict[str, Any], grade: str) -> bool:
    return any(each["grade"] == grade for each in row["told"])


def counts(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of some trainings, how many told a fail, and how many a warning."""
    return {
        "trainings": len(rows),
        "fail": sum(is_told(row, "fail") for row in rows),
        "warn": sum(is_told(row, "warn") for row in rows),
        "fail_unconfirmed": sum(bool(row["fails_unconfirmed"]) for row in rows),
        "diagnoses": sum(row["diagnoses"] for row in rows),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    prepare_process(threads=1)
    well = []
    for model in written_by_hand():
        well.append(healthy(model))
        print(well[-1], flush=True)
    paths = sorted(arguments.cases.glob("[0-9]*.py")) if arguments.cases else []
    failing, repaired = [], []
    for path in paths:
        failing.append(case(path, fixed=False))
        print("failing", failing[-1], flush=True)
    for path in paths:
        repaired.append(case(path, fixed=True))
        print("repaired", repaired[-1], flush=True)
    learnt = [row for row in well if row["learns"]]
    write("alerts", {
        "scores": {"healthy": counts(learnt), "failing": counts(failing), "repaired": counts(repaired)},
        "healthy": well, "failing": failing, "repaired": repaired,
    })  # fmt: skip


if __name__ == "__main__":
    main()
