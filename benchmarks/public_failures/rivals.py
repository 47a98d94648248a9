"""Marks of living PyTorch tools on the rebuilt public failures, beside those published of Keras tools.

    cd benchmarks && PYTHONPATH=../src python -m public_failures.rivals

needs an environment that has the tools beside PyTorch, and scikit-learn and transformers, of which some
cases are made: torchtest2, torchmortem, guardtower, torch-audit, neural-net-checklist, traintools and
trainpulse, as `pip` names them; those that `--tools` names are enough. How each is used is said in
`rival_checks` and `rival_watches`; which kinds of cause its messages name, in `rival_names`. Each judgement
runs at seed 0 in a process of its own. Judgements done are in `runs/public_rivals.jsonl`, one a line, and are
not repeated; `results/public_rivals.json` is the table, of the cases that `survive` has found at fault. A
half enters it once all its cases and twins are judged; a tool of which no half is stays there as it was.
`--half held-out` leaves the half looked at alone; `--table` judges nothing. A case that a tool cannot run on
counts as not detected.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import signal
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from measure import RESULTS, machine, write
from public_failures import rival_names
from public_failures.case import Case
from public_failures.catalogue import FRESH, all_cases
from public_failures.rival_checks import Said, checklist, guardtower, silent, torchtest2
from public_failures.rival_names import Names
from public_failures.rival_watches import torch_audit, torchmortem, trainpulse, traintools
from public_failures.score import shares, surviving
from public_failures.survive import Key, read

CACHE = Path(__file__).parents[1] / "runs" / "public_rivals.jsonl"
PUBLISHED = Path(__file__).with_name("published.json")
SEED = 0


@dataclass(frozen=True)
class Rival:
    """A living tool: its module, what judges a training with it, the kinds that its messages name."""

    module: str
    judge: Callable[[Case, bool, int], list[Said]]
    names: Names


RIVALS = {
    "torchtest2": Rival("torchtest2", torchtest2, rival_names.TORCHTEST2),
    "guardtower": Rival("guardtower", guardtower, rival_names.GUARDTOWER),
    "trainpulse": Rival("trainpulse", trainpulse, rival_names.TRAINPULSE),
    "torch-audit": Rival("torch_audit", torch_audit, rival_names.TORCH_AUDIT),
    "torchmortem": Rival("torchmortem", torchmortem, rival_names.TORCHMORTEM),
    "traintools": Rival("traintools", traintools, rival_names.TRAINTOOLS),
    "neural-net-checklist": Rival("neural_net_checklist.torch_diagnostics", checklist, rival_names.CHECKLIST),
}


def judge(rival: Rival, case: Case, fixed: bool, patience: int, sender: Connection) -> None:
    """Judge a training and send what the tool said, or why it said nothing, and processor seconds."""
    resource.setrlimit(resource.RLIMIT_CPU, (patience, patience + 1))
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    started = time.process_time()
    row: dict[str, Any] = {"findings": []}
    try:
        with silent(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            row["findings"] = [list(each) for each in rival.judge(case, fixed, SEED)]
    except Exception as error:  # a tool that breaks down is a result
        row["failed"] = f"{type(error).__name__}: {error}"[:300]
    row["seconds"] = round(time.process_time() - started, 2)
    sender.send(row)


def judged(tool: str, case: Case, fixed: bool, patience: int) -> dict[str, Any]:
    """Judge in a process of its own, which ends after `patience` processor seconds.

    Not seconds of the clock, for what a busy machine holds up not to count as a tool that cannot run.
    """
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    process = fork.Process(target=judge, args=(RIVALS[tool], case, fixed, patience, sender))
    process.start()
    sender.close()
    try:
        row = receiver.recv()
    except EOFError:
        process.join()
        late = process.exitcode == -signal.SIGXCPU
        why = f"no answer in {patience} s" if late else f"the process died: {process.exitcode}"
        row = {"findings": [], "failed": why, "seconds": patience}
    process.join()
    if row.get("failed", "").startswith("ModuleNotFoundError"):  # the environment's fault, not the tool's
        raise SystemExit(f"Expected all that {case.id} imports; received {row['failed']}; install it.")
    known = {"tool": tool, "version": metadata.version(tool), "case": case.id, "fixed": fixed, "seed": SEED}
    return known | row


def read_of(tool: str, cache: Path) -> dict[Key, dict[str, Any]]:
    """Read a tool's judgements done."""
    return read(cache, lambda row: row["tool"] == tool)


