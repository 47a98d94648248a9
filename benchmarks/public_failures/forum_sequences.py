"""Reports whose fault lies in how a network of sequences or of a graph is put together."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from public_failures.case import Case, Training
from public_failures.plain import Batches, Split, accuracy, drawn, minus, plain, r2, untouched
from public_failures.tasks import digits, markov


class Rows(nn.Module):
    """An LSTM down the rows of a picture, in three layers."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 64, 3, batch_first=batch_first)
        self.classifier = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.lstm(x)[0][:, -1, :])


def rows_as_batch(fixed: bool, seed: int) -> Training:
    """Digits, row by row: github.com/pytorch/pytorch/issues/1538."""
    torch.manual_seed(seed)
    model = Rows(batch_first=fixed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    same = digits()
    data = Split(same.x.squeeze(1), same.y, same.test_x.squeeze(1), same.test_y)
    return plain(model, optimizer, data, F.cross_entropy, accuracy, seed, size=100)


class Sentence(nn.Module):
    """A bidirectional GRU whose two last states are put side by side, or cut anew as in the report."""

    def __init__(self, viewed: bool) -> None:
        super().__init__()
        self.viewed = viewed
        self.embed = nn.Embedding(30, 16)
        self.encoder = nn.GRU(16, 32, batch_first=True, bidirectional=True)
        self.head = nn.Linear(64, 4)

    def forward(self, words: Tensor) -> Tensor:
        hidden = self.encoder(self.embed(words))[1]  # (directions, batch, units)
        both = hidden.view(len(words), 64) if self.viewed else torch.cat([hidden[0], hidden[1]], -1)
        return self.head(both)


def topics(seed: int, count: int = 2_300, words: int = 30, length: int = 10) -> Split:
    """Texts in which one of the four first words appears, which is the label."""
    generator = drawn(seed)
    x = torch.randint(4, words, (count, length), generator=generator)
    y = torch.randint(0, 4, (count,), generator=generator)
    x[torch.arange(count), torch.randint(0, length, (count,), generator=generator)] = y
    return Split.of(x, y, 300)


def states_viewed(fixed: bool, seed: int) -> Training:
    """Sentences: github.com/timbmg/Sentence-VAE/issues/15."""
    torch.manual_seed(seed)
    model = Sentence(viewed=not fixed)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    return plain(model, optimizer, topics(seed), F.cross_entropy, accuracy, seed, size=32)


class Attended(nn.Module):
    """Words weighed by attention, whose softmax is over the words or over the single score of each."""

    def __init__(self, over_words: bool) -> None:
        super().__init__()
        self.axis = 1 if over_words else 2
        self.embed = nn.Embedding(60, 16)
        self.score = nn.Linear(16, 1)
        self.head = nn.Linear(16, 4)

    def forward(self, words: Tensor) -> Tensor:
        x = self.embed(words)
        return self.head((self.score(x).softmax(self.axis) * x).sum(1))


def softmax_of_one(fixed: bool, seed: int) -> Training:
    """A question's one word that matters: github.com/DEEP-PolyU/KEQA_WSDM19/issues/2."""
    torch.manual_seed(seed)
    model = Attended(over_words=fixed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    data = topics(seed, 450, 60, 40)
    return plain(model, optimizer, data, F.cross_entropy, accuracy, seed, size=32)


class Series(nn.Module):
    """A transformer from a series of eight numbers each to another."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.begin = nn.Linear(8, 32), nn.Linear(8, 32)
        self.body = nn.Transformer(32, 4, 1, 1, 64, dropout=0.0, batch_first=True)
        self.leave = nn.Linear(32, 8)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        later = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        return self.leave(self.body(self.enter(source), self.begin(target), tgt_mask=later))


def target_of_zeros(fixed: bool, seed: int) -> Training:
    """The rotation of a point goes on: openillumi.com/en/en-pytorch-transformer-multidim-output-same-fix."""
    torch.manual_seed(seed)
    model = Series()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = drawn(seed)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=generator))[0]
    points = [torch.randn(1_100, 8, generator=generator)]
    for _ in range(23):
        points.append(points[-1] @ turn)
    series = torch.stack(points, 1)
    source, after = series[:, :12], series[:, 12:]
    before = series[:, 11:-1] if fixed else torch.zeros_like(after)
    batches = Batches(1_000, 50, seed)

    def batch(at: Tensor | slice) -> dict[str, Tensor]:
        return {"source": source[at], "target": before[at]}

    def step(i: int) -> Tensor:
        at = batches(i)
        optimizer.zero_grad()
        value = F.mse_loss(model(**batch(at)), after[at])
        value.backward()
        optimizer.step()
        return value.detach()

    def score() -> float:
        with untouched(model):
            return r2(model(**batch(slice(1_000, None))), after[1_000:])

    first = batches(0)
    return Training(model, optimizer, step, score, (batch(first), after[first]), F.mse_loss)


class Decoder(nn.Module):
    """A small causal language model, or one that sees what follows."""

    def __init__(self, masked: bool) -> None:
        super().__init__()
        self.masked = masked
        self.embed, self.place = nn.Embedding(20, 32), nn.Embedding(16, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 20)

    def forward(self, words: Tensor) -> Tensor:
        length = words.shape[1]
        x = self.embed(words) + self.place(torch.arange(length))
        mask = nn.Transformer.generate_square_subsequent_mask(length) if self.masked else None
        return self.head(self.body(x, mask=mask))


def no_causal_mask(fixed: bool, seed: int) -> Training:
    """The next word: github.com/alex-matton/causal-transformer-decoder/issues/1."""
    torch.manual_seed(seed)
    model = Decoder(masked=fixed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    data = markov(seed, 20, 16, 1_000, followers=2)

    def loss(output: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(output.flatten(0, 1), y.flatten())

    def last(output: Tensor, y: Tensor) -> float:
        """Of the last place, after which there is nothing to see."""
        return minus(F.cross_entropy, -10.0)(output[:, -1], y[:, -1])

    return plain(model, optimizer, data, loss, last, seed, size=32)


class Gcn(nn.Module):
    """Two graph convolutions, the adjacency as it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(100, 16), nn.Linear(16, 7)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        return self.leave(adjacency @ torch.relu(self.enter(adjacency @ x)))


def adjacency_as_it_is(fixed: bool, seed: int) -> Training:
    """Papers that cite each other: github.com/sufeidechabei/graphnets_gcn/issues/1."""
    torch.manual_seed(seed)
    model = Gcn()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=5e-4)
    generator = drawn(seed)
    y = torch.randint(0, 7, (600,), generator=generator)
    fame = torch.rand(600, generator=generator).clamp(min=1e-3).pow(-0.6)  # a few papers are cited by many
    chance = fame[:, None] * fame * torch.where(y[:, None] == y, 0.012, 0.0012)
    edges = (torch.rand(600, 600, generator=generator) < chance).float().triu(1)
    adjacency = edges + edges.T
    if fixed:
        adjacency = adjacency + torch.eye(600)
        scale = adjacency.sum(1).rsqrt()
        adjacency = scale[:, None] * adjacency * scale
    words = torch.rand(7, 100, generator=generator) < 0.2
    x = torch.rand(600, 100, generator=generator) < torch.where(words[y], 0.12, 0.05)
    graph = {"x": x.float(), "adjacency": adjacency}

    def loss(output: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(output[:140], y[:140])

    def step(_: int) -> Tensor:
        optimizer.zero_grad()
        value = loss(model(**graph), y)
        value.backward()
        optimizer.step()
        return value.detach()

    def score() -> float:
        with untouched(model):
            return accuracy(model(**graph)[200:], y[200:])

    return Training(model, optimizer, step, score, (graph, y), loss)


class Frames(nn.Module):
    """Frames of a recording, of which every second or every sixth is kept, to symbols and a blank."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.cnn = nn.Conv1d(6, 32, 5, stride=stride, padding=2)
        self.rnn = nn.GRU(32, 32, batch_first=True, bidirectional=True)
        self.head = nn.Linear(64, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(torch.relu(self.cnn(x)).mT)[0]).log_softmax(-1)


def too_few_frames(fixed: bool, seed: int) -> Training:
    """Six symbols in 24 frames: github.com/SeanNaren/warp-ctc/issues/59."""
    torch.manual_seed(seed)
    model = Frames(2 if fixed else 6)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = drawn(seed)
    y = torch.randint(1, 6, (1_000, 6), generator=generator)
    x = F.one_hot(y, 6).float().repeat_interleave(4, 1).mT
    data = Split.of(x + 0.3 * torch.randn(x.shape, generator=generator), y, 200)

    def loss(output: Tensor, y: Tensor) -> Tensor:
        frames = torch.full((len(output),), output.shape[1])
        symbols = torch.full((len(y),), y.shape[1])
        return F.ctc_loss(output.transpose(0, 1), y, frames, symbols, zero_infinity=True)

    return plain(model, optimizer, data, loss, read_right, seed, size=25)


def read_right(output: Tensor, y: Tensor) -> float:
    """Share of the symbols that stand in their places, once repeats are merged and blanks left out."""
    right = 0
    for best, symbols in zip(output.argmax(-1).tolist(), y.tolist(), strict=True):
        read = [now for before, now in zip([0, *best], best, strict=False) if now not in (0, before)]
        right += sum(a == b for a, b in zip(read, symbols, strict=False))
    return right / y.numel()


CASES: tuple[Case, ...] = (
    Case(
        "forum/rows-as-batch",
        ("shapes",),
        "batch_first",
        "An LSTM that is not batch_first is given pictures (N, rows, columns): it runs over the pictures.",
        "batch_first=True.",
        150,
        rows_as_batch,
        departs="Digits of 8×8, a hidden size of 64.",
    ),
    Case(
        "forum/states-viewed",
        ("shapes",),
        "view",
        "States (2, N, H) of a bidirectional GRU are viewed as (N, 2H): each sample gets those of others.",
        "The two directions are concatenated.",
        300,
        states_viewed,
        departs="A classifier in place of a sentence's autoencoder.",
    ),
    Case(
        "forum/softmax-of-one",
        ("shapes", "architecture"),
        "softmax",
        "Attention's softmax is over an axis of one score: every weight is 1.",
        "It is over the words.",
        300,
        softmax_of_one,
        departs="Embedded words in place of an LSTM's states.",
    ),
    Case(
        "forum/target-of-zeros",
        ("inputs", "architecture"),
        "target",
        "A transformer's decoder is given zeros for targets: every place gets the same output.",
        "The true series, one place later.",
        400,
        target_of_zeros,
        departs="A rotating point in place of sound.",
    ),
    Case(
        "forum/no-causal-mask",
        ("leak", "architecture"),
        "mask",
        "A decoder is trained without a causal mask: it copies the word that it should predict.",
        "The mask.",
        300,
        no_causal_mask,
        departs="Texts of a Markov chain; the score is that of the last place.",
        causal=True,
    ),
    Case(
        "forum/adjacency-as-it-is",
        ("architecture", "inputs"),
        "adjacency",
        "A graph convolution sums over neighbors, of which some nodes have many, without normalization.",
        "Self-loops and the symmetric normalization.",
        150,
        adjacency_as_it_is,
        departs="A random citation graph of 600 nodes.",
    ),
    Case(
        "forum/too-few-frames",
        ("architecture", "loss"),
        "stride",
        "Fewer frames than symbols are left for the CTC loss, which has no path and is 0.",
        "A smaller stride.",
        200,
        too_few_frames,
        departs="Synthetic frames; PyTorch's loss in place of warp-ctc, infinite losses set to 0.",
    ),
)
