"""Networks whose levels no limit was set on: other data, kinds, activations, norms and optimizers.

`verdict_nets` has MLPs and convolutional networks on digits, with ReLU, tanh or sigmoid, BatchNorm, LayerNorm
or none, under SGD and Adam. Here are depthwise separable convolutions on ten classes of CIFAR-100, and
transformer encoders, LSTMs and GRUs on texts, with GELU, SiLU or ELU, GroupNorm of four groups, RMSNorm or
none, under AdamW and RMSprop. Initializations and scales of the learning rate are the same, so that as many
reasons not to train are among them.
"""

from __future__ import annotations

import itertools
import random
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from verdict_nets import CLASSES, INITS, LR_SCALES, Case

import gradscape as gs

KINDS = {"separable": (3, 6, 12, 18), "encoder": (1, 2, 4, 8), "lstm": (1, 2, 3), "gru": (1, 2, 3)}  # depths
ACTIVATIONS = {"gelu": nn.GELU, "silu": nn.SiLU, "elu": nn.ELU}
OPTIMIZERS = {
    "adamw": lambda p, scale: torch.optim.AdamW(p, lr=0.001 * scale),
    "rmsprop": lambda p, scale: torch.optim.RMSprop(p, lr=0.001 * scale),
}
# chimpanzee, dolphin, orange, pine tree, plate, poppy, road, sea, skyscraper, wardrobe: told apart at 8×8
PICTURES = (21, 30, 53, 59, 61, 62, 68, 71, 76, 94)
TEXTS, LENGTH, WORDS = 2_000, 16, 32
SCALES = {"he": 1.0, "small": 0.5, "large": 2.0}


def norm(case: Case) -> nn.Module:
    if case.norm == "none":
        return nn.Identity()
    return nn.GroupNorm(4, case.width) if case.kind == "separable" else nn.RMSNorm(case.width)


class Separable(nn.Module):
    """A depthwise and a pointwise convolution (Chollet 2017), a norm, an activation."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        width = case.width
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.pointwise, self.norm = nn.Conv2d(width, width, 1), norm(case)
        self.activation, self.skip = ACTIVATIONS[case.activation](), case.skip

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.norm(self.pointwise(self.depthwise(x))))
        return out + x if self.skip else out


class Encoder(nn.Module):
    """Attention of two heads and an MLP, each after its norm."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        width = case.width
        self.norm1, self.norm2 = norm(case), norm(case)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.activation, self.skip = ACTIVATIONS[case.activation](), case.skip

    def attention(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.qkv(x).reshape(batch, length, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*parts)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(x.shape))
        return out

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention(self.norm1(x)) + (x if self.skip else 0)
        out: Tensor = self.down(self.activation(self.up(self.norm2(x)))) + (x if self.skip else 0)
        return out


class Recurrent(nn.Module):
    """A recurrent layer over all words, and its norm."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[case.kind]
        self.inner, self.norm = kind(case.width, case.width, batch_first=True), norm(case)
        self.skip = case.skip

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.inner(x)[0])
        return out + x if self.skip else out


class OfTexts(nn.Module):
    """Words and their places embedded, layers, and a class from the last place (recurrent) or the mean."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, case.width), nn.Embedding(LENGTH, case.width)
        layer = Encoder if case.kind == "encoder" else Recurrent
        self.layers = nn.Sequential(*(layer(case) for _ in range(case.depth)))
        self.last = case.kind != "encoder"
        self.head = nn.Sequential(
            nn.Linear(case.width, case.width),
            ACTIVATIONS[case.activation](),
            nn.Linear(case.width, CLASSES),
        )

    def forward(self, ids: Tensor) -> Tensor:
        x = self.layers(self.words(ids) + self.places.weight)
        out: Tensor = self.head(x[:, -1] if self.last else x.mean(1))
        return out


def of_pictures(case: Case) -> nn.Module:
    blocks = (Separable(case) for _ in range(case.depth))
    stem, head = nn.Conv2d(3, case.width, 3, padding=1), nn.Linear(4 * case.width, CLASSES)
    return nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(2), nn.Flatten(), head)


def initialize(model: nn.Module, init: str) -> None:
    """Matrices and kernels as asked, recurrent ones too; biases 0; embeddings stay as they are."""
    for module in model.modules():
        if not isinstance(module, nn.Linear | nn.Conv2d | nn.RNNBase) or init == "torch":
            continue
        for parameter in module.parameters():
            if parameter.dim() == 1:
                nn.init.zeros_(parameter)
            elif init == "glorot":
                nn.init.xavier_normal_(parameter)
            else:
                nn.init.kaiming_normal_(parameter)
                parameter.data *= SCALES[init]


def build(case: Case) -> nn.Module:
    torch.manual_seed(case.seed)
    model = of_pictures(case) if case.kind == "separable" else OfTexts(case)
    initialize(model, case.init)
    return model


def cases(count: int, seed: int) -> list[Case]:
    """A sample of all combinations, one of each family before another; the first so many are of all sorts."""
    draw = random.Random(seed)
    families = list(itertools.product(KINDS, ACTIVATIONS, (False, True), (False, True)))
    found: list[Case] = []
    while len(found) < count:
        each = [drawn(draw, *family) for family in families]
        found += draw.sample(each, len(each))
    return found[:count]


def drawn(draw: random.Random, kind: str, activation: str, normed: bool, skip: bool) -> Case:
    norm_ = ("group" if kind == "separable" else "rms") if normed else "none"
    return Case(
        kind, draw.choice(KINDS[kind]), draw.choice((16, 32)), draw.choice(INITS), norm_, skip, activation,
        draw.choice(tuple(OPTIMIZERS)), draw.choice(LR_SCALES), draw.randrange(1_000),
    )  # fmt: skip


def data(kind: str) -> tuple[Tensor, Tensor]:
    return pictures() if kind == "separable" else texts()


@cache
def pictures() -> tuple[Tensor, Tensor]:
    """Ten classes of CIFAR-100 from the cache, as 8×8 means of 4×4 pixels, standardized."""
    images = gs.load_images("cifar100")
    labels = torch.from_numpy(np.array(images.train_labels)).long()
    chosen = torch.isin(labels, torch.tensor(PICTURES))
    x = torch.from_numpy(np.array(images.train_images[chosen.numpy()])).float().permute(0, 3, 1, 2)
    x = F.avg_pool2d(x, 4)
    return (x - x.mean()) / x.std(), torch.searchsorted(torch.tensor(PICTURES), labels[chosen])


@cache
def texts() -> tuple[Tensor, Tensor]:
    """Texts of which each class has its own distribution of words."""
    generator = torch.Generator().manual_seed(0)
    table = torch.softmax(1.5 * torch.randn(CLASSES, WORDS, generator=generator), 1)
    y = torch.randint(0, CLASSES, (TEXTS,), generator=generator)
    return torch.multinomial(table[y], LENGTH, replacement=True, generator=generator), y
