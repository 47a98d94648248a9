"""The display of a study: it names the phase of a run, and its time left counts measures and the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import gradscape as gs
from cases import TINY
from gradscape.config.run import RunConfig
from gradscape.executors.base import Event
from gradscape.records.run import PHASES, Progress
from gradscape.storage.run_folder import RunFolder
from gradscape.studies.batchnorm.study import BATCHNORM
from gradscape.study import progress as module
from gradscape.study import time_left
from gradscape.study.network_cost import phase_macs, report_seconds, run_macs
from gradscape.study.packs import Pack
from gradscape.study.progress import ProgressView

MEASURED = replace(
    TINY, epochs=4, curvature_images=20, landscape_images=40, noise_batches=2, smoothness_every=2
)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        fake = SimpleNamespace(monotonic=lambda: self.now)
        for each in (module, time_left):
            monkeypatch.setattr(each, "time", fake)


def trained(epoch: int, config: RunConfig, share: float = 1.0) -> Progress:
    return Progress(epoch, config.epochs, share, 1.0, 0.5, 100.0)


def measuring(phase: Any, config: RunConfig) -> Progress:
    return Progress.measuring(phase, config.epochs)


def reports_of(config: RunConfig) -> list[tuple[Progress, float]]:
    """Reports of a run in order, each with the multiply-adds that follow until the next."""
    phases, reports = phase_macs(config), []
    for phase in PHASES:
        if phase != "training" and phases[phase]:
            reports.append((measuring(phase, config), phases[phase]))
        elif phase == "training":
            for epoch in range(config.epochs):
                for half in (0.0, 0.5):
                    reports.append((trained(epoch + 1, config, half), phases[phase] / config.epochs / 2))
    return reports


def test_runs_of_a_pack_are_the_work_of_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three are trained as one at 1e6 multiply-adds a second, then as many more: each begins with all."""
    clock, pace = Clock(monkeypatch), 1e6
    base = replace(MEASURED, curvature_images=0, landscape_images=0, noise_batches=0)
    runs = {config.identity: config for config in (replace(base, seed=seed) for seed in range(6))}
    packs = [Pack(tuple(runs)[:3], packed=True), Pack(tuple(runs)[3:], packed=True)]
    total = sum(run_macs(config, 3) for config in runs.values()) / pace
    with ProgressView(runs, 0, packs=packs) as view:
        begun = clock.now
        for pack in packs:
            for name in pack.names:
                view.show(Event(name, "started"))
            for phase in ("signal at the start", "training", "test"):
                for name in pack.names:
                    report = trained(1, base, 0.0) if phase == "training" else measuring(phase, base)
                    view.show(Event(name, "progress", report))
                    if phase != "training":
                        clock.now += phase_macs(base, 3)[phase] / pace
                if phase == "training":
                    clock.now += 3 * phase_macs(base, 3)[phase] / pace
            assert view.left.workers == 1
            for name in pack.names:
                view.show(Event(name, "failed", "as good as any end"))
            if pack is packs[0]:
                assert view.seconds_left() == pytest.approx(total / 2, rel=0.01)
        assert clock.now - begun == pytest.approx(total)


def test_a_run_of_the_cost_that_is_assumed_has_its_time_left_exactly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two runs, one after the other, at 1e6 multiply-adds a second, then a report of 7 seconds."""
    clock, pace = Clock(monkeypatch), 1e6
    runs = {config.identity: config for config in (MEASURED, replace(MEASURED, seed=1, landscape_images=0))}
    total = sum(run_macs(config) for config in runs.values()) / pace + 7.0
    with ProgressView(runs, 0, report=7.0) as view:
        clock.now += 30.0  # workers start: no run is at fault
        assert view.seconds_left() is None
        begun, known = clock.now, False
        for name, config in runs.items():
            view.show(Event(name, "started"))
            for progress, cost in reports_of(config):
                view.show(Event(name, "progress", progress))
                known |= progress.phase == "training" and progress.share > 0
                expected = pytest.approx(total - (clock.now - begun)) if known else None
                assert view.seconds_left() == expected  # measures before it say too little of the pace
                clock.now += cost / pace
            view.show(Event(name, "failed", "for no reason"))
        assert view.seconds_left() == 7.0
        assert clock.now - begun == pytest.approx(total - 7.0)


def test_the_last_run_is_not_shared_among_two_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three runs of one length on two workers take as long as four; with one report of each phase."""
    clock, pace = Clock(monkeypatch), 1e6
    runs = {config.identity: config for config in (replace(MEASURED, seed=seed) for seed in range(3))}
    length = run_macs(MEASURED) / pace
    with ProgressView(runs, 0, report=3.0) as view:
        begun = clock.now
        for together in (list(runs)[:2], list(runs)[2:]):
            for name in together:
                view.show(Event(name, "started"))
            for progress, cost in reports_of(MEASURED):
                for name in together:
                    view.show(Event(name, "progress", progress))
                if progress.phase == "training" and progress.share > 0:
                    assert view.seconds_left() == pytest.approx(2 * length + 3.0 - (clock.now - begun))
                clock.now += cost / pace
            for name in together:
                view.show(Event(name, "failed", "for no reason"))


