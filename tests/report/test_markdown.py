"""Reports in Markdown: bounded, the gravest kept, and no text of anybody's becomes structure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from torch import nn
from torch.nn.functional import cross_entropy

import gradscape as gs
import synthetic
from gradscape._text import strip_controls
from gradscape.errors import ConfigError
from gradscape.records.check import CheckRecord, Trial
from gradscape.records.diagnosis import VERDICTS, Diagnosis, Finding, Symptom
from gradscape.records.gradients import FlowHistory
from gradscape.report.bounded_markdown import JOINER, MOST, Item, Section, bounded, escape
from gradscape.report.markdown import study_markdown, to_markdown
from made_records import made_flow, made_signal

HOSTILE = (
    "a|b", "`", "```\n", "\n# heading", "\n\n- item", "<script>alert(1)</script>", "<!--", "&lt;&copy;",
    "[link](http://evil.example)", "![](x)", "https://evil.example", "www.evil.example", "@everyone", "#12",
    "*b*", "__u__", "~~s~~", "$x$", "\\", "\\|", "\x00\x1b[31m\x9b", "\u202e", "\ud800", "\u2028", "\t\r\n",
    "---", "1. one", "> quote", "| --- |", "ü" * 300, "&" * 300, "\U0001f600" * 300, "",
)  # fmt: skip
texts = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(), max_size=60))
PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def finding(text: str, verdict: str = "dead units", numbers: int = 2) -> Finding:
    evidence = tuple(Symptom(text, 2.0, math.inf, text) for _ in range(numbers))
    return Finding(verdict, text, text, text, evidence, text)


def check_record(text: str, trials: int = 2, layers: int = 3) -> CheckRecord:
    """A check in which every text is the same."""
    diagnosis = Diagnosis(
        (finding(text), finding(text, "overshooting")), text, (text, f"{text} again"), (text,)
    )
    as_is = Trial("", text, diagnosis, 1.0, (2.0, 1.0))
    remedies = tuple(replace(as_is, remedy=text, effect="nothing") for _ in range(trials))
    signal = replace(
        made_signal([0.5] * layers), layers=(text,) * layers, kinds=(text,) * layers, notes=(text,)
    )
    return CheckRecord(signal, diagnosis, as_is, remedies, facts=(text,), dtypes=(text,))


def history(text: str, layers: int = 3) -> FlowHistory:
    made = made_flow([[1.0] * layers], (text,) * layers, (text,) * layers)
    return replace(made, modules=(text,), dtypes=(text,) * layers)


def structure(report: str) -> list[str]:
    """Kinds of the tokens, outside and inside of lines."""
    found = []
    for token in PARSER.parse(report):
        found.append(token.type)
        found += [each.type for each in token.children or () if each.type != "text"]
    return found


def reports(text: str) -> list[str]:
    diagnosis = check_record(text).diagnosis
    runs = {f"{text} {number}": diagnosis for number in range(2)} | {f"{text} new": None}
    return [
        to_markdown(diagnosis),
        to_markdown(check_record(text)),
        to_markdown(history(text), diagnosis),
        study_markdown(text, text, runs),
    ]


PLAIN = [structure(report) for report in reports("x")]


@settings(deadline=None, max_examples=50)
@given(texts.filter(lambda text: len(text.encode("utf-8", "replace")) < 100))
@example("a|b\n# c <b> [d](e) `f` @g")
def test_no_text_becomes_structure_html_or_a_link(text: str) -> None:
    for report, plain in zip(reports(text), PLAIN, strict=True):
        assert structure(report) == plain
        assert len(report.encode()) <= MOST
        assert not re.search(r"://|\bwww\.|@\w", report)
        assert all(letter.isprintable() or letter in "\n\u2060" or letter in text for letter in report)


@given(texts, st.integers(1, 60))
def test_an_escaped_text_is_one_bounded_line_and_reads_as_it_was(text: str, most: int) -> None:
    cut = escape(text, most + 3)
    assert len(cut.encode()) <= most + 3
    assert len(cut.splitlines()) <= 1
    _, inline, _ = PARSER.parse(f"x{escape(text, 10**6)}x")
    (shown,) = inline.children or ()
    read = strip_controls(re.sub("[\ud800-\udfff]", "\ufffd", " ".join(text.split())))
    assert shown.type == "text"
    assert shown.content.replace(JOINER, "") == f"x{read.replace(JOINER, '')}x"


sizes = st.integers(0, 400)


@settings(deadline=None, max_examples=30)
@given(texts, sizes, sizes, st.integers(1, len(VERDICTS)), sizes)
def test_a_report_is_bounded_and_keeps_the_gravest(
    text: str, layers: int, trials: int, verdicts: int, notes: int
) -> None:
    findings = tuple(finding(text, verdict, 9) for verdict in VERDICTS[:verdicts])
    diagnosis = Diagnosis(findings, text, (text,) * notes, (text,) * 3)
    record = replace(check_record(text, trials, layers + 1), diagnosis=diagnosis)
    for report in (to_markdown(record), to_markdown(history(text, layers + 1), diagnosis)):
        assert len(report.encode()) <= MOST
        assert "\n### Non-finite" in report
        headings = re.findall(r"^### ([^,:]*)", report, re.MULTILINE)
        told = [each for each in headings if not each.startswith("Layers")]
        assert [each.lower() for each in told] == [each.lower() for each in VERDICTS[: len(told)]]
        left = verdicts - len(told)
        assert not left or f"{left} finding" in report.splitlines()[-1]


def test_what_is_left_out_is_counted_by_its_kind() -> None:
    section = Section("## A", [Item(f"- {'x' * 90}", rank, "note") for rank in range(100)])
    text = bounded([section], 1_000)
    assert text.count("- x") == 7
    assert text.endswith("\nLeft out, to stay within 1,000 bytes: 93 notes.\n")
    assert len(text.encode()) <= 1_000


def test_layers_of_findings_are_kept_then_those_at_the_ends() -> None:
    names = tuple(f"stage.{number}.weight" for number in range(1_000))
    flow = made_flow([[1.0] * 1_000], names, ("linear",) * 1_000)
    diagnosis = Diagnosis((replace(finding("x"), layer=names[500]),), "now", ())
    report = to_markdown(flow, diagnosis)
    shown = re.findall(r"^\| stage\.(\d+)\.weight", report, re.MULTILINE)
    places = [int(each) for each in shown]
    assert 500 in places
    assert places == sorted(places)
    others = [each for each in places if each != 500]
    assert others[0] == 0
    assert others[-1] == 999
    assert max(min(each, 999 - each) for each in others) < len(others)
    assert f"{1_000 - len(places)} layers" in report.splitlines()[-1]


def watched(steps: int = 3) -> Any:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    flow = gs.watch(model, optimizer)
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(model(torch.ones(4, 8)), torch.arange(4) % 2).backward()
        optimizer.step()
    return flow


def test_a_watch_s_report_has_network_optimizer_losses_and_versions() -> None:
    flow = watched()
    report = gs.to_markdown(flow)
    past, diagnosis = flow.history(), gs.diagnose(flow)
    assert report.startswith(f"# {diagnosis.heading.capitalize()}\n")
    assert "- parameters: 90 in 4 tensors of float32" in report
    assert "- optimizer: AdamW, lr 0.01, ε 1e-08, weight decay 0.01" in report
    assert f"{past.loss.values[0]:.3g}" in report.split("## Loss")[1]
    number = f"{past.mean_abs[-1, 0]:.2g} | {past.relative_update[-1, 0]:.2g}"
    assert f"| 0.weight | linear | 8×8 | {number} |" in report
    assert f"Versions: gradscape {gs.__version__}, torch " in report
    assert past.to_markdown() == report
    assert "## Network" not in diagnosis.to_markdown()


@pytest.mark.slow
def test_a_check_s_report_has_what_was_tried() -> None:
    x, y = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 2
    record = gs.check(
        lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), (x, y), cross_entropy,
        seeds=1, fit=3,
    )  # fmt: skip
    report = record.to_markdown()
    rows = re.findall(r"^\| ([^|]+) \| [^|]* \| (?:lowers|nothing|raises|predicts|not tried) ", report, re.M)
    assert rows == [escape(trial.remedy) for trial in record.remedies]
    assert "- optimizer: Adam, lr 0.001, ε 1e-08" in report
    assert "| 0 | linear | 4 |" in report
    assert f"- as it is: {record.as_is.losses[0]:.3g}, " in report


def test_a_run_s_report_has_its_settings_and_the_versions_it_was_made_with() -> None:
    record = synthetic.run("vgg38", 0)
    record = replace(record, status={**record.status, "versions": {"torch": "1.2.3", "gradscape": "0.0.1"}})
    report = record.to_markdown()
    assert f"- run: {escape(record.identity)}, {record.state}, " in report
    assert re.search(r"^- settings other than the defaults: .*\bepochs=8\b", report, re.MULTILINE)
    assert "Versions: torch 1.2.3, gradscape 0.0.1." in report
    losses = record.curve("train_loss")
    assert f"- training images: {losses[0]:.3g}, " in report
    assert len(report.encode()) <= MOST


def test_a_study_s_report_has_each_run_the_gravest_first() -> None:
    study = synthetic.study(seeds=1)
    report = study.to_markdown()
    assert report.startswith(f"# Study batchnorm ({study.preset})\n\n{len(study.runs)} runs: ")
    grades = re.findall(r"^\| [^|]+ \| (\*\*fail\*\*|warn|info|–) \|", report, re.MULTILINE)
    assert grades == sorted(grades, key=["**fail**", "warn", "info", "–"].index)
    assert len(report.encode()) <= MOST


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (3, "thing: expected a diagnosis, a check, a watch, its history, a run or a study; got 3"),
        (lambda: made_flow([[1.0]], ("w",), ("conv",)), "a history that knows no optimizer has no verdict"),
        (lambda: watched(0), "no step has been watched yet"),
    ],
)
def test_what_has_no_verdict_is_one_line(thing: Callable[[], Any] | int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        gs.to_markdown(thing() if callable(thing) else thing)


def test_numbers_that_are_not_finite_are_told() -> None:
    flow = replace(made_flow([[np.nan, np.inf]], ("a", "b"), ("conv", "linear")), shapes=((2, 3), ()))
    report = to_markdown(flow, Diagnosis((finding("x"),), "now", ()))
    assert "| a | conv | 2×3 | nan |" in report
    assert "| b | linear | 1 | inf |" in report
