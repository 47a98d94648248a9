"""Living tools that check a training before or in one step: torchtest2, guardtower, neural-net-checklist.

Each is called as its README calls it, with all that a training here can give, and none needs the training to
be changed. Each returns what the tool said; `CouldNotRun` where it said nothing because it cannot be run.
"""

from __future__ import annotations

import contextlib
import functools
import io
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from public_failures.case import Case, Training

OVERFIT_STEPS, OVERFIT_LOSS = 2048, 0.1  # neural-net-checklist's 65,536 steps would take minutes a case


class Said(NamedTuple):
    """A message of a tool: what `rival_names` knows it by, its grade, its layer and its words.

    Grades are "fail", the gravest that the tool has, "warning", and "info", which tells of no fault.
    """

    name: str
    grade: str
    layer: str
    words: str


class CouldNotRun(Exception):
    """A tool that cannot be run on a training."""


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Keep what tools print from the log."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def optimizer_of(training: Training) -> Optimizer:
    """Return the optimizer that trains the model; the first of several that do."""
    made = training.optimizer if isinstance(training.optimizer, list) else [training.optimizer]
    parameters = {id(p) for p in training.model.parameters()}
    ours = [o for o in made if any(id(p) in parameters for group in o.param_groups for p in group["params"])]
    return (ours or made)[0]


def called(model: nn.Module, x: Any) -> Any:
    return model(**x) if isinstance(x, dict) else model(*x) if isinstance(x, tuple) else model(x)


def first_inputs(training: Training) -> tuple[Any, ...]:
    """Return what the model is called with in the first step, of a training that gives no batch."""
    seen: list[tuple[Any, ...]] = []
    handle = training.model.register_forward_pre_hook(lambda _, given: seen.append(given))
    training.step(0)
    handle.remove()
    if not seen:
        raise CouldNotRun("the model itself is never called")
    return seen[0]


def torchtest2(case: Case, fixed: bool, seed: int) -> list[Said]:
    """Call `check_model` before the first step, with batch, loss function and optimizer.

    A training that gives no batch is checked with its first inputs and without a loss, the minimal call.
    """
    check = import_module("torchtest2").check_model
    training = case.build(fixed, seed)
    optimizer = optimizer_of(training)
    if training.batch is None:
        inputs = first_inputs(case.build(fixed, seed))
        report = check(training.model, inputs, optimizer=optimizer)
    else:
        report = check(training.model, *training.batch, loss_fn=training.loss, optimizer=optimizer)
    if any(each.name == "forward" for each in report.failures):
        raise CouldNotRun(str(report["forward"].message))
    failures = [Said(named(each), "fail", "", each.message) for each in report.failures]
    return failures + [Said(named(each), "warning", "", each.message) for each in report.warnings]


def named(result: Any) -> str:
    """Tell apart what torchtest2's last check can say."""
    if result.name != "overfit_batch":
        return str(result.name)
    if "did not decrease" in result.message:
        return "overfit_batch: did not decrease"
    far = "did not reach" in result.message
    return "overfit_batch: not far enough" if far else "overfit_batch: not finite"


def guardtower(case: Case, fixed: bool, seed: int) -> list[Said]:
    """Call `audit` before the first step, and leave `monitor` on to the end of the training.

    The audit is given a closure of the loss of a batch, the batch's inputs and the optimizer; of a training
    that gives no batch, the closure is the training's own step up to its first backward pass.
    """
    tool = import_module("guardtower")
    training = case.build(fixed, seed)
    loss, inputs = loss_and_inputs(training)
    report = tool.audit(training.model, loss, optimizer=optimizer_of(training), inputs=inputs)
    grades = {"FAIL": "fail", "WARN": "warning"}
    said = [
        Said(of_audit(each), grades[each.severity.label], "", each.message)
        for each in report.findings
        if each.severity.label in grades
    ]
    return said + monitored(tool.monitor, case, fixed, seed)


def monitored(monitor: Any, case: Case, fixed: bool, seed: int) -> list[Said]:
    """Train under guardtower's monitor, which raises by default: what it hits is of its gravest grade."""
    training = case.build(fixed, seed)
    with warnings.catch_warnings(), monitor(training.model, on_nonfinite="warn") as watch:
        warnings.simplefilter("ignore")
        for number in range(case.steps_of(fixed)):
            training.step(number)
    return [Said("nonfinite", "fail", layer, "non-finite activation") for layer in watch.hits[:1]]


def loss_and_inputs(training: Training) -> tuple[Callable[[], Tensor], Any]:
    if training.batch is None or training.loss is None:
        return functools.partial(loss_of_step, training), None
    x, y = training.batch
    criterion = training.loss
    tensors = [each for each in (x.values() if isinstance(x, dict) else [x]) if isinstance(each, Tensor)]
    return (lambda: criterion(called(training.model, x), y)), tensors


