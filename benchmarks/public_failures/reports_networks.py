"""Reports whose fault lies in the network, its initialization or its output."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from public_failures.case import Case, Training
from public_failures.plain import Split, accuracy, drawn, minus, plain, r2
from public_failures.tasks import blobs, digits, markov

VGG16 = (8, 8, "pool", 16, 16, "pool", 32, 32, 32, "pool", 64, 64, 64, "pool", 64, 64, 64)


def vgg(fixed: bool, seed: int) -> Training:
    """VGG16 of an eighth of its width, with neither BatchNorm nor dropout."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    inputs = 1
    for width in VGG16:
        if width == "pool":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(inputs, int(width), 3, padding=1), nn.ReLU()]
            inputs = int(width)
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    if fixed:
        for layer in model:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_uniform_(layer.weight, a=0)
                nn.init.zeros_(layer.bias)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return plain(model, optimizer, digits(16), F.cross_entropy, accuracy, seed, size=32)


def sides(seed: int, inputs: int, noise: float = 1.0) -> Split:
    """Vectors and on which side of a plane they lie, as 0.0 or 1.0 of shape (N, 1)."""
    generator = drawn(seed)
    x = torch.randn(1_500, inputs, generator=generator)
    along = x @ torch.randn(inputs, 1, generator=generator)
    y = (along + noise * torch.randn(along.shape, generator=generator) > 0).float()
    return Split.of(x, y, 300)


def right_sides(output: Tensor, y: Tensor) -> float:
    """Accuracy of probabilities."""
    return float(((output > 0.5).float() == y).float().mean())


