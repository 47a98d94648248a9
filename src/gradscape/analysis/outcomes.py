"""States and final values of a study's runs: how far they got, and where they ended."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from statistics import fmean, stdev
from typing import Any

from gradscape.config.run import DATASETS
from gradscape.records.run import LAST, RunRecord, StudyRecord

BY_CHANCE = 1e-3  # chance of a constant answer to be taken for one that has learned
BRIEF = re.compile(", | in | after ")  # the words after it say where, not what


@dataclass(frozen=True)
class Final:
    """End of a run's curve: mean and deviation over its last epochs.

    Attributes:
        mean: Mean over the epochs, in the curve's unit.
        deviation: Sample standard deviation over them; None for a single epoch.
    """

    mean: float
    deviation: float | None


def final(run: RunRecord, name: str) -> Final:
    """Return mean and deviation of one `EpochRecord` field over the run's last epochs.

    Args:
        run: Record of a run.
        name: Name of the field.

    Example:
        >>> final(run, "valid_accuracy").mean
        0.479
    """
    last = [getattr(epoch, name) for epoch in run.last_epochs]
    spread = stdev(last) if len(last) > 1 and all(map(math.isfinite, last)) else None
    return Final(fmean(last), spread)


def members(study: StudyRecord, role: str) -> dict[int, RunRecord | None]:
    """Return the planned runs of a role per seed; None where a run has no folder yet.

    Args:
        study: Record of a study.
        role: Name of the role.
    """
    chosen = {}
    for index, identity in enumerate(study.roles[role].runs if role in study.roles else ()):
        run = study.runs.get(identity)
        seeds = study.asked.get("seeds", ())
        expected = int(seeds[index]) if index < len(seeds) else index
        chosen[expected if run is None else run.seed] = run
    return dict(sorted(chosen.items()))


def ended(study: StudyRecord, role: str) -> dict[int, RunRecord]:
    """Return the runs of a role per seed that came to their end, by finishing or by diverging.

    Args:
        study: Record of a study.
        role: Name of the role.
    """
    return {
        s: r for s, r in members(study, role).items() if r is not None and r.state in ("done", "diverged")
    }


def describe_status(run: RunRecord | None) -> str:
    """Return the state of a run, such as `diverged in epoch 3, step 17`; empty if it is done.

    Args:
        run: Record of a run; None before it has a folder.
    """
    if run is None or (run.state == "pending" and not run.epochs):
        return "not run yet"
    if run.state == "done":
        return ""
    if run.state == "diverged":
        moment = [f"{unit} {run.status[unit]}" for unit in ("epoch", "step") if unit in run.status]
        return f"diverged in {', '.join(moment)}" if moment else "diverged"
    words = {
        "running": "running, {} epochs done",
        "interrupted": "interrupted after {} epochs",
        "stopped": "stopped after {} epochs",
        "failed": "failed after {} epochs",
    }
    state = "interrupted" if run.state == "pending" else run.state  # of a lost `status.json`
    return words[state].format(f"{len(run.epochs)} of {run.config['epochs']}")


def describe_states(study: StudyRecord, role: str) -> str:
    """Return the states of a role's runs that are not done, seed by seed; empty if all are.

    Args:
        study: Record of a study.
        role: Name of the role.

    Example:
        >>> describe_states(study, "lr-0.05")
        'seed 1 diverged in epoch 3, step 17'
    """
    runs = members(study, role)
    words = {seed: describe_status(run) for seed, run in runs.items()}
    if not words:
        return "not run yet"
    if len(set(words.values())) == 1:
        return next(iter(words.values()))
    return "; ".join(f"seed {seed} {text}" for seed, text in words.items() if text)


def count_states(study: StudyRecord, role: str) -> str:
    """Count a role's runs that are not done by their state, in the few words a cell or a legend has room for.

    Args:
        study: Record of a study.
        role: Name of the role.

    Example:
        >>> count_states(study, "lr-0.05")
        '1 of 3 diverged'
    """
    brief = [BRIEF.split(describe_status(run))[0] for run in members(study, role).values()]
    if len(set(brief)) < 2:
        return brief[0] if brief else "not run yet"
    return ", ".join(f"{brief.count(word)} of {len(brief)} {word}" for word in dict.fromkeys(brief) if word)


def setting(study: StudyRecord, role: str, field: str) -> str:
    """Return a value of the configurations of a role's runs, as text; – where none has begun.

    Args:
        study: Record of a study.
        role: Name of the role.
        field: Name of the value, such as `epochs` or `optim.lr`.
    """
    runs = [run for run in members(study, role).values() if run is not None]
    values: list[Any] = [
        reduce(lambda values, key: values[key], field.split("."), run.config) for run in runs
    ]
    return ", ".join(dict.fromkeys(f"{value:.4g}" for value in values)) or "–"


def window(study: StudyRecord, roles: Sequence[str]) -> str:
    """Return the epochs that a final value of these roles is a mean over, in words.

    Args:
        study: Record of a study.
        roles: Names of the roles.
    """
    runs = [run for role in roles for run in ended(study, role).values() if run.state == "done"]
    counts = sorted({len(run.last_epochs) for run in runs}) or [LAST]
    last = "epoch" if counts == [1] else f"{' or '.join(map(str, counts))} epochs"
    return f"mean of the last {last}"


def guessing(study: StudyRecord) -> float:
    """Return the accuracy of guessing: 1 / classes of the data set that the runs used.

    Args:
        study: Record of a study.
    """
    run = next(iter(study.runs.values()), None)
    name = study.asked["data"] if run is None else run.config["data"]["name"]
    return 1 / DATASETS[name].classes


def beats_guessing(run: RunRecord) -> bool:
    """Check that a run's final training accuracy is above the highest that a constant answer reaches.

    Args:
        run: Record of a run.
    """
    return run.state == "done" and final(run, "train_accuracy").mean > _guess_limit(*task(run))


def task(run: RunRecord) -> tuple[int, int]:
    """Return the number of classes, and of training images of an epoch.

    Args:
        run: Record of a run.
    """
    data = run.config["data"]
    return DATASETS[data["name"]].classes, int(data["train"])


@cache
def _guess_limit(classes: int, images: int) -> float:
    """Return the accuracy that no constant answer exceeds on `images` images, but for a chance of 0.1 %.

    The number of images of a class is binomial; the classes' chances add up (Bonferroni).

    Example:
        >>> _guess_limit(10, 1_000)
        0.137
    """
    from scipy.stats import binom

    return float(binom.isf(BY_CHANCE / classes, images, 1 / classes)) / images


def guesses(study: StudyRecord, *roles: str) -> str:
    """Name those of the roles with runs that end no better than guessing; empty if there are none.

    Args:
        study: Record of a study.
        roles: Names of the roles.
    """
    return together(*(_idle(study, role) for role in roles))


def _idle(study: StudyRecord, role: str) -> str:
    runs = ended(study, role).values()
    count = sum(not beats_guessing(run) for run in runs)
    if not count:
        return ""
    limit = max(_guess_limit(*task(run)) for run in runs)
    why = f"training accuracy no better than guessing's {limit:.3g}"
    return f"{role}: {count} of {len(runs)} runs end at guessing ({why})"


def seeds_in_words(counts: Sequence[int]) -> str:
    """Return `3 seeds`, or `1 to 3 seeds` where roles have different numbers of them.

    Args:
        counts: Number of seeds of each role.

    Example:
        >>> seeds_in_words([2, 1, 1])
        '1 to 2 seeds'
    """
    fewest, most = min(counts), max(counts)
    numbers = f"{most}" if fewest == most else f"{fewest} to {most}"
    return f"{numbers} {'seed' if most == 1 else 'seeds'}"


def drawn_seeds(study: StudyRecord, roles: Iterable[str]) -> list[int]:
    """Return the number of runs with an epoch, of each role that has any; [0] where none has.

    Args:
        study: Record of a study.
        roles: Names of the roles.
    """
    counts = [sum(bool(run and run.epochs) for run in members(study, role).values()) for role in roles]
    return [count for count in counts if count] or [0]


def ended_seeds(study: StudyRecord, roles: Iterable[str]) -> list[int]:
    """Return the number of runs that came to their end, of each role that has any; [0] where none has.

    Args:
        study: Record of a study.
        roles: Names of the roles.
    """
    return [count for role in roles if (count := len(ended(study, role)))] or [0]


def together(*texts: str) -> str:
    """Join texts by semicolons, each once, without the empty ones.

    Args:
        texts: Texts, some of which may be empty.
    """
    return "; ".join(dict.fromkeys(text for text in texts if text))


def joined(sentences: Sequence[str]) -> str:
    """Join sentences by spaces, without the empty ones.

    Args:
        sentences: Sentences, some of which may be empty.
    """
    return " ".join(sentence for sentence in sentences if sentence)


def unfinished(study: StudyRecord, role: str) -> str:
    """Name a role's runs that have not come to an end; empty if all have.

    Args:
        study: Record of a study.
        role: Name of the role.
    """
    runs = members(study, role)
    if not runs:
        return f"{role}: not run yet"
    done = ended(study, role)
    words = [f"seed {seed} {describe_status(run)}" for seed, run in runs.items() if seed not in done]
    return f"{role}: {', '.join(words)}" if words else ""


def not_done(study: StudyRecord, roles: Mapping[str, str]) -> str:
    """Return a sentence on the runs that are not done; empty if all are.

    Args:
        study: Record of a study.
        roles: Label per role.
    """
    words = [
        f"{label}: {states}" for role, label in roles.items() if (states := describe_states(study, role))
    ]
    return f"{'; '.join(words)}." if words else ""
