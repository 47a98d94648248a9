"""What is known of an optimiser: whose ε stands beside the root of the second moment, whose step is plain."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from gradscape.measure.core.parameters import facts

EPS = 3e-7


def made(kind: type[Optimizer], **settings: object) -> Optimizer:
    return kind([nn.Parameter(torch.ones(2, 2))], lr=0.1, **settings)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", ["Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "RMSprop"])
def test_the_epsilon_of_adam_and_its_like_is_known(name: str) -> None:
    found = facts(made(getattr(torch.optim, name), eps=EPS), [0])
    assert (found.name, found.eps, found.plain) == (name, EPS, False)


def test_so_is_that_of_a_class_derived_from_one_of_them() -> None:
    class Mine(torch.optim.AdamW):
        pass

    assert facts(made(Mine, eps=EPS), [0]).eps == EPS


def test_an_epsilon_of_another_meaning_is_none_and_does_not_make_an_optimizer_sgd() -> None:
    for optimizer in (
        made(torch.optim.Adafactor),
        made(torch.optim.Adadelta, eps=EPS),
        made(torch.optim.Muon, eps=EPS),
        made(torch.optim.Rprop),
    ):
        found = facts(optimizer, [0])
        assert (found.eps, found.plain) == (None, False)


def test_sgd_is_plain() -> None:
    found = facts(made(torch.optim.SGD, momentum=0.9), [0])
    assert (found.lr, found.eps, found.momentum, found.plain) == (0.1, None, 0.9, True)
