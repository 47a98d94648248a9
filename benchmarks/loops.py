"""The training loops that are compared: what a user would run instead, and gradscape's.

All begin with the same weights and see the same images, cropped and mirrored alike, in the same order;
BatchNorm is in training mode in all. They differ in what their kind does: how images become mini-batches, how
memory is laid out, and how often the loop waits.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, Subset

from gradscape.config import RunConfig
from gradscape.data.batches import DeviceImages, EpochDraw, epoch_draw
from gradscape.train.arithmetic import Arithmetic
from gradscape.train.process import prepare_process
from gradscape.train.state import TrainState, build_model
from gradscape.train.step import TrainStep

CPU = torch.device("cpu")
MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


@dataclass(frozen=True)
class Task:
    """What every loop trains: a configuration and enough noise images for some rounds of some steps.

    Attributes:
        config: the network, the batch size and Adam's settings.
        steps: of one round; the first of them is not timed.
        rounds: for which there are images.
    """

    config: RunConfig
    steps: int
    rounds: int

    @property
    def count(self) -> int:
        return self.steps * self.rounds * self.config.batch_size

    def images(self) -> tuple[np.ndarray, np.ndarray, EpochDraw]:
        draw, data = np.random.default_rng(0), self.config.data.dataset
        labels = draw.integers(0, data.classes, self.count)
        brightness = 255 * labels[:, None, None, None] / data.classes  # something to learn
        noise = draw.integers(0, 256, (self.count, data.size, data.size, 3))
        images = ((brightness + noise) / 2).astype(np.uint8)
        return images, labels, epoch_draw(self.count, 0, 0, 4, True)


@dataclass(frozen=True)
class Round:
    """Some steps of a loop: when the timed ones began and ended (`time.perf_counter`), and every loss."""

    start: float
    end: float
    losses: list[float]


Loop = Callable[[int], Round]


class Pictures(Dataset[tuple[Tensor, int]]):
    """One image at a time through PIL and float transforms, as torchvision's do it."""

    def __init__(self, task: Task) -> None:
        self.images, self.labels, self.draw = task.images()
        self.mean, self.std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        index = int(self.draw.order[place])
        row, column = self.draw.offsets[place].tolist()
        picture = ImageOps.expand(Image.fromarray(self.images[index]), 4)
        height, width, _ = self.images[index].shape
        picture = picture.crop((column, row, column + width, row + height))
        if self.draw.flips[place]:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        x = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float().div(255)
        return x.sub(self.mean).div(self.std), int(self.labels[index])


class Bytes(Dataset[tuple[np.ndarray, int]]):
    """One image at a time as bytes, cropped and mirrored by slicing; the batch is normalised whole."""

    def __init__(self, task: Task) -> None:
        images, self.labels, draw = task.images()
        self.images = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))
        self.size = images.shape[1]
        self.order, self.flips = draw.order.numpy(), draw.flips.numpy()
        self.offsets = draw.offsets.numpy()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int) -> tuple[np.ndarray, int]:
        index, (row, column) = self.order[place], self.offsets[place]
        image = self.images[index, row : row + self.size, column : column + self.size]
        image = image[:, ::-1] if self.flips[place] else image
        return np.ascontiguousarray(image), self.labels[index]


def normalised(images: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) as float32 (B, 3, H, W) in channels_last."""
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    return images.float().div_(255).sub_(mean).div_(std).permute(0, 3, 1, 2)


def loader(data: Dataset[Any], task: Task, round_: int, workers: int) -> DataLoader[Any]:
    """The round's mini-batches in their order."""
    images = task.steps * task.config.batch_size
    chosen = Subset(data, range(round_ * images, (round_ + 1) * images))
    return DataLoader(chosen, task.config.batch_size, num_workers=workers)


def adam(model: nn.Module, config: RunConfig, **options: Any) -> torch.optim.Adam:
    optim = config.optim
    return torch.optim.Adam(
        model.parameters(), lr=optim.lr, weight_decay=optim.weight_decay, eps=optim.eps, **options
    )


