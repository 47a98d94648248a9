"""Checks before training: verdicts on known faults, remedies that cure them, models left as found."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gradscape as gs
from gradscape.errors import ConfigError
from gradscape.measure.check.check import _on_one_batch
from gradscape.measure.diagnose.advice import by_trials
from gradscape.records.check import EFFECTS, UNMOVED, Trial
from gradscape.records.diagnosis import Finding


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(32) % 4
    return torch.randn(32, 16, generator=generator) + 2 * nn.functional.one_hot(y, 16), y


def deep(depth: int, activation: Callable[[], nn.Module]) -> nn.Sequential:
    layers = [layer for _ in range(depth) for layer in (nn.Linear(16, 16), activation())]
    return nn.Sequential(*layers, nn.Linear(16, 4))


@pytest.fixture(scope="module")
def sigmoids() -> gs.CheckRecord:
    """A deep network of sigmoids, with every remedy tried for 30 steps."""
    return gs.check(lambda: deep(20, nn.Sigmoid), batch(), cross_entropy, confirm=30)


@pytest.fixture(scope="module")
def small_weights() -> gs.CheckRecord:
    """A few layers whose weights are a fifth, with every remedy tried for 12 steps."""

    def make() -> nn.Module:
        model = deep(6, nn.Tanh)
        for parameter in model.parameters():
            parameter.data *= 0.2
        return model

    return gs.check(make, batch(), cross_entropy, seeds=1, confirm=12, fit=0)


def test_a_network_that_trains_is_healthy_and_needs_nothing() -> None:
    found = gs.check(lambda: deep(2, nn.ReLU), batch(), cross_entropy, remedies=False)
    assert found.verdict == "healthy"
    assert found.remedies == ()
    assert found.as_is.losses[-1] < found.as_is.losses[0]


@pytest.mark.slow
def test_a_deep_sigmoid_network_vanishes_and_a_norm_or_another_activation_cures_it(
    sigmoids: gs.CheckRecord,
) -> None:
    found = sigmoids
    assert found.verdict in ("vanishing", "no signal from the input")
    assert "vanishing" in [finding.verdict for finding in found.diagnosis.findings]
    best = found.remedies[0]
    assert best.diagnosis.grade != "fail"
    assert best.effect == "lowers"
    assert best.losses[-1] < found.as_is.losses[-1] - found.band
    by_name = {trial.remedy: trial for trial in found.remedies}
    assert abs(by_name["norm"].span) < abs(found.as_is.span)
    assert all(len(trial.losses) == 30 for trial in found.remedies if trial.diagnosis)
    assert "remedies tried on copies" in str(found)
    json.dumps(found.to_dict())


def test_small_weights_leave_no_signal_and_a_norm_or_other_weights_cure_it(
    small_weights: gs.CheckRecord,
) -> None:
    found = small_weights
    assert found.verdict == "no signal from the input"
    best = found.remedies[0]
    assert best.diagnosis.grade != "fail"
    assert best.effect == "lowers"
    assert best.losses[-1] < found.as_is.losses[-1] - found.band
    by_name = {trial.remedy: trial for trial in found.remedies}
    assert abs(by_name["norm"].span) < abs(found.as_is.span)
    assert {by_name[name].effect for name in ("norm", "he", "glorot")} == {"lowers"}
    assert all(len(trial.losses) == 12 for trial in found.remedies if trial.diagnosis)
    assert "remedies tried on copies" in str(found)
    json.dumps(found.to_dict())


WITH_REMEDIES = pytest.mark.parametrize(
    "which", ["small_weights", pytest.param("sigmoids", marks=pytest.mark.slow)]
)


def in_groups(found: gs.CheckRecord) -> list[str]:
    return list(dict.fromkeys(trial.effect for trial in found.remedies))


@WITH_REMEDIES
def test_remedies_are_ranked_by_the_loss_and_those_that_did_nothing_come_after(
    which: str, request: pytest.FixtureRequest
) -> None:
    found: gs.CheckRecord = request.getfixturevalue(which)
    assert in_groups(found) == [effect for effect in EFFECTS if effect in in_groups(found)]
    moved = [trial.losses[-1] for trial in found.moved]
    assert moved == sorted(moved)
    assert max(moved) < found.as_is.losses[-1] - found.band
    idle = [trial for trial in found.remedies if trial.effect == "nothing"]
    assert all(abs(trial.losses[-1] - found.as_is.losses[-1]) <= found.band for trial in idle)
    assert found.band >= 0.01 * found.as_is.losses[0]


@WITH_REMEDIES
def test_advice_is_what_was_measured_to_work_and_not_what_failed(
    which: str, request: pytest.FixtureRequest
) -> None:
    found: gs.CheckRecord = request.getfixturevalue(which)
    advice = found.diagnosis.findings[0].remedy
    best = found.moved[0]
    fell = f"loss {best.losses[0]:.3g} → {best.losses[-1]:.3g} in {len(best.losses)} steps"
    assert advice.startswith(f"{best.remedy} (tried: {fell})")
    effects = {trial.remedy: trial.effect for trial in found.remedies}
    assert which == "small_weights" or effects["he"] == effects["glorot"] == "nothing"
    for finding in found.diagnosis.findings:
        assert effects["he"] == "lowers" or "He init" not in finding.remedy
        assert effects["activation relu"] == "lowers" or "ReLU in place" not in finding.remedy


def test_it_says_whether_the_loss_fell_and_that_the_loop_was_not_looked_at() -> None:
    found = gs.check(lambda: deep(2, nn.ReLU), batch(), cross_entropy, remedies=False)
    assert found.as_is.fell
    assert f"as it is, by {found.by}: {found.as_is.change}: it falls" in str(found)
    assert "not looked at: the training loop" in str(found)
    assert found.to_dict()["fell"] is True


@pytest.mark.slow
def test_a_loss_that_no_remedy_moves_points_at_the_loss() -> None:
    def of_one(output: Tensor, y: Tensor) -> Tensor:
        """A softmax over one output is 1, whatever the output."""
        return 1 - output[:, :1].softmax(1).mean()

    found = gs.check(lambda: deep(2, nn.ReLU), batch(), of_one, fit=3)
    assert not found.as_is.fell
    assert not found.moved
    assert UNMOVED in str(found)


def test_healthy_gradients_that_do_not_lower_the_loss_are_no_health() -> None:
    def uphill(output: Tensor, y: Tensor) -> Tensor:
        """Its gradient is that of the loss turned round, as where a sign was mixed up."""
        loss = cross_entropy(output, y)
        return 2 * loss.detach() - loss

    for steps, verdict in ((None, "does not fit one batch"), (0, "does not learn")):
        found = gs.check(lambda: deep(2, nn.ReLU), batch(), uphill, confirm=30, remedies=False, fit=steps)
        assert (found.verdict, found.diagnosis.grade) == (verdict, "fail")
        (evidence,) = found.diagnosis.findings[0].evidence
        assert evidence.counts


def test_a_loss_without_the_model_s_parameters_is_told_and_not_that_no_step_was_watched() -> None:
    free = torch.zeros((), requires_grad=True)
    found = gs.check(
        lambda: deep(2, nn.ReLU), batch(), lambda output, y: output.detach().mean() + free, remedies=False
    )
    assert found.verdict == "frozen layer"
    assert "no gradient has reached any parameter in 10 steps" in found.diagnosis.findings[0].cause


def test_other_weights_that_begin_lower_and_are_not_trained_are_no_remedy() -> None:
    free, model = torch.zeros((), requires_grad=True), deep(2, nn.ReLU)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 4
    found = gs.check(model, batch(), lambda output, y: cross_entropy(output.detach(), y) + free, fit=3)
    ends = [trial.losses[-1] for trial in found.remedies if trial.diagnosis]
    assert min(ends) < found.as_is.losses[-1] - found.band
    assert not found.moved
    assert UNMOVED in str(found)
    assert found.diagnosis.findings[0].remedy.startswith("look for detach()")


def test_dead_units_are_named_with_their_layer() -> None:
    def make() -> nn.Module:
        model = deep(3, nn.ReLU)
        nn.init.constant_(model[2].bias, -100.0)
        return model

    found = gs.check(make, batch(), cross_entropy, remedies=False, fit=3)
    assert found.verdict == "dead units"
    assert found.diagnosis.layer == "3"


def test_a_model_is_left_as_found() -> None:
    torch.manual_seed(0)
    model = deep(3, nn.Tanh).append(nn.BatchNorm1d(4))
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    gs.check(model, batch(), cross_entropy, confirm=3, fit=3)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), before.values(), strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_networks_are_checked(kind: type[nn.Module]) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.head = kind(16, 8, batch_first=True), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.inner(x)[0][:, -1])
            return out

    x, y = batch()
    found = gs.check(Recurrent, (x.unsqueeze(1).repeat(1, 3, 1), y), cross_entropy, remedies=False, fit=3)
    assert found.verdict == "healthy"


def test_what_cannot_be_checked_is_told_in_one_line() -> None:
    with pytest.raises(ConfigError, match="confirm: -1 is not a number of steps"):
        gs.check(lambda: deep(1, nn.ReLU), batch(), cross_entropy, confirm=-1)

    def fails() -> nn.Module:
        raise ValueError("no such layer")

    with pytest.raises(ConfigError, match="raised ValueError: no such layer"):
        gs.check(fails, batch(), cross_entropy)


class NotCopied(nn.Sequential):
    def __deepcopy__(self, memo: object) -> nn.Module:
        raise RuntimeError("holds a file")


def test_a_factory_of_what_cannot_be_copied_gets_its_verdict_and_no_remedies() -> None:
    def make() -> nn.Module:
        return NotCopied(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

    batch = (torch.randn(8, 4), torch.arange(8) % 2)
    record = gs.check(make, batch, nn.functional.cross_entropy, seeds=1, fit=3)
    assert record.verdict == "healthy"
    of_copies = [trial.what for trial in record.remedies if not trial.remedy.startswith("lr ")]
    assert len(of_copies) == len(record.remedies) - 3
    assert all("cannot be copied" in what for what in of_copies)
    with pytest.raises(ConfigError, match="NotCopied cannot be copied"):
        gs.check(make(), batch, nn.functional.cross_entropy)


@pytest.mark.slow
def test_an_optimizer_whose_eps_are_two_is_checked() -> None:
    found = gs.check(
        lambda: deep(1, nn.ReLU), batch(), cross_entropy, torch.optim.Adafactor, seeds=1, confirm=3, fit=3
    )
    told = {trial.remedy: trial.what for trial in found.remedies}
    assert told["smaller eps"] == "the optimizer has no eps"


def test_noise_on_one_batch_is_not_cured_by_larger_batches() -> None:
    noise = Finding("noise-dominated", "", "mini-batches differ", "larger mini-batches", ())
    reworded = _on_one_batch(noise)
    assert reworded.remedy == "a lower learning rate; less dropout"
    assert reworded.cause == (
        "successive gradients on the same batch have little in common: steps are too large, or the model "
        "draws at random, as dropout does"
    )
    other = replace(noise, verdict="vanishing")
    assert _on_one_batch(other) == other


def test_a_finding_whose_cures_are_told_with_the_first_does_not_say_that_none_worked() -> None:
    lowered = Trial("norm", "BatchNorm after 3 layers", None, 1.0, (2.0, 1.0), "lowers")
    findings = [
        Finding(verdict, "", "", "a norm after each layer", ()) for verdict in ("vanishing", "saturated")
    ]
    first, second = by_trials(findings, [lowered])
    assert first.remedy == "norm (tried: loss 2 → 1 in 2 steps)"
    assert second.remedy == 'what helps with "vanishing"'
    assert by_trials(findings, [replace(lowered, effect="nothing")])[1].remedy == UNMOVED


class PartlyQuantized(nn.Module):
    """A layer that has no derivative: nothing comes back through it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(16, 16), nn.Linear(16, 4)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # quantization is moving to another package
            inner = nn.Sequential(nn.Linear(16, 16))
            self.quantized = torch.ao.quantization.quantize_dynamic(inner, {nn.Linear})

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.quantized(self.first(x)))


@pytest.mark.filterwarnings("ignore:.*autograd kernel was not registered:UserWarning")
def test_a_layer_behind_which_nothing_is_differentiable_has_gradient_0() -> None:
    record = gs.check(PartlyQuantized, batch(), cross_entropy, fit=3)
    gradients = dict(zip(record.signal.layers, record.signal.gradient[0], strict=True))
    assert gradients["first"] == 0
    assert gradients["last"] > 0
    assert record.diagnosis.grade == "fail"
    assert "10^nan" not in str(record)
