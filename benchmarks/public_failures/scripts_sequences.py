"""Failing scripts on sequences: recurrent networks, transformers, a policy, pairs of sentences."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from public_failures.case import Case, Training
from public_failures.plain import (
    Batches,
    Split,
    accuracy,
    at_least,
    balanced_accuracy,
    drawn,
    held_out,
    minus,
    plain,
    r2,
    untouched,
)
from public_failures.tasks import markov


class Crnn(nn.Module):
    """Convolutions over the height of a strip, then an LSTM along its width."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.cnn = nn.Sequential(nn.Conv2d(1, 16, (4, 1)), nn.ReLU())
        self.rnn = nn.LSTM(16, 24, bidirectional=True, batch_first=batch_first)
        self.head = nn.Linear(48, 2)

    def forward(self, x: Tensor) -> Tensor:
        frames = self.cnn(x).squeeze(2).permute(2, 0, 1)  # (width, batch, channels)
        return self.head(self.rnn(frames)[0]).mean(0)


def strips(seed: int, count: int = 2_500) -> Split:
    """Strips with two marks at random places; the label is which of them comes first."""
    generator = drawn(seed)
    x = 0.3 * torch.randn(count, 1, 4, 16, generator=generator)
    y = torch.randint(0, 2, (count,), generator=generator)
    places = torch.rand(count, 15, generator=generator).topk(2).indices.sort(1).values
    upper = places.gather(1, 1 - y[:, None])[:, 0]
    lower = places.gather(1, y[:, None])[:, 0]
    rows = torch.arange(count)
    x[rows, 0, 0:2, upper] += 3
    x[rows, 0, 2:4, lower] += 3
    return Split.of(x, y, 500)


def crnn(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = Crnn(batch_first=not fixed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    return plain(model, optimizer, strips(seed), F.cross_entropy, accuracy, seed)


class Policy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 16)
        self.rnn = nn.GRU(16, 32, batch_first=True)
        self.head = nn.Linear(32, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(tokens))[0])


def reinforce(fixed: bool, seed: int) -> Training:
    """Reward for saying what was just heard, less the mean reward of guessing."""
    torch.manual_seed(seed)
    model = Policy()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    def step(_: int) -> Tensor:
        tokens = torch.randint(0, 4, (16, 8))
        actions = torch.distributions.Categorical(logits=model(tokens))
        taken = actions.sample()
        advantage = (taken == tokens).float() - 0.25
        log_p = actions.log_prob(taken)
        if fixed:
            loss = -(log_p * advantage).sum()
        else:
            loss = torch.zeros((), requires_grad=True)
            for each, gain in zip(log_p.flatten(), advantage.flatten(), strict=True):
                loss = loss - each.item() * gain.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    def score() -> float:
        with untouched(model):
            tokens = torch.randint(0, 4, (200, 8), generator=drawn(seed))
            return float(model(tokens).softmax(-1).gather(2, tokens[..., None]).mean())

    return Training(model, optimizer, step, score)


def bert(fixed: bool, seed: int) -> Training:
    """Texts in which one of four words appears, which is the label."""
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=40,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=20,
        num_labels=4,
    )
    model = BertForSequenceClassification(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4 if fixed else 1e-2)
    generator = drawn(seed)
    ids = torch.randint(10, 40, (2_300, 12), generator=generator)
    labels = torch.randint(0, 4, (2_300,), generator=generator)
    ids[torch.arange(2_300), torch.randint(1, 12, (2_300,), generator=generator)] = labels + 2
    ids[:, 0] = 1
    data = Split.of(ids, labels, 300)
    batches = Batches(2_000, 16, seed)

    def step(i: int) -> Tensor:
        at = batches(i)
        optimizer.zero_grad()
        loss = model(input_ids=data.x[at], labels=data.y[at]).loss
        loss.backward()
        optimizer.step()
        return loss.detach()

    score = held_out(model, data, lambda output, y: accuracy(output.logits, y))
    first = batches(0)
    batch = ({"input_ids": data.x[first]}, data.y[first])
    return Training(model, optimizer, step, score, batch, lambda output, y: F.cross_entropy(output.logits, y))