def course(task: Task, workers: int, nudge: float = 0.0, seed: int = 0) -> Loop:
    """As in a course's code: PIL transforms, NCHW, float32, `.item()` after every step.

    Every initial weight is off by a part of itself of at most `nudge`, drawn from `seed`.
    """
    data = Pictures(task)
    model = build_model(task.config, CPU).to(memory_format=torch.contiguous_format)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1 + nudge * (2 * torch.rand(parameter.shape, generator=generator) - 1)
    optimizer = adam(model, task.config)

    def run(round_: int) -> Round:
        losses, accuracies, start = [], [], 0.0
        for x, y in loader(data, task, round_, workers):
            logits = model(x)
            loss = cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            accuracies.append((logits.argmax(1) == y).float().mean().item())
            start = start or time.perf_counter()
        return Round(start, time.perf_counter(), losses)

    return run


def plain(task: Task, workers: int, compiled: bool = False, bf16: bool = False) -> Loop:
    """As a competent user writes it: bytes from the loader, channels_last, fused Adam, no waiting."""
    data = Bytes(task)
    model = build_model(task.config, CPU)
    forward = torch.compile(model, dynamic=False) if compiled else model
    optimizer = adam(model, task.config, fused=True)

    def run(round_: int) -> Round:
        losses, start = [], 0.0
        for images, y in loader(data, task, round_, workers):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                logits = forward(normalised(images))
            loss = cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            start = start or time.perf_counter()
        return Round(start, time.perf_counter(), torch.stack(losses).tolist())

    return run


def lightning(task: Task, workers: int) -> Loop:
    """The plain loop's parts under Lightning's Trainer, with everything off that can be."""
    import pytorch_lightning as pl

    # It advises a logger, a progress bar, more loader workers; those are what is left out or given.
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    for name in ("utilities.rank_zero", "trainer.setup", "accelerators.cuda"):
        logging.getLogger(f"pytorch_lightning.{name}").setLevel(logging.ERROR)

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = build_model(task.config, CPU)
            self.optimizer = adam(self.model, task.config, fused=True)
            self.losses: list[Tensor] = []
            self.start = 0.0

        def configure_optimizers(self) -> torch.optim.Adam:
            return self.optimizer

        def training_step(self, batch: tuple[Tensor, Tensor], place: int) -> Tensor:
            if place == 1:
                self.start = time.perf_counter()
            loss = cross_entropy(self.model(normalised(batch[0])), batch[1])
            self.losses.append(loss.detach())
            return loss

    data, module = Bytes(task), Module()

    def run(round_: int) -> Round:
        module.losses.clear()
        trainer = pl.Trainer(
            max_epochs=1, accelerator="cpu", logger=False, barebones=True, use_distributed_sampler=False
        )
        trainer.fit(module, loader(data, task, round_, workers))
        return Round(module.start, time.perf_counter(), torch.stack(module.losses).tolist())

    return run


def gradscape(task: Task, precision: str = "fp32") -> Loop:
    """The step that `gradscape train` and `reproduce` take, gradient flow recorded."""
    images, labels, draw = task.images()
    pool = DeviceImages.make(images, labels, 4, CPU)
    step = TrainStep(TrainState(task.config, CPU), pool, MEAN, STD, Arithmetic(precision))
    step.begin(draw, task.config.optim.lr)

    def run(round_: int) -> Round:
        sums, start = [step.tally.loss.clone()], 0.0
        for _ in range(task.steps):
            step(task.config.batch_size)
            sums.append(step.tally.loss.clone())
            start = start or time.perf_counter()
        end = time.perf_counter()
        return Round(start, end, (torch.stack(sums).diff() / task.config.batch_size).tolist())

    return run


def prepared(threads: int) -> None:
    """What gradscape does to a process; the other loops' processes are left as torch makes them."""
    prepare_process(threads)


def product(precision: str) -> Callable[[], float]:
    """FLOP/s of a product of two 2048×2048 matrices: the faster of `mm` and of a 1×1 convolution.

    They go to different libraries, of which either may be the slower on a given processor.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    size = 2_048
    a, b = torch.rand(size, size).to(dtype), torch.rand(size, size).to(dtype)
    image = a.view(1, 32, size // 32, size).permute(0, 3, 1, 2)  # channels_last
    kernel = b.view(size, size, 1, 1)

    def measure() -> float:
        seconds = []
        with torch.inference_mode():
            for act in (lambda: a @ b, lambda: torch.conv2d(image, kernel)):
                act()
                for _ in range(4):
                    start = time.perf_counter()
                    act()
                    seconds.append(time.perf_counter() - start)
        return 2 * size**3 / min(seconds)

    return measure
