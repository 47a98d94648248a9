"""Living tools that watch a training to its end: torchmortem, torch-audit, traintools, trainpulse."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from torch import Tensor

from public_failures.case import Case, Training
from public_failures.rival_checks import Said, optimizer_of
from public_failures.rival_names import TRAINTOOLS


def gravest(said: Iterable[Said]) -> list[Said]:
    """Keep of each name its gravest message, the first of equals; fails before warnings."""
    kept: dict[str, Said] = {}
    for each in said:
        known = kept.get(each.name)
        if known is None or (known.grade, each.grade) == ("warning", "fail"):
            kept[each.name] = each
    return sorted(kept.values(), key=lambda each: each.grade != "fail")


def torchmortem(case: Case, fixed: bool, seed: int) -> list[Said]:
    """Train inside `Autopsy(model, optimizer)`, each step's loss told, as in the README; CRITICAL is fail."""
    autopsy_of = import_module("torchmortem").Autopsy
    training = case.build(fixed, seed)
    with autopsy_of(training.model, optimizer=optimizer_of(training)) as autopsy:
        for number in range(case.steps_of(fixed)):
            autopsy.step(loss=float(training.step(number)))
    grades = {"CRITICAL": "fail", "WARNING": "warning"}
    return gravest(
        Said(each.title.split(" in ")[0], grades[each.severity.name], " ".join(each.affected_layers[:3]),
             " ".join([each.summary, *each.remediation]))
        for each in autopsy.get_report().findings
        if each.severity.name in grades
    )  # fmt: skip


def torch_audit(case: Case, fixed: bool, seed: int) -> list[Said]:
    """Train after `autopatch(model, optimizer, every_n_steps=1)`, the README's zero-touch mode.

    Its rules on hardware (TA200 to TA203: alignment, memory layout, device, AMP) are left out by the option
    that it has for it: they are about speed. ERROR and FATAL are fail.
    """
    tool = import_module("torch_audit")
    training = case.build(fixed, seed)
    auditor = tool.autopatch(
        training.model, optimizer=optimizer_of(training), every_n_steps=1,
        ignore_rules={"TA200", "TA201", "TA202", "TA203"}, suppress_internal_errors=True,
    )  # fmt: skip
    for number in range(case.steps_of(fixed)):
        training.step(number)
    findings = auditor.finish().findings
    auditor.unpatch()
    grades = {"FATAL": "fail", "ERROR": "fail", "WARN": "warning"}
    return gravest(
        Said(each.rule_id, grades[each.severity.value], each.module_path or "", each.message)
        for each in findings
        if each.severity.value in grades
    )


def traintools(case: Case, fixed: bool, seed: int) -> list[Said]:
    """Train with the README's quick start: `BatchInspector`, `GradientHealthMonitor`, `TraintoolsTracker`.

    The inspector sees the first batch with its targets (a single column of them as a vector, since it takes
    rows to be one-hot), and what goes into the model at every step. Gradients are inspected before each step
    of the optimizer, without a clipping threshold, which a training has or has not. The tracker's plasticity
    is read at the end; its early stopping is no verdict on a fault and is left out. The tool grades nothing
    above a warning, so that each warning counts as its gravest.
    """
    tool = import_module("traintools")
    training = case.build(fixed, seed)
    inspector, health = tool.BatchInspector(), tool.GradientHealthMonitor()
    heard: dict[str, str] = {}

    def hear(report: Any) -> None:
        for words in report.warnings:
            heard.setdefault(of_warning(words), words)

    if training.batch is not None:
        x, y = training.batch
        hear(inspector.inspect(x, column(y) if isinstance(y, Tensor) else None))
    training.model.register_forward_pre_hook(lambda _, given: hear(inspector.inspect(given)))
    optimizer = optimizer_of(training)
    optimizer.register_step_pre_hook(
        lambda *_: hear(health.inspect(training.model, lr=optimizer.param_groups[0]["lr"]))
    )
    probe = tool.PlasticityProbe(training.model)
    for number in range(case.steps_of(fixed)):
        training.step(number)
    critical = probe.measure(step=number).critical_layers
    said = [Said(name, "fail", "", words) for name, words in heard.items()]
    return said + [Said("critical plasticity", "fail", " ".join(critical[:3]), "") for _ in critical[:1]]


def column(y: Tensor) -> Tensor:
    return y[:, 0] if y.dim() == 2 and y.shape[1] == 1 else y


def of_warning(words: str) -> str:
    """Return the phrase of `TRAINTOOLS` that a warning contains, else its own words."""
    for phrase in TRAINTOOLS:
        about, colon, rest = phrase.partition(": ")
        if (words.startswith(about) and rest in words) if colon else phrase in words:
            return phrase
    return words


def trainpulse(case: Case, fixed: bool, seed: int) -> list[Said]:
    """Train with `TrainingCallback`, told loss, gradient norm and learning rate of each step, as the README.

    Step times are not told: they are of the machine, not of the training. CRITICAL is fail.
    """
    callback = import_module("trainpulse").TrainingCallback()
    training = case.build(fixed, seed)
    optimizer = optimizer_of(training)
    norms: list[float] = []
    optimizer.register_step_pre_hook(lambda *_: norms.append(norm(training)))
    for number in range(case.steps_of(fixed)):
        norms.clear()
        loss = float(training.step(number))
        callback.on_step_end(
            number, loss=loss, grad_norm=norms[-1] if norms else None, lr=optimizer.param_groups[0]["lr"]
        )
    grades = {"critical": "fail", "warning": "warning"}
    return gravest(
        Said(of_alert(each), grades[each.severity.value], "", each.message)
        for each in callback.report().alerts
        if each.severity.value in grades
    )


def norm(training: Training) -> float:
    squares = [float(p.grad.norm()) ** 2 for p in training.model.parameters() if p.grad is not None]
    return float(sum(squares) ** 0.5)


def of_alert(alert: Any) -> str:
    if alert.detector != "gradient":
        return str(alert.detector)
    return "gradient: explosion" if "explosion" in alert.message else "gradient: vanishing"
