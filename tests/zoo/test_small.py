"""No measure harms a small model of any oddity, nor does one that ends in an error or is interrupted."""

from __future__ import annotations

import gc
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

import gradscape as gs
from gradscape.errors import GradscapeError
from gradscape.measure.core.batch import unwrapped
from gradscape.records.check import CheckRecord
from products import each_once
from zoo.cases import MEASURES, Case, sgd, step
from zoo.small import CASES
from zoo.snapshot import differences, snapshot

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta:UserWarning"),
    pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning"),  # reentrant
]


def measured(measure: str, case: Case, model: nn.Module, batch: Any) -> Any:
    """A record, or the one line of a refusal that the case expects; anything else is an error."""
    expected = case.refused.get(measure)
    try:
        found = MEASURES[measure](model, case.loss, batch)
    except GradscapeError as error:
        if expected is None or not re.search(expected, str(error)) or "\n" in str(error):
            raise
        return str(error)
    assert expected is None, f"{measure} is no longer refused"
    return found


@each_once("name, measure", list(CASES), list(MEASURES))
def test_a_measure_leaves_the_model_as_found(name: str, measure: str) -> None:
    case = CASES[name]
    model, before_loss = case.model(), None
    if isinstance(case.loss, nn.Module):
        before_loss = snapshot(case.loss)
    before = snapshot(model)
    record = measured(measure, case, model, case.batch)
    assert differences(before, snapshot(model)) == []
    if isinstance(record, CheckRecord):
        assert not BY_TRYING & {finding.verdict for finding in record.diagnosis.findings}
    if isinstance(case.loss, nn.Module) and before_loss is not None:
        assert differences(before_loss, snapshot(case.loss)) == []


# What a check finds by trying, of which these models have nothing.
BY_TRYING = {
    "output ignores the input", "samples are mixed", "sees the future", "does not fit one batch",
    "unusable labels", "train and eval differ", "initial loss too high", "parameters outside the optimizer",
}  # fmt: skip
FADES = "sparse matrices"  # what it multiplies by is less in each pass: 200 of them leave nothing


@pytest.mark.slow
@pytest.mark.long  # with the others of the zoo
@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if "check" not in case.refused and name != FADES]
)
def test_a_check_with_all_its_steps_finds_no_fault_in_them(name: str) -> None:
    case = CASES[name]
    # The one whose gradients are sparse is refused by Adam.
    optimizer = torch.optim.SGD if name == "sparse gradients" else torch.optim.Adam
    record = gs.check(case.model(), case.batch, case.loss, lambda p: optimizer(p, lr=1e-3), remedies=False)
    assert record.fit is not None
    assert not BY_TRYING & {finding.verdict for finding in record.diagnosis.findings}


