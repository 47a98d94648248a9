"""How good is the verdict: small networks of many families, diagnosed after a few steps and then trained.

Networks differ in kind (MLP, convolutional), depth, width, initialization, norm, skip connections, activation
and optimizer. A family is a kind with an activation, a norm and skips or none; limits may be set on half of
the families only, and were, on draws 0 to 2 and on those families of draws 3 and 4. What is held out are
combinations: every kind, activation, norm and skip is among the families looked at too, with others.

`--unseen` draws networks whose levels none of these draws has (`unseen_nets`): other data, kinds,
activations, norms and optimizers. No limit was set on them. `healthy.py`, whose looked-at half limits were
set on too, has GELU, SiLU, AdamW and transformers, but no network that fails, no ELU and no RMSprop.

`python benchmarks/verdicts.py --draw 3` draws other networks of the same families, takes half an hour on two
cores and writes `results/verdicts-3.json`; `--unseen --cifar DIR` takes as long and writes
`results/verdicts-unseen.json` (made with `--count 144`: three networks of each family). `--again` judges
those by today's rules: it trains the first steps only, and takes from the file who trains. What `--keep DIR`
holds is not trained again: a run goes on where it ended.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import multiprocessing as mp
import pickle
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import unseen_nets
import verdict_nets
from torch.nn.functional import cross_entropy
from verdict_nets import CLASSES, Case
from verdict_tables import VERDICT_DRAWS

import gradscape as gs
from gradscape._machine import cores
from gradscape.measure.watch.watch import Watch
from gradscape.records.gradients import FlowHistory
from gradscape.train.process import prepare_process
from measure import RESULTS, write

BATCH = 32
LOOKED_AT, STEPS = 50, 1_000
UNSEEN_SEED = 5
LEARNT = 0.6  # of the loss of guessing: who gets below has begun to learn, and need not go on


def begun(case: Case) -> tuple[Watch, Iterator[float]]:
    """A watched training, and its losses step by step for as long as one asks."""
    prepare_process(threads=1)
    unseen = case.kind in unseen_nets.KINDS
    nets = unseen_nets if unseen else verdict_nets
    x, y = unseen_nets.data(case.kind) if unseen else verdict_nets.data()
    model = nets.build(case)
    optimizer = nets.OPTIMIZERS[case.optimizer](model.parameters(), case.lr_scale)
    generator = torch.Generator().manual_seed(case.seed)

    def steps() -> Iterator[float]:
        while True:
            chosen = torch.randint(0, len(x), (BATCH,), generator=generator)
            optimizer.zero_grad()
            loss = cross_entropy(model(x[chosen]), y[chosen])
            loss.backward()
            optimizer.step()
            yield loss.item()

    return gs.watch(model, optimizer, every=1, activations=True), steps()


def watched(case: Case) -> tuple[FlowHistory, list[float]]:
    """What a watch saw of the first steps, and their losses."""
    flow, steps = begun(case)
    losses = list(itertools.islice(steps, LOOKED_AT))
    return flow.history(), losses


def train(case: Case) -> tuple[FlowHistory, list[float]]:
    """What a watch saw of the first steps, and the losses until the network has learnt, or all of them."""
    flow, steps = begun(case)
    losses = list(itertools.islice(steps, LOOKED_AT))
    flow.close()
    while len(losses) < STEPS and not learnt(losses):
        losses.append(next(steps))
    return flow.history(), losses


def learnt(losses: list[float]) -> bool:
    return len(losses) >= LOOKED_AT + 20 and sum(losses[-20:]) / 20 < LEARNT * math.log(CLASSES)


def row(name: str, keep: Path | None, numbered: tuple[int, Case]) -> dict[str, Any]:
    """A network trained, and what was said of it before."""
    number, case = numbered
    history, losses = kept(keep and keep / f"{name}-{number}-whole.pickle", partial(train, case))
    return {
        "case": asdict(case),
        "family": case.family,
        "trains": learnt(losses),
        "steps": len(losses),
        "losses": [float(f"{loss:.3g}") for loss in losses[:: len(losses) // 20]],
        **judged(history, losses),
    }


def kept(path: Path | None, see: Callable[[], tuple[FlowHistory, list[float]]]) -> Any:
    """What `see` gives, or gave before it was kept there."""
    if path and path.exists():
        return pickle.loads(path.read_bytes())
    found = see()
    if path:
        half = path.with_suffix(".part")
        half.write_bytes(pickle.dumps(found))
        half.rename(path)
    return found


def judged(history: FlowHistory, losses: list[float]) -> dict[str, Any]:
    """What is said after the first steps, without activations and with them, and what simpler rules go by."""
    with np.errstate(all="ignore"):
        diagnosis, fuller = gs.diagnose(replace(history, activations=None)), gs.diagnose(history)
    return {
        "verdict": diagnosis.verdict,
        "grade": diagnosis.grade,
        "verdict_with_activations": fuller.verdict,
        "grade_with_activations": fuller.grade,
        "layer": diagnosis.layer,
        "smallest_gradient": float(np.nanmin(history.mean_abs[:, history.weights])),
        "loss_then": losses[LOOKED_AT - 1] if math.isfinite(losses[LOOKED_AT - 1]) else None,
    }


def again(name: str, keep: Path | None, numbered: tuple[int, dict[str, Any]]) -> dict[str, Any]:
    """A network of an earlier result judged by today's rules; whether it trains is what that has shown."""
    number, old = numbered
    path = keep and keep / f"{name}-{number}.pickle"
    return {**old, **judged(*kept(path, partial(watched, Case(**old["case"]))))}


