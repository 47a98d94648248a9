"""Page of each verdict: its meaning, limits, what helps, a public case, and where the rule is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from gallery_entries import entries
from markdown_tables import code, table
from places import DOCS, ROOT, VERDICTS
from staging import destinations, rewritten, write
from verdict_rules import Rule, rules

from gradscape.records.diagnosis import GRADES, symptoms_of
from gradscape.report.junit import THINGS

RESULTS = ROOT / "benchmarks" / "results"
# How docstrings of rules begin, and pages do not.
COMMAND = re.compile("^(Return the (fault of |finding that |finding to tell; |)|Report (that )?)")
MEANINGS: dict[str, str] = yaml.safe_load(VERDICTS.read_text("utf-8"))
_GRADE = {
    "fail": "the training does not work",
    "warn": "the training may work, and deserves a look",
    "info": "no fault",
}


def slug(verdict: str) -> str:
    """Return the name of a verdict's page.

    Args:
        verdict: Name of the verdict.
    """
    return re.sub(r"[^a-z0-9]+", "-", verdict.lower().replace("'", ""))


def meaning(verdict: str) -> str:
    """Return what a verdict means; of one that is new, what its rule says.

    Args:
        verdict: Name of the verdict.
    """
    return MEANINGS.get(verdict) or next((rule.text for rule in rules()[verdict] if rule.text), "")


def make() -> None:
    """Write the page of each verdict, and the one that lists them."""
    examples = _read("verdict_examples.json").get("examples", {})
    scores = _read("public_failures.json").get("survivors", {})
    places = destinations()
    for verdict in GRADES:
        text = "\n".join(_page(verdict, examples.get(verdict), scores))
        place = Path("verdicts") / f"{slug(verdict)}.md"
        # Not in the contents: at the side of every page eighty names are long to read, and slow to build.
        write(place, "---\norphan: true\n---\n\n" + rewritten(text, DOCS / place, place, places))
    write("verdicts/index.md", _index())


def _read(name: str) -> dict[str, Any]:
    path = RESULTS / name
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


_INDEX = """# Verdicts

`gs.diagnose`, `gs.check`, a watch's alerts and the pages speak in these words. A verdict has a **grade**:
`fail`, the training does not work; `warn`, it may work and deserves a look; `info`, no fault. The gravest
stands first, and what follows from another fault is left out. Each is printed with the layer where it begins,
its cause, what would help, and the numbers that it rests on, each beside its limit and where that comes from.

How often they are right is measured: [on public failures](../failures.md), and
[on networks whose outcome is known](../accuracy.md).
"""


def _index() -> str:
    grouped = {thing: [each for each in GRADES if each in verdicts] for thing, verdicts in THINGS.items()}
    known = {each for verdicts in grouped.values() for each in verdicts}
    grouped["others"] = [each for each in GRADES if each not in known]
    text = _INDEX
    for thing, verdicts in grouped.items():
        if verdicts:
            rows = [[f"[{each}]({slug(each)}.md)", code(GRADES[each]), meaning(each)] for each in verdicts]
            text += f"\n## {thing[0].upper()}{thing[1:]}\n\n" + table(["verdict", "grade", "meaning"], rows)
    return text


def _page(verdict: str, example: dict[str, Any] | None, scores: dict[str, Any]) -> Iterator[str]:
    found = rules()[verdict]
    yield f"# {verdict}\n\n**{GRADES[verdict]}**: {_GRADE[GRADES[verdict]]}.\n\n{meaning(verdict)}\n"
    if example:
        yield from _example(example, scores.get(example["case"], {}))
    if shown := [entry for entry in entries() if verdict in entry.verdicts]:
        links = (f"- [{entry.title}](../../examples/gallery/{entry.path.name})" for entry in shown)
        yield "## See it happen\n\n" + "\n".join(links) + "\n"
    if rows := list(dict.fromkeys(_limits(found))):
        yield "## Limits\n\n" + table(["limit", "default", "what it is", "where it comes from"], rows)
        if any(limit.is_option for rule in found for limit in rule.limits):
            yield "Those marked * are arguments: `gs.diagnose(flow, gs.Limits(NAME=VALUE))`.\n"
    if remedies := dict.fromkeys(each for rule in found for each in rule.remedies):
        yield "## What may help\n\nWhich is advised depends on the network and on what else was seen.\n"
        yield "\n".join(f"- {each}" for each in remedies) + "\n"
    if symptoms := symptoms_of(verdict):
        yield "## What it explains\n\nWhere it is found, these follow from it and are left out: " + (
            ", ".join(f"[{each}]({slug(each)}.md)" for each in symptoms) + ".\n"
        )
    if found:
        yield "## How it is told\n\n" + "\n".join(dict.fromkeys(map(_told, found))) + "\n"


def _limits(found: tuple[Rule, ...]) -> Iterator[tuple[str, ...]]:
    for limit in (limit for rule in found for limit in rule.limits):
        name = f"`{limit.name}`{'*' if limit.is_option else ''}"
        yield name, f"{limit.value:g}", limit.text, limit.source


def _told(rule: Rule) -> str:
    """Line on a rule: when it looks, what it looks for, and where it is."""
    text = COMMAND.sub("", rule.text).rstrip(".")
    said = f": {text}" if text else ""
    when = "before training" if rule.before else "while it trains"
    return f"- {when}{said} ([{Path(rule.path).name}, line {rule.line}](../../{rule.path}))"


def _example(example: dict[str, Any], scores: dict[str, Any]) -> Iterator[str]:
    """Public case: the fault, what was said of it, the repair and what that came to."""
    how = (
        "`gs.check` says before the first step"
        if example["by"] == "check"
        else f"a watch says after {example['steps']} steps"
    )
    fault = example["fault"].rstrip(".")
    yield f"## A public case\n\n{_cited(example['case'])}: {fault}. Of it {how}:\n"
    yield f"```text\n{example['text']}\n```\n"
    yield f"**The repair:** {example['cure'].rstrip('.')}.{_scored(scores)} {_twin(example)}\n"
    if tried := [each for each in example.get("tried", ()) if each[0] != "not tried"]:
        yield "**Remedies that `gs.check` tried** on copies of it, by their effect on the loss:\n"
        for heading, trials in tried:
            yield f"- {heading}\n" + "\n".join(f"  - {_first_line(each)}" for each in trials[:4])
        yield ""


def _cited(case: str) -> str:
    """Name of a case, with a link to the report where its number is one of Stack Overflow's."""
    set_of, _, number = case.partition("/")
    if set_of in ("deepmufl", "deepfd") and re.fullmatch(r"\d{8}", number):
        place = f"https://stackoverflow.com/questions/{number}"
        return f"[Stack Overflow {number}]({place}) ([rebuilt](../failures.md))"
    return f"[{case}](../failures.md)"


def _first_line(text: str) -> str:
    return text.partition("\n")[0].replace("*", "\\*")


def _scored(scores: dict[str, Any]) -> str:
    if not scores:
        return ""
    number = scores["n"][0]
    return f" Mean score, {number} seeds: {scores['score']:.2g} as reported, {scores['twin']:.2g} repaired."


def _twin(example: dict[str, Any]) -> str:
    twin = [each for each in example["twin"] or () if GRADES.get(each) != "info"]
    if example["twin"] is None:
        return ""
    return f"Of the repaired twin it says: {', '.join(twin) or 'nothing'}."
