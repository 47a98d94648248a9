"""Check of a network as JUnit's XML, which CI servers show: a case for each thing that was looked at."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from gradscape._text import strip_controls
from gradscape.records.check import CheckRecord
from gradscape.records.diagnosis import Finding, symptoms_of

# Things that a check looks at, with the verdicts on each; every verdict has one. Those that only a watched
# training can have stand where a check would tell of them.
THINGS: Mapping[str, tuple[str, ...]] = {
    "labels and targets are usable": (
        "unusable labels", "imbalanced labels", "targets out of scale", "unscaled targets",
    ),
    "inputs are usable": (
        "inputs out of scale", "unscaled inputs", "constant inputs", "batches not shuffled", "channel order",
    ),
    "the loss fits output and targets": (
        "output does not fit the loss", "output cannot reach the targets", "loss does not fit the targets",
        "loss is maximized", "shapes broadcast", "wrong axis", "unlikely loss function", "loss of one sample",
        "penalty above the loss", "target is the network itself",
    ),
    "the first loss is that of no opinion": ("initial loss too high",),
    "the loss reaches every parameter, and the optimizer has it": (
        "unused layer", "frozen layer", "parameters not trained", "parameters outside the optimizer",
        "frozen parameters", "tied weights came apart", "adapters get no gradient", "base weights move",
    ),
    "each output depends on its own input alone": (
        "output ignores the input", "samples are mixed", "sees the future", "order is not seen",
        "reshape mixes axes", "embeddings collapse",
    ),
    "signals pass through the layers": (
        "no signal from the input", "dead units", "saturated", "no activation between layers", "equal units",
        "sigmoids between layers", "dropout hides the signal", "attention entropy collapses",
        "attention logits grow", "copied heads", "dead heads", "residual stream grows", "blocks add nothing",
        "norm gains out of scale", "output logits drift", "router collapses", "dead experts",
    ),
    "gradients pass through the layers": ("vanishing", "exploding", "below the optimizer's reach"),
    "every value is finite": (
        "non-finite", "half precision overflows", "precision loses the steps", "clipped before unscaling",
    ),
    "steps lower the loss": (
        "learning rate too large", "learning rate too small", "learning rate is 0", "overshooting",
        "schedule", "gradients not cleared", "always clipped", "noise-dominated", "loss diverges",
        "loss does not fall",
        "does not learn", "loss spikes", "loss stays high", "discriminator wins", "too early to tell",
        "converged", "stopped", "healthy", "ranks differ", "rank is silent",
    ),
    "it fits one batch": ("does not fit one batch",),
    "eval mode computes what train mode does": (
        "train and eval differ", "evaluation mode", "BatchNorm of one sample",
    ),
}  # fmt: skip
FITTED, EVALUATED = "it fits one batch", "eval mode computes what train mode does"
DEPENDS = "each output depends on its own input alone"
NOT_LOOKED = "it was not looked at what the output depends on"  # begins the note of it
# XML 1.0 has no other characters, not even escaped ones.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(record: CheckRecord, name: str, seconds: float) -> str:
    """Return a test suite as XML of ASCII characters.

    A finding of grade `fail` is a failure, one of grade `warn` stands in the output of a case that passes,
    and what was left out, or cannot be told beside a failure, is skipped.

    Args:
        record: Record of a check.
        name: Name of the factory.
        seconds: Duration of the check.
    """
    cases = [_case(thing, name, record) for thing in THINGS]
    count = {tag: sum(case.find(tag) is not None for case in cases) for tag in ("failure", "skipped")}
    numbers = {
        "tests": str(len(cases)), "failures": str(count["failure"]), "errors": "0", "time": f"{seconds:.3f}",
    }  # fmt: skip
    root = ElementTree.Element("testsuites", {"name": "gradscape check", **numbers})
    attributes = {"name": _clean(name), **numbers, "skipped": str(count["skipped"])}
    suite = ElementTree.SubElement(root, "testsuite", attributes)
    suite.extend(cases)
    ElementTree.SubElement(suite, "system-out").text = _clean(str(record))
    ElementTree.indent(root, " ")
    xml: bytes = ElementTree.tostring(root, encoding="us-ascii", xml_declaration=True)
    return xml.decode() + "\n"


def _case(thing: str, name: str, record: CheckRecord) -> ElementTree.Element:
    """Return the test case of a thing that was looked at."""
    case = ElementTree.Element("testcase", {"name": thing, "classname": _clean(name), "time": "0"})
    findings = [each for each in record.diagnosis.findings if each.verdict in THINGS[thing]]
    failing = [each for each in findings if each.grade == "fail"]
    warned = [each for each in findings if each.grade == "warn"]
    if failing:
        attributes = {"message": _clean(failing[0].heading), "type": failing[0].verdict}
        ElementTree.SubElement(case, "failure", attributes).text = _texts(failing)
    elif not findings and (why := _left_out(thing, record)):
        ElementTree.SubElement(case, "skipped", {"message": _clean(why)})
    if warned:
        ElementTree.SubElement(case, "system-out").text = _texts(warned)
    return case


def _left_out(thing: str, record: CheckRecord) -> str:
    """Return the reason why nothing is said of a thing; empty if it is known to be well."""
    fit = record.fit
    if thing in (FITTED, EVALUATED) and fit is None:
        return "no steps to fit the batch were asked for"
    if thing == FITTED and fit is not None and not (fit.fits or fit.learns):
        return str(fit)
    for each in record.diagnosis.findings:
        if not each.mild and set(symptoms_of(each.verdict)) & set(THINGS[thing]):
            return f"what is wrong here may follow from this: {each.heading}"
    notes = record.diagnosis.notes if thing == DEPENDS else ()
    return next((note for note in notes if note.startswith(NOT_LOOKED)), "")


def _texts(findings: Sequence[Finding]) -> str:
    return _clean("\n".join(map(str, findings)))


def _clean(text: str) -> str:
    return _NO_XML.sub("\ufffd", strip_controls(text))
