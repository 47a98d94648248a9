"""Issues and merges whose fault lies in the network: what it has, registers, sees or keeps."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from public_failures.case import Case, Training
from public_failures.plain import Split, accuracy, drawn, plain, r2, untouched
from public_failures.tasks import digits


def positions(length: int, width: int) -> Tensor:
    """Sines and cosines (length, width)."""
    angle = torch.arange(length)[:, None] / 10_000 ** (torch.arange(0, width, 2) / width)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)


def encoder(width: int, layers: int = 1, **more: bool) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, **more)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


class Speech(nn.Module):
    """Convolutions that shorten, positions, attention, and a classifier."""

    def __init__(self, cut: bool) -> None:
        super().__init__()
        self.embed = nn.Sequential(
            nn.Conv1d(16, 32, 3, 2, 1), nn.ReLU(), nn.Conv1d(32, 32, 3, 2, 1), nn.ReLU(), nn.Conv1d(32, 32, 1)
        )
        self.body = encoder(32)
        self.head = nn.Linear(32, 8)
        self.cut = cut

    def forward(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.cut):
            frames = self.embed(x).mT
            frames = frames * 32**0.5 + positions(frames.shape[1], 32)
        return self.head(self.body(frames).mean(1))


def positions_without_gradient(fixed: bool, seed: int) -> Training:
    """Eight short patterns, one in each noisy recording of 24 frames, at any time."""
    torch.manual_seed(seed)
    model = Speech(cut=not fixed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = drawn(seed)
    patterns = torch.randn(8, 16, 6, generator=generator)
    y = torch.randint(0, 8, (1_800,), generator=generator)
    start = torch.randint(0, 19, (1_800, 1), generator=generator)
    at = (start + torch.arange(6))[:, None].expand(-1, 16, -1)
    x = torch.zeros(1_800, 16, 24).scatter(2, at, patterns[y])
    x = x + 0.8 * torch.randn(x.shape, generator=generator)
    return plain(model, optimizer, Split.of(x, y, 300), F.cross_entropy, accuracy, seed, size=32)


class LanguageModel(nn.Module):
    """An encoder over words, causal or not, with positions or not."""

    def __init__(self, words: int, causal: bool, placed: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, 32)
        self.body = encoder(32, layers=2)
        self.head = nn.Linear(32, words)
        self.causal, self.placed = causal, placed

    def forward(self, words: Tensor) -> Tensor:
        x = self.embed(words)
        if self.placed:
            x = x + positions(words.shape[1], 32)
        mask = None
        if self.causal:
            mask = nn.Transformer.generate_square_subsequent_mask(words.shape[1])
        return self.head(self.body(x, mask=mask, is_causal=self.causal))


def of_words(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), y.flatten())


def repeating(seed: int) -> Split:
    """Texts that repeat four words of twelve: the next is the one four before."""
    text = torch.randint(0, 12, (2_200, 4), generator=drawn(seed)).repeat(1, 5)[:, :17]
    return Split.of(text[:, :-1], text[:, 1:], 200)


def positions_unused(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = LanguageModel(12, causal=True, placed=fixed)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

    def repeated(logits: Tensor, y: Tensor) -> float:
        return accuracy(logits[:, 4:], y[:, 4:])

    return plain(model, optimizer, repeating(seed), of_words, repeated, seed, size=32)


def no_causal_mask(fixed: bool, seed: int) -> Training:
    """The score is of texts that end: the word after the last."""
    torch.manual_seed(seed)
    model = LanguageModel(12, causal=fixed, placed=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    data = repeating(seed)
    training = plain(model, optimizer, data, of_words, accuracy, seed, size=32)

    def score() -> float:
        with untouched(model):
            ends = (6, 9, 12)
            last = [model(data.test_x[:, :end])[:, -1] for end in ends]
            right = (accuracy(out, data.test_y[:, end - 1]) for end, out in zip(ends, last, strict=True))
            return sum(right) / 3

    training.score = score
    return training


class Inference(nn.Module):
    """Hidden layers, each with its activation, in a list of pairs."""

    def __init__(self, registered: bool) -> None:
        super().__init__()
        widths = (20, 24, 24, 24)
        pairs = [nn.ModuleList([nn.Linear(n, 24), nn.Tanh()]) for n in widths]
        self.hids = nn.ModuleList(pairs) if registered else pairs
        self.classifier = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        for linear, activation in self.hids:
            x = activation(linear(x))
        return self.classifier(x)


def hidden_in_list(fixed: bool, seed: int) -> Training:
    """Two halves of a vector: alike, opposed, or neither."""
    torch.manual_seed(seed)
    model = Inference(registered=fixed)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = drawn(seed)
    first, other = torch.randn(2, 3_000, 10, generator=generator)
    y = torch.randint(0, 3, (3_000,), generator=generator)
    sign = torch.tensor([1.0, -1.0, 0.0])[y, None]
    x = torch.cat([first, sign * first + (0.5 + 0.5 * (sign == 0)) * other], 1)
    return plain(model, optimizer, Split.of(x, y, 500), F.cross_entropy, accuracy, seed, size=32)


class Dots(nn.Module):
    """Dot products of users' and items' embeddings."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(150, 64), nn.Embedding(80, 64)
        for table in (self.user, self.item):
            with torch.no_grad():
                table.weight.mul_(scale)

    def forward(self, pair: Tensor) -> Tensor:
        return (self.user(pair[:, 0]) * self.item(pair[:, 1])).sum(1)


