"""A study's runs as its page shows them: a row each, and of the most telling ones all that there is to open.

The page stays bounded however many runs there are, and says what it leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

from gradscape._codec import decode
from gradscape.analysis.outcomes import describe_status
from gradscape.errors import GradscapeError
from gradscape.records.diagnosis import Diagnosis
from gradscape.records.role import Role, identities, roles_by_run
from gradscape.records.run import RunRecord, StudyRecord
from gradscape.report.interactive.brief import DIGITS, POINTS, Layouts, brief_document, is_whole, short
from gradscape.report.interactive.cells import rounding
from gradscape.report.interactive.comparison import FEW, pairs_compared
from gradscape.report.interactive.runs import run_row
from gradscape.storage.run_summary import thinned

LISTED = 1_000  # rows of the table
OPENED = 100  # runs that can be opened
CELLS = 550_000  # cells of all maps together, 2 bytes each: 45 runs of 100 epochs and 39 layers are whole
LEAST = 24  # rows of a map where there are more runs or layers
MAPS = 3  # of a run: gradients, updates, weights
SPARK = 24  # losses of a row's small curve
Reader = Callable[[str], RunRecord]


@dataclass(frozen=True)
class Chosen:
    """Runs that can be opened.

    Attributes:
        runs: The runs, in the study's order.
        begun: Number of runs that have an epoch.
        rows: Number of rows of a map, at most.
    """

    runs: Sequence[RunRecord]
    begun: int
    rows: int


def study_values(study: StudyRecord, reader: Reader | None = None) -> dict[str, Any]:
    """Return the runs of a study for its page: `runs`, `trainings`, `layouts`, `comparisons` and `notes`.

    Args:
        study: Record of a study.
        reader: Function that reads a run with the gradients of every epoch, where `study` has the last ones
            alone; without it such runs have no maps.
    """
    chosen = _choose(study)
    layouts = Layouts()
    opened = (_whole(run, reader) for run in chosen.runs)  # one after the other: whole runs are large
    few = list(opened) if len(chosen.runs) <= FEW else []
    trainings = {
        run.identity: brief_document(run, stored_diagnosis(run), layouts, chosen.rows)
        for run in few or opened
    }
    listed = _listed(study, trainings)
    roles = roles_by_run(study.roles)
    return {
        "runs": [
            _row(study, identity, roles.get(identity, []), identity in trainings) for identity in listed
        ],
        "trainings": trainings,
        "layouts": layouts.found,
        "comparisons": pairs_compared(few),
        "notes": list(_notes(study, chosen, trainings, len(listed))),
    }


def stored_diagnosis(run: RunRecord) -> Diagnosis | None:
    """Return the diagnosis that was stored when a run ended; None where there is none.

    Args:
        run: Record of a run.
    """
    try:
        return decode(Diagnosis, run.status["diagnosis"]) if "diagnosis" in run.status else None
    except ValueError:  # of another version
        return None


def _whole(run: RunRecord, reader: Reader | None) -> RunRecord:
    """Return the run with the gradients of every epoch, where they can be read."""
    if reader is None or is_whole(run):
        return run
    try:
        return reader(run.identity)
    except GradscapeError:  # a line before the last is damaged: its curves are there all the same
        return run


# Which runs


def _choose(study: StudyRecord) -> Chosen:
    """Choose as many runs as the page has room for, and how many rows their maps have."""
    begun = [run for run in study.runs.values() if run.epochs]
    order = begun if len(begun) <= OPENED else list(_telling(begun))[:OPENED]
    most = max(LEAST, CELLS // max(1, sum(_width(run) for run in order)))
    taken, cells = set[str](), 0
    for run in order:
        cells += _width(run) * min(len(run.epochs), most)
        if taken and cells > CELLS:
            break
        taken.add(run.identity)
    return Chosen([run for run in begun if run.identity in taken], len(begun), most)


def _width(run: RunRecord) -> int:
    """Return the number of cells of an epoch."""
    return 0 if run.flow is None else MAPS * len(run.flow.weights)


def _telling(runs: Sequence[RunRecord]) -> Iterator[RunRecord]:
    """Yield the runs of every state and verdict in turn, those of highest and lowest accuracy first."""
    groups: dict[tuple[str, str], list[RunRecord]] = {}
    for run in sorted(runs, key=_best, reverse=True):
        groups.setdefault((run.state, _verdict(run)[0] or ""), []).append(run)
    turns = [_from_both_ends(groups[key]) for key in sorted(groups)]
    return (run for run in chain.from_iterable(zip_longest(*turns)) if run is not None)


def _from_both_ends(runs: Sequence[RunRecord]) -> list[RunRecord]:
    half = (len(runs) + 1) // 2
    pairs = zip_longest(runs[:half], reversed(runs[half:]))
    return [run for run in chain.from_iterable(pairs) if run is not None]


def _listed(study: StudyRecord, trainings: Mapping[str, Any]) -> list[str]:
    """Return the identities of the table's rows: of very many those to open, those not done, then others."""
    names = list(dict.fromkeys([*identities(study.roles), *study.runs]))
    if len(names) <= LISTED:
        return names
    done = {name for name, run in study.runs.items() if run.state == "done"}
    chosen = set(sorted(names, key=lambda name: (name not in trainings, name in done))[:LISTED])
    return [name for name in names if name in chosen]


