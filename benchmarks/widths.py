"""Coordinate checks of networks whose exponents are known, with faults put in, and beside the package mup.

Perceptrons and transformers in standard parametrization and in muP are checked over and over with other
seeds: which exponents are found, how often a right network is called wrong, and whether a fault is found in
the layer that has it. `python benchmarks/widths.py` takes some minutes and writes `results/widths.json`; the
comparison with mup's own check wants it: `pip install -c constraints.txt mup .`; without it that part stays
as it was.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

import gradscape as gs
from gradscape.records.coordinates import CoordinateCheck
from measure import RESULTS, write

WIDTHS, BASE, SEEDS, STEPS = [64, 128, 256, 512], 64, 5, 3
EXPONENT_WIDTHS = [64, 256, 1024]
CLASSES, FEATURES, SAMPLES, LENGTH, HEADS = 16, 8, 64, 12, 4
RATES = {"sgd": 0.1, "adam": 1e-3}
Scales = Mapping[str, float]  # powers of the relative width n that a fault multiplies a layer's rate with


class Perceptron(nn.Module):
    """Three hidden layers, N(0, 1/fan_in); muP's readout has the multiplier 1/n and begins at 0."""

    def __init__(self, width: int, mup: bool, multiplier: bool = True) -> None:
        super().__init__()
        self.n = width / BASE
        sizes = [FEATURES, width, width, width, CLASSES]
        self.layers = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairwise(sizes))
        for layer in self.layers:
            nn.init.normal_(layer.weight, 0, layer.in_features**-0.5)
        if mup:
            nn.init.zeros_(self.layers[-1].weight)
        self.multiplier = 1 / self.n if mup and multiplier else 1.0

    def forward(self, x: Tensor) -> Tensor:
        for layer in list(self.layers)[:-1]:
            x = torch.relu(layer(x))
        out: Tensor = self.layers[-1](self.multiplier * x)
        return out


class Attention(nn.Module):
    """Causal attention; its logits are divided by √d of a head, in muP by d (Yang et al. 2022, §4)."""

    def __init__(self, width: int, mup: bool) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        d = width // HEADS
        self.scale = (BASE // HEADS) ** 0.5 / d if mup else d**-0.5

    def forward(self, x: Tensor) -> Tensor:
        n, t, width = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale)
        out: Tensor = self.out(y.transpose(1, 2).reshape(n, t, width))
        return out


class Block(nn.Module):
    """Attention and a perceptron, each after a norm and beside a shortcut."""

    def __init__(self, width: int, mup: bool) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, mup)
        self.norm2, self.up = nn.LayerNorm(width), nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return out


class Transformer(nn.Module):
    """Two blocks over tokens, N(0, 1/fan_in); muP's readout has the multiplier 1/n and begins at 0."""

    def __init__(self, width: int, mup: bool, multiplier: bool = True) -> None:
        super().__init__()
        self.n = width / BASE
        self.tokens, self.places = nn.Embedding(CLASSES, width), nn.Embedding(LENGTH, width)
        self.blocks = nn.ModuleList(Block(width, mup) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, module.in_features**-0.5)
        if mup:
            nn.init.zeros_(self.head.weight)
        self.multiplier = 1 / self.n if mup and multiplier else 1.0

    def forward(self, x: Tensor) -> Tensor:
        h = self.tokens(x) + self.places(torch.arange(x.shape[1]))
        for block in self.blocks:
            h = block(h)
        out: Tensor = self.head(self.multiplier * self.norm(h)).transpose(1, 2)
        return out


CHECKS = {"perceptron": 20, "transformer": 6}  # of half a second, and of eight
KINDS: dict[str, type[Perceptron | Transformer]] = {"perceptron": Perceptron, "transformer": Transformer}


def power_of_rate(kind: str, name: str, parameter: Tensor) -> float:
    """Power of n that muP multiplies a rate with (Yang et al. 2022, table 8)."""
    readout, matrix = name.startswith(("head", "layers.3")), parameter.dim() == 2
    entry = name.startswith(("tokens", "places", "layers.0"))
    if kind == "sgd":
        return 1.0 if readout or entry or not matrix else 0.0
    return -1.0 if matrix and not readout and not entry else 0.0