def loss_of_step(training: Training) -> Tensor:
    """Run the first step up to its first backward pass and return what that begins from."""
    kept = Tensor.backward
    found: list[Tensor] = []

    def stopped(loss: Tensor, *_: Any, **__: Any) -> None:
        found.append(loss)
        raise CouldNotRun("stopped at its backward pass")

    Tensor.backward = stopped  # type: ignore[method-assign]
    try:
        with contextlib.suppress(CouldNotRun):
            training.step(0)
    finally:
        Tensor.backward = kept  # type: ignore[method-assign]
    if not found:
        raise CouldNotRun("no backward pass in the first step")
    return found[0]


def of_audit(finding: Any) -> str:
    """Tell apart what guardtower says under the same name."""
    check, words = str(finding.check), str(finding.message)
    if check == "loss" and "detached" in words:
        return "loss detached"
    if check == "grad_connectivity":
        return f"{check}: {'none' if 'NO gradient' in words else 'zero'}"
    if check == "grad_norms":
        return f"{check}: {'large' if 'large' in words else 'tiny'}"
    return check


def checklist(case: Case, fixed: bool, seed: int) -> list[Said]:
    """Run the assertions that `assert_all_for_…` runs, each by itself, so that all are heard.

    Given the batch, the training's own loss function and its model as it begins. Initial loss and
    calibration are for classifiers and run where targets are whole numbers; the causal property where inputs
    and targets are tokens of one shape. Models are trained by the training's own optimizer. Overfitting has
    2,048 steps, not 65,536, and so the looser loss of 0.1 that the authors allow language models.
    """
    tool = import_module("neural_net_checklist.torch_diagnostics")
    training = case.build(fixed, seed)
    if training.batch is None or training.loss is None or not isinstance(training.batch[0], Tensor):
        raise CouldNotRun("needs a batch of one tensor and its targets, and a loss function")
    said: list[Said] = []
    for name, check in checks_of(tool, training, Factory(tool, case, fixed, seed)):
        try:
            with silent():
                check()
        except AssertionError as error:
            small = "Dummy batch" in str(error)  # the batch is smaller than this check takes
            said.append(Said(name, "info" if small else "fail", "", str(error)[:300]))
        except Exception as error:  # a check that is not for this model, as one of the gradient of tokens
            said.append(Said(name, "info", "", f"could not run: {error}"[:300]))
    return said


class Factory:
    """The model of a training as it begins, anew at each call, with the optimizer that belongs to it."""

    def __init__(self, tool: Any, case: Case, fixed: bool, seed: int) -> None:
        self.tool = tool
        self.build = functools.partial(case.build, fixed, seed)
        self.made: list[tuple[nn.Module, Optimizer]] = []

    def __call__(self) -> nn.Module:
        training = self.build()
        self.made.append((training.model, optimizer_of(training)))
        return training.model

    def train(self, model: nn.Module, batch: Any, **given: Any) -> Any:
        """Train a model that was made here as the tool does, by its own optimizer."""
        optimizer = next(each for made, each in self.made if made is model)
        return self.tool.train_batch(model, batch, optimizer=optimizer, **given)


def checks_of(tool: Any, training: Training, model: Factory) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the assertions that are for this kind of training, in the authors' order."""
    assert training.batch is not None
    (x, y), batch, loss = training.batch, training.batch, training.loss
    if not y.is_floating_point():
        with torch.no_grad():
            classes = called(model(), x).shape[-1]
        yield (
            "loss at init",
            lambda: tool.assert_balanced_classification_cross_entropy_loss_at_init(
                model(), batch, num_classes=classes, loss_fn=loss
            ),
        )
        yield (
            "calibration at init",
            lambda: tool.assert_balanced_classification_cross_entropy_init_calibrated(
                model(), batch, num_classes=classes
            ),
        )
    yield "forward batch independence", lambda: tool.assert_forward_batch_independence(model, batch)
    if not x.is_floating_point() and not y.is_floating_point() and x.shape == y.shape:
        yield "forward causal property", lambda: tool.assert_forward_causal_property(model, batch)
    yield "non-zero gradients", lambda: tool.assert_non_zero_gradients(model(), batch)
    yield "backward batch independence", lambda: tool.assert_backward_batch_independence(model, batch)
    yield (
        "input independent baseline",
        lambda: tool.assert_input_independent_baseline_worse(
            model, batch, loss_fn=loss, train_batch_fn=model.train
        ),
    )
    yield (
        "overfit one batch",
        lambda: tool.assert_overfit_to_batch(
            model(),
            batch,
            loss_fn=loss,
            train_batch_fn=model.train,
            max_steps=OVERFIT_STEPS,
            threshold=OVERFIT_LOSS,
        ),
    )
