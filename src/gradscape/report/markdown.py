"""Report of a verdict in Markdown: 8,000 bytes at most, fit for an issue or an assistant."""

from __future__ import annotations

import math
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from gradscape._text import count_noun
from gradscape.config.arguments import typed
from gradscape.config.paths import DEFAULTS
from gradscape.errors import ConfigError, brief
from gradscape.measure.diagnose.diagnose import diagnose
from gradscape.measure.diagnose.from_run import recorded
from gradscape.records.check import CheckRecord, Trial
from gradscape.records.diagnosis import VERDICTS, Diagnosis, Finding
from gradscape.records.gradients import FlowHistory
from gradscape.records.run import RunRecord, StudyRecord
from gradscape.report.bounded_markdown import Item, Section, bounded, escape, header, row
from gradscape.version import __version__

GRADES = ("fail", "warn", "info")
NUMBERS = 4  # shown of a finding's, and of optimizers
ENDS = 3  # losses shown at each end
CAUSE, WORDS, NAME = 900, 300, 160  # bytes
# What is kept before what else; the gravest finding comes first of all.
HEAD, FIRST, FACTS, FURTHER, TRIED, REMARKS, LAYERS = range(7)
_FEW = 1 / 100_000  # of a rank: the order within it


@typed()
def to_markdown(thing: Any, diagnosis: Diagnosis | None = None) -> str:
    """Return a report of a verdict in Markdown, of at most 8,000 bytes in UTF-8.

    It has the findings with their evidence, the remedies that were tried, network and optimizer, losses,
    notes and versions, as far as the record knows them. Of what does not fit the gravest findings are kept,
    and the rest is counted at the end. Texts of the record are escaped: none becomes Markdown or HTML.

    Args:
        thing: Watch, its history, run, study, check, or a diagnosis alone, which knows no network.
        diagnosis: Diagnosis of a watch, its history or a run, if made with limits of your own.

    Raises:
        ConfigError: `thing` has no verdict, or nothing to diagnose yet.

    Example:
        >>> print(gs.to_markdown(flow))
    """
    if callable(getattr(thing, "history", None)):
        thing = thing.history()  # a watch's type is not imported: it needs torch
    match thing:
        case Diagnosis():
            return bounded([*_verdict(thing), *_remarks(thing, ours())])
        case CheckRecord():
            return _check_report(thing)
        case FlowHistory():
            return _history_report(thing, diagnosis or _diagnosis_of(thing))
        case RunRecord():
            return _run_report(thing, diagnosis or _diagnosis_of(thing))
        case StudyRecord():
            return study_markdown(thing.study, thing.preset, diagnoses_of(thing.runs))
    raise ConfigError(
        f"thing: expected a diagnosis, a check, a watch, its history, a run or a study; got {brief(thing)}"
    )


def diagnoses_of(runs: Mapping[str, RunRecord]) -> dict[str, Diagnosis | None]:
    """Return the diagnosis per identity; None for a run without an epoch.

    Args:
        runs: Run per identity.
    """
    return {
        name: _diagnosis_of(run) if run.epochs or run.state == "diverged" else None
        for name, run in runs.items()
    }


def _diagnosis_of(thing: FlowHistory | RunRecord) -> Diagnosis:
    """Return the diagnosis with the usual limits."""
    if isinstance(thing, FlowHistory) and not thing.optimizers and not thing.lack:
        raise ConfigError("thing: a history that knows no optimizer has no verdict; give the run's record")
    return diagnose(thing)


