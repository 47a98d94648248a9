"""Reports whose fault lies in the data, the optimizer or the loop."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from public_failures.case import Case, Training
from public_failures.plain import Split, accuracy, binary_accuracy, drawn, held_out, plain, r2
from public_failures.tasks import blobs, digits


def optimizer_of_data(fixed: bool, seed: int) -> Training:
    """An autoencoder of 20 columns, of four causes."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 4), nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 20)
    )
    generator = drawn(seed)
    x = torch.randn(1_500, 4, generator=generator) @ torch.randn(4, 20, generator=generator) / 2
    trained = model.parameters() if fixed else [x[:, 0], x[:, 1]]
    optimizer = torch.optim.Adam(trained, lr=3e-3)
    return plain(model, optimizer, Split.of(x, x, 300), F.mse_loss, r2, seed)


def counted_by_argmax(fixed: bool, seed: int) -> Training:
    """A classifier of two classes with one logit. The wrong count is outside the training: both are one."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = drawn(seed)
    x = torch.randn(1_500, 20, generator=generator)
    y = (x @ torch.randn(20, 1, generator=generator) > 0).float()

    return plain(
        model, optimizer, Split.of(x, y, 300), F.binary_cross_entropy_with_logits, binary_accuracy, seed
    )


def broadcast(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    generator = drawn(seed)
    x = torch.randn(200, 2, generator=generator)
    y = 10 + x @ torch.tensor([9.0, -2.0]) + torch.randn(200, generator=generator)
    data = Split.of(x, y[:, None] if fixed else y, 100)

    def loss(output: Tensor, y: Tensor) -> Tensor:
        return (output - y).pow(2).mean()

    return plain(model, optimizer, data, loss, r2, seed, size=100)


def unscaled_cubic(fixed: bool, seed: int) -> Training:
    """80 rows of a cubic, x between −1,000 and 1,000."""
    torch.manual_seed(seed)
    hidden = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1))
    model = hidden if fixed else nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1 if fixed else 0.01)
    x = 2_000 * torch.rand(100, 1, generator=drawn(seed)) - 1_000
    y = 2 * x**3 + 7 * x**2 - 8 * x + 120
    if fixed:
        x, y = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    return plain(model, optimizer, Split.of(x, y, 20), F.mse_loss, r2, seed, size=20)


def early_decay(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=12 if fixed else 1, gamma=0.1)
    training = plain(model, optimizer, digits(), F.cross_entropy, accuracy, seed, size=64)
    train = training.step

    def step(i: int) -> Tensor | float:
        loss = train(i)
        if (i + 1) % 10 == 0:  # an epoch of the loader's
            scheduler.step()
        return loss

    training.step = step
    return training


def head_replaced_later(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 1_000))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model[2] = nn.Linear(64, 10)
    if fixed:
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    data = blobs(seed, inputs=32, noise=2.0)
    return plain(model, optimizer, data, F.cross_entropy, accuracy, seed)


def sorted_by_class(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    data = digits()
    order = data.y.argsort()
    data = Split(data.x[order], data.y[order], data.test_x, data.test_y)
    shuffled = plain(model, optimizer, data, F.cross_entropy, accuracy, seed, size=128)
    if fixed:
        return shuffled

    def step(i: int) -> Tensor:
        at = slice(i % 11 * 128, (i % 11 + 1) * 128)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(data.x[at]), data.y[at])
        loss.backward()
        optimizer.step()
        return loss.detach()

    batch = (data.x[:128], data.y[:128])
    return Training(model, optimizer, step, held_out(model, data, accuracy), batch, F.cross_entropy)


def epsilon_in_half(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 10)).half()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-4 if fixed else 1e-8)
    same = blobs(seed)
    data = Split(same.x.half(), same.y, same.test_x.half(), same.test_y)

    def loss(output: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(output.float(), y)

    return plain(model, optimizer, data, loss, accuracy, seed)


CASES: tuple[Case, ...] = (
    Case(
        "report/D7",
        ("untrained",),
        "optimizer",
        "The optimizer is given columns of the data: no weight is in it.",
        "model.parameters().",
        300,
        optimizer_of_data,
    ),
    Case(
        "report/D9",
        ("metric",),
        "argmax",
        "The accuracy is counted by an argmax over one column, and broadcast; the training is right.",
        "The accuracy is that of the logit's sign.",
        200,
        counted_by_argmax,
        departs="The score is the true accuracy: the model is as good as its twin.",
    ),
    Case(
        "report/D11",
        ("shapes",),
        "broadcast",
        "Outputs of shape (100, 1) less targets of shape (100,) are (100, 100).",
        "Targets of shape (100, 1).",
        30,
        broadcast,
    ),
    Case(
        "report/D13",
        ("targets", "inputs", "architecture"),
        "scale",
        "A line is fitted to a cubic whose inputs reach 1,000 and whose targets reach 2e9: the loss is NaN.",
        "Both are standardized, and there is a hidden layer.",
        400,
        unscaled_cubic,
        departs="The learning rate, which the report does not tell.",
    ),
    Case(
        "report/D17",
        ("loop", "rate"),
        "lr",
        "StepLR divides the learning rate by ten after every epoch: it is soon 0.",
        "After every twelve.",
        200,
        early_decay,
        departs="A small classifier in place of a detector.",
    ),
    Case(
        "report/D23",
        ("untrained",),
        "optimizer",
        "The head is replaced after the optimizer was made, which goes on with the old one.",
        "The optimizer is made afterwards.",
        150,
        head_replaced_later,
    ),
    Case(
        "report/D27",
        ("sampling", "mode"),
        "shuffle",
        "Data sorted by class are not shuffled; BatchNorm, SGD at 0.5.",
        "shuffle=True.",
        120,
        sorted_by_class,
    ),
    Case(
        "report/D33",
        ("precision",),
        "eps",
        "Adam's ε of 1e-8 is 0 in half precision.",
        "1e-4.",
        200,
        epsilon_in_half,
    ),
)