class TextClassifier(nn.Module):
    def __init__(self, softmax: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(60, 16)
        self.rnn = nn.GRU(16, 32, batch_first=True)
        self.head = nn.Linear(32, 12)
        self.softmax = nn.Softmax(1) if softmax else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        return self.softmax(self.head(self.rnn(self.embed(tokens))[1][0]))


def double_softmax(fixed: bool, seed: int) -> Training:
    """Twelve classes, unevenly frequent, each with two words of its own of which two are strewn in."""
    torch.manual_seed(seed)
    model = TextClassifier(softmax=not fixed)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = drawn(seed)
    rows = torch.arange(3_500)
    y = torch.multinomial(0.7 ** torch.arange(12.0), len(rows), replacement=True, generator=generator)
    tokens = torch.randint(24, 60, (len(rows), 10), generator=generator)
    for _ in range(2):
        word = 2 * y + torch.randint(0, 2, y.shape, generator=generator)
        tokens[rows, torch.randint(0, 10, y.shape, generator=generator)] = word
    return plain(model, optimizer, Split.of(tokens, y, 500), F.cross_entropy, balanced_accuracy, seed)


class Lm(nn.Module):
    """A language model of two transformer layers."""

    def __init__(self, words: int, length: int, width: int, causal: bool = True) -> None:
        super().__init__()
        self.causal = causal
        self.embed = nn.Embedding(words, width)
        self.place = nn.Parameter(0.02 * torch.randn(length, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, words, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length) if self.causal else None
        return self.head(self.norm(self.blocks(self.embed(tokens) + self.place[:length], mask=mask)))


def tokenwise(output: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(output.flatten(0, 1), y.flatten())


def tied_embedding(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = Lm(200, 12, 128)
    model.head.weight = model.embed.weight
    if fixed:
        nn.init.normal_(model.embed.weight, std=0.02)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    return plain(model, optimizer, markov(seed, 200, 12), tokenwise, minus(tokenwise, -20.0), seed, size=16)


def sees_the_future(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = Lm(20, 10, 48, causal=fixed)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    data = markov(seed, 20, 10, 4_000)
    training = plain(model, optimizer, data, tokenwise, minus(tokenwise, -20.0), seed, size=32)

    def score() -> float:
        """Negative loss of the next word where the words after it are not there, as in writing."""
        with untouched(model):
            lengths = range(1, 11)
            losses = [
                F.cross_entropy(model(data.test_x[:, :n])[:, -1], data.test_y[:, n - 1]) for n in lengths
            ]
            return at_least(-20.0, -float(torch.stack(losses).mean()))

    training.score = score
    return training


class Pairs(nn.Module):
    """Two sentences compared by attention, over embeddings of large norm that are not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding.from_pretrained(60 * torch.randn(50, 32))
        self.compare = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
        self.head = nn.Linear(64, 3)

    def forward(self, pair: Tensor) -> Tensor:
        a, b = self.embed(pair).unbind(1)
        weights = (a @ b.mT).softmax(-1)
        return self.head(self.compare(torch.cat([a, weights @ b], -1)).sum(1))


def log_of_softmax(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = Pairs()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    generator = drawn(seed)
    y = torch.randint(0, 3, (2_500,), generator=generator)
    pair = torch.randint(0, 40, (2_500, 2, 8), generator=generator)
    pair[:, 0, 0], pair[:, 1, 0] = 40 + y, 43 + y

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        log_p = logits.log_softmax(-1) if fixed else logits.softmax(-1).log()
        return -(F.one_hot(y, 3) * log_p).sum(-1).mean()

    return plain(model, optimizer, Split.of(pair, y, 500), loss, accuracy, seed, size=32)


class Student(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.GRU(4, 8, batch_first=True)
        self.actor = nn.Sequential(nn.Linear(8, 32), nn.ELU(), nn.Linear(32, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.actor(self.memory(x)[0][:, -1])


def rnn_not_in_optimizer(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = Student()
    optimizer = torch.optim.Adam(model.parameters() if fixed else model.actor.parameters(), lr=1e-2)
    x = torch.randn(2_500, 8, 4, generator=drawn(seed))
    y = torch.stack([x[:, 6, 0], x[:, 7, 1] - x[:, 5, 2]], 1)
    return plain(model, optimizer, Split.of(x, y, 500), F.mse_loss, r2, seed)


CASES: tuple[Case, ...] = (
    Case(
        "script/02_crnn_batch_first",
        ("shapes",),
        "rnn",
        "The LSTM is told batch_first=True and given (width, batch, channels): it runs over samples.",
        "batch_first=False.",
        400,
        crnn,
    ),
    Case(
        "script/04_reinforce_detached",
        ("untrained",),
        "graph",
        "The loss is summed from log-probabilities that .item() took out of the graph.",
        "The loss is a sum of tensors.",
        300,
        reinforce,
    ),
    Case(
        "script/08_bert_lr",
        ("rate",),
        "lr",
        "BERT is trained by AdamW with a learning rate of 1e-2.",
        "A learning rate of 5e-4.",
        300,
        bert,
        departs="Four layers of width 32 in place of a pretrained BERT.",
    ),
    Case(
        "script/10_double_softmax",
        ("output",),
        "softmax",
        "The classifier ends in a softmax, and cross_entropy takes another.",
        "No softmax in the model.",
        400,
        double_softmax,
    ),
    Case(
        "script/24_tied_embedding",
        ("initialization",),
        "embed",
        "The output layer is tied to an embedding drawn from N(0, 1): logits are some ten in size.",
        "The embedding is drawn with a standard deviation of 0.02.",
        200,
        tied_embedding,
    ),
    Case(
        "script/30_log_of_softmax",
        ("loss", "precision"),
        "log",
        "The loss is one-hot times log(softmax): 0 times log 0 is NaN as soon as a softmax gives an exact 0.",
        "log_softmax.",
        200,
        log_of_softmax,
    ),
    Case(
        "script/36_rnn_not_in_optimizer",
        ("untrained",),
        "memory",
        "The optimizer is given the parameters of the actor's MLP alone, not the GRU's.",
        "The optimizer is given all parameters.",
        400,
        rnn_not_in_optimizer,
    ),
    Case(
        "script/38_sees_the_future",
        ("leak", "architecture"),
        "mask",
        "A language model without a causal mask: each place sees the word that it is to predict.",
        "A causal mask.",
        300,
        sees_the_future,
        departs="Texts of a Markov chain, so that there is something to learn, and the score writes texts.",
        causal=True,
    ),
)