@contextmanager
def broken_at(model: nn.Module, call: int, error: type[BaseException]) -> Iterator[None]:
    """The so many-th call of the model raises at its end."""
    calls = 0

    def hook(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise error("broken on purpose")

    handle = unwrapped(model).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


BROKEN_OFF = [name for name in CASES if name != "scripted"]


def broken_off(name: str, error: type[BaseException], calls: dict[str, list[int]]) -> int:
    """Number of measures that ended in the error, or in a refusal, of which none changed the model."""
    case, broken = CASES[name], 0
    for measure, numbers in calls.items():
        for number in numbers:
            model = case.model()
            with broken_at(model, number, error):
                before = snapshot(model)
                try:
                    MEASURES[measure](model, case.loss, case.batch)
                except (GradscapeError, error):
                    broken += 1
                assert differences(before, snapshot(model)) == []
    return broken


def calls_of(name: str) -> dict[str, list[int]]:
    """Of each measure the first call, an early one and a late one, in a random order."""
    draw = random.Random(name)
    return {measure: draw.sample([1, draw.randint(2, 3), draw.randint(4, 8)], 3) for measure in MEASURES}


@pytest.mark.parametrize("name", BROKEN_OFF)
def test_a_measure_that_is_broken_off_leaves_the_model_as_found(name: str) -> None:
    """Each model with three measures: of seven, any two meet in as many models as any other two."""
    place, measures = BROKEN_OFF.index(name), list(MEASURES)
    three = {measures[(place + more) % len(measures)] for more in (0, 1, 3)}
    calls = {measure: numbers[:1] for measure, numbers in calls_of(name).items() if measure in three}
    assert broken_off(name, RuntimeError, calls)


@pytest.mark.slow
@pytest.mark.long  # with the others of the zoo
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("name", BROKEN_OFF)
def test_each_measure_that_is_broken_off_leaves_each_model_as_found(
    name: str, error: type[BaseException]
) -> None:
    some = 3 if error is KeyboardInterrupt else 2
    assert broken_off(name, error, {measure: numbers[:some] for measure, numbers in calls_of(name).items()})


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.trained])
def test_a_watch_leaves_a_training_as_it_is(name: str) -> None:
    case = CASES[name]

    def trained(watched: bool) -> dict[str, Any]:
        model = case.model()
        optimizer, torch_state = sgd(model.parameters()), torch.get_rng_state()
        try:
            if watched:
                recorder = gs.FlowRecorder(model) if name not in UNRECORDED else None
                with gs.watch(model, optimizer, every=1, activations=True) as flow:
                    for _ in range(3):
                        step(model, case.loss, case.batch, optimizer)
                        if recorder is not None:
                            recorder.before_step()
                            recorder.after_step()
                gs.diagnose(flow.history())
            else:
                for _ in range(3):
                    step(model, case.loss, case.batch, optimizer)
            return snapshot(model, identities=False)
        finally:
            torch.set_rng_state(torch_state)

    assert differences(trained(False), trained(True)) == []


UNRECORDED = {"complex", "sparse gradients"}


def kept_by_further_calls(name: str, measure: str, calls: int) -> int:
    """Number of tensors alive after further calls that were not after two."""
    case = CASES[name]
    model = case.model()

    def alive_after(calls: int) -> int:
        for _ in range(calls):
            measured(measure, case, model, case.batch)
        gc.collect()
        return sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())

    first = alive_after(2)
    return alive_after(calls) - first


@pytest.fixture(scope="module")
def few_objects() -> None:
    """Leave the collector those objects alone that are made from here on: it passes over all."""
    gc.collect()
    gc.freeze()


@pytest.mark.slow
@pytest.mark.long  # with the others of the zoo
@pytest.mark.usefixtures("few_objects")
@pytest.mark.parametrize("measure", MEASURES)
def test_further_calls_keep_no_tensor(measure: str) -> None:
    assert kept_by_further_calls("writes what it holds", measure, 3) == 0


# Of each way in which a model can hold tensors one; all of the zoo takes minutes.
HOLDERS = (
    "a module under two names", "tied weights", "recurrent", "old weight norms", "pruned", "parametrised",
    "hooks of its own", "checkpoints", "data parallel", "bfloat16",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.long  # with the others of the zoo
@pytest.mark.usefixtures("few_objects")
@pytest.mark.parametrize("name", HOLDERS)
def test_ten_calls_keep_no_tensor(name: str) -> None:
    assert {measure: kept_by_further_calls(name, measure, 8) for measure in MEASURES} == dict.fromkeys(
        MEASURES, 0
    )


@pytest.mark.parametrize("name", ["a module under two names", "writes what it holds", "bfloat16"])
def test_remedies_are_tried_on_copies(name: str) -> None:
    case = CASES[name]
    model = case.model()
    before = snapshot(model)
    record = gs.check(model, case.batch, case.loss, confirm=3, fit=3)
    assert differences(before, snapshot(model)) == []
    assert sum(trial.diagnosis is not None for trial in record.remedies) >= 2