def embeddings_too_large(fixed: bool, seed: int) -> Training:
    """Ratings of rank three; embeddings start as N(0, 1), or an eighth of it as a Linear's scale."""
    torch.manual_seed(seed)
    model = Dots(1 / 8 if fixed else 1.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = drawn(seed)
    rating = torch.randn(150, 3, generator=generator) @ torch.randn(3, 80, generator=generator) / 3**0.5
    pairs = torch.cartesian_prod(torch.arange(150), torch.arange(80))
    order = torch.randperm(12_000, generator=generator)
    data = Split.of(pairs[order], rating.flatten()[order], 2_000)
    return plain(model, optimizer, data, F.mse_loss, r2, seed, size=128)


class Vae(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(40, 32), nn.ReLU(), nn.Linear(32, 12))
        self.decoder = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 40))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, logvar = self.encoder(x).chunk(2, -1)
        z = mean + (torch.randn_like(mean) * (0.5 * logvar).exp() if self.training else 0)
        return self.decoder(z), mean, logvar


def decoder_untrained(fixed: bool, seed: int) -> Training:
    """Forty standardized columns of four causes."""
    torch.manual_seed(seed)
    model = Vae()
    optimizer = torch.optim.Adam(model.parameters() if fixed else model.encoder.parameters(), lr=3e-3)
    generator = drawn(seed)
    x = torch.randn(1_500, 4, generator=generator) @ torch.randn(4, 40, generator=generator) / 2

    def loss(output: tuple[Tensor, Tensor, Tensor], y: Tensor) -> Tensor:
        rebuilt, mean, logvar = output
        divergence = -0.5 * (1 + logvar - mean.square() - logvar.exp()).sum(1)
        return ((rebuilt - y).square().sum(1) + divergence).mean()

    def of_rebuilt(output: tuple[Tensor, Tensor, Tensor], y: Tensor) -> float:
        return r2(output[0], y)

    return plain(model, optimizer, Split.of(x, x, 300), loss, of_rebuilt, seed)


class Factors(nn.Module):
    """Pairs of eight embedded fields, weighed by attention; dropout asks for the mode, or not."""

    def __init__(self, asks: bool) -> None:
        super().__init__()
        self.linear, self.embed = nn.Embedding(80, 1), nn.Embedding(80, 16)
        self.attention = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))
        self.fc = nn.Linear(16, 1)
        self.asks = asks
        self.rows, self.columns = torch.triu_indices(8, 8, 1)

    def forward(self, fields: Tensor) -> Tensor:
        drops = self.training or not self.asks
        x = self.embed(fields)
        pairs = x[:, self.rows] * x[:, self.columns]
        weights = F.dropout(self.attention(pairs).softmax(1), 0.2, training=drops)
        pooled = F.dropout((weights * pairs).sum(1), 0.2, training=drops)
        return (self.linear(fields).sum(1) + self.fc(pooled))[:, 0]


