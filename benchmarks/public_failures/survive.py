"""Which cases are at fault: those whose repaired twin is better beyond the noise of seeds.

A report's fault need not show once the report is rebuilt with other data and sizes. Case and twin are trained
at 20 seeds; the case survives where the twin's score is higher by Welch's one-sided t-test at 1 %, and by
0.02 or more. Scores are accuracies, or R² no lower than −1.

    cd benchmarks && PYTHONPATH=../src python -m public_failures.survive

takes some hours of one core and writes `results/public_failures.json`. Trainings done are in
`runs/public_failures.jsonl`, one a line, or in the result, and are not repeated.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean, variance
from typing import Any

import torch
from scipy import stats

from measure import RESULTS, write
from public_failures.case import Case
from public_failures.catalogue import SETS, all_cases

SEEDS = 20
LEVEL, LEAST = 0.01, 0.02  # of the test, and of the difference
CACHE = Path(__file__).parents[1] / "runs" / "public_failures.jsonl"
Key = tuple[str, bool, int]  # case, whether repaired, seed


def train(case: Case, fixed: bool, seed: int) -> dict[str, Any]:
    """Train a case or its twin to the end: its score, its last loss (None if not finite) and its seconds."""
    started = time.process_time()
    training = case.build(fixed, seed)
    loss = math.nan
    for number in range(case.steps_of(fixed)):
        loss = float(training.step(number))
    return {
        "case": case.id,
        "fixed": fixed,
        "seed": seed,
        "score": training.score(),
        "loss": loss if math.isfinite(loss) else None,
        "seconds": round(time.process_time() - started, 3),
    }


def read(
    cache: Path, wanted: Callable[[dict[str, Any]], bool] = lambda row: True
) -> dict[Key, dict[str, Any]]:
    """Read trainings done, all or those wanted; a line that a kill has cut short is left out."""
    done = {}
    for line in cache.read_text().splitlines() if cache.exists() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if wanted(row):
            done[row["case"], row["fixed"], row["seed"]] = row
    return done


def train_missing(cases: Sequence[Case], seeds: int, cache: Path) -> None:
    """Train what the cache lacks, a seed of all cases after the other, and append each to it."""
    done = {**kept(), **read(cache)}
    cache.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(seeds):
        for case in cases:
            for fixed in (False, True):
                if (case.id, fixed, seed) not in done:
                    row = train(case, fixed, seed)
                    with cache.open("a") as file:
                        file.write(json.dumps(row) + "\n")
        print(f"seed {seed} done", flush=True)


def kept() -> dict[Key, dict[str, Any]]:
    """Return the trainings whose scores are in the result, seed by seed from 0 on."""
    path = RESULTS / "public_failures.json"
    found = json.loads(path.read_text())["survivors"] if path.exists() else {}
    return {
        (name, fixed, seed): {"score": score}
        for name, case in found.items()
        for fixed, scores in ((False, "scores"), (True, "twins"))
        for seed, score in enumerate(case.get(scores, ()))
    }


def judged(case: Case, scores: Sequence[float], twin: Sequence[float]) -> dict[str, Any]:
    """Compare a case's scores over seeds with its twin's."""
    difference, p = fmean(twin) - fmean(scores), welch(twin, scores)
    return {
        "kinds": list(case.kinds),
        "score": round(fmean(scores), 4),
        "twin": round(fmean(twin), 4),
        "scores": [round(score, 4) for score in scores],
        "twins": [round(score, 4) for score in twin],
        "p": float(f"{p:.3g}"),
        "n": [len(scores), len(twin)],
        "survives": p < LEVEL and difference >= LEAST,
    }


def welch(higher: Sequence[float], lower: Sequence[float]) -> float:
    """Return the one-sided p of Welch's t-test (1947) that the first mean is higher.

    Where neither varies at all, as of a network that never trains and one that always does, the difference is
    certain: p is 0 if the first is higher, else 1.
    """
    difference = fmean(higher) - fmean(lower)
    errors = [variance(values) / len(values) for values in (higher, lower)]
    if sum(errors) == 0:
        return 0.0 if difference > 0 else 1.0
    shares = zip(errors, (higher, lower), strict=True)
    freedom = sum(errors) ** 2 / sum(error**2 / (len(values) - 1) for error, values in shares)
    return float(stats.t.sf(difference / math.sqrt(sum(errors)), freedom))


def survivors(
    cases: Iterable[Case], done: dict[Key, dict[str, Any]], seeds: int
) -> dict[str, dict[str, Any]]:
    """Judge every case that has at least two seeds of both its trainings."""
    scores = defaultdict(list)
    for (name, fixed, seed), row in sorted(done.items()):
        if seed < seeds:
            scores[name, fixed].append(row["score"])
    return {
        case.id: judged(case, scores[case.id, False], scores[case.id, True])
        for case in cases
        if min(len(scores[case.id, False]), len(scores[case.id, True])) >= 2
    }


def write_survivors(found: dict[str, dict[str, Any]]) -> None:
    """Write the part "survivors" of the result, and leave its other parts and cases as they are."""
    path = RESULTS / "public_failures.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    result.pop("machine", None)
    result["survivors"] = {**result.get("survivors", {}), **found}
    write("public_failures", result)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--cases", nargs="+", help="ids, such as deepmufl/31880720; all by default")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--cache", type=Path, default=CACHE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases = [case for case in all_cases(options.sets) if not options.cases or case.id in options.cases]
    train_missing(cases, options.seeds, options.cache)
    found = survivors(cases, {**kept(), **read(options.cache)}, options.seeds)
    write_survivors(found)
    count = Counter(row["kinds"][0] for row in found.values() if row["survives"])
    print(f"{sum(count.values())} of {len(found)} survive:", dict(count.most_common()))


if __name__ == "__main__":
    main()
