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
from torch.utils.data import DataLoader, Dataset

from gradscape.config.run import RunConfig
from gradscape.data.device_batches import DeviceImages, EpochDraw, epoch_draw
from gradscape.train.cuda_graph import advance
from gradscape.train.fusion import fusing_pays
from gradscape.train.model import build_model
from gradscape.train.precision import Arithmetic
from gradscape.train.process import compute_on, prepare_process
from gradscape.train.state import TrainState
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
        device: where it is trained.
    """

    config: RunConfig
    steps: int
    rounds: int
    device: torch.device = CPU

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


def clock(device: torch.device) -> float:
    """Seconds, when the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


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
    """One image at a time as bytes, cropped and mirrored by slicing; the batch is normalized whole."""

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


def normalized(images: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) as float32 (B, 3, H, W) in channels_last."""
    mean, std = (torch.tensor(values, device=images.device) for values in (MEAN, STD))
    return images.float().div_(255).sub_(mean).div_(std).permute(0, 3, 1, 2)


def computed_in(precision: str, device: torch.device) -> str:
    """TF32 for fp32 on a GPU: PyTorch's choice for convolutions unless it is told otherwise."""
    return "tf32" if device.type == "cuda" and precision == "fp32" else precision


def loader(data: Dataset[Any], task: Task, workers: int) -> Callable[[int], DataLoader[Any]]:
    """A round → its mini-batches in their order; workers are started once: a round is far below an epoch."""
    images, places = task.steps * task.config.batch_size, list[int]()
    batches = DataLoader(
        data, task.config.batch_size, sampler=places, num_workers=workers,
        pin_memory=task.device.type == "cuda", persistent_workers=workers > 0,
    )  # fmt: skip

    def of(round_: int) -> DataLoader[Any]:
        places[:] = range(round_ * images, (round_ + 1) * images)
        return batches

    return of


def adam(model: nn.Module, config: RunConfig, **options: Any) -> torch.optim.Adam:
    optim = config.optim
    return torch.optim.Adam(
        model.parameters(), lr=optim.lr, weight_decay=optim.weight_decay, eps=optim.eps, **options
    )


def course(task: Task, workers: int, nudge: float = 0.0, seed: int = 0) -> Loop:
    """As in a course's code: PIL transforms, NCHW, float32, `.item()` after every step.

    Every initial weight is off by a part of itself of at most `nudge`, drawn from `seed`.
    """
    batches = loader(Pictures(task), task, workers)
    model = build_model(task.config, task.device).to(memory_format=torch.contiguous_format)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            drawn = 2 * torch.rand(parameter.shape, generator=generator) - 1
            parameter *= 1 + nudge * drawn.to(task.device)
    optimizer = adam(model, task.config)

    def run(round_: int) -> Round:
        losses, accuracies, start = [], [], 0.0
        for x, y in batches(round_):
            x, y = x.to(task.device), y.to(task.device)
            logits = model(x)
            loss = cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            accuracies.append((logits.argmax(1) == y).float().mean().item())
            start = start or clock(task.device)
        return Round(start, clock(task.device), losses)

    return run


def plain(task: Task, workers: int, compiled: bool = False, bf16: bool = False) -> Loop:
    """As a competent user writes it: bytes from the loader, channels_last, fused Adam, no waiting."""
    batches = loader(Bytes(task), task, workers)
    model = build_model(task.config, task.device)
    forward = torch.compile(model, dynamic=False) if compiled else model
    optimizer = adam(model, task.config, fused=True)

    def run(round_: int) -> Round:
        losses, start = [], 0.0
        for images, y in batches(round_):
            images, y = (t.to(task.device, non_blocking=True) for t in (images, y))
            with torch.autocast(task.device.type, dtype=torch.bfloat16, enabled=bf16):
                logits = forward(normalized(images))
            loss = cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            start = start or clock(task.device)
        return Round(start, clock(task.device), torch.stack(losses).tolist())

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
            self.model = build_model(task.config, task.device)
            self.optimizer = adam(self.model, task.config, fused=True)
            self.losses: list[Tensor] = []
            self.start = 0.0

        def configure_optimizers(self) -> torch.optim.Adam:
            return self.optimizer

        def training_step(self, batch: tuple[Tensor, Tensor], place: int) -> Tensor:
            if place == 1:
                self.start = clock(task.device)
            loss = cross_entropy(self.model(normalized(batch[0])), batch[1])
            self.losses.append(loss.detach())
            return loss

    batches, module = loader(Bytes(task), task, workers), Module()

    def run(round_: int) -> Round:
        module.losses.clear()
        trainer = pl.Trainer(
            max_epochs=1, accelerator=task.device.type, devices=1, logger=False, barebones=True,
            use_distributed_sampler=False,
        )  # fmt: skip
        trainer.fit(module, batches(round_))
        return Round(module.start, clock(task.device), torch.stack(module.losses).tolist())

    return run


def gradscape(task: Task, precision: str) -> Loop:
    """The step that `gradscape train` and `reproduce` take, gradient flow recorded."""
    precision = computed_in(precision, task.device)
    images, labels, draw = task.images()
    pool = DeviceImages.make(images, labels, 4, task.device)
    how = Arithmetic(precision, "", *fusing_pays(task.device, precision))
    step = TrainStep(TrainState(task.config, task.device), pool, MEAN, STD, how)
    step.begin(draw, task.config.optim.lr)
    take = advance(step)

    def run(round_: int) -> Round:
        sums, start = [step.tally.loss.clone()], 0.0
        with compute_on(task.device, precision):
            for _ in range(task.steps):
                take(task.config.batch_size)
                sums.append(step.tally.loss.clone())
                start = start or clock(task.device)
            end = clock(task.device)
        return Round(start, end, (torch.stack(sums).diff() / task.config.batch_size).tolist())

    return run


def prepared(threads: int) -> None:
    """What gradscape does to a process; the other loops' processes are left as torch makes them."""
    prepare_process(threads)


def product(precision: str, device: torch.device) -> Callable[[], float]:
    """FLOP/s of a product of two square matrices: the faster of `mm` and of a 1×1 convolution.

    They go to different libraries, of which either may be the slower on a given processor.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    size = 8_192 if device.type == "cuda" else 2_048
    a, b = (torch.rand(size, size).to(device, dtype) for _ in range(2))
    image = a.view(1, 32, size // 32, size).permute(0, 3, 1, 2)  # channels_last
    kernel = b.view(size, size, 1, 1)

    def measure() -> float:
        seconds = []
        with torch.inference_mode(), compute_on(device, computed_in(precision, device)):
            for act in (lambda: a @ b, lambda: torch.conv2d(image, kernel)):
                act()
                for _ in range(4):
                    start = clock(device)
                    act()
                    seconds.append(clock(device) - start)
        return 2 * size**3 / min(seconds)

    return measure
