"""Synthetic look-alikes of known tables: their shape, scales, and how well classes are told apart."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from public_failures.data import Draw, made, unit_range

# Published means and standard deviations of Fisher's irises: sepals' length and width, petals' (cm)
IRIS_MEANS = ((5.006, 3.428, 1.462, 0.246), (5.936, 2.770, 4.260, 1.326), (6.588, 2.974, 5.552, 2.026))
IRIS_SPREADS = ((0.352, 0.379, 0.174, 0.105), (0.516, 0.314, 0.470, 0.198), (0.636, 0.322, 0.552, 0.275))


def irises(test: int, unit: bool = False) -> Draw:
    """150 irises of three classes, with half of each class' variance common to its four measures."""

    def samples(generator: Generator) -> tuple[Tensor, Tensor]:
        y = torch.arange(150) % 3
        y = y[torch.randperm(150, generator=generator)]
        common, own = torch.randn(150, 1, generator=generator), torch.randn(150, 4, generator=generator)
        deviation = (common + own) / 2**0.5
        x = torch.tensor(IRIS_MEANS)[y] + torch.tensor(IRIS_SPREADS)[y] * deviation
        return (unit_range(x) if unit else x), y

    return made(samples, 3, test)


def tumors(n: int, test: int) -> Draw:
    """Breast cancer's 30 positive measures of scales 0.003 … 900; 63 % of one class, most well told apart."""

    def samples(generator: Generator) -> tuple[Tensor, Tensor]:
        count = n + test
        y = (torch.rand(count, generator=generator) < 0.63).long()
        malignant = (1 - y)[:, None] * torch.linspace(0.2, 2.0, 30)
        common, own = torch.randn(count, 1, generator=generator), torch.randn(count, 30, generator=generator)
        scales = 10 ** torch.linspace(-2.5, 2.9, 30)[torch.randperm(30, generator=Generator().manual_seed(7))]
        return scales * torch.exp(0.3 * (malignant + 0.6 * common + 0.8 * own)), y

    return made(samples, 2, test)


def patients(n: int, test: int) -> Draw:
    """Eight standardized measures that tell diabetes (35 %) about as well as those of the Pima: 77 %."""

    def samples(generator: Generator) -> tuple[Tensor, Tensor]:
        x = torch.randn(n + test, 8, generator=generator)
        signal = x @ torch.tensor([0.4, 1.1, -0.25, 0.0, -0.15, 0.7, 0.3, 0.15])
        chance = torch.rand(n + test, generator=generator)
        return x, (chance < torch.sigmoid(signal - 0.85)).long()

    return made(samples, 2, test)


def weather(n: int, test: int) -> Draw:
    """Four measures brought to −1 … 1, and whether it rains tomorrow (22 %)."""

    def samples(generator: Generator) -> tuple[Tensor, Tensor]:
        count = n + test
        y = (torch.rand(count, generator=generator) < 0.22).long()
        noise = torch.randn(count, 4, generator=generator)
        coldest = 12 + 0.5 * y + 6 * noise[:, 0]
        warmest = coldest + 11 - 4 * y + 3 * noise[:, 1]
        rain = (noise[:, 2] + 1.2 * y - 0.8).clamp(min=0).square() * 10
        gust = 38 + 8 * y + 13 * noise[:, 3]
        return unit_range(torch.stack([coldest, warmest, rain, gust], 1), -1, 1), y

    return made(samples, 2, test)


def cars(n: int, test: int) -> Draw:
    """Age, sex, miles a day, debt and income, in 0 … 1, and the price of a car, to 30,000."""

    def samples(generator: Generator) -> tuple[Tensor, Tensor]:
        count = n + test
        uniform = torch.rand(count, 5, generator=generator)
        age, sex, miles = 18 + 44 * uniform[:, 0], (uniform[:, 1] < 0.5).float(), 4 + 47 * uniform[:, 2]
        debt = 60_000 * (uniform[:, 3] - 0.45).clamp(min=0) / 0.55
        income = 500 + 11_300 * uniform[:, 4]
        noise = 800 * torch.randn(count, generator=generator)
        price = 1.3 * income + 0.28 * debt + noise
        x = torch.stack([age, sex, miles, debt, income], 1)
        return unit_range(x), price.clamp(min=500)[:, None]

    return made(samples, test=test)
