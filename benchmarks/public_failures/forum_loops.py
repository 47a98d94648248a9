"""Reports whose fault lies in the loop: what is trained, in which mode, how precisely, how strongly held."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from public_failures.case import Case, Training
from public_failures.plain import Batches, Split, accuracy, drawn, held_out, minus, plain, r2
from public_failures.tasks import blobs, digits, markov


class SplitLoss(nn.Module):
    """Cross-entropy of 60 words in two steps: one of twenty or a rare one, then which of the rare."""

    def __init__(self) -> None:
        super().__init__()
        self.rare = nn.Parameter(torch.zeros(32))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, weight: Tensor, hidden: Tensor, y: Tensor) -> Tensor:
        logits = hidden @ weight.T
        some = (hidden @ self.rare + self.bias)[..., None]
        first = torch.cat([logits[..., :20], some], -1).flatten(0, 1)
        rare = y.flatten() >= 20
        value = F.cross_entropy(first, y.flatten().clamp(max=20), reduction="sum")
        among = F.cross_entropy(logits.flatten(0, 1)[rare, 20:], y.flatten()[rare] - 20, reduction="sum")
        return (value + among) / y.numel()


class Tied(nn.Module):
    """A recurrent language model whose outputs are compared with the embeddings of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(60, 32)
        nn.init.uniform_(self.embed.weight, -0.1, 0.1)
        self.rnn = nn.GRU(32, 32, batch_first=True)
        self.criterion = SplitLoss()

    def forward(self, words: Tensor) -> Tensor:
        return self.rnn(self.embed(words))[0]


def loss_left_out(fixed: bool, seed: int) -> Training:
    """A language model: github.com/salesforce/awd-lstm-lm/issues/30."""
    torch.manual_seed(seed)
    model = Tied()
    others = [*model.embed.parameters(), *model.rnn.parameters()]
    optimizer = torch.optim.Adam(model.parameters() if fixed else others, lr=3e-3)

    def loss(hidden: Tensor, y: Tensor) -> Tensor:
        return model.criterion(model.embed.weight, hidden, y)

    data = markov(seed, 60, 12, 1_000)
    return plain(model, optimizer, data, loss, minus(loss, -10.0), seed, size=32)


class Motion(nn.Module):
    """A recurrent autoencoder of a series of six numbers each."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.GRU(6, 32, batch_first=True)
        self.decoder = nn.GRU(32, 32, batch_first=True)
        self.head = nn.Linear(32, 6)

    def forward(self, x: Tensor) -> Tensor:
        code = self.encoder(x)[1][0]
        return self.head(self.decoder(code[:, None].expand(-1, x.shape[1], -1))[0])


def schedule_of_zero(fixed: bool, seed: int) -> Training:
    """The poses of a mouse: github.com/LINCellularNeuroscience/VAME/issues/26."""
    torch.manual_seed(seed)
    model = Motion()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=100, gamma=1 if fixed else 0)
    generator = drawn(seed)
    speed, phase = torch.rand(2, 1_000, 1, 6, generator=generator)
    x = (torch.arange(10)[:, None] * (0.2 + speed) + 6 * phase).sin()
    training = plain(model, optimizer, Split.of(x, x, 200), F.mse_loss, r2, seed)
    train = training.step

    def step(i: int) -> Tensor | float:
        loss = train(i)
        scheduler.step()
        return loss

    training.step = step
    return training


def heavy_decay(fixed: bool, seed: int) -> Training:
    """Where a joint is in a picture: github.com/BVLC/caffe/issues/1396."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(392, 64), nn.ReLU(), nn.Linear(64, 2),
    )  # fmt: skip
    decay = 5e-4 if fixed else 0.5
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=decay)
    generator = drawn(seed)
    y = torch.rand(1_300, 2, generator=generator)
    places = torch.linspace(0, 1, 16)
    row, column = (torch.exp(-(((places - at[:, None]) / 0.12) ** 2)) for at in y.unbind(1))
    x = (row[:, :, None] * column[:, None])[:, None] + 0.1 * torch.randn(
        1_300, 1, 16, 16, generator=generator
    )
    return plain(model, optimizer, Split.of(x, y, 300), F.mse_loss, r2, seed, size=32)


class Dropped(nn.Module):
    """A perceptron with functional dropout, which does not ask for the mode unless told."""

    def __init__(self, asks: bool) -> None:
        super().__init__()
        self.asks = asks
        self.hidden, self.classifier = nn.Linear(40, 64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.hidden(x))
        return self.classifier(F.dropout(hidden, 0.5, self.training if self.asks else True))


