"""Runs of a study that are trained as one network: which go together, and their events, deaths and ends."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cases import TINY
from gradscape.config.network import NetConfig
from gradscape.config.run import OptimConfig, RunConfig
from gradscape.executors import base as face
from gradscape.executors.base import Event, EventSink, Executor, outcome
from gradscape.executors.processes import Processes
from gradscape.records.run import Progress, RunRecord
from gradscape.storage.run_folder import RunFolder
from gradscape.storage.study_folder import StudyFolder
from gradscape.studies.batchnorm.report import PARTS
from gradscape.studies.batchnorm.study import BATCHNORM, PRESETS
from gradscape.study.execute import _advance, execute
from gradscape.study.execution_options import Execution
from gradscape.study.packs import Pack, divide
from gradscape.study.progress import ProgressView
from gradscape.study.train_job import PackEvents, PackJob, TrainJob, train_job
from gradscape.study.train_runs import train_runs
from inline_executor import Inline
from undrawn import rendering

NET = NetConfig(depth=8, filters=8, norm="batch", norm_where="everywhere")
BASE = replace(TINY, net=NET, data=replace(TINY.data, size=8, crop_pad=0))
RUNS = {config.identity: config for config in (replace(BASE, seed=seed) for seed in range(3))}


def seeds(count: int, config: RunConfig = BASE) -> dict[str, RunConfig]:
    return {each.identity: each for each in (replace(config, seed=seed) for seed in range(count))}


def sizes(packs: list[Pack]) -> list[int]:
    return sorted((len(pack.names) for pack in packs), reverse=True)


@pytest.mark.parametrize(
    ("runs", "together", "workers", "expected"),
    [
        (12, 6, 2, [6, 6]),
        (6, 6, 1, [6]),
        (6, 6, 2, [3, 3]),
        (13, 6, 2, [4, 3, 3, 3]),
        (3, 6, 2, [2, 1]),
        (2, 6, 2, [2]),  # one of two would be computed with a copy of it, and take as long as both
        (5, 2, 1, [2, 2, 1]),
        (4, 1, 2, [1, 1, 1, 1]),
    ],
)
def test_equal_runs_are_divided_so_that_no_worker_is_idle(
    runs: int, together: int, workers: int, expected: list[int]
) -> None:
    planned = seeds(runs)
    packs = divide(planned, planned, together, workers)
    assert sizes(packs) == expected
    assert {pack.packed for pack in packs} == {together > 1}


def test_rates_seeds_inits_and_measures_go_together_and_nothing_else() -> None:
    alike = [
        BASE,
        replace(BASE, seed=5),
        replace(BASE, optim=OptimConfig(lr=0.1)),
        replace(BASE, smoothness_every=3, keep_every=1, curvature_images=20),
        replace(BASE, net=replace(NET, init="he")),
    ]
    different = [
        replace(BASE, batch_size=20),
        replace(BASE, epochs=4),
        replace(BASE, net=replace(NET, depth=14)),
        replace(BASE, data=replace(BASE.data, train=50)),
        replace(BASE, optim=OptimConfig(name="sgd")),
        replace(BASE, net=replace(NET, dropout=0.1)),
        replace(BASE, net=replace(NET, dropout=0.1), seed=2),  # cannot be packed with its like
    ]
    runs = {config.identity: config for config in (*alike, *different)}
    packs = divide(runs, runs, 8, 1)
    assert {frozenset(pack.names) for pack in packs if pack.packed} == {frozenset(c.identity for c in alike)}
    assert sorted(pack.names for pack in packs if not pack.packed) == sorted((c.identity,) for c in different)


def test_a_run_is_packed_if_it_has_a_partner_in_the_plan_though_that_is_done() -> None:
    planned = seeds(2)
    (last,) = list(planned)[1:]
    assert divide(planned, {last: planned[last]}, 6, 2) == [Pack((last,), packed=True)]
    assert divide(seeds(1), seeds(1), 6, 2) == [Pack(tuple(seeds(1)), packed=False)]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 7), st.integers(1, 5))
def test_every_run_is_in_one_pack_and_none_is_too_large(
    counts: list[int], together: int, workers: int
) -> None:
    runs: dict[str, RunConfig] = {}
    for number, count in enumerate(counts):
        runs |= seeds(count, replace(BASE, batch_size=10 + number))
    packs = divide(runs, runs, together, workers)
    assert sorted(name for pack in packs for name in pack.names) == sorted(runs)
    assert max(len(pack.names) for pack in packs) <= together
    for pack in packs:
        assert len({runs[name].batch_size for name in pack.names}) == 1


def test_a_preset_says_how_many_go_together() -> None:
    assert {name: BATCHNORM.plan(name).together for name in PRESETS} == {"quick": 9, "small": 3, "paper": 1}


def results(folder: RunFolder) -> tuple[Any, ...]:
    checkpoint = folder.load()
    assert checkpoint is not None
    epochs = [replace(epoch, seconds=0.0, images_per_second=0.0) for epoch in folder.epochs()]
    return epochs, {name: array.tobytes() for name, array in checkpoint.arrays.items()}


def jobs_of(folder: StudyFolder, runs: Mapping[str, RunConfig] = RUNS) -> dict[str, TrainJob | PackJob]:
    jobs = {name: TrainJob(config, folder.run(name).path) for name, config in runs.items()}
    return {" + ".join(jobs): PackJob(jobs)}


def trained(folder: StudyFolder, executor: Any, events: list[Event]) -> list[str]:
    """Train a pack of all runs; the names of those that failed."""

    class Noted(ProgressView):
        def show(self, event: Event) -> None:
            events.append(event)
            super().show(event)

    with Noted(RUNS, 0) as view:
        return train_runs(RUNS, jobs_of(folder), folder, view, executor)


def inline(sink: EventSink) -> Executor:
    return Inline(train_job, sink)


def test_each_run_of_a_pack_has_its_own_events(tmp_path: Path) -> None:
    events: list[Event] = []
    assert trained(StudyFolder(tmp_path), inline, events) == []
    assert {event.job for event in events} == set(RUNS)
    for name in RUNS:
        mine = [event for event in events if event.job == name]
        assert mine[0].kind == "started"
        assert {event.kind for event in mine[1:-1]} == {"progress"}
        assert [e.payload.epoch for e in mine if isinstance(e.payload, Progress)][-1] == 3
        assert mine[-1].kind == "finished"
        assert isinstance(mine[-1].payload, RunRecord)
        assert len(mine[-1].payload.epochs) == 1


def test_a_run_that_cannot_begin_fails_alone(tmp_path: Path) -> None:
    folder, events = StudyFolder(tmp_path), list[Event]()
    victim, *others = RUNS
    folder.run(victim).create(RUNS[victim])
    folder.run(victim).checkpoints.write_text("a file where a folder must be")
    assert trained(folder, inline, events) == [victim]
    assert folder.run(victim).status()["state"] == "failed"
    assert [folder.run(name).status()["state"] for name in others] == ["done", "done"]
    (failure,) = [event for event in events if event.kind == "failed"]
    assert failure.job == victim


def die_in_epoch_2(job: Any, report: Any) -> Any:
    """Train, and die once in the second epoch."""
    first = next(iter(job.jobs.values()))
    mark = Path(first.folder).parents[1] / "died"

    def last_words(events: tuple[Event, ...]) -> None:
        report(events)
        epochs = [each.payload.epoch for each in events if isinstance(each.payload, Progress)]
        if not mark.exists() and epochs and min(epochs) == 2:
            mark.touch()
            os._exit(9)

    return train_job(job, last_words)


@pytest.mark.slow
def test_a_pack_whose_worker_dies_goes_on_bit_identical_and_each_run_notes_the_death(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(face, "BACKOFF", 0.01)
    whole, cut, events = StudyFolder(tmp_path / "whole"), StudyFolder(tmp_path / "cut"), list[Event]()
    assert trained(whole, inline, []) == []
    assert trained(cut, lambda sink: Processes(die_in_epoch_2, 1, sink), events) == []
    for name in RUNS:
        status = cut.run(name).status()
        assert (status["state"], status["attempts"]) == ("done", 2)
        assert status["deaths"] == ["its worker died (exit code 9)"]
        assert results(cut.run(name)) == results(whole.run(name))
        assert [event.kind for event in events if event.job == name].count("died") == 1


def test_a_run_that_has_ended_is_not_tried_again_with_its_pack() -> None:
    """Its worker died after one run had stopped and one had failed: the pack goes on without them."""
    seen: list[Event] = []
    events, (first, second, third) = PackEvents(seen.append), RUNS
    job = events.added("pack", PackJob({name: TrainJob(config, Path(name)) for name, config in RUNS.items()}))
    assert isinstance(job, PackJob)
    events(Event("pack", "started"))
    events(Event("pack", "progress", (Event(first, "finished", "record"), Event(second, "failed", "why"))))
    events(Event("pack", "died", "SIGKILL"))
    assert list(job.jobs) == [third]
    events(Event("pack", "failed", "3 times"))
    assert [(event.job, event.kind) for event in seen] == [
        *((name, "started") for name in RUNS), (first, "finished"), (second, "failed"), (third, "died"),
        (third, "failed"),
    ]  # fmt: skip
    assert not job.jobs


@pytest.mark.slow
def test_a_lack_of_memory_is_the_packs_and_not_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The executor tries the whole pack again, which goes on where it was."""
    whole, folder = StudyFolder(tmp_path / "whole"), StudyFolder(tmp_path / "short")
    assert trained(whole, inline, []) == []
    save, calls = RunFolder.save, 0

    def lacks(run: RunFolder, checkpoint: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise MemoryError
        return save(run, checkpoint)

    (job,) = jobs_of(folder).values()
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save", lacks)
        kind, why = outcome(train_job, job, lambda told: None)
    assert (kind, why[:13]) == ("died", "out of memory")
    assert outcome(train_job, job, lambda told: None) == ("finished", None)
    for name in RUNS:
        assert results(folder.run(name)) == results(whole.run(name))


@pytest.mark.slow
def test_a_run_that_another_command_holds_is_taken_over_as_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradscape.study.train_runs.POLL", 0.01)
    whole, folder = StudyFolder(tmp_path / "whole"), StudyFolder(tmp_path / "shared")
    assert trained(whole, inline, []) == []
    held = folder.run(next(iter(RUNS)))
    looks, look = 0, RunFolder.held

    def elsewhere(run: RunFolder) -> bool:
        nonlocal looks
        if run.path != held.path:
            return look(run)
        looks += 1
        return looks < 3

    monkeypatch.setattr(RunFolder, "held", elsewhere)
    assert trained(folder, inline, []) == []
    assert looks >= 3
    for name in RUNS:
        assert folder.run(name).status()["packed"] is True
        assert results(folder.run(name)) == results(whole.run(name))


def test_a_packs_advance_is_the_sum_of_its_runs() -> None:
    """What the time limit of an epoch is measured by: it grows with every epoch of any run."""

    def told(*epochs: int) -> tuple[Event, ...]:
        return tuple(Event(str(n), "progress", Progress(n, 9, 0.5, 1.0, 0.1, 1.0)) for n in epochs)

    assert _advance(Progress(4, 9, 0.5, 1.0, 0.1, 1.0)) == ((4, "training"),)
    assert _advance(told(3, 2)) == ((3, "training"), (2, "training"))
    assert _advance((Event("a", "progress", "news"),)) is None
    assert _advance("news") is None


@pytest.mark.slow
def test_a_study_with_packs_is_the_same_whatever_the_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three rates of a network and its like without norms, on one and on two workers."""
    small = replace(
        PRESETS["quick"], epochs=2, train=80, valid=20, measures=2, curvature=0, landscape=0, keep_every=0,
        size=8, filters=8, key_seeds=1, shrink=10, together=4,
    )  # fmt: skip
    monkeypatch.setattr("gradscape.studies.batchnorm.study.LEARNING_RATES", (0.001, 0.005, 0.05))
    monkeypatch.setattr("gradscape.studies.batchnorm.study.BATCH_SIZES", (100, 800))
    monkeypatch.setattr("gradscape.report.build.rendering", rendering)
    plan = replace(BATCHNORM, presets={"quick": small}, key=()).plan("quick")
    folders = [StudyFolder(tmp_path / str(workers)) for workers in (1, 2)]
    for workers, folder in enumerate(folders, 1):
        execute(plan, folder, Execution(device="cpu", workers=workers), PARTS)
    packed = 0
    for name in plan.runs():
        one, two = (folder.run(name) for folder in folders)
        assert one.status()["state"] == "done"
        assert ("packed" in one.status()) is ("packed" in two.status())
        packed += "packed" in one.status()
        assert results(one) == results(two)
    assert packed == 5