def dropout_always(fixed: bool, seed: int) -> Training:
    """Clicks that depend on pairs of eight fields of ten values."""
    torch.manual_seed(seed)
    model = Factors(asks=fixed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    generator = drawn(seed)
    values = torch.randint(0, 10, (4_000, 8), generator=generator)
    taste = torch.randn(2, 10, 3, generator=generator)
    y = ((taste[0, values[:, 0]] * taste[1, values[:, 1]]).sum(1) > 0).float()
    data = Split.of(values + 10 * torch.arange(8), y, 1_000)

    def right(logits: Tensor, y: Tensor) -> float:
        return float(((logits > 0) == (y > 0.5)).float().mean())

    return plain(model, optimizer, data, F.binary_cross_entropy_with_logits, right, seed)


def statistics_not_kept(fixed: bool, seed: int) -> Training:
    """Where a digit's strokes are, in a picture of low contrast."""
    torch.manual_seed(seed)
    momentum = 0.1 if fixed else 0.0
    layers: list[nn.Module] = []
    for inputs in (1, 12, 12):
        layers += [
            nn.Conv2d(inputs, 12, 3, padding=1, bias=False),
            nn.BatchNorm2d(12, momentum=momentum),
            nn.ReLU(),
        ]
    model = nn.Sequential(*layers, nn.Conv2d(12, 2, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    same, generator = digits(), drawn(seed)

    def faint(x: Tensor) -> Tensor:
        return 0.4 + 0.1 * x + 0.02 * torch.randn(x.shape, generator=generator)

    data = Split(
        faint(same.x), (same.x[:, 0] > 0.5).long(), faint(same.test_x), (same.test_x[:, 0] > 0.5).long()
    )

    def dice(logits: Tensor, y: Tensor) -> float:
        mask = logits.argmax(1)
        return float(2 * (mask * y).sum() / (mask.sum() + y.sum()))

    return plain(model, optimizer, data, F.cross_entropy, dice, seed, size=32)


CASES: tuple[Case, ...] = (
    Case(
        "tracker/positions-without-gradient",
        ("untrained",),
        "embed",
        "Positions are added under no_grad: neither the embedding nor the convolutions before it learn.",
        "The sum keeps its gradient.",
        300,
        positions_without_gradient,
        departs="Drawn recordings of 24 frames, one layer.",
    ),
    Case(
        "tracker/positions-unused",
        ("architecture",),
        "position",
        "A causal transformer's positions are built and never added to the words.",
        "They are added.",
        500,
        positions_unused,
        departs="Texts that repeat four words; two layers of 32 units.",
    ),
    Case(
        "tracker/no-causal-mask",
        ("leak", "architecture"),
        "mask",
        "A language model without a causal mask copies the next word: it cannot go on where a text ends.",
        "A causal mask.",
        500,
        no_causal_mask,
        departs="Texts that repeat four words; two layers of 32 units.",
        causal=True,
    ),
    Case(
        "tracker/hidden-layers-in-list",
        ("untrained",),
        "hids",
        "The hidden layers are in a Python list of lists: parameters() does not know them.",
        "nn.ModuleList.",
        500,
        hidden_in_list,
        departs="Two drawn vectors in place of two sentences; four layers of 24 units.",
    ),
    Case(
        "tracker/embeddings-too-large",
        ("initialization",),
        "embedding",
        "Embeddings begin as N(0, 1), and their dot products are far larger than what they should be.",
        "An eighth of it, the scale of a Linear of as many inputs.",
        500,
        embeddings_too_large,
        departs="The net is not told: ratings by dot products of 64 numbers.",
    ),
    Case(
        "tracker/vae-decoder-untrained",
        ("untrained",),
        "decoder",
        "The optimizer of a shared VAE is given the encoder's parameters alone.",
        "Those of both.",
        400,
        decoder_untrained,
        departs="One VAE of drawn columns.",
    ),
    Case(
        "tracker/dropout-always",
        ("mode",),
        "dropout",
        "F.dropout without training=self.training drops in eval mode too.",
        "training=self.training.",
        400,
        dropout_always,
        departs="Eight drawn fields of ten values.",
    ),
    Case(
        "tracker/batchnorm-statistics-not-kept",
        ("mode",),
        "running",
        "BatchNorm's running statistics are never updated: in eval mode it divides by those it began with.",
        "They are.",
        200,
        statistics_not_kept,
        departs="Faint digits of 8×8, three layers; a momentum of 0 for an update that is left out.",
    ),
)
