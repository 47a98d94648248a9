"""What a user holds: a short repr, a small summary in a notebook, a page, whatever it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import fields, is_dataclass, replace
from functools import cache
from html import unescape
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from torch import nn
from torch.nn.functional import cross_entropy

import gradscape as gs
import synthetic
from attention_nets import Decoder, next_word, words
from gradscape import records
from gradscape.errors import ConfigError
from gradscape.measure.watch.watch import Watch
from gradscape.records.display import LINES, Displayable
from gradscape.records.gradients import FlowHistory
from gradscape.records.noise import RunNoise
from gradscape.records.role import Role
from gradscape.records.run import RunRecord
from gradscape.records.signal import RunStart
from gradscape.report.pages.record import CAPTIONS
from html_pages import Reader

BATCH = (torch.randn(12, 8, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 2)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))


def wide(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 2))


def watch(steps: int = 3, **options: bool) -> Any:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flow = gs.watch(model, optimizer, **options)
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(model(BATCH[0]), BATCH[1]).backward()
        optimizer.step()
    return flow


def attention() -> Any:
    model = Decoder()
    with gs.watch(model, torch.optim.SGD(model.parameters(), lr=0.1)) as flow:
        next_word(model, words()).backward()
        torch.optim.SGD(model.parameters(), lr=0.1).step()
    return flow.history().transformer


def signal() -> Any:
    return gs.check(net, BATCH, cross_entropy, remedies=False, seeds=1, confirm=0, fit=0).signal


def noise() -> Any:
    return gs.noise(net(), cross_entropy, [(BATCH[0][i : i + 4], BATCH[1][i : i + 4]) for i in (0, 4, 8)])


def plane() -> Any:
    return gs.landscape(net(), cross_entropy, BATCH, dims=2, points=5)


def replayed() -> Any:
    model = net()
    batches = [(BATCH[0][i : i + 3], BATCH[1][i : i + 3]) for i in (0, 3, 6, 9)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return gs.replay(model, optimizer, batches, cross_entropy, suspect=1)


def run() -> RunRecord:
    return synthetic.run("vgg08", 0)


HELD: dict[str, Callable[[], Any]] = {
    Watch.__name__: watch,
    "FlowHistory": lambda: watch().history(),
    "LossHistory": lambda: watch().history().loss,
    "ActivationHistory": lambda: watch(activations=True).history().activations,
    "TransformerHistory": attention,
    "DistributionHistory": lambda: watch(distributions=True).history().distributions,
    "Diagnosis": lambda: gs.diagnose(watch()),
    "CheckRecord": lambda: gs.check(net, BATCH, cross_entropy, remedies=False, seeds=1, fit=3),
    "Comparison": lambda: gs.compare(watch(), watch()),
    "SignalRecord": signal,
    "RunStart": lambda: RunStart(signal(), watch(1).history()),
    "CoordinateCheck": lambda: gs.coordinate_check(wide, [8, 16, 32], BATCH, cross_entropy, seeds=2),
    "CurvatureRecord": lambda: gs.curvature(net(), cross_entropy, BATCH, probes=2, steps=5),
    "LandscapeRecord": plane,
    "LrRange": lambda: gs.lr_range(net, BATCH, cross_entropy, steps=20, seeds=2),
    "NoiseRecord": noise,
    "ReplayRecord": replayed,
    "RunNoise": lambda: RunNoise(noise(), ((4, 0.5), (2, 1.0))),
    "SmoothnessRecord": lambda: gs.smoothness(net(), cross_entropy, BATCH, 0.1),
    "RunRecord": run,
    "StudyRecord": lambda: synthetic.study(seeds=1),
}


@cache
def held(name: str) -> Any:
    """What is only looked at, made once."""
    return HELD[name]()


def test_everything_that_is_displayed_is_looked_at_here() -> None:
    for module in iter_modules(records.__path__, "gradscape.records."):
        import_module(module.name)
    kinds = {kind for kind in Displayable.__subclasses__() if kind.__module__.startswith("gradscape.")}
    assert {kind.__name__ for kind in kinds} == set(HELD)


@pytest.mark.parametrize("name", HELD)
def test_it_has_a_short_repr_a_small_summary_and_a_page(name: str, tmp_path: Path) -> None:
    thing = held(name)
    assert re.fullmatch(rf"<{name}: .+>", repr(thing))
    assert len(repr(thing)) < 200
    assert len(str(thing)) > 20
    assert thing.to_dict()
    summary = thing._repr_html_()
    Reader(summary)
    assert len(summary.encode()) < 100_000
    assert summary.count("<img") == 1
    assert set(re.findall(r"<(\w+)", summary)) <= {"div", "b", "pre", "img"}  # what no notebook takes out
    path = thing.save_html(str(tmp_path / "page.html"))
    text = path.read_text()
    assert "<h1>" in text
    assert not re.search(r'(src|href)="(?!#|data:)', text.split("<script")[0])


@pytest.mark.parametrize("name", HELD)
def test_it_is_drawn_on_given_axes(name: str) -> None:
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    assert held(name).plot(axes) is axes
    assert axes.has_data()


@pytest.mark.parametrize("name", CAPTIONS)
def test_a_page_of_numbers_says_how_its_drawing_is_read(name: str, tmp_path: Path) -> None:
    thing = held(name)
    if name == "LandscapeRecord":
        thing = gs.landscape(net(), cross_entropy, BATCH, dims=1, points=3)
    text = unescape(thing.save_html(tmp_path / "page.html").read_text())
    assert f"<figcaption>{CAPTIONS[name]}</figcaption>" in text


def test_a_plane_says_what_width_and_a_log_scale_are(tmp_path: Path) -> None:
    text = gs.landscape(net(), cross_entropy, BATCH, points=5, span=(-9, 9)).save_html(tmp_path / "a.html")
    assert "Width: how far from the model the loss has risen by half a unit" in text.read_text()
    assert "the loss is on a log scale" in text.read_text()


def test_eigenvalues_without_a_density_are_drawn_with_the_numbers_of_both_ends() -> None:
    found = gs.curvature(net(), cross_entropy, BATCH, k=1)
    assert found.ends is not None
    ends = [f"{found.ends.largest[0]:.3g}", f"{found.ends.smallest[0]:.3g}"]
    assert [text.get_text() for text in found.plot().texts] == ends


def test_small_learning_rates_do_not_run_into_each_other() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(4.4, 3.3), layout="constrained")
    FigureCanvasAgg(drawing)
    axes = gs.smoothness(net(), cross_entropy, BATCH, 0.001).plot(drawing.add_subplot())
    drawing.draw_without_rendering()
    boxes = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
    assert len(boxes) > 2
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_a_long_history_is_a_small_summary() -> None:
    history = watch().history()
    rows, columns = 1_000, 300
    noise = np.random.default_rng(0).lognormal(size=(rows, columns))
    tables = {name: noise for name, value in vars(history).items() if getattr(value, "shape", ()) == (3, 6)}
    long = replace(
        history, **tables, layers=tuple(f"block.{i}.weight" for i in range(columns)),
        kinds=("linear",) * columns, sizes=(64,) * columns, steps=np.arange(rows),
        skipped=np.zeros(rows, dtype=bool), activations=None, shapes=(), dtypes=(), clipped=None, loss=None,
        optimizers=(replace(history.optimizers[0], members=tuple(range(columns)), decay=()),),
    )  # fmt: skip
    summary = long._repr_html_()
    assert "<img" in summary
    assert len(summary) < 100_000
    assert len(repr(long)) < 200


def test_a_long_text_is_cut_in_a_notebook() -> None:
    class Long(Displayable):
        def __str__(self) -> str:
            return "<b>\n" + "\n".join(map(str, range(LINES + 5)))

    summary = Long()._repr_html_()
    assert "<b>&lt;b&gt;</b>" in summary
    assert "… 5 more lines: print it" in summary


def test_text_of_a_model_is_never_markup() -> None:
    model = nn.Sequential()
    model.add_module("<script>alert(1)</script>\udcff$", nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flow = gs.watch(model, optimizer)
    cross_entropy(model(BATCH[0]), BATCH[1]).backward()
    optimizer.step()
    for thing in (flow, gs.diagnose(flow)):
        summary = thing._repr_html_()
        summary.encode()
        assert "<script" not in summary
        assert "<img" in summary


def lines(text: str) -> int:
    """Of a prompt that is 100 columns wide."""
    return sum(1 + len(line) // 100 for line in text.split("\n"))


def records_in(value: Any) -> Iterator[Any]:
    """A record, and all that are in it."""
    if is_dataclass(value):
        yield value
        value = [getattr(value, each.name) for each in fields(value)]
    if isinstance(value, Mapping):
        value = list(value.values())
    for each in value if isinstance(value, tuple | list) else ():
        yield from records_in(each)


def many(value: Any) -> Any:
    """Ten thousand of what a field has any number of."""
    if isinstance(value, np.ndarray):
        return np.resize(value, (100, 100))
    if isinstance(value, Mapping):
        return {f"{place}.weight": each for place in range(10_000) for each in list(value.values())[:1]}
    return (value or ("0.weight",))[:1] * 10_000


def test_no_repr_has_forty_lines_however_large_the_model() -> None:
    kinds = {type(each): each for name in set(HELD) - {"Watch"} for each in records_in(held(name))}
    parts = {kind: each for kind, each in kinds.items() if not isinstance(each, Displayable)}
    assert len(parts) >= 20  # and a displayable's is a line
    for kind, part in parts.items():
        large = copy(part)
        for each in fields(kind):
            value = getattr(part, each.name)
            if value is not None and re.search(r"\.\.\.|Mapping|Values|NDArray", str(each.type)):
                object.__setattr__(large, each.name, many(value))
        assert lines(repr(large)) < 40, kind


def test_a_sweep_is_a_line_at_a_prompt() -> None:
    sweep = gs.Sweep("rates", {"epochs": 2}, [{"optim.lr": {"log": [1e-4, 1e-2], "points": 300}}], seeds=3)
    assert repr(sweep) == "<Sweep rates: 300 points of optim.lr, 3 seeds>"


def test_a_history_and_a_run_show_their_verdict_in_a_notebook() -> None:
    history = held("FlowHistory")
    assert f"<b>{gs.diagnose(history).heading}</b>" in history._repr_html_()
    assert f"<b>{gs.diagnose(run()).heading}</b>" in run()._repr_html_()
    assert f"<b>{run().identity}: done" in replace(run(), flow=None)._repr_html_()
    nothing = replace(history, skipped=np.ones_like(history.skipped))
    assert "<b>no step of the optimizer was made" in nothing._repr_html_()


def test_a_check_shows_its_remedies_in_a_notebook_and_draws_its_table() -> None:
    check = replace(held("CheckRecord"), remedies=(held("CheckRecord").as_is,))
    assert "remedies tried on copies, the best first:" in check._repr_html_()
    assert "depth scale" in str(check)
    assert "depth scale" not in check._repr_html_()


def test_a_study_counts_the_verdicts_on_its_runs() -> None:
    study = synthetic.study(seeds=1)
    assert str(study) == "study batchnorm (quick): 15 done"
    names = list(study.runs)
    status = {name: {"diagnosis": gs.diagnose(study.runs[name]).to_dict()} for name in names[:2]}
    runs = {name: replace(run, status=status.get(name, {})) for name, run in study.runs.items()}
    ended = replace(study, runs=runs)
    verdicts = [gs.diagnose(study.runs[name]).verdict for name in names[:2]]
    told = ", ".join(f"{verdicts.count(each)} {each}" for each in dict.fromkeys(verdicts))
    assert str(ended) == f"study batchnorm (quick): 15 done\nverdicts on runs that have ended: {told}"


def test_of_thousands_of_runs_some_are_drawn_by_the_colors_of_their_roles() -> None:
    from matplotlib.figure import Figure

    study = synthetic.study(seeds=1)
    runs = {str(number): run() for number in range(2_500)}
    roles = {name: Role(name, runs=tuple(runs)[place::2]) for place, name in enumerate(("even", "odd"))}
    axes = replace(study, runs=runs, roles=roles).plot(Figure().add_subplot())
    (lines,) = axes.collections
    assert len(lines.get_segments()) == 834
    assert {tuple(color) for color in lines.get_colors()} == {to_rgba("C0"), to_rgba("C1")}
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["even", "odd"]
    assert axes.get_title() == "batchnorm (quick), 834 of 2500 runs"


def test_a_watch_shows_its_verdict_in_a_notebook() -> None:
    assert "no step has been watched yet" in watch(0)._repr_html_()
    flow = watch()
    assert f"<b>{gs.diagnose(flow).heading}</b>" in flow._repr_html_()
    assert repr(flow) == "<Watch: 6 parameter tensors, step 3>"
    flow.close()
    assert repr(flow) == "<Watch: 6 parameter tensors, step 3, ended>"


def test_a_page_can_have_a_diagnosis_with_limits_of_ones_own(tmp_path: Path) -> None:
    history = watch().history()
    assert isinstance(history, FlowHistory)
    diagnosis = gs.diagnose(history, gs.Limits(large=1e-9))
    assert diagnosis.verdict == "learning rate too large"
    text = gs.save_html(history, tmp_path / "page.html", diagnosis=diagnosis).read_text()
    assert "<title>Learning rate too large" in text


def test_what_has_no_page_is_refused_in_one_line(tmp_path: Path) -> None:
    for thing in (3, None, {}, {"a": 3}, net()):
        with pytest.raises(ConfigError, match="thing: expected a watch or a record; got"):
            gs.save_html(thing, tmp_path / "page.html")
    assert not list(tmp_path.iterdir())