def optimizer(kind: str, mup: bool, faults: Scales) -> Callable[[nn.Module], torch.optim.Optimizer]:
    """SGD, or Adam without its ε, which gradients that shrink with width would fall below."""

    def make(model: nn.Module) -> torch.optim.Optimizer:
        groups = []
        for name, parameter in model.named_parameters():
            power = power_of_rate(kind, name, parameter) if mup else 0.0
            power += next((each for place, each in faults.items() if name.startswith(place)), 0.0)
            groups.append({"params": [parameter], "lr": RATES[kind] * float(model.n) ** power})
        return torch.optim.SGD(groups) if kind == "sgd" else torch.optim.Adam(groups, eps=1e-20)

    return make


def batch(name: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    if name == "transformer":
        tokens = torch.randint(0, CLASSES, (8, LENGTH + 1), generator=generator)
        return tokens[:, :-1], tokens[:, 1:]
    return torch.randn(SAMPLES, FEATURES, generator=generator), torch.arange(SAMPLES) % CLASSES


def checked(
    name: str, kind: str, mup: bool, trial: int = 0, faults: Scales | None = None, *, multiplier: bool = True,
    steps: int = STEPS, widths: list[int] = WIDTHS, seeds: int = SEEDS,
) -> CoordinateCheck:  # fmt: skip
    def make(width: int) -> nn.Module:
        torch.manual_seed(1_000 * trial + torch.initial_seed())  # of every trial other seeds
        return KINDS[name](width, mup, multiplier)

    made = optimizer(kind, mup, faults or {})
    return gs.coordinate_check(make, widths, batch(name), F.cross_entropy, made, steps=steps, seeds=seeds)


def theory(kind: str, mup: bool) -> list[float]:
    """Exponents of a perceptron's effective updates after one step from N(0, 1/fan_in)."""
    if mup:
        return [0.0] * 4
    return [-0.5, 0.5, 0.5, 1.0] if kind == "sgd" else [0.0, 1.0, 1.0, 1.0]


def exponents() -> list[dict[str, Any]]:
    """Exponents of the first step that moves every layer, from 20 seeds; muP's readout moves one before."""
    rows = []
    for kind in ("sgd", "adam"):
        for mup in (False, True):
            found = checked("perceptron", kind, mup, steps=1 + mup, widths=EXPONENT_WIDTHS, seeds=20)
            for layer, exponent in zip(found.by_layer, theory(kind, mup), strict=True):
                assert layer.effective is not None
                rows.append(
                    {
                        "optimizer": kind,
                        "parametrization": "muP" if mup else "standard",
                        "layer": layer.layer,
                        "theory": exponent,
                        "effective": layer.effective.to_dict(),
                    }
                )
    return rows


# Layer that is at fault, power of n that its rate has too much, and False without the readout's multiplier.
FAULTS: dict[str, dict[str, tuple[str, Scales, bool]]] = {
    "perceptron": {
        "rate of a hidden layer not divided": ("layers.1", {"layers.1": 1.0}, True),
        "rate of a later hidden layer not divided": ("layers.2", {"layers.2": 1.0}, True),
        "rate of the first layer divided": ("layers.0", {"layers.0": -1.0}, True),
        "readout without its multiplier": ("layers.3", {}, False),
    },
    "transformer": {
        "rate of one matrix not divided": ("blocks.0.up", {"blocks.0.up": 1.0}, True),
        "rate of a projection not divided": ("blocks.1.attention.out", {"blocks.1.attention.out": 1.0}, True),
        "rate of the embedding divided": ("tokens", {"tokens": -1.0}, True),
        "readout without its multiplier": ("head", {}, False),
    },
}


def named(found: CoordinateCheck) -> str:
    """Layer that the heading names."""
    for verdict in ("grows", "shrinks"):
        if layers := found.having(verdict):
            return layers[0].layer
    return ""


def verdicts() -> list[dict[str, Any]]:
    rows = []
    for name, faults in FAULTS.items():
        cases: dict[str, tuple[bool, str, Scales, bool]] = {
            "standard parametrization": (False, "", {}, True),
            "muP": (True, "", {}, True),
            **{what: (True, *fault) for what, fault in faults.items()},
        }
        for what, (mup, place, scales, multiplier) in cases.items():
            found = [
                checked(name, "adam", mup, trial, scales, multiplier=multiplier)
                for trial in range(CHECKS[name])
            ]
            row = {
                "network": name,
                "case": what,
                "place": place,
                "n": CHECKS[name],
                "verdicts": dict(Counter(each.verdict for each in found)),
                "named": dict(Counter(map(named, found))),
            }
            print(row)
            rows.append(row)
    return rows


def drawn() -> None:
    """The picture of docs/widths.md: the same perceptron in both parametrizations."""
    figure = Figure(figsize=(9, 6), layout="constrained", dpi=110)
    panels = figure.subplots(2, 2, sharex="col")
    for row, mup in enumerate((False, True)):
        found = checked("perceptron", "adam", mup, widths=[64, 128, 256, 512, 1024])
        found.plot(panels[row, 0], "effective")
        found.plot_exponents(panels[row, 1])
        panels[row, 0].set_title("muP" if mup else "standard parametrization", loc="left")
    limits = [panel.get_xlim() for panel in panels[:, 1]]
    panels[0, 1].set_xlim(min(low for low, _ in limits), max(high for _, high in limits))
    figure.savefig(RESULTS / "widths.png")


def beside_mup() -> list[dict[str, Any]]:
    """Largest relative difference between mup's l1 and our sizes, of the same networks and steps."""
    from mup import MuAdam, MuReadout, MuSGD, set_base_shapes
    from mup.coord_check import get_coord_data

    def network(width: int, mup: bool) -> nn.Module:
        def bare(n: int) -> nn.Sequential:
            kind = MuReadout if mup else nn.Linear
            return nn.Sequential(
                nn.Linear(FEATURES, n), nn.ReLU(), nn.Linear(n, n), nn.ReLU(), kind(n, CLASSES)
            )

        made = bare(width)
        return set_base_shapes(made, bare(BASE), delta=bare(BASE + 1)) if mup else made

    ours: dict[tuple[str, bool], Any] = {
        ("sgd", True): MuSGD,
        ("adam", True): MuAdam,
        ("sgd", False): torch.optim.SGD,
        ("adam", False): torch.optim.Adam,
    }
    rows = []
    for (kind, mup), made in ours.items():
        make = partial(network, mup=mup)
        found = gs.coordinate_check(
            make,
            WIDTHS,
            batch("perceptron"),
            F.cross_entropy,
            partial(made, lr=RATES[kind]),
            steps=3,
            seeds=3,
        )
        worst, count = 0.0, 0
        for seed in range(3):

            def lazy(width: int, seed: int = seed, make: Any = make) -> nn.Module:
                torch.manual_seed(seed)
                model: nn.Module = make(width)
                return model

            data = get_coord_data(
                {width: partial(lazy, width) for width in WIDTHS}, [batch("perceptron")], optimizer=kind,
                lr=RATES[kind], mup=mup, nsteps=4, nseeds=1, cuda=False, show_progress=False,
            )  # fmt: skip
            for each in data.to_dict("records"):
                if each["module"] in found.layers:
                    place = WIDTHS.index(each["width"]), each["t"] - 1, found.layers.index(each["module"])
                    worst = max(worst, abs(found.sizes[seed][place] / each["l1"] - 1))
                    count += 1
        rows.append(
            {
                "optimizer": kind,
                "parametrization": "muP" if mup else "standard",
                "values": count,
                "largest_relative_difference": worst,
                "verdict": found.verdict,
            }
        )
        print(rows[-1])
    return rows


def main() -> None:
    torch.set_num_threads(1)
    kept = RESULTS / "widths.json"
    before = json.loads(kept.read_text()) if kept.exists() else {}
    beside = beside_mup() if find_spec("mup") else before.get("mup", [])
    values = {"mup": beside, "exponents": exponents(), "verdicts": verdicts()}
    drawn()
    settings = {"widths": WIDTHS, "exponent_widths": EXPONENT_WIDTHS, "seeds": SEEDS, "steps": STEPS}
    write("widths", {"settings": settings, **values})


if __name__ == "__main__":
    main()
