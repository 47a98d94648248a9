"""What a watch and a check say of every case and its repaired twin: detected, the kind of cause, the place.

    cd benchmarks && PYTHONPATH=../src python -m public_failures.score --seeds 3
    cd benchmarks && PYTHONPATH=../src python -m public_failures.score --check

watches each training to its end and reads the diagnosis once; or checks each before training, with its batch,
loss and optimizer, at seed 0, without trying remedies. Judgements done are in `runs/public_scores.jsonl` and
`runs/public_checks.jsonl`, one a line, and are not repeated; the table is `results/public_scores.json`. Only
cases that `survive` has found at fault are counted. `--half looked` leaves the held-out half alone.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

import gradscape as gs
from gradscape._machine import cores
from gradscape.errors import ConfigError
from gradscape.records.diagnosis import Diagnosis
from measure import RESULTS, write
from public_failures.case import Case
from public_failures.catalogue import FRESH, SETS, all_cases
from public_failures.survive import Key, read

RUNS = Path(__file__).parents[1] / "runs"
CACHE, CHECKS = RUNS / "public_scores.jsonl", RUNS / "public_checks.jsonl"
# Verdict → kinds of cause that it names; a verdict that only says that something is wrong names none.
NAMES: dict[str, tuple[str, ...]] = {
    "output does not fit the loss": ("output", "loss"),
    "output cannot reach the targets": ("output", "targets"),
    "loss does not fit the targets": ("loss", "targets", "output"),
    "unlikely loss function": ("loss", "output"),
    "shapes broadcast": ("shapes",),
    "wrong axis": ("shapes", "output"),
    "unusable labels": ("targets",),
    "imbalanced labels": ("targets",),
    "inputs out of scale": ("inputs",),
    "unscaled inputs": ("inputs",),
    "constant inputs": ("inputs", "sampling"),
    "targets out of scale": ("targets",),
    "unscaled targets": ("targets",),
    "gradients not cleared": ("loop",),
    "parameters not trained": ("untrained",),
    "parameters outside the optimizer": ("untrained",),
    "tied weights came apart": ("untrained", "architecture"),
    "unused layer": ("untrained", "architecture"),
    "frozen layer": ("untrained", "hidden", "initialization", "architecture"),
    "frozen parameters": ("untrained",),
    "loss is maximized": ("loss",),
    "loss of one sample": ("loss", "shapes"),
    "equal units": ("initialization",),
    "sigmoids between layers": ("hidden",),
    "evaluation mode": ("mode",),
    "BatchNorm of one sample": ("mode",),
    "train and eval differ": ("mode",),
    "batches not shuffled": ("sampling",),
    "target is the network itself": ("collapse", "loop"),
    "embeddings collapse": ("collapse",),
    "discriminator wins": ("collapse",),
    "channel order": ("shapes", "inputs"),
    "penalty above the loss": ("regularization",),
    "dropout hides the signal": ("regularization",),
    "learning rate is 0": ("loop", "rate"),
    "schedule": ("loop", "rate"),
    "precision loses the steps": ("precision",),
    "half precision overflows": ("precision",),
    "dead units": ("hidden", "initialization"),
    "saturated": ("hidden", "initialization"),
    "vanishing": ("hidden", "initialization", "architecture"),
    "exploding": ("initialization",),
    "initial loss too high": ("initialization",),
    "no signal from the input": ("hidden", "architecture"),
    "below the optimizer's reach": ("rate",),
    "learning rate too large": ("rate",),
    "learning rate too small": ("rate", "steps"),
    "overshooting": ("rate",),
    "too early to tell": ("steps",),
    "samples are mixed": ("shapes",),
    "reshape mixes axes": ("shapes",),
    "order is not seen": ("architecture",),
    "clipped before unscaling": ("loop", "precision"),
    "sees the future": ("leak", "architecture"),
    "no activation between layers": ("hidden", "architecture"),
    "output ignores the input": ("hidden", "architecture"),
    "refused": ("targets", "untrained"),  # labels out of range, an optimizer of another model
}


def judge(case: Case, fixed: bool, seed: int) -> dict[str, Any]:
    """Watch a training to its end and read the diagnosis."""
    torch.manual_seed(seed)
    started = time.perf_counter()
    training = case.build(fixed, seed)
    parameters = {id(p) for p in training.model.parameters()}
    made = training.optimizer if isinstance(training.optimizer, list) else [training.optimizer]
    ours = [o for o in made if any(id(p) in parameters for group in o.param_groups for p in group["params"])]
    row: dict[str, Any] = {"case": case.id, "fixed": fixed, "seed": seed}
    try:
        with gs.watch(training.model, ours or made, activations=True) as flow:
            for number in range(case.steps_of(fixed)):
                training.step(number)
        row["findings"] = said(gs.diagnose(flow))
    except ConfigError as error:  # as where the optimizer has no parameter of the model: told before a step
        row["findings"] = [["parameters not trained", "fail", "", str(error)]]
    row["seconds"] = round(time.perf_counter() - started, 2)
    return row


def said(diagnosis: Diagnosis) -> list[list[str]]:
    return [
        [each.verdict, each.grade, each.layer, f"{each.cause}; {each.remedy}"] for each in diagnosis.findings
    ]


def check(case: Case, fixed: bool, seed: int) -> dict[str, Any]:
    """Check a training before its first step; nothing is said where its loop is more than a batch."""
    torch.manual_seed(seed)
    training = case.build(fixed, seed)
    row: dict[str, Any] = {"case": case.id, "fixed": fixed, "seed": seed, "findings": []}
    started = time.perf_counter()
    if training.batch is not None:
        try:
            record = gs.check(
                training.model,
                training.batch,
                training.loss,
                training.optimizer,
                remedies=False,
                causal=case.causal,
            )
            row["findings"] = said(record.diagnosis)
        except ConfigError as error:  # as where labels are out of range, or the optimizer is of another model
            row["findings"] = [["refused", "fail", "", str(error)]]
    row["seconds"] = round(time.perf_counter() - started, 2)
    return row


Judge = Callable[[Case, bool, int], dict[str, Any]]


def both(watched: dict[Key, dict[str, Any]], checked: dict[Key, dict[str, Any]]) -> dict[Key, dict[str, Any]]:
    """Join what a watch and a check said of the same training, the check first."""
    return {
        key: {
            **row,
            "findings": [*checked[key]["findings"], *row["findings"]],
            "seconds": row["seconds"] + checked[key]["seconds"],
        }
        for key, row in watched.items()
        if key in checked
    }


def marks(case: Case, row: dict[str, Any], names: Mapping[str, tuple[str, ...]] = NAMES) -> dict[str, bool]:
    """Marks of a judgement: any fault told, a grave one, the right kind first or among them, the place.

    `names` is what the judge's verdicts name; `rivals` gives another tool's.
    """
    told = [each for each in row["findings"] if each[1] != "info"]
    kinds = [set(names.get(verdict, ())) & set(case.kinds) for verdict, *_ in told]
    text = " ".join(f"{verdict} {layer} {words}" for verdict, _, layer, words in told).lower()
    return {
        "told": bool(told),
        "fail": any(grade == "fail" for _, grade, *_ in told),
        "first": bool(kinds and kinds[0]),
        "kind": any(kinds),
        "place": bool(told) and case.place.lower() in text,
    }


def judge_missing(cases: Sequence[Case], seeds: int, cache: Path, how: Judge, workers: int) -> None:
    """Judge what the cache lacks, each in a process that lasts for some, and append each to it."""
    done = read(cache)
    cache.parent.mkdir(parents=True, exist_ok=True)
    missing = [
        (case.id, fixed, seed)
        for seed in range(seeds)
        for case in cases
        for fixed in (False, True)
        if (case.id, fixed, seed) not in done
    ]
    with multiprocessing.get_context("spawn").Pool(workers, maxtasksperchild=50) as pool:
        for row in pool.imap_unordered(partial(by_id, how), missing):
            with cache.open("a") as file:
                file.write(json.dumps(row) + "\n")


def by_id(how: Judge, key: Key) -> dict[str, Any]:
    """Judge a training in a process of its own, on one thread."""
    name, fixed, seed = key
    torch.set_num_threads(1)
    case = next(case for case in all_cases() if case.id == name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return how(case, fixed, seed)


def shares(
    cases: Iterable[Case],
    rows: dict[Key, dict[str, Any]],
    names: Mapping[str, tuple[str, ...]] = NAMES,
) -> dict[str, Any]:
    """Shares of marks over judged cases and seeds, and of twins that are called ill."""
    faulty: list[dict[str, bool]] = []
    twins: list[dict[str, bool]] = []
    seconds: list[float] = []
    known = {case.id: case for case in cases}
    for (name, fixed, _), row in rows.items():
        if name in known:
            (twins if fixed else faulty).append(marks(known[name], row, names))
            seconds.append(row["seconds"])
    if not faulty or not twins:
        return {"cases": 0}
    found = {key: sum(each[key] for each in faulty) / len(faulty) for key in faulty[0]}
    return {
        "cases": len({name for name, *_ in rows if name in known}),
        "judged": len(faulty),
        "detected": found["told"],
        "graded fail": found["fail"],
        "right kind, first finding": found["first"],
        "right kind, any finding": found["kind"],
        "right place": found["place"],
        "twins graded fail": sum(each["fail"] for each in twins) / len(twins),
        "twins told of anything": sum(each["told"] for each in twins) / len(twins),
        "seconds, median": sorted(seconds)[len(seconds) // 2],
    }


def surviving() -> set[str] | None:
    """Ids of the cases that fail beyond the noise of seeds; None where that was not found out."""
    path = RESULTS / "public_failures.json"
    if not path.exists():
        return None
    return {name for name, each in json.loads(path.read_text())["survivors"].items() if each["survives"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="*", default=SETS, choices=SETS)
    parser.add_argument("--half", choices=("looked", "held-out", "both"), default="both")
    parser.add_argument("--list", action="store_true", help="what is missed, and twins that are called ill")
    parser.add_argument("--check", action="store_true", help="judge by gs.check, before training")
    parser.add_argument("--workers", type=int, default=cores())
    given = parser.parse_args()
    kept = surviving()
    counted = [
        case for case in all_cases(given.sets)
        if (given.half == "both" or case.held_out == (given.half == "held-out"))
        and (kept is None or case.id in kept)
    ]  # fmt: skip
    if given.check:
        judge_missing(counted, 1, CHECKS, check, given.workers)
    else:
        judge_missing(counted, given.seeds, CACHE, judge, given.workers)
    watched, checked = read(CACHE), read(CHECKS)
    judged = {"watch": watched, "check": checked, "check and watch": both(watched, checked)}
    known = [case for case in counted if case.set not in FRESH]
    halves = {
        "looked at": [case for case in known if not case.held_out],
        "held out": [case for case in known if case.held_out],
        "fresh": [case for case in counted if case.set in FRESH],
    }
    table = {
        how: {half: shares(cases, rows) for half, cases in halves.items() if cases}
        for how, rows in judged.items()
    }
    print(json.dumps(table, indent=1))
    if given.list:
        show(counted, checked if given.check else watched)
    elif given.half == "both":
        write("public_scores", {"seeds": given.seeds, "scores": table})


def show(cases: Sequence[Case], rows: dict[Key, dict[str, Any]]) -> None:
    """Print what was missed, and twins that are called ill; of the half that may be looked at alone."""
    for case in cases:
        for (name, fixed, seed), row in rows.items():
            if name != case.id or case.held_out:
                continue
            found = marks(case, row)
            wrong = found["fail"] if fixed else not found["kind"]
            if wrong:
                told = [f"{verdict} {layer}".strip() for verdict, _, layer, _ in row["findings"]]
                print("TWIN" if fixed else "case", case.id, seed, case.kinds, case.fault[:90], "->", told)


if __name__ == "__main__":
    main()
