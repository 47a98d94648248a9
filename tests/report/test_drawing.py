"""Figures drawn by processes beside this one: the same bytes, whatever becomes of the processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.ticker import FuncFormatter

import synthetic
from gradscape.records.run import StudyRecord
from gradscape.report import drawing
from gradscape.report.drawing import rendering
from gradscape.report.figures.base import Figure, panel, render
from gradscape.report.figures.style import styled
from gradscape.studies.batchnorm.report import PARTS


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "cores", lambda: 2)
    monkeypatch.setattr(drawing, "FIGURES_EACH", 1)


def lines(count: int) -> list[Figure]:
    figures = []
    for number in range(count):
        with styled():
            paper, axes = panel()
            axes.plot([0, 1], [0, number], label=f"line {number}")
            axes.set(xlabel="across", ylabel="up")
        figures.append(Figure(f"figure-{number}", "Title", "Caption.", "Group", paper))
    return figures


def refusing(number: int) -> Figure:
    """A figure that cannot be sent: it holds a function of no name."""
    (figure,) = lines(1)
    figure.drawing.axes[0].xaxis.set_major_formatter(FuncFormatter(lambda x, place: f"{x:g} m"))
    return Figure(f"own-{number}", "Title", "Caption.", "Group", figure.drawing)


@pytest.fixture(scope="module")
def by_two() -> dict[str, dict[str, bytes]]:
    """What two processes drew, between figures that they could not be sent."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "cores", lambda: 2)
        patch.setattr(drawing, "FIGURES_EACH", 1)
        with rendering(figures := [refusing(0), *lines(3), refusing(1)]) as files_of:
            assert files_of is not render
            return {figure.name: files_of(figure) for figure in figures}


def test_processes_draw_the_bytes_that_this_one_does(by_two: dict[str, dict[str, bytes]]) -> None:
    drawn = {name: files for name, files in by_two.items() if name.startswith("figure")}
    assert drawn == {figure.name: render(figure) for figure in lines(3)}
    assert len({files["svg"] for files in drawn.values()}) == 3


def one_of_each_group(study: StudyRecord) -> list[Figure]:
    return list({figure.group: figure for figure in PARTS.figures(study)}.values())


@pytest.mark.slow
def test_figures_of_every_group_have_the_same_bytes(two_cores: None) -> None:
    study = synthetic.study(2)
    with rendering(figures := one_of_each_group(study)) as files_of:
        drawn = {figure.name: files_of(figure) for figure in figures}
    assert len(drawn) == 8
    assert drawn == {figure.name: render(figure) for figure in one_of_each_group(study)}


@pytest.mark.slow
def test_a_figure_that_cannot_be_sent_is_drawn_here(by_two: dict[str, dict[str, bytes]]) -> None:
    assert list(by_two) == ["own-0", "figure-0", "figure-1", "figure-2", "own-1"]
    for figure in (refusing(0), refusing(1)):
        assert by_two[figure.name] == render(figure)


@pytest.mark.slow
def test_what_dead_processes_leave_is_drawn_here(two_cores: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "SERVE", "raise SystemExit(3)")
    with rendering(figures := lines(2)) as files_of:
        drawn = [files_of(figure) for figure in figures]
    assert drawn == [render(figure) for figure in lines(2)]


def test_one_core_or_few_figures_need_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(drawing, "cores", lambda: 1)
    with rendering(lines(9)) as files_of:
        assert files_of is render
    monkeypatch.setattr(drawing, "cores", lambda: 64)
    with rendering(lines(2 * drawing.FIGURES_EACH - 1)) as files_of:
        assert files_of is render


def test_no_process_is_left_where_the_report_fails(two_cores: None, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    kept = subprocess.Popen

    def noting(*given: object, **named: object) -> subprocess.Popen[bytes]:
        started.append(kept(*given, **named))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", noting)
    with pytest.raises(OSError, match="disk"), rendering(lines(4)):
        raise OSError("disk full")
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)


def test_the_processes_load_no_torch(tmp_path: Path) -> None:
    code = "import sys, gradscape.report.drawing; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