def ours() -> dict[str, str]:
    """Return the versions of what this process runs on, per name."""
    found = {"gradscape": __version__}
    for name in ("torch", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # put on the path by hand
            continue
    return {**found, "python": platform.python_version()}


def _check_report(record: CheckRecord) -> str:
    fit = [] if record.fit is None else [("the batch", str(record.fit))]
    fell = "it falls" if record.as_is.fell else "it does not fall"
    facts = [
        ("as it is", f"{_losses(record.as_is.losses)}: {fell}"),
        *fit,
        *(("batch and loss", fact) for fact in record.facts),
    ]  # fmt: skip
    return bounded(
        [
            *_verdict(record.diagnosis, "a check before training"),
            _tried(record.remedies),
            _facts("Loss", facts),
            *_signal(record),
            *_remarks(record.diagnosis, ours(), record.signal.notes),
        ]
    )


def _history_report(history: FlowHistory, diagnosis: Diagnosis) -> str:
    losses = [] if history.loss is None else [("at the steps", _losses(history.loss.values))]
    return bounded(
        [
            *_verdict(diagnosis, str(count_noun(len(history.steps), f"{history.row}")) + " read"),
            _facts("Loss", losses),
            *_network(history, diagnosis),
            *_remarks(diagnosis, ours()),
        ]
    )


def _run_report(run: RunRecord, diagnosis: Diagnosis) -> str:
    losses = [(name, _losses(run.curve(f"{key}_loss"))) for key, name in SPLITS.items()] if run.epochs else []
    losses += [
        ("test images", f"{result['loss']:.3g}, accuracy {result['accuracy']:.3g} ({which} weights)")
        for which, result in run.test.items()
    ]
    settings = ", ".join(f"{name}={value}" for name, value in _unusual(run.config))
    facts = [
        ("run", f"{run.identity}, {run.state}, {len(run.epochs)} of {run.config['epochs']} epochs"),
        ("precision", run.status.get("computed_in") or run.config.get("precision", "fp32")),
        ("settings other than the defaults", settings or "none"),
    ]
    network = _network(recorded(run), diagnosis) if run.epochs else []
    return bounded(
        [
            *_verdict(diagnosis, "a recorded run"),
            _facts("Run", facts),
            _facts("Loss", losses),
            *network,
            *_remarks(diagnosis, run.status.get("versions") or ours()),
        ]
    )


SPLITS = {"train": "training images", "valid": "validation images"}


def _unusual(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings of a run that are not the defaults, with their dotted names."""
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _unusual(value, f"{name}.")
        elif name not in DEFAULTS or DEFAULTS[name] != value:
            yield name, value


def study_markdown(study: str, preset: str, diagnoses: Mapping[str, Diagnosis | None]) -> str:
    """Return the report of a study's runs: the gravest findings, then a row for each run, the gravest first.

    Args:
        study: Name of the study.
        preset: Name of its preset.
        diagnoses: Diagnosis per identity of a run; None for a run without an epoch.
    """
    judged = {name: each for name, each in diagnoses.items() if each is not None}
    worst_first = sorted(judged, key=lambda name: _gravity(judged[name]))
    count = Counter(each.grade for each in judged.values())
    words = [f"{count[grade]} {grade}" for grade in GRADES if count[grade]]
    words += [f"{len(diagnoses) - len(judged)} without an epoch"] if len(judged) < len(diagnoses) else []
    title = f"# Study {escape(study, NAME)} ({escape(preset, NAME)})"
    head = f"{title}\n\n{count_noun(len(diagnoses), 'run')}: {', '.join(words) or 'none'}."
    first = {judged[name].verdict: name for name in reversed(worst_first)}
    ill = [name for verdict, name in first.items() if judged[name].grade != "info"]
    shown = sorted(ill, key=lambda name: _gravity(judged[name]))
    rows = [
        row(escape(name, NAME), _grade(judged[name]), escape(judged[name].heading, WORDS))
        for name in worst_first
    ] + [row(escape(name, NAME), "–", "no epoch yet") for name in diagnoses if name not in judged]
    return bounded(
        [
            Section("", [Item(head, HEAD)]),
            Section(
                "## Findings, one of each kind",
                [
                    Item(_finding(judged[name].findings[0], f"in {escape(name, NAME)}"),
                         (FURTHER if place else FIRST) + _FEW * place, "kind of finding")
                    for place, name in enumerate(shown)
                ],
            ),
            Section(
                "## Runs",
                [Item(text, FACTS + _FEW * place, "run") for place, text in enumerate(rows)],
                header("run", "grade", "verdict"),
            ),
            _versions(ours()),
        ]
    )  # fmt: skip


def _gravity(diagnosis: Diagnosis) -> tuple[int, int]:
    return GRADES.index(diagnosis.grade), VERDICTS.index(diagnosis.verdict)


def _grade(diagnosis: Diagnosis) -> str:
    return f"**{diagnosis.grade}**" if diagnosis.grade == "fail" else diagnosis.grade


def _verdict(diagnosis: Diagnosis, of: str = "") -> list[Section]:
    """Return title and findings, the gravest first."""
    title = f"# {_capital(escape(diagnosis.heading, WORDS))}"
    grade = f"Grade {_grade(diagnosis)}{f', of {of}' if of else ''}, by gradscape {__version__}."
    items = [
        Item(_finding(finding), (FURTHER if place else FIRST) + _FEW * place, "finding")
        for place, finding in enumerate(diagnosis.findings)
    ]
    return [Section("", [Item(f"{title}\n\n{grade}", HEAD)]), Section("## Findings", items)]


def _finding(finding: Finding, where: str = "") -> str:
    """Return a finding: heading, cause, remedy, and its numbers beside their limits."""
    heading = (
        f"### {_capital(escape(finding.heading, WORDS))}: {finding.grade}{f', {where}' if where else ''}"
    )
    lines = [
        f"- cause: {escape(finding.cause, CAUSE)}",
        f"- what would help: {escape(finding.remedy, CAUSE)}",
    ]
    if len(finding.evidence) > NUMBERS:
        lines.append(f"- {NUMBERS} of its {len(finding.evidence)} numbers:")
    table = [
        row(escape(each.what, WORDS), f"{each.value:.3g}",
            f"{'at least' if each.below else 'at most'} {each.limit:.3g}", escape(each.source, NAME))
        for each in finding.evidence[:NUMBERS]
    ]  # fmt: skip
    numbers = ["", header("evidence", "value:", "expected:", "source"), *table, ""] if table else [""]
    return "\n".join([heading, "", *lines, *numbers]).rstrip("\n") + "\n"  # parts it from the next one


def _tried(remedies: Sequence[Trial]) -> Section:
    """Return the table of the remedies that were tried, the best first."""
    items = []
    for place, trial in enumerate(remedies):
        losses = f"{trial.losses[0]:.3g} → {trial.losses[-1]:.3g}" if trial.losses else "–"
        cells = (trial.remedy, losses, trial.effect or "not tried", trial.verdict, trial.what)
        items.append(Item(row(*(escape(cell, NAME) for cell in cells)), TRIED + _FEW * place, "remedy"))
    return Section(
        "## Remedies tried on copies", items, header("remedy", "loss", "effect on it", "verdict", "change")
    )


def _facts(heading: str, facts: Iterable[tuple[str, object]]) -> Section:
    """Return a list of names with their values."""
    items = [
        Item(f"- {name}: {escape(value, WORDS)}", FACTS + _FEW * place, "line")
        for place, (name, value) in enumerate(facts)
    ]
    return Section(f"## {heading}", items)


def _losses(values: Sequence[float] | np.ndarray[Any, Any]) -> str:
    """Return the first and last losses, and how many there are."""
    shown = [f"{float(value):.3g}" for value in values]
    if len(shown) > 2 * ENDS:
        shown = [*shown[:ENDS], "…", *shown[-ENDS:]]
    return f"{', '.join(shown) or 'none'} ({count_noun(len(values), 'value')})"


def _network(history: FlowHistory, diagnosis: Diagnosis) -> list[Section]:
    """Return optimizer, size and layers of a network, with the last row of its gradients and steps."""
    dtypes = [f" of {', '.join(dict.fromkeys(history.dtypes))}"] if history.dtypes else [""]
    facts = [
        ("parameters", f"{sum(history.sizes):,} in {count_noun(len(history.layers), 'tensor')}{dtypes[0]}"),
        *((("modules", ", ".join(history.modules)),) if history.modules else ()),
        *(("optimizer", each.in_words) for each in history.optimizers[:NUMBERS]),
        *((("further optimizers", further),) if (further := len(history.optimizers) - NUMBERS) > 0 else ()),
    ]
    shapes = history.shapes or tuple((size,) for size in history.sizes)
    rows = []
    for column, name in enumerate(history.layers):
        numbers = [
            values[-1, column] for values in (history.mean_abs, history.relative_update) if len(values)
        ]
        size = "×".join(map(str, shapes[column])) or "1"
        cells = (
            escape(name, NAME),
            escape(history.kinds[column]),
            size,
            *(f"{number:.2g}" for number in numbers),
        )
        rows.append(row(*cells, *("–",) * (5 - len(cells))))
    layers = _layers(rows, history.layers, diagnosis)
    table = header("layer", "kind", "shape:", "mean \\|∂L/∂W\\|:", "‖ΔW‖/‖W‖:")
    return [_facts("Network", facts), Section("### Layers, at the last row read", layers, table)]


def _signal(record: CheckRecord) -> list[Section]:
    """Return the layers of a network before training, with signal and gradient."""
    signal = record.signal
    columns = signal.over_depth()
    rows = []
    for place, (name, kind) in enumerate(zip(signal.layers, signal.kinds, strict=True)):
        numbers = [float(columns[each][place]) for each in ("second_moment", "correlation", "gradient")]
        cells = ["–" if math.isnan(number) else f"{number:.2g}" for number in numbers]
        rows.append(row(escape(name, NAME), escape(kind), f"{signal.widths[place]:,}", *cells))
    facts = [
        ("parameters", f"{record.parameters:,} of {', '.join(record.dtypes)}"),
        *(("optimizer", each.in_words) for each in record.optimizers[:NUMBERS]),
        *((("depth", signal.chi_in_words),) if signal.chi_in_words else ()),
        ("Jacobian", str(signal.jacobian)),
        ("batch", f"{count_noun(signal.samples, 'sample')}, {count_noun(len(signal.loss), 'seed')}"),
    ]
    table = header("layer", "kind", "numbers per sample:", "mean h²:", "correlation:", "mean (∂L/∂h)²:")
    return [
        _facts("Network", facts),
        Section("### Layers, input to output", _layers(rows, signal.layers, record.diagnosis), table),
    ]


def _layers(rows: Sequence[str], names: Sequence[str], diagnosis: Diagnosis) -> list[Item]:
    """Return the rows of layers: those of findings are kept first, then from both ends."""
    named = {finding.layer for finding in diagnosis.findings}
    deep = [min(place, len(rows) - 1 - place) for place in range(len(rows))]
    return [
        Item(text, LAYERS + (0 if name in named else _FEW * (1 + depth)), "layer")
        for text, name, depth in zip(rows, names, deep, strict=True)
    ]


def _remarks(diagnosis: Diagnosis, versions: Mapping[str, Any], more: Sequence[str] = ()) -> list[Section]:
    """Return what the verdict rests on, and the versions."""
    lines = [f"gradients were read {escape(diagnosis.seen)}"]
    lines += [f"not looked at: {escape(each)}" for each in diagnosis.unseen]
    lines += [f"note: {escape(each)}" for each in dict.fromkeys([*diagnosis.notes, *more])]
    notes = [Item(f"- {line}", REMARKS + _FEW * place, "note") for place, line in enumerate(lines)]
    return [Section("## Notes", notes), _versions(versions)]


def _versions(versions: Mapping[str, Any]) -> Section:
    words = ", ".join(f"{name} {text}" for name, text in versions.items())
    return Section("", [Item(f"Versions: {escape(words, WORDS)}.", FACTS)])


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"