def judge_missing(tools: Sequence[str], cases: Sequence[Case], patience: int, cache: Path) -> None:
    """Judge what the cache lacks, a tool after the other, and append each to it."""
    for tool in tools:
        import_module(RIVALS[tool].module)  # here, for a judgement's seconds not to be those of an import
    cases[0].build(False, SEED)
    cache.parent.mkdir(parents=True, exist_ok=True)
    for tool in tools:
        done = read_of(tool, cache)
        for case in cases:
            for fixed in (False, True):
                if (case.id, fixed, SEED) not in done:
                    row = judged(tool, case, fixed, patience)
                    with cache.open("a") as file:
                        file.write(json.dumps(row) + "\n")
        print(tool, "done", flush=True)


def table_of(tool: str, cases: Sequence[Case], rows: dict[Key, dict[str, Any]]) -> dict[str, Any]:
    """Marks of a tool, of those halves, looked at and held out, that are judged to the end."""
    halves = {
        "looked at": [case for case in cases if not case.held_out],
        "held out": [case for case in cases if case.held_out],
    }
    versions = {row["version"] for row in rows.values()}
    return {
        "version": ", ".join(sorted(versions)),
        "halves": {
            half: shares(some, rows, RIVALS[tool].names) | could_not_run(some, rows)
            for half, some in halves.items()
            if all((case.id, fixed, SEED) in rows for case in some for fixed in (False, True))
        },
    }


def joined(standing: dict[str, Any], judged_here: dict[str, Any], here: dict[str, Any]) -> dict[str, Any]:
    """Join the table that stands with the tools judged here, which name this machine if it is another.

    Tools that are not judged here stay as they are, and the table's machine stays theirs.
    """
    first = standing.get("machine", here)
    named = {} if here == first else {"machine": here}
    ours = {tool: each | named for tool, each in judged_here.items() if each["halves"]}
    return {"machine": first, "seed": SEED, "tools": standing.get("tools", {}) | ours}


def could_not_run(cases: Iterable[Case], rows: dict[Key, dict[str, Any]]) -> dict[str, int]:
    """Count the cases and the twins that a tool said nothing of because it could not be run."""
    failed = [key for key, row in rows.items() if "failed" in row]
    ids = {case.id for case in cases}
    return {
        "could not run, cases": sum(name in ids and not fixed for name, fixed, _ in failed),
        "could not run, twins": sum(name in ids and fixed for name, fixed, _ in failed),
    }


def published_of(cases: Iterable[Case]) -> dict[str, Any]:
    """Published marks, with how many of deepmufl's cases that count here each tool was reported to find."""
    published: dict[str, Any] = json.loads(PUBLISHED.read_text())
    counted = [case for case in cases if case.id.startswith("deepmufl/")]
    held_out = [case for case in counted if case.held_out]
    for each in published["deepmufl"]["tools"].values():
        each["of those that count here"] = sum(each["letter"] in case.marks for case in counted)
        each["held out"] = sum(each["letter"] in case.marks for case in held_out)
    published["deepmufl"] |= {"count here": len(counted), "held out": len(held_out)}
    return published


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tools", nargs="+", default=list(RIVALS), choices=RIVALS)
    parser.add_argument("--half", choices=("looked", "held-out", "both"), default="both")
    parser.add_argument("--patience", type=int, default=300, help="processor seconds for a judgement")
    parser.add_argument("--table", action="store_true", help="judge nothing, write the table")
    parser.add_argument("--cache", type=Path, default=CACHE)
    given = parser.parse_args()
    torch.set_num_threads(1)
    kept = surviving()
    counted = [case for case in all_cases() if case.set not in FRESH and (kept is None or case.id in kept)]
    if not given.table:
        asked = [
            case for case in counted if given.half == "both" or case.held_out == (given.half == "held-out")
        ]
        judge_missing(given.tools, asked, given.patience, given.cache)
    rows = {tool: read_of(tool, given.cache) for tool in RIVALS}
    tools = {tool: table_of(tool, counted, each) for tool, each in rows.items() if each}
    path = RESULTS / "public_rivals.json"
    standing = json.loads(path.read_text()) if path.exists() else {}
    write("public_rivals", joined(standing, tools, machine()) | {"published": published_of(counted)})


if __name__ == "__main__":
    main()