def test_another_seed_is_expected_to_take_what_the_first_took(monkeypatch: pytest.MonkeyPatch) -> None:
    """A landscape takes ten times what is assumed; the next seed's then has it in its time left."""
    clock, pace = Clock(monkeypatch), 1e6
    runs = {config.identity: config for config in (replace(MEASURED, seed=seed) for seed in range(2))}
    _, second = runs
    real = {phase: (10 if phase == "landscape" else 1) * cost for phase, cost in phase_macs(MEASURED).items()}
    with ProgressView(runs, 0) as view:
        for name in runs:
            view.show(Event(name, "started"))
            begun = clock.now
            for progress, cost in reports_of(MEASURED):
                view.show(Event(name, "progress", progress))
                if name == second:
                    whole = sum(real.values()) / pace
                    assert view.seconds_left() == pytest.approx(whole - (clock.now - begun))
                clock.now += (10 if progress.phase == "landscape" else 1) * cost / pace
            view.show(Event(name, "failed", "for no reason"))
        assert view.seconds_left() == 0.0


def test_a_run_whose_worker_died_is_no_measure_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    runs = {config.identity: config for config in (replace(MEASURED, seed=seed) for seed in range(2))}
    first, second = runs
    with ProgressView(runs, 0) as view:
        for end in ("died", "failed"):
            view.show(Event(first, "started"))
            for progress, _ in reports_of(MEASURED)[2:]:
                view.show(Event(first, "progress", progress))
                clock.now += 1.0
            view.show(Event(first, end, "killed"))  # type: ignore[arg-type]
        assert view.left.phases[second] == phase_macs(MEASURED)


@pytest.mark.parametrize("end", [trained(1, MEASURED), measuring("signal at the start", MEASURED)])
def test_a_run_that_ends_early_has_not_done_the_rest_of_its_work(
    monkeypatch: pytest.MonkeyPatch, end: Progress
) -> None:
    """One that diverges in its first epoch does not make the others as quick."""
    clock, pace = Clock(monkeypatch), 1e6
    runs = {config.identity: config for config in (replace(MEASURED, seed=seed) for seed in range(2))}
    first, second = runs
    phases = phase_macs(MEASURED)
    with ProgressView(runs, 0) as view:
        view.show(Event(first, "started"))
        for phase in PHASES[:2]:
            view.show(Event(first, "progress", measuring(phase, MEASURED)))
            if phase == end.phase:
                break
            clock.now += phases[phase] / pace
        else:
            view.show(Event(first, "progress", trained(1, MEASURED, 0.0)))
            clock.now += phases["training"] / MEASURED.epochs / pace
            view.show(Event(first, "progress", end))
        view.show(Event(first, "failed", "the loss is not finite"))
        view.show(Event(second, "started"))
        begun = clock.now
        for progress, cost in reports_of(MEASURED):
            view.show(Event(second, "progress", progress))
            if progress.phase == "training" and progress.share > 0:
                left = run_macs(MEASURED) / pace - (clock.now - begun)
                assert view.seconds_left() == pytest.approx(left)
            clock.now += cost / pace


def test_a_run_that_goes_on_counts_what_this_command_has_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, name = Clock(monkeypatch), MEASURED.identity
    with ProgressView({name: MEASURED}, 0) as view:
        view.show(Event(name, "started"))
        view.show(Event(name, "progress", trained(3, MEASURED, 0.0)))  # epochs 1 and 2 were done before
        clock.now += 10.0
        view.show(Event(name, "progress", trained(4, MEASURED, 0.0)))
        phases = phase_macs(MEASURED)
        after = sum(phases[phase] for phase in PHASES[PHASES.index("training") + 1 :])
        epoch = phases["training"] / MEASURED.epochs
        assert view.seconds_left() == pytest.approx(10.0 * (epoch + after) / epoch)


