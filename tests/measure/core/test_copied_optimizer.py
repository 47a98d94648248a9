"""Optimizers of copies: class, settings, groups and their order; no state; the user's own are not touched."""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

import gradscape as gs
from gradscape.errors import ConfigError
from gradscape.measure.check.remedies import REMEDIES, Applied
from gradscape.measure.core.copied_optimizer import Steppers, steppers_of
from gradscape.measure.core.copying import copied

torch.manual_seed(0)
X, Y = torch.randn(12, 6), torch.arange(12) % 3


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))


def grouped(net: nn.Sequential) -> Optimizer:
    return torch.optim.AdamW(
        [
            {"params": net[4].parameters(), "lr": 0.1, "tag": "head"},
            {"params": net[0].parameters(), "weight_decay": 0.0},
        ],
        lr=0.01,
        betas=(0.8, 0.9),
    )


def settings(optimizer: Optimizer) -> list[dict[str, Any]]:
    return [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]


def trained(net: nn.Module, optimizers: Steppers, count: int = 3) -> list[float]:
    losses = []
    for _ in range(count):
        optimizers.zero_grad()
        loss = cross_entropy(net(X), Y)
        losses.append(loss.item())
        loss.backward()
        optimizers.step()
    return losses


class Lookahead(Optimizer):
    """Slow weights around another optimizer (Zhang et al. 2019), whose groups and state it shares."""

    def __init__(self, optimizer: Optimizer, every: int) -> None:
        self.inner, self.every, self.made = optimizer, every, 0
        super().__init__(optimizer.param_groups, dict(optimizer.defaults))
        self.param_groups = optimizer.param_groups

    def step(self, closure: Any = None) -> None:
        self.inner.step()
        self.made += 1
        for p in (p for group in self.param_groups for p in group["params"]):
            slow = self.state[p].setdefault("slow", p.detach().clone())
            if self.made % self.every == 0:
                slow += 0.5 * (p.detach() - slow)
                p.data.copy_(slow)


class ScheduleFree(Optimizer):
    """Steps in train mode alone, and counts within its groups, as schedule-free optimizers do."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr, "k": 0, "train_mode": False})

    def train(self) -> None:
        for group in self.param_groups:
            group["train_mode"] = True

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            if not group["train_mode"]:
                raise RuntimeError("not in train mode")
            group["k"] += 1
            for p in group["params"]:
                p.data.sub_(group["lr"] / group["k"] * p.grad)


class Named(torch.optim.SGD):
    """Has an argument that is no default, and uses it."""

    def __init__(self, parameters: Any, scale: float) -> None:
        super().__init__(parameters, lr=0.1)
        self.scale = scale

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.data.sub_(self.scale * group["lr"] * p.grad)


def test_groups_settings_and_order_are_those_of_the_original() -> None:
    net = model()
    own, twin = grouped(net), copied(net)
    (made,) = steppers_of(own, net)(twin).optimizers
    assert type(made) is torch.optim.AdamW
    assert settings(made) == settings(own)
    assert made.defaults == own.defaults
    names = {id(p): name for name, p in twin.named_parameters()}
    assert [[names[id(p)] for p in group["params"]] for group in made.param_groups] == [
        ["4.weight", "4.bias"], ["0.weight", "0.bias"],
    ]  # fmt: skip


KINDS = [
    kind
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and name not in ("Optimizer", "LBFGS", "SparseAdam")
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_optimizer_of_torch_is_carried_over(kind: type[Optimizer]) -> None:
    """Adagrad has a state from the beginning, which a copy without one would miss."""
    net = model()
    matrices = [p for p in net.parameters() if p.dim() == 2]
    twin, other = copied(net), copied(net)
    of_other = [p for p in other.parameters() if p.dim() == 2]
    carried = steppers_of(kind(matrices, lr=0.03), net)(twin)
    assert trained(twin, carried) == trained(other, Steppers((kind(of_other, lr=0.03),)))
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), model().parameters(), strict=True))


@pytest.mark.parametrize(
    "make",
    [
        lambda p: Lookahead(torch.optim.Adam(p, lr=0.05), 2),
        lambda p: Lookahead(Named(p, 3.0), 2),
        lambda p: Named(p, 3.0),
        lambda p: ScheduleFree(p, lr=0.2),
    ],
)
def test_wrappers_and_classes_of_one_s_own_are_carried_over_without_their_state(make: Any) -> None:
    net = model()
    fresh = make(net.parameters())
    by_function, used, untrained = copied(net), copied(net), copied(net)
    expected = trained(by_function, steppers_of(make, None)(by_function))
    twin = copied(net)
    assert trained(twin, steppers_of(fresh, net)(twin)) == expected
    own = make(used.parameters())
    trained(used, Steppers((own,)), 4)
    state, weights = copy.deepcopy(own.state_dict()), copy.deepcopy(used.state_dict())
    settled = settings(own)
    of_used = steppers_of(own, used)(untrained)  # its copy's weights are those before
    if not isinstance(own, Lookahead):  # whose counter goes on
        assert trained(untrained, of_used) == expected
    else:
        assert not any(of_used.optimizers[0].state.values())
        trained(untrained, of_used)
    assert settings(own) == settled
    assert str(own.state_dict()) == str(state)
    assert all(torch.equal(weights[name], value) for name, value in used.state_dict().items())


def test_hooks_and_a_schedule_of_the_original_are_not_carried_over() -> None:
    """A schedule puts a step into the instance that is the original's; a watch its hooks."""
    net = model()
    own = Named(net.parameters(), 2.0)
    schedule = torch.optim.lr_scheduler.StepLR(own, 1)
    flow = gs.watch(net, own)
    before, twin = copy.deepcopy(net.state_dict()), copied(net)
    losses = trained(twin, steppers_of(own, net)(twin))
    assert losses[-1] < losses[0]
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert len(flow.history().steps) == 0
    assert schedule.last_epoch == 0


