"""Small networks as people write them, each with a task that it learns: `healthy_models` by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import healthy_tasks as tasks
import torch
from healthy_tasks import CLASSES, WORDS, Task
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Model:
    """A network and its task."""

    name: str
    family: str
    make: Callable[[], nn.Module]
    task: Task


def mlp(*widths: int, activation: type[nn.Module] = nn.ReLU, norm: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths[:-1]):
        layers += [nn.Linear(inputs, outputs), *([nn.LayerNorm(outputs)] if norm else []), activation()]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(*widths[-2:]))


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 3, padding=1), nn.Tanh(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10),
    )  # fmt: skip


def plain_vgg(channels: int = 1, classes: int = 10) -> nn.Module:
    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    return nn.Sequential(
        *block(channels, 16), *block(16, 16), nn.MaxPool2d(2), *block(16, 32), *block(32, 32),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, classes),
    )  # fmt: skip


class Residual(nn.Module):
    """A block of a ResNet whose last norm begins at γ = 0 (Goyal et al. 2017)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


def zero_gamma_resnet() -> nn.Module:
    stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    blocks = (Residual(16) for _ in range(3))
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES))


class Recurrent(nn.Module):
    """Rows of digits as a sequence; the last state's class."""

    def __init__(self, kind: type[nn.RNNBase], **options: Any) -> None:
        super().__init__()
        self.inner = kind(8, 32, batch_first=True, **options)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.inner(x)[0][:, -1])
        return out


class NanoGPT(nn.Module):
    """A decoder of two layers whose head is its embedding (Karpathy's nanoGPT)."""

    def __init__(self, width: int = 32, depth: int = 2, length: int = 16) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(WORDS, width), nn.Embedding(length, width)
        layer = {
            "d_model": width,
            "nhead": 2,
            "dim_feedforward": 4 * width,
            "dropout": 0.0,
            "activation": "gelu",
        }
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(**layer, batch_first=True, norm_first=True) for _ in range(depth)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, WORDS, bias=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
        self.head.weight = self.wte.weight

    def forward(self, ids: Tensor) -> Tensor:
        length = ids.shape[1]
        x = self.wte(ids) + self.wpe(torch.arange(length))
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        for block in self.blocks:
            x = block(x, src_mask=mask, is_causal=True)
        out: Tensor = self.head(self.norm(x))
        return out