def test_lines_of_a_pipe_name_what_takes_long_and_the_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock, name = Clock(monkeypatch), MEASURED.identity
    with ProgressView({name: MEASURED}, 0, {name: "a run"}) as view:
        for progress, _ in reports_of(MEASURED):
            clock.now += 0.1
            view.show(Event(name, "progress", progress))
        view.begin_report()
    phases, cost = phase_macs(MEASURED), run_macs(MEASURED)
    long = [phase for phase in PHASES if phase != "training" and phases[phase] >= module.NOTABLE * cost]
    assert {"curvature at the start", "curvature at the end", "landscape"} <= set(long) < set(PHASES)
    assert capsys.readouterr().err.splitlines() == [
        *(f"  a run  {phase}" for phase in long), "report: figures, tables and page",
    ]  # fmt: skip


def test_a_terminal_shows_the_phase_of_each_run() -> None:
    name = MEASURED.identity
    with ProgressView({name: MEASURED}, 0, {name: "a run"}) as view:
        view.show(Event(name, "progress", measuring("landscape", MEASURED)))
        shown = [str(line) for line in view._render().renderables]
        assert shown[0].split() == ["a", "run", "landscape"]
        view.show(Event(name, "failed", "for no reason"))
        view.begin_report()
        shown = [str(line) for line in view._render().renderables]
        assert shown[0].split() == ["report", "figures,", "tables", "and", "page"]
        assert shown[-1].startswith("1/1 runs")


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("name", ["vgg08+bn nowhere lr 0.001 batch 20 seed 0", "a run", "n" * 90])
def test_nothing_is_cut_at_the_right_however_narrow_the_terminal_is(width: int, name: str) -> None:
    training = Progress(12, 100, 0.5, 2.345, 0.125, 12_345.0)
    for progress in (str(training), "curvature at the start", "starting"):
        (line,) = module._beside([(name, progress)], width)
        assert len(line) <= width
        kept = line.partition("  ")[2].strip()
        assert progress.startswith(kept)
        assert kept.startswith(progress.split("  ")[0])
    lines = list(module._beside([(name, str(training)), ("b", "landscape")], width))
    assert lines[0].index("epoch") == lines[1].index("landscape")
    whole = list(module._beside([("a run", str(training))], 80))
    assert whole == [f"a run  {training}"]


def test_a_run_reports_its_phases_in_order_and_not_again_what_it_has(tmp_path: Path) -> None:
    heard: list[Any] = []

    def hear(news: Any) -> None:
        heard.append(news)
        if isinstance(news, Progress):  # those who only read the folder know it too
            assert RunFolder(tmp_path / "run").status()["phase"] == news.phase

    images = gs.load_images("digits")
    gs.train_run(MEASURED, tmp_path / "run", images, report=hear)
    assert "phase" not in RunFolder(tmp_path / "run").status()
    phases = [each.phase for each in heard if isinstance(each, Progress)]
    assert list(dict.fromkeys(phases)) == list(PHASES)
    assert [phases.count(phase) for phase in PHASES if phase != "training"] == [1] * 6
    at = {each.phase: (each.epoch, each.share) for each in heard if isinstance(each, Progress)}
    assert at["curvature at the start"] == (1, 0.0)
    assert at["curvature at the end"] == at["landscape"] == (MEASURED.epochs, 1.0)
    heard.clear()
    plain = replace(MEASURED, curvature_images=0, landscape_images=0, noise_batches=0)
    gs.train_run(plain, tmp_path / "plain", images, report=heard.append)
    assert {each.phase for each in heard} == {"signal at the start", "training", "test"}


def test_costs_are_those_of_the_phases_that_a_run_asks_for() -> None:
    planned = BATCHNORM.plan("quick").configs
    phases = phase_macs(planned["lr-0.01"])
    assert list(phases) == list(PHASES)
    assert [phase for phase, cost in phases.items() if cost] == ["signal at the start", "training", "test"]
    assert run_macs(planned["lr-0.01"]) == sum(phases.values())
    twice = phase_macs(replace(planned["vgg38"], epochs=2 * planned["vgg38"].epochs))
    once = phase_macs(planned["vgg38"])
    assert twice["training"] == 2 * once["training"]
    assert twice["landscape"] == once["landscape"]


def test_more_cores_draw_a_report_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = []
    for count in (1, 2, 64):
        monkeypatch.setattr("gradscape.study.network_cost.cores", lambda count=count: count)
        seconds.append(report_seconds())
    assert seconds[0] > seconds[1] > seconds[2] > 0


def test_what_is_left_of_the_report_falls_as_time_goes_by(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    with ProgressView({}, 2, report=8.0) as view:
        clock.now += 100.0
        view.begin_report()
        assert view.seconds_left() == 8.0
        clock.now += 6.0
        assert view.remaining() == "  (about 2 s left)"
        clock.now += 6.0
        assert view.remaining() == ""