def test_a_framework_s_wrapper_is_taken_off() -> None:
    accelerate = pytest.importorskip("accelerate")
    net = model()
    own = torch.optim.SGD(net.parameters(), lr=0.3)
    (made,) = steppers_of(accelerate.Accelerator(cpu=True).prepare(own), net)(copied(net)).optimizers
    assert type(made) is torch.optim.SGD
    assert made.param_groups[0]["lr"] == 0.3


def test_what_a_remedy_adds_is_trained_too() -> None:
    net = model()
    applied = REMEDIES["norm"](net, (X, Y))
    assert isinstance(applied, Applied)
    made = steppers_of(torch.optim.SGD(net.parameters(), lr=0.1), net)(applied.model)
    held = {id(p) for group in made.groups for p in group["params"]}
    assert held == {id(p) for p in applied.model.parameters()}
    some = steppers_of(grouped(net), net)(applied.model)
    held = {id(p) for group in some.groups for p in group["params"]}
    assert {name for name, p in applied.model.named_parameters() if id(p) not in held} == {
        "2.inner.weight", "2.inner.bias",
    }  # fmt: skip


def test_parameters_of_another_model_are_left_out() -> None:
    net, other = model(), nn.Linear(3, 3)
    shared = torch.optim.SGD(
        [{"params": other.parameters(), "lr": 9.0}, {"params": net.parameters()}], lr=0.1
    )
    made = steppers_of([shared, torch.optim.Adam(other.parameters())], net)(copied(net))
    assert [group["lr"] for group in made.groups] == [0.1]
    assert sum(len(group["params"]) for group in made.groups) == 6


class Unmade(torch.optim.SGD):
    """Has an argument of its own, and cannot be copied."""

    def __init__(self, parameters: Any, stream: Any) -> None:
        super().__init__(parameters, lr=0.1)
        self.stream = stream


def test_an_optimizer_that_cannot_be_carried_over_says_what_to_give() -> None:
    net = model()
    own = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(ConfigError, match="SGD trains no parameter of Sequential: give the optimizer of"):
        gs.check(model(), (X, Y), cross_entropy, optimizer=own)
    unmade = Unmade(net.parameters(), (x for x in "open"))
    with pytest.raises(
        ConfigError, match=r"optimizer: another Unmade cannot be made .*; give what makes one"
    ):
        gs.check(net, (X, Y), cross_entropy, optimizer=unmade)
    with pytest.raises(ConfigError, match=r"optimizer: expected one or several of torch.optim; got \[3\]"):
        gs.check(net, (X, Y), cross_entropy, optimizer=[3])
    with pytest.raises(ConfigError, match="AdamW has 2 groups of another module's parameters; give that"):
        gs.check(model, (X, Y), cross_entropy, optimizer=grouped(net))


def test_beside_a_factory_an_optimizer_gives_class_and_settings() -> None:
    own = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.7, momentum=0.5)
    assert isinstance(own.state, defaultdict)
    twin = model()
    (made,) = steppers_of(own, None)(twin).optimizers
    assert settings(made) == settings(own)
    assert made.param_groups[0]["params"] == list(twin.parameters())


def test_a_function_of_the_model_can_choose_a_rate_for_each_layer() -> None:
    def by_layer(model: nn.Module) -> Optimizer:
        return torch.optim.SGD([{"params": p, "lr": 0.1 / p.shape[-1]} for p in model.parameters()], lr=1.0)

    net = model()
    made = steppers_of(by_layer, None)(net)
    assert [group["lr"] for group in made.groups] == [0.1 / p.shape[-1] for p in net.parameters()]