class AutoEncoder(nn.Module):
    """Transposed convolutions with BatchNorm behind a bottleneck, as a DCGAN's generator."""

    def __init__(self, batch_norm: bool) -> None:
        super().__init__()

        def norm(width: int) -> nn.Module:
            return nn.BatchNorm2d(width) if batch_norm else nn.Identity()

        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 32, 4, 2, 1), norm(32),
            nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(128, 24),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(24, 32, 2), norm(32), nn.ReLU(), nn.ConvTranspose2d(32, 16, 4, 2, 1), norm(16),
            nn.ReLU(), nn.ConvTranspose2d(16, 1, 4, 2, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.decoder(self.encoder(x)[:, :, None, None])
        return out


class TextConv(nn.Module):
    """Convolutions of three widths over words (Kim 2014)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 16)
        self.convs = nn.ModuleList(nn.Conv1d(16, 16, size) for size in (2, 3, 4))
        self.drop, self.head = nn.Dropout(0.3), nn.Linear(48, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids).transpose(1, 2)
        pooled = [F.relu(conv(x)).amax(2) for conv in self.convs]
        out: Tensor = self.head(self.drop(torch.cat(pooled, 1)))
        return out


class Bag(nn.Module):
    """The mean of word vectors (fastText)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.EmbeddingBag(WORDS, 16), nn.Linear(16, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.head(self.embed(ids))
        return out


class PointNet(nn.Module):
    """A layer shared by points, then their maximum (Qi et al. 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.each, self.head = mlp(3, 64, 64, 64)[1:], nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.each(x).amax(1))
        return out


class Factors(nn.Module):
    """Ratings as products of embeddings (Koren et al. 2009)."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(40, 8), nn.Embedding(30, 8)
        for table in (self.user, self.item):
            nn.init.normal_(table.weight, std=0.3)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return (self.user(user) * self.item(item)).sum(1)


class Experts(nn.Module):
    """Four experts, of which the gate takes two (Shazeer et al. 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(32, 4), nn.ModuleList(mlp(32, 32, 32) for _ in range(4))
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.gate(x).softmax(1).topk(2, dim=1)
        share = torch.zeros(len(x), 4).scatter(1, chosen, weights)
        out: Tensor = self.head(sum(share[:, i : i + 1] * e(x) for i, e in enumerate(self.experts)))
        return out


class Triplet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp(32, 64, 16)[1:]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x)
        return out


class SmallUNet(nn.Module):
    """One level down, one up, and what was cut across (Ronneberger et al. 2015)."""

    def __init__(self) -> None:
        super().__init__()

        def double(inputs: int, outputs: int) -> nn.Module:
            first, second = (
                nn.Conv2d(inputs, outputs, 3, padding=1),
                nn.Conv2d(outputs, outputs, 3, padding=1),
            )
            return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())

        self.down, self.deep = double(1, 8), double(8, 16)
        self.up, self.out, self.head = nn.ConvTranspose2d(16, 8, 2, 2), double(16, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down(x)
        second = self.up(self.deep(F.max_pool2d(first, 2)))
        out: Tensor = self.head(self.out(torch.cat([first, second], 1)))
        return out


class Convolutions(nn.Module):
    """Dilated causal convolutions (Bai et al. 2018)."""

    def __init__(self) -> None:
        super().__init__()
        sizes = ((8, 1), (32, 2), (32, 4))
        self.convs = nn.ModuleList(
            nn.utils.parametrizations.weight_norm(nn.Conv1d(inputs, 32, 2, dilation=d)) for inputs, d in sizes
        )
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        for conv, dilation in zip(self.convs, (1, 2, 4), strict=True):
            x = F.relu(conv(F.pad(x, (dilation, 0))))
        out: Tensor = self.head(x[:, :, -1])
        return out


def rows(x: Tensor) -> Tensor:
    return x[:, 0]


def written_by_hand() -> Iterator[Model]:
    yield Model("mlp", "mlp", lambda: mlp(64, 64, 64, 10), tasks.digits())
    yield Model(
        "mlp tanh, 6 layers", "mlp", lambda: mlp(64, *[32] * 5, 10, activation=nn.Tanh), tasks.digits()
    )
    yield Model("mlp gelu, LayerNorm", "mlp", lambda: mlp(32, *[64] * 3, 5, activation=nn.GELU, norm=True),
                tasks.vectors())  # fmt: skip
    yield Model("mlp silu, regression", "mlp", lambda: mlp(8, 64, 64, 1, activation=nn.SiLU),
                tasks.regression())  # fmt: skip
    yield Model("lenet", "lenet", lenet, tasks.digits())
    yield Model("vgg with BatchNorm", "vgg", plain_vgg, tasks.digits())
    yield Model("resnet, γ = 0", "resnet", zero_gamma_resnet, tasks.pictures(16))
    yield Model("lstm", "recurrent", lambda: Recurrent(nn.LSTM), tasks.digits(reshape=rows))
    yield Model("gru, two layers", "recurrent", lambda: Recurrent(nn.GRU, num_layers=2),
                tasks.digits(reshape=rows))  # fmt: skip
    yield Model("rnn tanh", "recurrent", lambda: Recurrent(nn.RNN), tasks.digits(reshape=rows))
    yield Model("nanoGPT, tied", "gpt", NanoGPT, tasks.language(named=False))
    yield Model("autoencoder", "autoencoder", lambda: AutoEncoder(False), tasks.rebuilt())
    yield Model("dcgan-like decoder", "autoencoder", lambda: AutoEncoder(True), tasks.rebuilt())
    yield Model("text cnn", "text cnn", TextConv, tasks.topics(named=False))
    yield Model("bag of words", "bag", Bag, tasks.topics(named=False))
    yield Model("pointnet", "pointnet", PointNet, tasks.points())
    yield Model("matrix factors", "factors", Factors, tasks.pairs())
    yield Model("mixture of experts", "experts", Experts, tasks.vectors())
    yield Model("triplet", "triplet", Triplet, tasks.triplets())
    yield Model("unet", "unet", SmallUNet, tasks.masks(16))
    yield Model("tcn, weight norm", "tcn", Convolutions, tasks.digits(reshape=rows))
