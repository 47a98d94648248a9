"""Issues and merges whose fault lies in the data: inputs, targets and how they are drawn."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from public_failures.case import Case, Training
from public_failures.plain import Batches, Split, accuracy, drawn, held_out, plain, r2, untouched
from public_failures.tasks import digits


def inputs_shuffled_alone(fixed: bool, seed: int) -> Training:
    """Bags of 60 words of questions of six intents."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(60, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 6))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = drawn(seed)
    y = torch.randint(0, 6, (1_200,), generator=generator)
    word = torch.randint(0, 60, (1_200, 8), generator=generator)
    own = 10 * y[:, None] + torch.randint(0, 10, word.shape, generator=generator)
    word = torch.where(torch.rand(word.shape, generator=generator) < 0.5, own, word)
    x = F.one_hot(word, 60).amax(1).float()
    order = torch.randperm(1_000, generator=generator)
    rows, labels = x[:1_000][order], y[:1_000][order] if fixed else y[:1_000]
    return plain(
        model, optimizer, Split(rows, labels, x[1_000:], y[1_000:]), F.cross_entropy, accuracy, seed, size=16
    )


class Draw(nn.Module):
    """A VAE that draws on a canvas in four turns."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.LSTMCell(192, 48), nn.LSTMCell(4, 48)
        self.latent, self.write = nn.Linear(48, 8), nn.Linear(48, 64)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the pixels (N, 64), and the divergence of each."""
        canvas = torch.zeros_like(x)
        e = d = (torch.zeros(len(x), 48), torch.zeros(len(x), 48))
        divergence = torch.zeros(len(x))
        for _ in range(4):
            e = self.encoder(torch.cat([x, x - canvas.sigmoid(), canvas.sigmoid()], 1), e)
            mean, logvar = self.latent(e[0]).chunk(2, 1)
            z = mean + (torch.randn_like(mean) * (0.5 * logvar).exp() if self.training else 0)
            divergence = divergence - 0.5 * (1 + logvar - mean.square() - logvar.exp()).sum(1)
            d = self.decoder(z, d)
            canvas = canvas + self.write(d[0])
        return canvas, divergence


