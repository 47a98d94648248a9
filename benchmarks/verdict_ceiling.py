"""How good could a verdict be: a classifier that learns from everything a watch has seen of the first steps.

It is trained on the families that the limits were set on, and judged on those held out, over the draws of
`verdicts.py`: with gradients and updates alone, with activations too, and with the losses, of which a watch
knows nothing. `python benchmarks/verdict_ceiling.py --draws 3 4`, after `verdicts.py` has made these draws,
takes ten minutes on two cores and writes `results/verdict_ceiling.json`; with `--keep DIR`, where
`verdicts.py --again` has kept what was watched, one.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import GradientBoostingClassifier
from verdict_nets import Case
from verdicts import LOOKED_AT, held_out, kept, networks, score, watched

from gradscape._machine import cores
from gradscape.records.gradients import FlowHistory
from measure import write

SEEDS = 5
KNOWN = {"gradients": ("g:",), "activations too": ("g:", "a:"), "losses too": ("g:", "a:", "l:")}


def of_gradients(history: FlowHistory) -> dict[str, float]:
    """Least, median and most over layers, of the first one and of the last one, in orders of magnitude."""
    columns = history.weights
    gradient = history.rms * np.sqrt(np.array(history.sizes))
    seen = {
        "gain": gradient * history.update,
        "gradient": gradient,
        "steepness": gradient / history.weight,
        "update": history.relative_update,
    }
    found = {}
    for name, values in seen.items():
        typical = logarithm(np.nanmedian(values[:, columns], axis=0))
        found |= {f"{name} {how}": value for how, value in over_layers(typical).items()}
        found[f"{name} grows"] = float(np.median(logarithm(np.nanmedian(values[-5:, columns], 0)) - typical))
        found[f"{name} at its most"] = float(logarithm(np.nanmax(values[:, columns])))
    agreement = np.nan_to_num(np.nanmean(history.agreement[:, columns], axis=0))
    found |= {f"agreement {how}": value for how, value in over_layers(agreement).items()}
    zeros = np.nan_to_num(np.nanmean(history.zeros[:, columns], axis=0))
    found |= {f"zeros {how}": value for how, value in over_layers(zeros).items()}
    return found | {"layers": len(columns), "adam": float(history.optimizers[0].eps is not None)}


def of_activations(history: FlowHistory) -> dict[str, float]:
    seen = history.activations
    assert seen is not None
    apart = logarithm(1 - np.nanmean(seen.correlation, axis=0))
    moment = logarithm(np.nanmean(seen.second_moment, axis=0))
    dead, saturated = (np.nan_to_num(np.nanmean(v, axis=0)) for v in (seen.dead, seen.saturated))
    parts = {"apart": apart, "moment": moment, "dead": dead, "saturated": saturated}
    return {f"{name} {how}": v for name, values in parts.items() for how, v in over_layers(values).items()}


def of_losses(losses: list[float]) -> dict[str, float]:
    values = np.minimum(np.nan_to_num(losses, nan=1e6), 1e6)
    late = values[-10:]
    parts = {"first": values[0], "last": late.mean(), "least": values.min(), "most": values.max()}
    return {**parts, "falls": values[:5].mean() - late.mean(), "spread": late.std()}


def over_layers(values: Any) -> dict[str, float]:
    known = values[np.isfinite(values)] if np.isfinite(values).any() else np.zeros(1)
    ends = {"first": np.nan_to_num(values[0]), "last": np.nan_to_num(values[-1])}
    found = {"least": known.min(), "median": np.median(known), "most": known.max(), **ends}
    return {how: float(value) for how, value in found.items()}


def logarithm(values: Any) -> Any:
    return np.log10(np.clip(np.nan_to_num(values, nan=1e-30, posinf=1e30), 1e-30, 1e30))


def features(keep: Path | None, named: tuple[str, Case]) -> dict[str, float]:
    """Everything that is known of a network's first steps."""
    name, case = named
    with np.errstate(all="ignore"):
        history, losses = kept(keep and keep / f"{name}.pickle", partial(watched, case))
        kinds = {"g": of_gradients(history), "a": of_activations(history), "l": of_losses(losses)}
    return {f"{kind}:{name}": value for kind, parts in kinds.items() for name, value in parts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, nargs="+", required=True)
    parser.add_argument("--keep", type=Path, help="folder of what was seen; what it holds is not done again")
    parser.add_argument("--workers", type=int, default=cores())
    arguments = parser.parse_args()
    draws = {n: networks(str(n)) for n in arguments.draws}
    named = [(f"{n}-{i}", Case(**row["case"])) for n, of in draws.items() for i, row in enumerate(of)]
    rows = [row for of in draws.values() for row in of]
    with mp.get_context("spawn").Pool(arguments.workers) as pool:
        seen = pool.map(partial(features, arguments.keep), named, chunksize=4)
    families = held_out([row["family"] for row in rows])
    out = np.array([row["family"] in families for row in rows])
    trains = np.array([row["trains"] for row in rows])
    found = {}
    for name, kinds in KNOWN.items():
        table = np.array([[v for key, v in one.items() if key.startswith(kinds)] for one in seen])
        tries = []
        for seed in range(SEEDS):
            model = GradientBoostingClassifier(
                n_estimators=200, learning_rate=0.05, subsample=0.7, random_state=seed
            )
            said = model.fit(table[~out], trains[~out]).predict(table[out])
            held = [row | {"said": bool(s)} for row, s in zip(np.array(rows)[out], said, strict=True)]
            tries.append(score(held, lambda row: not row["said"]))
        found[name] = tries
        print(name, tries[0]["networks"], [round(each["right"], 3) for each in tries])
    write("verdict_ceiling", {"steps": LOOKED_AT, "learnt_from": int((~out).sum()), "judged": found})


if __name__ == "__main__":
    main()
