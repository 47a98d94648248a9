"""Findings are told once, when they stand, and again only after the cool-down."""

from __future__ import annotations

from gradscape.measure.watch.alert_memory import FindingMemory
from gradscape.records.diagnosis import Diagnosis, Finding


def diagnosis(*findings: Finding) -> Diagnosis:
    return Diagnosis(findings or (finding("healthy"),), "in a test", ())


def finding(verdict: str, layer: str = "", mild: bool = False) -> Finding:
    return Finding(verdict, layer, "a cause", "a remedy", (), mild=mild)


EXPLODING = finding("exploding", "0.weight")


def told(memory: FindingMemory, findings: list[tuple[Finding, ...]], seconds: float = 1.0) -> list[int]:
    """The places in a sequence of diagnoses at which something is told."""
    return [
        place
        for place, each in enumerate(findings)
        if memory.new_findings(diagnosis(*each), now=place * seconds)
    ]


def test_a_finding_is_told_once_and_only_if_it_stands_in_two_diagnoses_in_a_row() -> None:
    assert told(FindingMemory(), [(EXPLODING,), (), (EXPLODING,), (EXPLODING,), (EXPLODING,)]) == [3]


def test_it_is_in_doubt_until_it_is_told() -> None:
    memory, seen = FindingMemory(), []
    for each in ((), (EXPLODING,), (EXPLODING,), (EXPLODING,)):
        memory.new_findings(diagnosis(*each), 0.0)
        seen.append(memory.is_doubtful)
    assert seen == [False, True, False, False]


def test_one_that_went_away_is_told_again_after_the_cool_down_only() -> None:
    comes_and_goes = [(EXPLODING,), (EXPLODING,), ()] * 5
    assert told(FindingMemory(cool_down=6.0), comes_and_goes) == [1, 7, 13]
    assert told(FindingMemory(cool_down=6.0), [(EXPLODING,)] * 15) == [1]


def test_one_whose_layer_drifts_is_told_again_after_the_cool_down_only() -> None:
    drifts = [(finding("vanishing", f"{place}.weight"),) for place in range(10)]
    assert told(FindingMemory(cool_down=5.0), drifts) == [1, 6]


def test_several_are_told_each_once() -> None:
    memory = FindingMemory()
    dead = finding("dead units", "1")
    assert memory.new_findings(diagnosis(dead, EXPLODING), 0.0) == []
    assert memory.new_findings(diagnosis(dead, EXPLODING), 1.0) == [dead, EXPLODING]
    assert memory.new_findings(diagnosis(EXPLODING), 2.0) == []


def test_warnings_are_told_where_asked_for_and_what_is_too_early_never() -> None:
    early, spikes = finding("too early to tell"), finding("loss spikes")
    assert told(FindingMemory("fail"), [(spikes,)] * 3) == []
    assert told(FindingMemory("warn"), [(spikes,)] * 3) == [1]
    assert told(FindingMemory("warn"), [(early,)] * 3) == []


def test_a_warning_that_becomes_a_fail_is_told_again_when_that_stands() -> None:
    mild = finding("exploding", "0.weight", mild=True)
    assert told(FindingMemory("warn"), [(mild,), (mild,), (EXPLODING,), (EXPLODING,), (mild,)]) == [1, 3]
    assert told(FindingMemory("fail"), [(mild,), (EXPLODING,), (EXPLODING,)]) == [2]


def test_what_is_told_at_once_need_not_stand_and_is_not_told_again() -> None:
    memory = FindingMemory()
    broken = diagnosis(finding("non-finite", "0.weight"))
    assert len(memory.new_findings(broken, 0.0, at_once=True)) == 1
    assert memory.new_findings(broken, 1.0, at_once=True) == []
