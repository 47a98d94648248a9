"""Remedies of what surrounds a network: tried where they apply, judged by what can be compared."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import cross_entropy, mse_loss, nll_loss

from gradscape.measure.check.loss_calls import loss_pass
from gradscape.measure.check.loss_remedies import loss_remedies, loss_trials, right_answers, undone
from gradscape.measure.check.trials import Steps, Untreated, first_made
from gradscape.measure.core.batch import Batch
from gradscape.measure.core.copied_optimizer import steppers_of
from gradscape.measure.diagnose.advice import by_trials, effect, rank
from gradscape.records.check import Trial
from gradscape.records.diagnosis import Diagnosis, Finding

torch.manual_seed(0)
X = torch.randn(32, 8)
Y = (X @ torch.randn(8, 4)).argmax(1)


class Net(nn.Module):
    """A network of one hidden layer that ends in a softmax, or does not."""

    def __init__(self, softmax: bool = False) -> None:
        super().__init__()
        self.net, self.softmax = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4)), softmax

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).softmax(1) if self.softmax else self.net(x)


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.01)


def trials(make: Any, batch: Any, loss: Any, optimizer: Any = adam) -> dict[str, Trial]:
    steps = Steps(Batch.of(batch, make(), loss), loss, steppers_of(optimizer, None), 20)
    twin = partial(first_made, make)
    passed = loss_pass(partial(steps.value, twin()))
    as_is = steps.trial("", "as it is", twin())
    remedies = loss_remedies(twin, steps, passed)
    return {each.remedy: each for each in loss_trials(twin, steps, remedies, Untreated(as_is, 0.01, 0.0))}


def test_a_softmax_before_cross_entropy_is_taken_away() -> None:
    found = trials(lambda: Net(softmax=True), (X, Y), cross_entropy)
    trial = found["no last activation"]
    assert trial.effect == "lowers"
    assert trial.what == "cross_entropy of what softmax was given: it has its own"
    twin = trials(Net, (X, Y), cross_entropy)
    assert trial.losses[0] == pytest.approx(twin["lr × 10"].losses[0], rel=1e-5)  # the loss of its logits
    assert "no last activation" not in twin


def test_another_loss_is_judged_by_right_answers() -> None:
    found = trials(Net, (X, Y), nll_loss)
    trial = found["another loss"]
    assert trial.effect == "predicts"
    assert trial.right[1] > trial.right[0] + 0.05
    told = f", right answers {trial.right[1]:.2g} where it has {trial.right[0]:.2g} as it is"
    assert told in str(trial)
    assert "cross_entropy in place of nll_loss" in str(trial)
    of_logarithms = trials(lambda: nn.Sequential(Net(), nn.LogSoftmax(1)), (X, Y), nll_loss)
    assert "another loss" not in of_logarithms


@pytest.mark.slow
def test_squared_errors_of_classes_have_a_loss_of_classes() -> None:
    one_hot = functional.one_hot(Y, 4).float()
    found = trials(lambda: Net(softmax=True), (X, one_hot), mse_loss)
    assert found["another loss"].what == "cross_entropy in place of mse_loss, of what softmax was given"
    binary = (Y > 1).float().view(-1, 1)
    found = trials(lambda: nn.Sequential(Net(), nn.Linear(4, 1), nn.Sigmoid()), (X, binary), mse_loss)
    told = "binary_cross_entropy_with_logits in place of mse_loss, of what sigmoid was given"
    assert found["another loss"].what == told
    found = trials(lambda: nn.Linear(8, 8), (X, X.flip(0)), mse_loss)
    assert "another loss" not in found


def test_inputs_far_from_a_standard_deviation_of_1_are_standardized() -> None:
    raw = 100 * X + 200
    found = trials(Net, (raw, Y), cross_entropy)
    trial = found["standardized inputs"]
    assert f"where they have {float(raw.mean()):.3g} and {float(raw.std()):.3g}" in trial.what
    assert trial.losses[0] < 2 < found["lr × 10"].losses[0]
    assert "standardized inputs" not in trials(Net, (X, Y), cross_entropy)


def test_another_learning_rate_is_tried_in_each_group() -> None:
    def grouped(parameters: Any) -> torch.optim.Optimizer:
        first, *others = parameters
        return torch.optim.SGD([{"params": [first], "lr": 1e-4}, {"params": others}], lr=1e-3)

    found = trials(Net, (X, Y), cross_entropy, optimizer=grouped)
    assert found["lr × 10"].what == "learning rate 0.001, 0.01"
    assert found["lr ÷ 10"].what == "learning rate 1e-05, 0.0001"
    assert found["lr × 10"].losses[0] == found["lr ÷ 10"].losses[0]
    assert found["lr × 10"].losses[-1] < found["lr ÷ 10"].losses[-1]


def test_what_an_activation_was_given_comes_back() -> None:
    values = torch.randn(5, 3)
    shifted = undone(values.softmax(1), "softmax")
    assert torch.allclose(shifted.softmax(1), values.softmax(1))
    assert torch.allclose(undone(values.sigmoid(), "sigmoid"), values, atol=1e-5)
    assert undone(values, "") is values
    assert torch.isfinite(undone(torch.tensor([0.0, 1.0]), "sigmoid")).all()


def test_right_answers_are_counted_where_there_are_any() -> None:
    logits = torch.tensor([[2.0, 1.0], [2.0, 1.0], [0.0, 1.0], [0.0, 1.0]])

    def share(loss: Any, output: Tensor, target: Tensor) -> float:
        (call,) = loss_pass(lambda: loss(output, target)).calls
        return right_answers(call)

    assert share(cross_entropy, logits, torch.tensor([0, 1, 1, -100])) == pytest.approx(2 / 3)
    assert share(mse_loss, logits, functional.one_hot(torch.tensor([0, 0, 0, 1])).float()) == 0.75
    assert share(mse_loss, logits[:, 0], torch.tensor([1.0, 0, 0, 0])) == 0.75
    assert math.isnan(share(mse_loss, logits, torch.randn(4, 2)))


def trial(remedy: str, losses: tuple[float, ...], verdict: str = "healthy") -> Trial:
    return Trial(remedy, "", Diagnosis((Finding(verdict, "", "", "", ()),), "", ()), 0.0, losses)


def test_a_remedy_whose_gradients_are_noise_ranks_by_its_loss() -> None:
    """As BatchNorm on VGG38 with 32 digits, which once came ninth."""
    as_is = trial("", (2.31, 2.30), "vanishing")
    tried = [
        trial("lsuv", (2.65, 2.29)),
        trial("he", (2.30, 1.61)),
        trial("norm", (2.28, 0.94), "noise-dominated"),
        trial("glorot", (2.30, 2.30)),
    ]
    ranked = sorted((replace(each, effect=effect(each, as_is, 0.023)) for each in tried), key=rank)
    assert [each.remedy for each in ranked[:2]] == ["norm", "he"]
    assert {each.effect for each in ranked[2:]} == {"nothing"}


def test_a_fault_of_the_loss_is_advised_its_own_cure_and_none_of_the_network() -> None:
    norm = replace(trial("norm", (2.0, 1.0)), effect="lowers")
    cure = replace(trial("no last activation", (2.0, 1.5)), effect="lowers")
    twice = Finding("output does not fit the loss", "", "", "leave out the softmax", ())
    mixed = Finding("samples are mixed", "", "", "batch_first=True", ())
    assert by_trials([twice], [norm, cure])[0].remedy == (
        "no last activation (tried: loss 2 → 1.5 in 2 steps); leave out the softmax"
    )
    assert by_trials([mixed], [norm, cure])[0].remedy == "batch_first=True"