def log_softmax_of_one(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    end = nn.Sigmoid() if fixed else nn.LogSoftmax(1)
    model = nn.Sequential(nn.Linear(22, 10), nn.ReLU(), nn.Linear(10, 1), end)
    optimizer = torch.optim.SGD(model.parameters(), lr=3e-3)
    data = sides(seed, 22)
    return plain(model, optimizer, data, F.binary_cross_entropy, right_sides, seed, size=10)


class SmallUNet(nn.Module):
    """Two levels, joined by a skip."""

    def __init__(self, end: nn.Module) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU())
        self.bottom = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU())
        self.up = nn.Sequential(nn.Conv2d(24, 8, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(8, 1, 1)
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        high = self.down(x)
        low = F.interpolate(self.bottom(F.max_pool2d(high, 2)), scale_factor=2.0)
        return self.end(self.head(self.up(torch.cat([high, low], 1))))


def dice(logits: Tensor, y: Tensor) -> float:
    mask = (logits > 0).float()
    return float(2 * (mask * y).sum() / (mask.sum() + y.sum()).clamp(min=1))


def relu_before_logits(fixed: bool, seed: int) -> Training:
    """The place of a bright square of 5×5 in a picture of 16×16."""
    torch.manual_seed(seed)
    model = SmallUNet(nn.Identity() if fixed else nn.ReLU())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = drawn(seed)
    row, column = torch.randint(0, 11, (2, 800, 1), generator=generator)
    places = torch.arange(16)
    rows = (places >= row) & (places < row + 5)
    columns = (places >= column) & (places < column + 5)
    y = (rows[:, None, :, None] & columns[:, None, None, :]).float()
    x = y + 0.5 * torch.randn(y.shape, generator=generator)
    data = Split.of(x, y, 100)
    return plain(model, optimizer, data, F.binary_cross_entropy_with_logits, dice, seed, size=16)


def softmax_language_model(fixed: bool, seed: int) -> Training:
    """The next of 65 characters from the one before it."""
    torch.manual_seed(seed)
    body = (nn.Embedding(65, 128), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 65))
    model = nn.Sequential(*body) if fixed else nn.Sequential(*body, nn.Softmax(-1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    data = markov(seed, 65, 16, 1_000)

    def loss(output: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(output.flatten(0, 1), y.flatten())

    return plain(model, optimizer, data, loss, minus(loss, -10.0), seed, size=32)


class FirstLayerInForward(nn.Module):
    """Builds its hidden layer anew at each call, unless told to keep it."""

    def __init__(self, kept: bool) -> None:
        super().__init__()
        self.hidden = nn.Linear(40, 64) if kept else None
        self.classifier = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.hidden or nn.Linear(40, 64)
        return self.classifier(torch.relu(hidden(x)))


def layer_in_forward(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = FirstLayerInForward(kept=fixed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return plain(model, optimizer, blobs(seed), F.cross_entropy, accuracy, seed)


class Attention(nn.Module):
    """One layer of attention over texts of several lengths, in half precision; word 0 is padding."""

    def __init__(self, least: float) -> None:
        super().__init__()
        self.least = least
        self.embed = nn.Embedding(50, 32)
        self.qkv = nn.Linear(32, 96)
        self.head = nn.Linear(32, 5)

    def forward(self, ids: Tensor) -> Tensor:
        present = (ids > 0).half()
        with torch.autocast("cpu", torch.float16):
            q, k, v = self.qkv(self.embed(ids)).chunk(3, -1)
            scores = (q @ k.mT) / 32**0.5
            scores = scores + (1 - present[:, None]) * self.least
            weights = scores.float().softmax(-1)
            mixed = weights @ v.float()
            return self.head(mixed.mean(1)).float()


def masked_in_half(fixed: bool, seed: int) -> Training:
    """Topics of texts, of which one in a hundred is empty."""
    torch.manual_seed(seed)
    model = Attention(-1e4 if fixed else -1e10)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = drawn(seed)
    y = torch.randint(0, 5, (1_500,), generator=generator)
    ids = torch.randint(1, 25, (1_500, 12), generator=generator)
    own = torch.rand(ids.shape, generator=generator) < 0.3
    ids = torch.where(own, 25 + 5 * y[:, None] + torch.randint(0, 5, ids.shape, generator=generator), ids)
    lengths = torch.randint(4, 13, (1_500, 1), generator=generator)
    lengths[torch.rand(1_500, generator=generator) < 0.01] = 0
    ids[torch.arange(12) >= lengths] = 0
    return plain(model, optimizer, Split.of(ids, y, 300), F.cross_entropy, accuracy, seed, size=32)


class Vae(nn.Module):
    def __init__(self, clamped: bool) -> None:
        super().__init__()
        self.clamped = clamped
        self.encoder = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 8))
        self.decoder = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 20))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, logvar = self.encoder(x).chunk(2, -1)
        if self.clamped:
            logvar = logvar.clamp(-30, 20)
        z = mean + torch.randn_like(mean) * (0.5 * logvar).exp() if self.training else mean
        return self.decoder(z), mean, logvar


def vae(fixed: bool, seed: int) -> Training:
    """Measurements in their own units, up to some thousands, of four causes."""
    torch.manual_seed(seed)
    model = Vae(clamped=fixed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = drawn(seed)
    causes = torch.randn(1_500, 4, generator=generator)
    x = 1_000 * (causes @ torch.randn(4, 20, generator=generator))

    def loss(output: tuple[Tensor, Tensor, Tensor], y: Tensor) -> Tensor:
        rebuilt, mean, logvar = output
        divergence = -0.5 * (1 + logvar - mean.pow(2) - logvar.exp()).sum(-1)
        return F.mse_loss(rebuilt, y) + divergence.mean()

    def of_rebuilt(output: tuple[Tensor, Tensor, Tensor], y: Tensor) -> float:
        return r2(output[0], y)

    return plain(model, optimizer, Split.of(x, x, 300), loss, of_rebuilt, seed)


CASES: tuple[Case, ...] = (
    Case(
        "report/D1",
        ("initialization",),
        "init",
        "VGG16 without BatchNorm in PyTorch's default initialization: signal and gradients vanish.",
        "kaiming_uniform_ with a=0.",
        150,
        vgg,
        departs="An eighth of the width; digits of 16×16.",
    ),
    Case(
        "report/D5",
        ("output",),
        "softmax",
        "log_softmax over a single unit, into BCELoss: the output is 0 for every input.",
        "A sigmoid.",
        1_500,
        log_softmax_of_one,
        departs="Synthetic columns.",
    ),
    Case(
        "report/D15",
        ("output",),
        "relu",
        "A ReLU after the last layer, into BCEWithLogits: logits from 0 up cannot say background.",
        "The last 1×1 convolution is linear.",
        150,
        relu_before_logits,
        departs="A U-Net of two levels, pictures of 16×16.",
    ),
    Case(
        "report/D19",
        ("output",),
        "softmax",
        "A language model that ends in a softmax, trained by cross_entropy.",
        "No softmax in the model.",
        300,
        softmax_language_model,
        departs="Texts of a Markov chain over 65 characters.",
    ),
    Case(
        "report/D25",
        ("untrained",),
        "hidden",
        "A layer is built inside forward, anew at each call.",
        "It is built in __init__.",
        300,
        layer_in_forward,
    ),
    Case(
        "report/D31",
        ("precision", "architecture"),
        "mask",
        "Padding is masked by −1e10 in half precision, which is −inf: a text that is all padding gives NaN.",
        "−1e4.",
        300,
        masked_in_half,
        departs="One layer of attention; autocast on a CPU.",
    ),
    Case(
        "report/D35",
        ("inputs", "loss"),
        "logvar",
        "A VAE on inputs that are not scaled, whose exp(logvar) has no bound.",
        "logvar is clamped to [−30, 20].",
        300,
        vae,
        departs="Twenty synthetic measurements.",
    ),
)
