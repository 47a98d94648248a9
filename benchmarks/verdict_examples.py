"""A public training failure for each verdict: what a check or a watch says of it, and of its repaired twin.

    python benchmarks/verdict_examples.py

goes through the cases that were looked at when limits were set, those with the fewest steps first: each is
checked, then trained to its end under a watch, at seed 0. The first case that is found by a verdict which
names its kind of cause is the verdict's example. What is written to `results/verdict_examples.json` is the
text that a user would read; the documentation shows it. Some 20 minutes of one core.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from public_failures.case import Case, Training
from public_failures.catalogue import all_cases
from public_failures.score import NAMES, surviving

import gradscape as gs
from gradscape.errors import ConfigError
from gradscape.records.check import CheckRecord
from gradscape.records.diagnosis import GRADES, Diagnosis
from measure import write


def built(case: Case, fixed: bool) -> Training:
    """A case's training, or its twin's, at seed 0."""
    torch.manual_seed(0)
    return case.build(fixed, 0)


def checked(case: Case, fixed: bool, remedies: bool = False) -> CheckRecord | None:
    """What a check says before training; None where the report's loop is more than a batch."""
    training = built(case, fixed)
    if training.batch is None:
        return None
    try:
        return gs.check(
            training.model,
            training.batch,
            training.loss,
            training.optimizer,
            remedies=remedies,
            causal=case.causal,
        )
    except ConfigError:  # labels that are out of range, or an optimizer of another model
        return None


def by_check(case: Case, fixed: bool) -> Diagnosis | None:
    record = checked(case, fixed)
    return record.diagnosis if record else None


def by_watch(case: Case, fixed: bool) -> Diagnosis | None:
    """What a watch says after the whole training."""
    training = built(case, fixed)
    parameters = {id(p) for p in training.model.parameters()}
    made = training.optimizer if isinstance(training.optimizer, list) else [training.optimizer]
    ours = [o for o in made if any(id(p) in parameters for group in o.param_groups for p in group["params"])]
    try:
        with gs.watch(training.model, ours or made, activations=True) as flow:
            for number in range(case.steps_of(fixed)):
                training.step(number)
        return gs.diagnose(flow)
    except ConfigError:
        return None


How = Callable[[Case, bool], Diagnosis | None]


def examples_in(case: Case, diagnosis: Diagnosis) -> dict[str, str]:
    """Text per verdict that names one of the case's kinds of cause."""
    right = [each for each in diagnosis.findings if set(NAMES.get(each.verdict, ())) & set(case.kinds)]
    return {each.verdict: str(each) for each in right}


def example(case: Case, text: str, by: str, how: How) -> dict[str, Any]:
    """An example as it is kept, with what is said of the twin, and the remedies that a check tries."""
    twin = how(case, True)
    row = {
        "case": case.id,
        "fault": case.fault,
        "cure": case.cure,
        "by": by,
        "steps": case.steps,
        "text": text,
        "twin": [each.verdict for each in twin.findings] if twin else None,
    }
    record = checked(case, False, remedies=True)
    if record is not None and record.remedies:
        row["tried"] = [[heading, [str(trial) for trial in trials]] for heading, trials in record.by_effect()]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="after which no further case is begun")
    minutes = parser.parse_args().minutes
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    kept, began = surviving(), time.perf_counter()
    cases = sorted(
        (case for case in all_cases() if not case.held_out and (kept is None or case.id in kept)),
        key=lambda case: case.steps,
    )
    found: dict[str, dict[str, Any]] = {}
    for by, how in (("check", by_check), ("watch", by_watch)):
        for case in cases:
            wanted = {verdict for verdict, kinds in NAMES.items() if set(kinds) & set(case.kinds)} - set(
                found
            )
            if not wanted or time.perf_counter() - began > 60 * minutes:
                continue
            diagnosis = how(case, False)
            for verdict, text in (examples_in(case, diagnosis) if diagnosis else {}).items():
                if verdict in wanted:
                    found[verdict] = example(case, text, by, how)
                    print(f"{time.perf_counter() - began:.0f} s: {verdict}: {case.id} by {by}", flush=True)
    write("verdict_examples", {"examples": {name: found[name] for name in GRADES if name in found}})


if __name__ == "__main__":
    main()