def always_dropped(fixed: bool, seed: int) -> Training:
    """A classifier: github.com/delip/PyTorchNLPBook/issues/28."""
    torch.manual_seed(seed)
    model = Dropped(asks=fixed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return plain(model, optimizer, blobs(seed, noise=1.8), F.cross_entropy, accuracy, seed)


def everything_dropped(fixed: bool, seed: int) -> Training:
    """Clips, to be kept with a chance of 1: github.com/hassony2/kinetics_i3d_pytorch/issues/6."""
    torch.manual_seed(seed)
    keep = 1.0
    model = nn.Sequential(
        nn.Conv3d(1, 8, (3, 3, 3)), nn.ReLU(), nn.Conv3d(8, 16, (2, 3, 3)), nn.ReLU(),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Dropout(1 - keep if fixed else keep), nn.Linear(16, 4),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    generator = drawn(seed)
    y = torch.randint(0, 4, (1_000,), generator=generator)
    place = torch.randint(0, 8, (1_000, 2), generator=generator)
    pace = torch.tensor([[0, 1], [1, 0], [0, -1], [-1, 0]])[y]
    x = 0.2 * torch.randn(1_000, 1, 6, 8, 8, generator=generator)
    for time in range(6):
        row, column = ((place + time * pace) % 8).unbind(1)
        x[torch.arange(1_000), 0, time, row, column] += 2
    return plain(model, optimizer, Split.of(x, y, 200), F.cross_entropy, accuracy, seed, size=32)


def statistics_lost(fixed: bool, seed: int) -> Training:
    """A patched module in place of a network: github.com/facebookresearch/higher/issues/55."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    data = digits()
    batches = Batches(len(data.x), 50, seed)

    def step(i: int) -> Tensor:
        at = batches(i)
        copies = {name: buffer.clone() for name, buffer in model.named_buffers()}
        optimizer.zero_grad()
        value = F.cross_entropy(functional_call(model, copies, data.x[at]), data.y[at])
        value.backward()
        optimizer.step()
        if fixed:
            model.load_state_dict(copies, strict=False)
        return value.detach()

    return Training(model, optimizer, step, held_out(model, data, accuracy))


def log_of_softmax_in_half(fixed: bool, seed: int) -> Training:
    """A classifier in half precision, one label in fifty wrong: github.com/NVIDIA/apex/issues/379."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 10)).half()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, eps=1e-4)
    same = blobs(seed)
    generator = drawn(seed, 1)
    wrong = torch.rand(len(same.y), generator=generator) < 0.02
    y = torch.where(wrong, torch.randint(0, 10, same.y.shape, generator=generator), same.y)

    def loss(output: Tensor, y: Tensor) -> Tensor:
        return F.nll_loss(output.log_softmax(-1) if fixed else output.softmax(-1).log(), y)

    data = Split(same.x.half(), y, same.test_x.half(), same.test_y)
    return plain(model, optimizer, data, loss, accuracy, seed)


def cleared_between(fixed: bool, seed: int) -> Training:
    """Batches of one, of which eight are to be one step: github.com/ZiqiaoPeng/DualTalk/issues/9."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    data = blobs(seed, noise=1.8)
    batches = Batches(len(data.x), 1, seed)

    def step(i: int) -> Tensor:
        at = batches(i)
        if not fixed:
            optimizer.zero_grad()
        value = F.cross_entropy(model(data.x[at]), data.y[at])
        (value / 8 if fixed else value).backward()
        if i % 8 == 7:
            optimizer.step()
            optimizer.zero_grad()
        return value.detach()

    return Training(model, optimizer, step, held_out(model, data, accuracy))


CASES: tuple[Case, ...] = (
    Case(
        "forum/loss-left-out",
        ("untrained",),
        "optimizer",
        "The loss of a language model has parameters that the optimizer does not know: they stay 0.",
        "It is given them too.",
        400,
        loss_left_out,
        departs="A GRU of 32, 60 words, one split.",
    ),
    Case(
        "forum/schedule-of-zero",
        ("loop", "rate"),
        "lr",
        "A schedule that is to be off multiplies the learning rate by 0 after its first period.",
        "By 1.",
        500,
        schedule_of_zero,
        departs="A period of 100 steps in place of 100 epochs; sines in place of poses.",
    ),
    Case(
        "forum/heavy-decay",
        ("regularization",),
        "decay",
        "A weight decay of 0.5: every input gives the same output.",
        "5e-4.",
        300,
        heavy_decay,
        departs="A small network, written in PyTorch.",
    ),
    Case(
        "forum/always-dropped",
        ("mode",),
        "dropout",
        "F.dropout is not told the mode: it drops half of the units in evaluation too.",
        "training=self.training.",
        400,
        always_dropped,
        departs="Vectors near ten prototypes.",
    ),
    Case(
        "forum/everything-dropped",
        ("regularization",),
        "dropout",
        "A chance of 1 that is meant for what dropout keeps is given as the chance to drop.",
        "1 less it.",
        200,
        everything_dropped,
        departs="A dot that moves through six frames of 8×8.",
    ),
    Case(
        "forum/statistics-lost",
        ("mode",),
        "statistics",
        "A functional copy of the network is trained: the running statistics of BatchNorm stay as they were.",
        "They are written back.",
        150,
        statistics_lost,
        departs="functional_call in place of higher's patch; one task.",
    ),
    Case(
        "forum/log-of-softmax-in-half",
        ("precision", "loss"),
        "log",
        "The logarithm of a softmax in half precision, whose small probabilities are 0.",
        "log_softmax.",
        300,
        log_of_softmax_in_half,
        departs="A perceptron on a CPU, without apex.",
    ),
    Case(
        "forum/cleared-between",
        ("loop",),
        "zero_grad",
        "Gradients that should add up over eight batches are cleared before each: the last alone counts.",
        "They are cleared after the step.",
        2_400,
        cleared_between,
        departs="A small classifier in place of a talking head.",
    ),
)