def divided_twice(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = Draw()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    same = digits()
    largest = 1.0 if fixed else 255.0
    x, test = same.x.flatten(1) / largest, same.test_x.flatten(1) / largest

    def loss(output: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
        canvas, divergence = output
        rebuilt = F.binary_cross_entropy_with_logits(canvas, y, reduction="none").sum(1)
        return (rebuilt + divergence).mean()

    def of_pixels(output: tuple[Tensor, Tensor], y: Tensor) -> float:
        return r2(output[0].sigmoid(), y)

    return plain(model, optimizer, Split(x, x, test, test), loss, of_pixels, seed)


class Peaks(nn.Module):
    """Convolutions with a residual: a clean track, and where its peaks are."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv1d(1, 12, 7, padding=3)
        self.block = nn.Sequential(nn.ReLU(), nn.Conv1d(12, 12, 7, padding=3), nn.ReLU())
        self.track, self.peak = nn.Conv1d(12, 1, 1), nn.Conv1d(12, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Track and logits of peaks (N, 2, 48) of counts (N, 48)."""
        h = self.enter(x[:, None])
        h = h + self.block(h)
        return torch.cat([self.track(h).relu(), self.peak(h)], 1)


def one_sample_only(fixed: bool, seed: int) -> Training:
    """Counts along a genome, few of them; y has their rates and where a peak is."""
    torch.manual_seed(seed)
    model = Peaks()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    generator = drawn(seed)
    center = 48 * torch.rand(1_500, 2, 1, generator=generator)
    height = 2 + 6 * torch.rand(1_500, 2, 1, generator=generator)
    distance = (torch.arange(48) - center) / 3
    rate = 0.3 + (height * (-0.5 * distance.square()).exp()).sum(1)
    y = torch.stack([rate, (rate > 2).float()], 1)
    data = Split.of(torch.poisson(rate, generator), y, 300)
    batches = Batches(len(data.x), 16, seed)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        of_peaks = F.binary_cross_entropy_with_logits(out[:, 1], y[:, 1])
        return F.mse_loss(out[:, 0], y[:, 0]) + of_peaks

    def step(i: int) -> Tensor:
        at = batches(i) if fixed else torch.zeros(16, dtype=torch.long)
        optimizer.zero_grad()
        value = loss(model(data.x[at]), data.y[at])
        value.backward()
        optimizer.step()
        return value.detach()

    def of_track(out: Tensor, y: Tensor) -> float:
        return r2(out[:, 0], y[:, 0])

    at = batches(0) if fixed else torch.zeros(16, dtype=torch.long)
    batch = (data.x[at], data.y[at])
    return Training(model, optimizer, step, held_out(model, data, of_track), batch, loss)


MOVES = torch.tensor([[0, 1], [0, -1], [1, 0], [-1, 0]])


def best_values() -> Tensor:
    """Values (5, 5, 4) of the moves on a board of 5×5 whose last corner ends the game and pays 1."""
    place = torch.stack(torch.meshgrid(torch.arange(5), torch.arange(5), indexing="ij"), -1)
    after = (place[:, :, None] + MOVES).clamp(0, 4)
    ends = (after == 4).all(-1).float()
    values = torch.zeros(5, 5, 4)
    for _ in range(50):
        best = values.amax(-1)[after[..., 0], after[..., 1]]
        values = ends + 0.9 * (1 - ends) * best
    return values


def end_ignored(fixed: bool, seed: int) -> Training:
    """Q-learning of moves on a board, from stored ones, with a target network renewed every 25 steps."""
    torch.manual_seed(seed)

    def net() -> nn.Sequential:
        return nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))

    model, target = net(), net()
    target.load_state_dict(model.state_dict())
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = drawn(seed)
    place = torch.randint(0, 5, (4_000, 2), generator=generator)
    place = place[(place < 4).any(1)]
    action = torch.randint(0, 4, (len(place),), generator=generator)
    after = (place + MOVES[action]).clamp(0, 4)
    ends = (after == 4).all(1).float()
    batches = Batches(len(place), 64, seed)

    def step(i: int) -> Tensor:
        at = batches(i)
        if i % 25 == 0:
            target.load_state_dict(model.state_dict())
        with torch.no_grad():
            best = target(after[at] / 2 - 1).amax(1)
        goal = ends[at] + 0.9 * best * (1 - ends[at] if fixed else 1)
        optimizer.zero_grad()
        value = model(place[at] / 2 - 1).gather(1, action[at, None])[:, 0]
        loss = F.mse_loss(value, goal)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def score() -> float:
        true = best_values().flatten(0, 1)[:-1]
        board = torch.cartesian_prod(torch.arange(5), torch.arange(5))[:-1]
        with untouched(model):
            return r2(model(board / 2 - 1), true)

    return Training(model, optimizer, step, score)


CASES: tuple[Case, ...] = (
    Case(
        "tracker/inputs-shuffled-alone",
        ("targets", "sampling"),
        "labels",
        "The rows of the inputs are shuffled and their labels are not.",
        "Both are, alike.",
        300,
        inputs_shuffled_alone,
        departs="Drawn bags of words.",
    ),
    Case(
        "tracker/draw-divided-twice",
        ("inputs", "targets"),
        "scale",
        "Pixels are divided by 255 twice: pictures are all but black.",
        "Once.",
        300,
        divided_twice,
        departs="Digits of 8×8, four turns, no attention; the score is R² of the pixels that each is given.",
    ),
    Case(
        "tracker/one-sample-only",
        ("sampling", "inputs"),
        "batch",
        "The data set returns its first sample for every index: all batches are that sample, repeated.",
        "The sample asked for.",
        300,
        one_sample_only,
        departs="Drawn tracks of 48 places; a smaller net.",
    ),
    Case(
        "tracker/dqn-end-ignored",
        ("targets",),
        "target",
        "Q-learning's targets go on where the game has ended: values grow to what an endless game pays.",
        "The reward alone there.",
        600,
        end_ignored,
        departs="A board of 5×5 and stored moves; the score is R² of the true values.",
    ),
)
