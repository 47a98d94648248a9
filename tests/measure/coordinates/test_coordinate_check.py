"""Exponents of known parametrizations, exact and over seeds; what is refused; what is left as found."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

import gradscape as gs
from gradscape.errors import ConfigError

GENERATOR = torch.Generator().manual_seed(0)
BATCH = torch.randn(32, 8, generator=GENERATOR), torch.arange(32) % 16
WIDTHS = [64, 128, 256]
LAYERS = ("fc1", "fc2", "fc3", "out")


class Network(nn.Module):
    """MLP whose weights are N(0, 1/fan_in); in muP the readout has the multiplier 1/n and weights N(0, 1).

    The readout's are a quarter of that: in muP the first output, of size n^−½, is to be small beside the
    labels from the start. With `zero` they begin at 0, as muP's authors advise.
    """

    def __init__(self, width: int, mup: bool = False, zero: bool = False) -> None:
        super().__init__()
        self.width, self.scale = width, 64 / width if mup else 1.0
        sizes = [8, width, width, width, 16]
        for name, one, other in zip(LAYERS, sizes, sizes[1:], strict=False):
            self.add_module(name, nn.Linear(one, other, bias=False))
            nn.init.normal_(getattr(self, name).weight, 0, one**-0.5)
        self.out.weight.data *= 0 if zero else 0.25 * self.scale**-0.5

    def forward(self, x: Tensor) -> Tensor:
        for name in LAYERS[:3]:
            x = torch.relu(getattr(self, name)(x))
        found: Tensor = self.out(self.scale * x)
        return found


def rated(kind: str, lr: float, mup: bool, fault: tuple[float, ...] = ()) -> Callable[[Network], Optimizer]:
    """SGD, whose rates muP multiplies by n of input and output, or Adam, whose it divides by n of hidden.

    A fault has a power of n for each layer, which its rate has too much.
    """

    def make(model: Network) -> Optimizer:
        n = model.width / 64 if mup else 1.0
        by_layer = {"sgd": (n, 1, 1, n), "adam": (1, 1 / n, 1 / n, 1)}[kind]
        groups = [
            {"params": [p], "lr": lr * each * n**power}
            for p, each, power in zip(model.parameters(), by_layer, fault or (0,) * 4, strict=True)
        ]
        # Adam's ε is far above gradients that shrink with width: Everett et al. (2024), §5.
        return torch.optim.SGD(groups) if kind == "sgd" else torch.optim.Adam(groups, eps=1e-15)

    make.__annotations__["model"] = nn.Module
    return make


class Constant(nn.Module):
    """Linear network of equal weights, n^a for each layer: every size is an exact power of n."""

    def __init__(self, width: int, powers: tuple[float, ...] = (0, -1, -0.5)) -> None:
        super().__init__()
        sizes = [1, width, width, 1]
        self.layers = nn.ModuleList(
            nn.Linear(a, b, bias=False, dtype=torch.float64) for a, b in pairwise(sizes)
        )
        for layer, power in zip(self.layers, powers, strict=True):
            nn.init.constant_(layer.weight, width**power)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def test_exponents_of_a_network_of_equal_weights_are_exact() -> None:
    """Backward: δ₃ = 1, δ₂ = n^−½, δ₁ = n·n^−1·n^−½; so own changes δ₁, n·δ₂, n·δ₃·1 for inputs of 1."""
    x = torch.ones(3, 1, dtype=torch.float64)
    # Changes of second order have other exponents: with this rate they are below the tolerance.
    make = partial(torch.optim.SGD, lr=1e-9)
    found = gs.coordinate_check(Constant, [4, 16, 64, 256], x, torch.mean, make, steps=1, seeds=2)
    assert found.layers == ("layers.0", "layers.1", "layers.2")
    initial, effective = zip(*((e.initial, e.effective) for e in found.by_layer), strict=True)
    assert [e.mean for e in initial] == pytest.approx([0, 0, 0.5], abs=1e-12)
    assert [e.mean for e in effective] == pytest.approx([-0.5, 0.5, 1], abs=1e-6)
    assert [e.verdict for e in found.by_layer] == ["shrinks", "grows", "grows"]
    assert found.first == "layers.1"
    assert "≈ −½" in str(found)


@pytest.mark.parametrize(
    ("kind", "mup", "exponents"),
    [
        ("sgd", False, (-0.5, 0.5, 0.5, 1)),
        ("adam", False, (0, 1, 1, 1)),
        ("sgd", True, (0, 0, 0, 0)),
        ("adam", True, (0, 0, 0, 0)),
    ],
)
def test_standard_parametrization_and_mup_show_their_exponents(
    kind: str, mup: bool, exponents: tuple[float, ...]
) -> None:
    """Yang & Hu (2021), table 1, by one step from N(0, 1/fan_in): ΔW x of SGD and of Adam."""
    make = rated(kind, 1e-3 if kind == "sgd" else 1e-5, mup)
    found = gs.coordinate_check(
        partial(Network, mup=mup), [64, 256, 1024], BATCH, cross_entropy, make, steps=1, seeds=6
    )
    assert found.layers == LAYERS
    for each, exponent, initial in zip(found.by_layer, exponents, (0, 0, 0, -mup / 2), strict=True):
        assert each.effective is not None
        assert each.initial is not None
        assert each.effective.mean == pytest.approx(exponent, abs=0.15), each.layer
        assert each.initial.mean == pytest.approx(initial, abs=0.15), each.layer
    assert found.verdict == ("flat" if mup else "grows")
    assert found.first == ("" if mup else "fc2")


@pytest.mark.parametrize(
    ("fault", "verdict", "layer"),
    [((0, 1, 0, 0), "grows", "fc2"), ((0, 0, 1, 0), "grows", "fc3"), ((0, 0, 0, 1), "grows", "out"),
     ((-1, 0, 0, 0), "shrinks", "fc1")],
)  # fmt: skip
def test_a_rate_that_does_not_follow_mup_is_found_in_its_layer(
    fault: tuple[float, ...], verdict: str, layer: str
) -> None:
    make = rated("adam", 1e-4, True, fault)
    found = gs.coordinate_check(
        partial(Network, mup=True), WIDTHS, BATCH, cross_entropy, make, steps=1, seeds=4
    )
    assert found.verdict == verdict
    assert found.heading.startswith(f"{verdict} with width: first {layer}, whose effective update goes as")
    assert all(each.verdict != verdict for each in found.by_layer[: LAYERS.index(layer)])


def test_a_readout_of_zero_moves_first_and_the_rest_after_it() -> None:
    make = rated("adam", 1e-3, True)
    found = gs.coordinate_check(
        partial(Network, mup=True, zero=True), [64, 256, 1024], BATCH, cross_entropy, make, steps=2, seeds=5
    )
    assert [e.verdict for e in found.at_step(1)] == ["still", "still", "still", "flat"]
    assert [e.verdict for e in found.by_layer] == ["flat"] * 4
    assert found.by_layer[3].initial is None
    assert (found.losses[:, :, 2] < found.losses[:, :, 0]).all()


def test_a_width_that_diverges_is_reported() -> None:
    def make(model: nn.Module) -> Optimizer:
        return torch.optim.SGD(model.parameters(), lr=1e30 if model.width == 256 else 1e-3)

    found = gs.coordinate_check(Network, WIDTHS, BATCH, cross_entropy, make, steps=4, seeds=2)
    assert found.verdict == "diverges"
    assert found.divergence == {256: found.judged_step + 1}
    assert found.heading.startswith(f"not finite at width 256 (step {found.judged_step + 1})")
    assert np.isnan(found.sizes[:, 2, 4]).all()
    assert np.isfinite(found.sizes[:, :2]).all()


def test_everything_is_left_as_found() -> None:
    made: list[Network] = []

    def make(width: int) -> Network:
        made.append(Network(width))
        return made[-1]

    torch.manual_seed(11)
    x, y = BATCH[0].clone(), BATCH[1].clone()
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index]
    gs.coordinate_check(make, WIDTHS, [(x, y), (x, y)], cross_entropy, steps=2, seeds=2)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()  # type: ignore[index]
    assert random.getstate() == states[2]
    assert torch.equal(x, BATCH[0])
    assert torch.is_grad_enabled()
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for net in made for module in net.modules()
    )
    again = gs.coordinate_check(make, WIDTHS, BATCH, cross_entropy, steps=2, seeds=2)
    assert again == gs.coordinate_check(make, WIDTHS, BATCH, cross_entropy, steps=2, seeds=2)


def test_steps_are_made_on_the_batches_in_turn_and_sizes_are_the_first_s() -> None:
    x, y = BATCH
    several = [(x[:8], y[:8]), (x[8:16], y[8:16]), (x[16:], y[16:])]
    found = gs.coordinate_check(Network, WIDTHS, several, cross_entropy, steps=2, seeds=2)
    one = gs.coordinate_check(Network, WIDTHS, several[0], cross_entropy, steps=2, seeds=2)
    assert (found.batches, found.samples) == (2, 8)
    assert np.array_equal(found.sizes[:, :, :2], one.sizes[:, :, :2])
    assert not np.array_equal(found.sizes[:, :, 2], one.sizes[:, :, 2])


def test_layers_that_are_not_called_in_every_pass_are_left_out_with_a_note() -> None:
    class Routed(Network):
        def forward(self, x: Tensor) -> Tensor:
            out = super().forward(x)
            return out + self.spare(x) if self.width == 64 else out

        def __init__(self, width: int) -> None:
            super().__init__(width)
            self.spare = nn.Linear(8, 16)

    found = gs.coordinate_check(Routed, WIDTHS, BATCH, cross_entropy, steps=1, seeds=2)
    assert "spare" not in found.layers
    assert any(note.startswith("2 layers left out, not called in every pass: ") for note in found.notes)


def sequential(*sizes: int) -> nn.Module:
    return nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(sizes)))


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (Network, {"widths": [64, 128]},
         r"^widths: expected 3 or more increasing whole numbers such as \[64, 128, 256\]; got \[64, 128\]$"),
        (Network, {"widths": [64, 32, 128]}, r"^widths: expected 3 or more .*; got \[64, 32, 128\]$"),
        (Network, {"widths": [64, 64, 128]}, r"^widths: expected 3 or more increasing"),
        (Network, {"widths": [0, 1, 2]}, r"^widths: expected 3 or more increasing"),
        (Network, {"widths": [8, 16.5, 32]}, r"^widths: expected 3 or more increasing"),
        (Network, {"widths": 64}, r"^widths: expected a list; got 64"),
        (Network, {"steps": 0}, r"^steps: expected 1 or more, such as 3; got 0$"),
        (Network, {"seeds": 1}, r"^seeds: expected 2 or more, since one has no interval; got 1$"),
        (Network(8), {},
         r"^make_model: expected a function from a width to a network; got the module Network; give one"),
        (lambda: Network(8), {}, r"^make_model: <lambda>\(64\) raised TypeError: "),
        (lambda width: None, {}, r"^make_model: expected a torch Module from <lambda>\(64\); got NoneType$"),
        (lambda width: sequential(8, 16, 16), {},
         r"^make_model: expected a wider network for 128 than for 64; all parameters have the same shapes: "
         r"make their sizes follow the width$"),
        (lambda width: sequential(8, width, *[16] * (width // 64)), {},
         r"^make_model: expected the same layers at every width; 2.bias, 2.weight are at only one of the "
         r"widths 64 and 128$"),
        (lambda width: nn.Sequential(), {}, r"^make_model: Sequential has no parameter to train$"),
        (Network, {"optimizer": torch.optim.SGD([torch.zeros(1)], 1.0)},
         r"^optimizer: expected a function; got SGD"),
        (Network, {"optimizer": lambda parameters: None}, r"^optimizer: it makes None"),
        (Network, {"batches": torch.randn(4, 3)}, r"^batch: layer fc1 \(Linear\) was given float32 \(4, 3\)"),
        (Network, {"loss": lambda output, y: output}, r"^loss: returned a tensor of shape \(32, 16\)"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(make: Any, arguments: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "widths": WIDTHS,
        "batches": BATCH,
        "loss": cross_entropy,
        "steps": 1,
        "seeds": 2,
    }
    with pytest.raises(ConfigError, match=message):
        gs.coordinate_check(make, **(given | arguments))


def test_widths_may_be_numpy_s() -> None:
    found = gs.coordinate_check(Network, 2 ** np.arange(3, 6), BATCH, cross_entropy, steps=1, seeds=2)
    assert found.widths == (8, 16, 32)
    assert not math.isnan(found.sizes.sum())