def held_out(families: list[str]) -> set[str]:
    """Half of the families, drawn once: no limit may be set by looking at them."""
    return set(random.Random(1).sample(sorted(set(families)), len(set(families)) // 2))


Rule = Callable[[dict[str, Any]], bool]


def score(rows: list[dict[str, Any]], fails: Rule) -> dict[str, Any]:
    """How often a rule is right, calls a network ill that trains, and misses one that does not."""
    trains = [row["trains"] for row in rows]
    said = [fails(row) for row in rows]
    false_alarms = sum(t and s for t, s in zip(trains, said, strict=True))
    missed = sum(not t and not s for t, s in zip(trains, said, strict=True))
    return {
        "networks": len(rows),
        "do_not_train": len(rows) - sum(trains),
        "right": 1 - (false_alarms + missed) / len(rows),
        "false_alarms": false_alarms,
        "missed": missed,
    }


def by_the_loss(rows: list[dict[str, Any]]) -> tuple[str, Rule]:
    """The best limit, on these networks, of the last mini-batch's loss: who is above is said to fail."""
    losses = sorted(loss_of(row) for row in rows)
    limit = max(losses, key=lambda each: score(rows, lambda row: loss_of(row) > each)["right"])
    return f"loss of one mini-batch after {LOOKED_AT} steps", lambda row: loss_of(row) > limit


def loss_of(row: dict[str, Any]) -> float:
    loss = row["loss_then"]
    return math.inf if loss is None else float(loss)


RULES: dict[str, Rule] = {
    "gradscape": lambda row: row["grade"] == "fail",
    "gradscape, activations too": lambda row: row["grade_with_activations"] == "fail",
    "smallest gradient < 1e-6": lambda row: not row["smallest_gradient"] >= 1e-6,
    "each trains": lambda row: False,
}


def networks(name: str) -> list[dict[str, Any]]:
    """Those of a result."""
    found: list[dict[str, Any]] = json.loads((RESULTS / f"verdicts-{name}.json").read_text())["networks"]
    return found


def halves(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    out = held_out([row["family"] for row in rows])
    looked_at = [row for row in rows if row["family"] not in out]
    return {"looked at": looked_at, "held out": [row for row in rows if row["family"] in out]}


def scored(groups: dict[str, list[dict[str, Any]]], looked_at: list[dict[str, Any]]) -> dict[str, Any]:
    """Every rule on every group; the loss's limit is of the networks looked at."""
    rules = dict([*RULES.items(), by_the_loss(looked_at)])
    scores = {
        which: {rule: score(rows, fails) for rule, fails in rules.items()} for which, rows in groups.items()
    }
    for which, by_rule in scores.items():
        for rule, numbers in by_rule.items():
            print(which, rule, numbers)
    return scores


def result_of_draw(rows: list[dict[str, Any]]) -> dict[str, Any]:
    groups = halves(rows)
    out = sorted({row["family"] for row in groups["held out"]})
    return {"held_out": out, "scores": scored(groups, groups["looked at"]), "networks": rows}


def result_of_unseen(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """All, and those of each kind; no limit is of these, the loss's is of the draws' families looked at."""
    groups = {"all": rows}
    groups |= {kind: [row for row in rows if row["case"]["kind"] == kind] for kind in unseen_nets.KINDS}
    looked_at = [row for draw in VERDICT_DRAWS for row in halves(networks(str(draw)))["looked at"]]
    return {"scores": scored(groups, looked_at), "networks": rows}


def main() -> None:
    arguments = parser().parse_args()
    gs.load_images("digits")  # cached before the workers ask
    if arguments.unseen:
        gs.load_images("cifar100", root=arguments.cifar)
        name, chosen = "unseen", unseen_nets.cases(arguments.count or 144, UNSEEN_SEED)
    else:
        name, chosen = str(arguments.draw), verdict_nets.cases(arguments.count or 288, arguments.draw)
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    do: Callable[..., dict[str, Any]] = again if arguments.again else row
    rows = []
    with mp.get_context("spawn").Pool(arguments.workers) as pool:
        of = enumerate(networks(name) if arguments.again else chosen)
        for found in pool.imap(partial(do, name, arguments.keep), of):
            rows.append(found)
            print(f"{len(rows):>4} {found['case']} {found['verdict']} {found['losses'][-1]}", flush=True)
    write(f"verdicts-{name}", result_of_unseen(rows) if arguments.unseen else result_of_draw(rows))


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__)
    which = found.add_mutually_exclusive_group(required=True)
    which.add_argument("--draw", type=int)
    which.add_argument("--unseen", action="store_true", help="networks of levels that no draw has")
    found.add_argument("--cifar", type=Path, help="folder of CIFAR-100, where it is not cached")
    found.add_argument("--count", type=int, help="288 of a draw, 144 unseen")
    found.add_argument("--again", action="store_true", help="judge the networks of results/verdicts-….json")
    found.add_argument("--keep", type=Path, help="folder of what was seen; what it holds is not done again")
    found.add_argument("--workers", type=int, default=cores())
    return found


if __name__ == "__main__":
    main()
