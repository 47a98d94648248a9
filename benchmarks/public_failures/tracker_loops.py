"""Issues and merges whose fault lies in the loop, the optimizer or the precision."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from public_failures.case import Case, Training
from public_failures.plain import Batches, Split, accuracy, drawn, held_out, plain, r2
from public_failures.tasks import blobs, curve, digits, markov


def gradients_never_cleared(fixed: bool, seed: int) -> Training:
    """Heat maps of three marks in pictures of 16×16, each of its own shape."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.BatchNorm2d(16),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.BatchNorm2d(16),
        nn.Conv2d(16, 3, 3, padding=1),
        nn.Sigmoid(),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.999))
    generator = drawn(seed)
    marks = torch.tensor(
        [
            [[1, 1, 1], [0, 1, 0], [0, 1, 0]],
            [[0, 0, 1], [0, 1, 0], [1, 0, 0]],
            [[1, 0, 1], [0, 1, 0], [1, 0, 1]],
        ]
    ).float()
    at = torch.randint(1, 15, (800, 3, 2), generator=generator)
    places = torch.arange(16)
    point = (places[:, None] == at[..., :1, None]) & (places == at[..., 1:, None])
    drawing = F.conv2d(point.float(), marks[:, None], padding=1, groups=3).sum(1, keepdim=True)
    distance = (places[:, None] - at[..., :1, None]).square() + (places - at[..., 1:, None]).square()
    x = drawing + 0.1 * torch.randn(drawing.shape, generator=generator)
    data = Split.of(x, (-distance / 8).exp(), 100)
    training = plain(model, optimizer, data, F.mse_loss, r2, seed, size=8)
    batches = Batches(len(data.x), 8, seed)

    def step(i: int) -> Tensor:
        loss = F.mse_loss(model(data.x[batches(i)]), data.y[batches(i)])
        loss.backward()
        optimizer.step()
        return loss.detach()

    if not fixed:
        training.step = step
    return training


class Enlarge(nn.Module):
    """Twice the size, by a network's correction of the nearest pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1),
            nn.PReLU(),
            nn.Conv2d(24, 24, 3, padding=1),
            nn.PReLU(),
            nn.Conv2d(24, 4, 3, padding=1),
            nn.PixelShuffle(2),
        )
        self.discriminator = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(16, 16, 3, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(256, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.generator(x)


def schedule_by_batches(fixed: bool, seed: int) -> Training:
    """Digits of 8×8 to 16×16; 40 epochs of ten batches were planned."""
    torch.manual_seed(seed)
    model = Enlarge()
    of_g = torch.optim.Adam(model.generator.parameters(), lr=1e-3)
    of_d = torch.optim.Adam(model.discriminator.parameters(), lr=1e-3)
    schedules = [torch.optim.lr_scheduler.StepLR(o, step_size=20, gamma=0.1) for o in (of_g, of_d)]
    low, high = digits(8), digits(16)
    data = Split(low.x, high.x, low.test_x, high.test_x)
    batches = Batches(len(data.x), 16, seed)
    loss = F.binary_cross_entropy_with_logits
    ones, zeros = torch.ones(16, 1), torch.zeros(16, 1)

    def step(i: int) -> Tensor:
        x, y = data.x[batches(i)], data.y[batches(i)]
        made = model(x)
        of_d.zero_grad()
        (loss(model.discriminator(y), ones) + loss(model.discriminator(made.detach()), zeros)).backward()
        of_d.step()
        of_g.zero_grad()
        value = F.mse_loss(made, y) + 1e-3 * loss(model.discriminator(made), ones)
        value.backward()
        of_g.step()
        if not fixed or (i + 1) % 10 == 0:
            for schedule in schedules:
                schedule.step()
        return value.detach()

    return Training(model, [of_g, of_d], step, held_out(model, data, r2))


def clipped_while_scaled(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    data = blobs(seed)
    batches = Batches(len(data.x), 50, seed)

    def step(i: int) -> Tensor:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16):
            logits = model(data.x[batches(i)])
        loss = F.cross_entropy(logits.float(), data.y[batches(i)])
        scaler.scale(loss).backward()
        if fixed:
            scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        return loss.detach()

    return Training(model, optimizer, step, held_out(model, data, accuracy))


class ForgetfulAdam(torch.optim.Adam):
    """Adam whose averages are 0 again at each step, while its count of steps goes on."""

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for state in self.state.values():
            state["exp_avg"].zero_()
            state["exp_avg_sq"].zero_()
        super().step(closure)


def averages_forgotten(fixed: bool, seed: int) -> Training:
    """Values of three actions in each state, of which one at a time is seen."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
    of = torch.optim.Adam if fixed else ForgetfulAdam
    optimizer = of(model.parameters(), lr=3e-3)
    parts = [curve(100 * seed + k) for k in range(3)]
    x, test = parts[0].x, parts[0].test_x
    generator = drawn(seed)
    mixing = torch.randn(8, 3, generator=generator) / 8**0.5

    def values(x: Tensor) -> Tensor:
        return (x @ mixing).sin() + 0.5 * x[:, :1] * x[:, 1:2]

    data = Split(x, values(x), test, values(test))
    action = torch.randint(0, 3, (len(x),), generator=generator)
    batches = Batches(len(x), 32, seed)

    def step(i: int) -> Tensor:
        at = batches(i)
        optimizer.zero_grad()
        q = model(data.x[at]).gather(1, action[at, None])
        loss = F.mse_loss(q, data.y[at].gather(1, action[at, None]))
        loss.backward()
        optimizer.step()
        return loss.detach()

    return Training(model, optimizer, step, held_out(model, data, r2))


