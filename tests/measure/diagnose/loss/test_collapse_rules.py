"""Embeddings that become one point and discriminators that win; and those that do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.made_losses import made_history, made_term
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

import gradscape as gs
from gradscape.measure.diagnose.loss.rules import loss_findings
from gradscape.records.diagnosis import symptoms_of
from gradscape.records.loss import LossHistory, LossTerm

POINT, WINS = "embeddings collapse", "discriminator wins"


# Embeddings -----------------------------------------------------------------------------------------------


def batch_hard(z: Tensor, y: Tensor) -> Tensor:
    """Triplet loss of the farthest positive and the nearest negative, with a margin of 0.5."""
    distances = (z[:, None] - z[None]).square().sum(-1).clamp(min=1e-12).sqrt()
    same = y[:, None] == y[None]
    positive = distances.masked_fill(~same, 0).amax(1)
    return (positive - distances.masked_fill(same, 1e9).amin(1) + 0.5).relu().mean()


def embedded(lr: float, seed: int = 0) -> list[str]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 8))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    means, y = torch.randn(8, 20), torch.arange(24) % 8
    with gs.watch(model, optimizer) as flow:
        for _ in range(151):  # a small model is read at every fiftieth step
            optimizer.zero_grad()
            batch_hard(model(means[y] + 1.8 * torch.randn(24, 20)), y).backward()
            optimizer.step()
    return [each.verdict for each in gs.diagnose(flow).findings]


@pytest.mark.parametrize("seed", [0, 1, 3])  # some are thrown off their point at a step or two
def test_a_triplet_loss_whose_embeddings_become_one_point(seed: int) -> None:
    found = embedded(0.03, seed)
    assert found[0] == POINT
    assert "converged" not in found


def test_one_that_learns_is_quiet() -> None:
    assert POINT not in embedded(1e-3)


def points(*spreads: float, term: str = "unknown", level: float = 0.5, **more: object) -> LossHistory:
    """Readings whose outputs differ by these deviations, and a loss that stays at its level."""
    mean = np.random.default_rng(0).normal(size=8)
    output = mean + np.random.default_rng(1).normal(size=(24, 8)) * 0
    terms = [made_term(term) for _ in spreads]
    seen = made_history(*terms, values=np.full(200, level) + np.linspace(1e-3, 0, 200), **more)
    readings = tuple(
        replace(each, output=made_term("unknown", output=output).output, output_features=(0.0, spread))
        for each, spread in zip(seen.readings, spreads, strict=True)
    )
    return replace(seen, readings=readings)


def test_outputs_that_differ_or_were_always_alike_are_no_collapse() -> None:
    verdicts = [each.verdict for each in loss_findings(points(0.5, 0.1, 1e-6, 1e-6, 1e-6))]
    assert verdicts == [POINT]
    assert not loss_findings(points(0.5, 0.1, 0.1, 0.1, 0.1))
    assert not loss_findings(points(1e-6, 1e-6, 1e-6, 1e-6, 1e-6))
    assert not loss_findings(points(0.5, 0.1, 1e-6, 1e-6, 1e-6, term="mse_loss"))
    assert not loss_findings(points(0.5, 0.1, 1e-6, 1e-6, 1e-6, equal_samples=1.0))
    assert not loss_findings(points(0.5, 0.1, 1e-6))


def test_what_the_network_does_otherwise_is_still_told() -> None:
    assert "learning rate too large" not in symptoms_of(POINT)
    assert "converged" in symptoms_of(POINT)


# Two players ----------------------------------------------------------------------------------------------


def judged(target: float, logit: float, probability: bool = False) -> LossTerm:
    logits = logit + np.random.default_rng(0).normal(size=(64, 1))
    output = 1 / (1 + np.exp(-logits)) if probability else logits
    name = "binary_cross_entropy" if probability else "binary_cross_entropy_with_logits"
    return made_term(name, output=output, target=np.full((64, 1), target))


def game(real: float, made: float, generator: float, target: float = 1.0, **more: bool) -> LossHistory:
    """Steps of a discriminator, on real and made samples, and of a generator."""
    one: Sequence[LossTerm] = (judged(target, real, **more), judged(0.0, made, **more))
    other: Sequence[LossTerm] = (judged(target, generator, **more),)
    return made_history(*[one, other] * 10, values=np.full(2000, 3.0))


def verdicts(history: LossHistory) -> list[str]:
    return [each.verdict for each in loss_findings(history)]


@pytest.mark.parametrize(
    "history", [game(6, -7, -7), game(6, -7, -7, 0.9), game(6, -7, -7, probability=True)]
)
def test_a_discriminator_that_is_sure(history: LossHistory) -> None:
    assert WINS in verdicts(history)
    (found,) = [each for each in loss_findings(history) if each.verdict == WINS]
    assert found.grade == "warn"
    assert all(each.counts for each in found.evidence)


@pytest.mark.parametrize(
    "history",
    [
        game(0.2, -0.2, -0.2),
        game(2, -2, -2),
        game(6, -7, 1),  # the generator's samples pass
        made_history(*[[judged(1, 6)], [judged(0, -7)]] * 10, values=np.full(2000, 0.01)),  # sorted by class
    ],
)
def test_a_game_that_goes_on_is_quiet(history: LossHistory) -> None:
    assert WINS not in verdicts(history)


def test_the_generator_s_pass_is_read_where_real_and_made_samples_have_passes_of_their_own() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"g": nn.Linear(2, 2), "d": nn.Linear(2, 1)})
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.01) for part in (model["d"], model["g"])]
    judge = binary_cross_entropy_with_logits
    with gs.watch(model, optimizers) as flow:
        for _ in range(6):
            fake = model["g"](torch.randn(8, 2))
            model.zero_grad()
            judge(model["d"](torch.randn(8, 2) + 3), torch.ones(8, 1)).backward()
            judge(model["d"](fake.detach()), torch.zeros(8, 1)).backward()
            optimizers[0].step()
            judge(model["d"](fake), torch.ones(8, 1)).backward()
            optimizers[1].step()
    loss = flow.history().loss
    assert loss is not None
    last = [each for each in loss.readings if each.step == loss.readings[-1].step]
    assert [each.terms[0].target.mean for each in last if each.terms[0].target] == [1.0, 0.0, 1.0]


# Games at their end: the discriminator is at guessing ------------------------------------------------------


def passes(judge: nn.Module, x: Tensor, fake: Tensor) -> list[Tensor]:
    """Losses of a discriminator in passes of their own, as in the DCGAN tutorial of PyTorch."""
    loss = binary_cross_entropy_with_logits
    return [loss(judge(x), torch.ones(len(x), 1)), loss(judge(fake), torch.zeros(len(x), 1))]


def one_batch(judge: nn.Module, x: Tensor, fake: Tensor) -> list[Tensor]:
    """Loss of a discriminator on real and made samples in one batch."""
    is_real = torch.cat([torch.ones(len(x), 1), torch.zeros(len(fake), 1)])
    return [binary_cross_entropy_with_logits(judge(torch.cat([x, fake])), is_real)]


@pytest.mark.parametrize("form", [passes, one_batch])
@pytest.mark.parametrize("together", [True, False])
def test_a_game_at_its_end_is_no_loss_that_does_not_fall(
    form: Callable[[nn.Module, Tensor, Tensor], list[Tensor]], together: bool
) -> None:
    """The generator makes real samples from the first step on; Goodfellow et al. (2014), §4.1."""
    torch.manual_seed(0)
    maker, judge = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    with torch.no_grad():
        maker.weight.copy_(torch.eye(2))
        maker.bias.zero_()
    optimizers = [torch.optim.Adam(each.parameters(), lr=1e-3) for each in (maker, judge)]
    flow = gs.watch(nn.ModuleList([maker, judge]), optimizers) if together else gs.watch(judge, optimizers[1])
    told = []
    for _ in range(130):
        fake = maker(torch.randn(32, 2))
        optimizers[1].zero_grad()
        losses = form(judge, torch.randn(32, 2), fake.detach())
        for loss in losses:
            loss.backward()
        optimizers[1].step()
        told.append(sum(loss.item() for loss in losses) / len(losses))
        optimizers[0].zero_grad()
        binary_cross_entropy_with_logits(judge(fake), torch.ones(32, 1)).backward()
        optimizers[0].step()
    flow.close()
    found = gs.diagnose(flow)
    assert found.grade == "info", found
    if not together:  # the generator's pass is through it too, and its gradients are cleared
        history = flow.history().loss
        assert history is not None
        assert history.values.tolist() == pytest.approx(told, rel=1e-6)


@pytest.mark.parametrize("sorted_parts", [True, False])
def test_parts_of_a_batch_are_no_game(sorted_parts: bool) -> None:
    """A classifier at guessing, with accumulation: its parts are of both classes, or of one."""
    torch.manual_seed(0)
    model = nn.Linear(6, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gs.watch(model, optimizer) as flow:
        for _ in range(130):
            optimizer.zero_grad()
            for part in range(2):
                y = torch.full((16, 1), float(part)) if sorted_parts else torch.randint(0, 2, (16, 1)).float()
                x = torch.randn(16, 6)
                binary_cross_entropy_with_logits(model(x), y).backward()
            optimizer.step()
    verdicts = [each.verdict for each in gs.diagnose(flow).findings]
    assert ("loss does not fall" in verdicts) != sorted_parts  # which a game looks like
