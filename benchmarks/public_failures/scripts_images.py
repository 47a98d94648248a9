"""Failing scripts on images: super-resolution, mixed precision, shuffled images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from public_failures.case import Case, Training
from public_failures.plain import Batches, Split, accuracy, drawn, held_out, plain, r2
from public_failures.tasks import pictures

EPOCHS, BATCHES = 8, 40


def waves(seed: int, count: int = 840) -> Split:
    """Waves of 16×16, and the same at 8×8."""
    generator = drawn(seed)
    places = torch.linspace(0, 6, 16)
    a, b, c = (3 * torch.rand(count, 1, 1, 1, generator=generator) for _ in range(3))
    sharp = torch.sin(a * places[:, None] + b * places + c)
    return Split.of(F.avg_pool2d(sharp, 2), sharp, 200)


def scheduler_each_batch(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1),
        nn.PReLU(),
        nn.Conv2d(24, 24, 3, padding=1),
        nn.PReLU(),
        nn.Conv2d(24, 4, 3, padding=1),
        nn.PixelShuffle(2),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=EPOCHS // 2, gamma=0.1)
    training = plain(model, optimizer, waves(seed), F.mse_loss, r2, seed, size=16)
    train = training.step

    def step(i: int) -> Tensor | float:
        loss = train(i)
        if not fixed or (i + 1) % BATCHES == 0:
            scheduler.step()
        return loss

    training.step = step
    return training


def clip_before_unscale(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu")
    data, batches = pictures(seed), Batches(2_000, 50, seed)

    def step(i: int) -> Tensor:
        at = batches(i)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(data.x[at]).float(), data.y[at])
        scaler.scale(loss).backward()
        if fixed:
            scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        return loss.detach()

    return Training(model, optimizer, step, held_out(model, data, accuracy))


def labels_before_shuffle(fixed: bool, seed: int) -> Training:
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
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    data = pictures(seed)
    if not fixed:
        order = torch.randperm(len(data.x), generator=drawn(seed, 1))
        data = Split(data.x[order], data.y, data.test_x, data.test_y)
    return plain(model, optimizer, data, F.cross_entropy, accuracy, seed)


CASES: tuple[Case, ...] = (
    Case(
        "script/12_scheduler_each_batch",
        ("loop", "rate"),
        "lr",
        "A StepLR that counts in epochs is stepped after every batch: the learning rate is soon 0.",
        "The schedule is stepped after every epoch.",
        EPOCHS * BATCHES,
        scheduler_each_batch,
    ),
    Case(
        "script/14_clip_before_unscale",
        ("loop", "precision"),
        "clip",
        "Gradients are clipped to norm 1 while they are still multiplied by the GradScaler's 65,536.",
        "unscale_ before clipping.",
        200,
        clip_before_unscale,
        departs="bfloat16 on a CPU.",
    ),
    Case(
        "script/26_labels_taken_before_shuffle",
        ("targets",),
        "label",
        "The images are shuffled after their labels were taken.",
        "Images and labels in one order.",
        200,
        labels_before_shuffle,
    ),
)