class Bigrams(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 48)
        self.body = nn.Sequential(nn.LayerNorm(48), nn.Linear(48, 96), nn.GELU(), nn.Linear(96, 48))
        self.norm = nn.LayerNorm(48)
        self.head = nn.Linear(48, 40)

    def forward(self, words: Tensor) -> Tensor:
        x = self.embed(words)
        return self.head(self.norm(x + self.body(x)))


def weights_in_bfloat16(fixed: bool, seed: int) -> Training:
    """A language model trained on one chain of words goes on with another, at a small learning rate."""
    torch.manual_seed(seed)
    model = Bigrams()

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(logits.float().flatten(0, 1), y.flatten())

    def known(logits: Tensor, y: Tensor) -> float:
        return float((logits.float().softmax(-1).gather(-1, y[..., None])).mean())

    first = markov(seed + 1_000, 40, 12, followers=1)
    before = torch.optim.AdamW(model.parameters(), lr=3e-3)
    pretraining = plain(model, before, first, loss, known, seed, size=32)
    for i in range(150):
        pretraining.step(i)
    model.zero_grad()
    if not fixed:
        model.bfloat16()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4)
    return plain(model, optimizer, markov(seed, 40, 12, followers=1), loss, known, seed, size=32)


class Shift(nn.Module):
    """How far one line is shifted against another, learned by undoing it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(2, 32, 7, padding=3),
            nn.ReLU(),
            nn.Conv1d(32, 32, 7, padding=3, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(512, 32),
            nn.ReLU(),
            nn.Linear(32, 1),
        )

    def forward(self, pair: Tensor) -> Tensor:
        return self.net(pair)


def decay_to_nothing(fixed: bool, seed: int) -> Training:
    """Two views (2, 32) of a smooth line; the loss is of the second, moved by what is predicted."""
    torch.manual_seed(seed)
    model = Shift()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=0 if fixed else 0.05)
    generator = drawn(seed)
    shift = 8 * torch.rand(2_000, 1, generator=generator) - 4
    waves = torch.arange(1, 5)
    size, phase = torch.randn(2, 2_000, 4, 1, generator=generator)
    places = torch.arange(32)

    def line(at: Tensor) -> Tensor:
        angle = 2 * torch.pi * waves[:, None] * at[:, None] / 32 + 3 * phase
        return (size * angle.sin() / waves[:, None] ** 0.5).sum(1)

    x = torch.stack([line(places + 0 * shift), line(places + shift)], 1)
    data = Split.of(x, shift, 300)
    batches = Batches(len(data.x), 32, seed)

    def photometric(predicted: Tensor, pair: Tensor) -> Tensor:
        at = (places - predicted).remainder(32)
        low = at.floor()
        left, right = (pair[:, 1].gather(1, (low.long() + k) % 32) for k in (0, 1))
        moved = left + (at - low) * (right - left)
        return (moved - pair[:, 0]).abs().mean()

    def step(i: int) -> Tensor:
        pair = data.x[batches(i)]
        optimizer.zero_grad()
        loss = photometric(model(pair), pair)
        loss.backward()
        optimizer.step()
        return loss.detach()

    first = data.x[batches(0)]
    return Training(model, optimizer, step, held_out(model, data, r2), (first, first), photometric)


def one_epoch(fixed: bool, seed: int) -> Training:
    """Six batches of 256 are an epoch of digits."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, width in ((1, 16), (16, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width, eps=1e-3), nn.ReLU()]
        layers += [nn.Dropout(0.4) if inputs != width else nn.MaxPool2d(2)]
    model = nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(128, 64),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(64, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    return plain(model, optimizer, digits(), F.cross_entropy, accuracy, seed, size=249)


CASES: tuple[Case, ...] = (
    Case(
        "tracker/gradients-never-cleared",
        ("loop",),
        "zero_grad",
        "Gradients are never cleared: each step goes along the sum of all before it.",
        "zero_grad before each backward pass.",
        500,
        gradients_never_cleared,
        departs="Three marks in pictures of 16×16, a small net, a learning rate of 1e-3.",
    ),
    Case(
        "tracker/schedule-by-batches",
        ("loop", "rate"),
        "lr",
        "Schedules in epochs are stepped after each batch: both learning rates are soon 0.",
        "After each epoch.",
        400,
        schedule_by_batches,
        departs="Digits to twice their size; no loss of features.",
    ),
    Case(
        "tracker/clipped-while-scaled",
        ("loop", "precision"),
        "clip",
        "Gradients are clipped to a norm of 1 while they are scaled by 65,536, and unscaled afterwards.",
        "unscale_ before the clipping.",
        200,
        clipped_while_scaled,
        departs="Vectors; SGD, as the optimizer is not told; autocast on a CPU.",
    ),
    Case(
        "tracker/adam-forgets",
        ("rate",),
        "optimizer",
        "Adam's averages are not stored: every step is as long as the last, whatever the gradient.",
        "They are stored.",
        500,
        averages_forgotten,
        departs="Q-values of games of one move; a smooth function.",
    ),
    Case(
        "tracker/weights-in-bfloat16",
        ("precision",),
        "bfloat16",
        "AdamW on weights in bfloat16: most of its small steps are rounded away.",
        "Weights in float32.",
        400,
        weights_in_bfloat16,
        departs="A model of bigrams, trained on one chain of words and then on another.",
    ),
    Case(
        "tracker/decay-to-nothing",
        ("regularization",),
        "weight_decay",
        "Adam with a weight decay of 0.05 on a loss of small gradients: the weights go to 0.",
        "No weight decay.",
        500,
        decay_to_nothing,
        departs="Lines in place of pictures, a shift in place of depth and pose.",
    ),
    Case(
        "tracker/one-epoch",
        ("steps",),
        "epoch",
        "A network with BatchNorm and dropout is trained for one epoch.",
        "As many as there were meant to be, ninety by default; 25 here.",
        6,
        one_epoch,
        departs="Digits of 8×8; four convolutions.",
        fixed_steps=150,
    ),
)
