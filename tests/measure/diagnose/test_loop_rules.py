"""Rules on the loop, each on a training that is really made that way, and on one that is not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gradscape as gs
from gradscape.records.diagnosis import Diagnosis, Finding
from gradscape.records.gradients import Clearings


@dataclass
class Loop:
    """A small training, whose parts a test may change."""

    model: nn.Module = field(default_factory=lambda: made())
    optimizer: Callable[[Any], torch.optim.Optimizer] = lambda p: torch.optim.SGD(p, lr=0.1)
    clear: Callable[[torch.optim.Optimizer], None] = lambda optimizer: optimizer.zero_grad()
    before_step: Callable[[nn.Module], None] = lambda model: None
    schedule: Callable[[torch.optim.Optimizer], Any] | None = None
    parameters: Callable[[nn.Module], Any] = lambda model: model.parameters()
    steps: int = 40

    def run(self) -> Diagnosis:
        optimizer = self.optimizer(self.parameters(self.model))
        schedule = self.schedule(optimizer) if self.schedule else None
        x, y = data()
        with gs.watch(self.model, optimizer) as flow:
            for _ in range(self.steps):
                self.clear(optimizer)
                nn.functional.cross_entropy(self.model(x.to(dtype(self.model))), y).backward()
                self.before_step(self.model)
                optimizer.step()
                if schedule:
                    schedule.step()
        return gs.diagnose(flow)


def made() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def data() -> tuple[Tensor, Tensor]:
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(1))
    return x, x[:, :4].argmax(1)


def dtype(model: nn.Module) -> torch.dtype:
    return next(model.parameters()).dtype


def finding(diagnosis: Diagnosis, verdict: str) -> Finding:
    return next(each for each in diagnosis.findings if each.verdict == verdict)


def test_a_plain_loop_has_no_fault() -> None:
    assert Loop().run().verdict == "too early to tell"


# Gradients that nobody clears -----------------------------------------------------------------------------


def test_gradients_that_nobody_clears() -> None:
    found = Loop(clear=lambda optimizer: None).run()
    assert found.verdict == "gradients not cleared"
    assert found.findings[0].evidence[0].value == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("clears", [True, False])
def test_sparse_gradients_over_several_passes(clears: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(20, 8, sparse=True), nn.Flatten(), nn.Linear(24, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gs.watch(model, optimizer) as flow:
        for _ in range(12):
            for _ in range(2):
                ids = torch.randint(0, 20, (16, 3))
                nn.functional.cross_entropy(model(ids), ids[:, 0] % 4).backward()
            optimizer.step()
            if clears:
                optimizer.zero_grad()
    assert not flow.notes
    assert flow.history().clearings == Clearings(0 if clears else 11, 11)


def by_data(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.grad.data.zero_()


@pytest.mark.parametrize(
    "clear",
    [lambda optimizer: optimizer.zero_grad(set_to_none=False), by_data],
    ids=["zeros", "zeros of .data"],
)
def test_gradients_cleared_in_place(clear: Callable[[torch.optim.Optimizer], None]) -> None:
    assert Loop(clear=clear).run().verdict == "too early to tell"


def test_accumulation_is_cleared_once_a_step() -> None:
    model, (x, y) = made(), data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gs.watch(model, optimizer) as flow:
        for step in range(60):
            (nn.functional.cross_entropy(model(x[step % 3 :: 3]), y[step % 3 :: 3]) / 3).backward()
            if step % 3 == 2:
                nn.utils.clip_grad_norm_(model.parameters(), 0.1)
                optimizer.step()
                optimizer.zero_grad()
    assert flow.history().clearings == Clearings(0, 19)
    assert "gradients not cleared" not in [each.verdict for each in gs.diagnose(flow).findings]


def test_a_discriminator_whose_gradients_the_generator_s_pass_adds_to() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"g": nn.Linear(4, 8), "d": nn.Linear(8, 1)})
    optimizers = [torch.optim.Adam(part.parameters(), lr=1e-3) for part in model.values()]
    judged = nn.functional.binary_cross_entropy_with_logits
    with gs.watch(model, optimizers) as flow:
        for _ in range(20):
            fake = model["g"](torch.randn(16, 4))
            optimizers[1].zero_grad()
            judged(model["d"](fake.detach()), torch.zeros(16, 1)).backward()
            judged(model["d"](torch.randn(16, 8)), torch.ones(16, 1)).backward()
            optimizers[1].step()
            optimizers[0].zero_grad()
            judged(model["d"](fake), torch.ones(16, 1)).backward()
            optimizers[0].step()
    clearings = flow.history().clearings
    assert clearings is not None
    assert clearings.kept == 0
    assert clearings.steps == 32


# Parameters that are not trained --------------------------------------------------------------------------


def test_parameters_that_no_optimizer_has() -> None:
    found = Loop(parameters=lambda model: model[2].parameters()).run()
    left = finding(found, "parameters outside the optimizer")
    assert left.layer == "0.weight"
    assert left.evidence[0].value == pytest.approx(144 / 212)


def test_a_head_that_is_replaced_after_the_optimizer_was_made() -> None:
    model = made()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model[2] = nn.Linear(16, 4)
    found = Loop(model, optimizer=lambda _: optimizer).run()
    assert found.verdict == "parameters not trained"
    assert found.layer == "2.weight"
    assert "2 tensors of another model" in found.findings[0].cause


class Listed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = [nn.Linear(8, 8) for _ in range(3)]
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.hidden:
            x = torch.tanh(layer(x))
        out: Tensor = self.head(x)
        return out


def test_layers_in_a_list_are_not_trained() -> None:
    torch.manual_seed(0)
    found = finding(Loop(Listed()).run(), "parameters not trained")
    assert "6 parameter tensors" in found.cause


def test_what_another_optimizer_trains_is_trained() -> None:
    model, (x, y) = made(), data()
    temperature = nn.Parameter(torch.ones(()))
    ours, other = torch.optim.SGD(model.parameters(), lr=0.1), torch.optim.SGD([temperature], lr=0.1)
    with gs.watch(model, ours) as flow:
        for _ in range(20):
            model.zero_grad()
            other.zero_grad()
            nn.functional.cross_entropy(model(x) * temperature, y).backward()
            ours.step()
            other.step()
    assert gs.diagnose(flow).verdict == "too early to tell"


class Tokens(nn.Module):
    """A language model whose head has the embedding's weights, as one parameter or as a copy of them."""

    def __init__(self, tie: Callable[[nn.Parameter], nn.Parameter]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.hidden = nn.Embedding(12, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 12, bias=False)
        self.head.weight = tie(self.embed.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.head(torch.tanh(self.hidden(self.embed(tokens))))
        return out


def spoken(model: nn.Module, steps: int = 5) -> Diagnosis:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    tokens = torch.arange(12)
    with gs.watch(model, optimizer) as flow:
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(tokens), tokens.roll(1)).backward()
            optimizer.step()
    return gs.diagnose(flow)


def a_copy(weight: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(weight.detach().clone())


def test_a_head_that_was_to_be_tied_and_is_a_copy() -> None:
    found = finding(spoken(Tokens(a_copy)), "tied weights came apart")
    assert found.grade == "warn"
    assert found.layer == "head.weight"
    assert "embed.weight and head.weight" in found.cause


def own(weight: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(torch.randn_like(weight))


def frozen(weight: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(weight.detach().clone(), requires_grad=False)


def of_ones(weight: nn.Parameter) -> nn.Parameter:
    with torch.no_grad():
        return nn.Parameter(weight.fill_(1.0).clone())


@pytest.mark.parametrize("tie", [lambda weight: weight, own, frozen, of_ones])
def test_a_head_that_is_tied_or_has_weights_of_its_own(
    tie: Callable[[nn.Parameter], nn.Parameter],
) -> None:
    told = spoken(Tokens(tie))
    assert "tied weights came apart" not in [each.verdict for each in told.findings]


def test_blocks_that_begin_as_copies_of_one_are_no_tied_weights() -> None:
    block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(block, 2, enable_nested_tensor=False), nn.Linear(8, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(4, 5, 8)
    with gs.watch(model, optimizer) as flow:
        for _ in range(3):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    assert flow.history().parted == ()


# Schedules ------------------------------------------------------------------------------------------------


def stepped(size: int) -> Callable[[torch.optim.Optimizer], Any]:
    return lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, size, gamma=0.09)


def test_a_schedule_of_epochs_that_is_stepped_per_batch_ends_the_training() -> None:
    found = Loop(schedule=stepped(4)).run()
    assert found.verdict == "learning rate is 0"
    assert "since step 12 the learning rate is" in found.findings[0].cause


def test_a_schedule_that_ends_with_the_training() -> None:
    cosine = lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40)  # noqa: E731
    assert Loop(schedule=cosine).run().verdict == "too early to tell"
    assert Loop(schedule=stepped(20)).run().verdict == "too early to tell"


def test_a_learning_rate_of_0() -> None:
    found = Loop(optimizer=lambda p: torch.optim.SGD(p, lr=0.0)).run()
    assert found.verdict == "learning rate is 0"


def test_an_exponential_schedule_of_epochs_per_batch() -> None:
    fast = lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.95)  # noqa: E731
    found = finding(Loop(schedule=fast).run(), "schedule")
    assert found.evidence[0].value == pytest.approx(13.5, abs=0.1)
    slow = lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.999)  # noqa: E731
    assert Loop(schedule=slow).run().verdict == "too early to tell"


# Penalties, precision and clipping ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "heavy"),
    [
        (lambda decay: lambda p: torch.optim.SGD(p, lr=0.01, weight_decay=decay), 1.0),
        (lambda decay: lambda p: torch.optim.Adam(p, lr=1e-3, weight_decay=decay), 1.0),
        (lambda decay: lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=decay), 20.0),
    ],
    ids=["SGD", "Adam", "AdamW"],
)
def test_a_penalty_that_outweighs_the_loss(make: Callable[[float], Any], heavy: float) -> None:
    found = Loop(optimizer=make(heavy)).run()
    assert "penalty above the loss" in [each.verdict for each in found.findings]
    assert Loop(optimizer=make(1e-3)).run().verdict == "too early to tell"


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_a_decay_of_layers_without_a_gradient_is_not_the_cause(
    kind: Callable[..., torch.optim.Optimizer],
) -> None:
    """Dead units leave a gradient of exactly 0: decay alone moves the weights, and is not the cause."""
    model = made()
    nn.init.constant_(model[0].bias, -100.0)  # type: ignore[arg-type]
    found = Loop(model=model, optimizer=lambda p: kind(p, lr=1e-3, weight_decay=0.01)).run()
    assert found.verdict == "frozen layer"
    assert "penalty above the loss" not in [each.verdict for each in found.findings]