# Rows of the table


def _row(study: StudyRecord, identity: str, roles: Sequence[Role], has: bool) -> dict[str, Any]:
    run, purpose = study.runs.get(identity), ", ".join(dict.fromkeys(role.label for role in roles))
    if run is None:
        return run_row(
            identity, identity, state="pending", roles=purpose, reason=describe_status(run), has=False
        )
    epochs, planned = len(run.epochs), int(run.config["epochs"])
    verdict, grade = _verdict(run)
    return run_row(
        identity,
        identity,
        state=run.state,
        roles=purpose,
        share=epochs / planned if planned else None,
        progress=f"epoch {epochs}/{planned}",
        spark=[short(loss) for loss in thinned(run.curve("train_loss"), SPARK)],
        verdict=verdict,
        grade=grade,
        best=short(_best(run)) if run.epochs else None,
        minutes=round(sum(run.curve("seconds")) / 60, 1),
        reason=describe_status(run),
        has=has,
    )


def _verdict(run: RunRecord) -> tuple[str | None, str | None]:
    """Return the stored verdict and its grade."""
    stored = run.status.get("diagnosis")
    known = stored if isinstance(stored, Mapping) else {}
    return known.get("verdict"), known.get("grade")


def _best(run: RunRecord) -> float:
    """Return the highest validation accuracy."""
    return max(run.curve("valid_accuracy"))


# What the page leaves out


def _notes(study: StudyRecord, chosen: Chosen, trainings: Mapping[str, Any], listed: int) -> Iterator[str]:
    """Yield sentences on what was left out, joined and rounded."""
    total = len({*identities(study.roles), *study.runs})
    if listed < total:
        yield (
            f"The table lists {listed:,} of {total:,} runs: those that can be opened, those that are not "
            "done, then others; gradscape runs DIR lists all."
        )
    if len(chosen.runs) < chosen.begun:
        yield (
            f"{len(chosen.runs):,} of {chosen.begun:,} runs can be opened here: of every state and verdict "
            "in turn those of the highest and the lowest validation accuracy; gradscape live DIR opens all."
        )
    maps = [each for document in trainings.values() for each in document["maps"]]
    if any(len(document["steps"]) < document["rows"] for document in trainings.values() if document["maps"]):
        yield f"Maps show every k-th epoch, {chosen.rows} of a run and its last one."
    if any(len(run.epochs) > POINTS for run in chosen.runs):
        yield f"Curves of more than {POINTS} epochs are joined: lowest, mean and highest of several."
    if maps:
        error = max(rounding(each) for each in maps)
        yield f"Numbers are rounded: in maps by {100 * error:.1g} % at most, in curves to {DIGITS} digits."