def test_the_penalty_s_share_is_that_of_the_gradients() -> None:
    model, (x, y) = made(), data()
    before = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, weight_decay=3.0)
    with gs.watch(model, optimizer) as flow:
        for _ in range(5):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    nn.functional.cross_entropy(before(x), y).backward()
    weights = (before[0].weight, before[2].weight)
    ratios = [3 * float(w.detach().norm() / w.grad.norm()) for w in weights if w.grad is not None]
    found = finding(gs.diagnose(flow), "penalty above the loss")
    assert found.evidence[0].value == pytest.approx(min(sum(ratios) / 2, ratios[1]), rel=1e-4)


def test_an_epsilon_that_is_0_in_half_precision() -> None:
    found = Loop(made().half(), optimizer=lambda p: torch.optim.Adam(p, lr=1e-4), steps=5).run()
    assert "precision loses the steps" in [each.verdict for each in found.findings]
    kept = Loop(made().half(), optimizer=lambda p: torch.optim.Adam(p, lr=1e-2, eps=1e-4), steps=5).run()
    assert "precision loses the steps" not in [each.verdict for each in kept.findings]


def test_steps_that_bfloat16_rounds_away() -> None:
    lost = Loop(made().bfloat16(), optimizer=lambda p: torch.optim.Adam(p, lr=1e-5)).run()
    assert lost.verdict == "precision loses the steps"
    assert lost.findings[0].evidence[0].value < 0.5
    made_ = Loop(made().bfloat16(), optimizer=lambda p: torch.optim.Adam(p, lr=1e-2)).run()
    assert made_.verdict == "healthy"


def test_an_optimizer_that_climbs_a_loss_is_told() -> None:
    found = Loop(optimizer=lambda p: torch.optim.SGD(p, lr=0.01, maximize=True)).run()
    assert found.verdict == "loss is maximized"
    assert "maximize=False" in found.findings[0].remedy
