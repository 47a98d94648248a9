"""Silent errors of PyTorch trainings after TrainCheck (Jiang et al., OSDI 2025), without old versions."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from public_failures.case import Case, Training
from public_failures.plain import Batches, Split, accuracy, drawn, held_out, plain, r2
from public_failures.tasks import blobs, digits, pictures


def mnist_cnn() -> nn.Sequential:
    """The convolutional network of PyTorch's first MNIST example, for pictures of 8×8."""
    return nn.Sequential(
        nn.Conv2d(1, 10, 3),
        nn.ReLU(),
        nn.Conv2d(10, 20, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(80, 50),
        nn.ReLU(),
        nn.Linear(50, 10),
    )


def never_zeroed(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = mnist_cnn()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    data, batches = digits(), Batches(1_497, 64, seed)

    def step(i: int) -> Tensor:
        at = batches(i)
        if fixed:
            optimizer.zero_grad()
        loss = F.cross_entropy(model(data.x[at]), data.y[at])
        loss.backward()
        optimizer.step()
        return loss.detach()

    return Training(model, optimizer, step, held_out(model, data, accuracy))


def all_but_norms_frozen(fixed: bool, seed: int) -> Training:
    """Inverted bottlenecks, pictures of 20 classes."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.SiLU()]
    for _ in range(3):
        layers += [nn.Conv2d(16, 32, 1), nn.BatchNorm2d(32), nn.SiLU()]
        layers += [nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.BatchNorm2d(32), nn.SiLU()]
        layers += [nn.Conv2d(32, 16, 1), nn.BatchNorm2d(16)]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 20))
    if not fixed:
        for module in model:
            module.requires_grad_(isinstance(module, nn.BatchNorm2d))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    data = pictures(seed, classes=20, noise=0.5)
    return plain(model, optimizer, data, F.cross_entropy, accuracy, seed, size=40)


def equal_workers(fixed: bool, seed: int) -> Training:
    """Four workers that draw noisy pictures; each epoch is 128 of them."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    prototypes = np.random.default_rng(seed).standard_normal((10, 40))

    def sample(generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        y = generator.integers(0, 10, 8)
        x = prototypes[y] + 1.5 * generator.standard_normal((8, 40))
        return torch.tensor(x, dtype=torch.float32), torch.tensor(y)

    def batch(i: int) -> tuple[Tensor, Tensor]:
        epoch, place = divmod(i, 4)
        seeds = [[seed, place, worker, epoch] if fixed else [seed, place] for worker in range(4)]
        drawn_by = [sample(np.random.default_rng(of_worker)) for of_worker in seeds]
        return torch.cat([x for x, _ in drawn_by]), torch.cat([y for _, y in drawn_by])

    def step(i: int) -> Tensor:
        x, y = batch(i)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    new = [sample(np.random.default_rng([seed, 9, 9, part])) for part in range(60)]
    x, y = torch.cat([x for x, _ in new]), torch.cat([y for _, y in new])
    score = held_out(model, Split(x, y, x, y), accuracy)
    return Training(model, optimizer, step, score, batch(0), F.cross_entropy)


class CompiledAdam(torch.optim.Adam):
    """Adam whose step goes on with those parameters that had gradients at its first call."""

    captured: list[Tensor] | None = None

    def step(self, closure: Any = None) -> Any:
        every = [p for group in self.param_groups for p in group["params"]]
        if self.captured is None:
            self.captured = [p for p in every if p.grad is not None]
        kept = {p: p.grad for p in every}
        for p in every:
            if not any(p is other for other in self.captured):
                p.grad = None
        value = super().step(closure)
        for p, grad in kept.items():
            p.grad = grad
        return value


def compiled_before_gradients(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = mnist_cnn()
    optimizer = CompiledAdam(model.parameters(), lr=1e-3)
    if not fixed:
        optimizer.step()  # to warm the compiled step up, before there is a gradient
    return plain(model, optimizer, digits(), F.cross_entropy, accuracy, seed, size=64)


class Backbone(nn.Sequential):
    """Two stages, of which those to freeze are frozen when `train()` is called."""

    frozen = False

    def train(self, mode: bool = True) -> Backbone:
        super().train(mode)
        if self.frozen:
            self.requires_grad_(False)
        return self


def frozen_in_train_only(fixed: bool, seed: int) -> Training:
    """A backbone is trained on many samples, and a head on top of it on 60 of another task."""
    torch.manual_seed(seed)
    backbone = Backbone(nn.Linear(40, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
    generator = drawn(seed)
    mixing = torch.randn(4, 40, generator=generator)
    causes = torch.randn(2_000, 4, generator=generator)
    x = (causes @ mixing + 3.0 * torch.randn(2_000, 40, generator=generator)) / 3
    before = nn.Sequential(backbone, nn.Linear(32, 4))
    earlier = torch.optim.Adam(before.parameters(), lr=3e-3)
    first = plain(before, earlier, Split.of(x, causes, 1_000), F.mse_loss, r2, seed)
    for i in range(150):
        first.step(i)
    before.zero_grad()
    model = nn.Sequential(backbone, nn.Linear(32, 2))
    backbone.frozen = True
    if fixed:
        model.train()
    y = (causes[:, 0] + causes[:, 1] > 0).long()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    data = Split(x[:60], y[:60], x[1_000:], y[1_000:])
    return plain(model, optimizer, data, F.cross_entropy, accuracy, seed, size=20)


class Wrapped(nn.Module):
    """Holds its model's weights as copies of its own, as a sharded one does."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(model)

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)


def optimizer_before_wrap(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = mnist_cnn()
    wrapped = Wrapped(model)
    optimizer = torch.optim.AdamW((wrapped if fixed else model).parameters(), lr=1e-3)
    training = plain(wrapped, optimizer, digits(), F.cross_entropy, accuracy, seed, size=64)
    if fixed:
        return training
    train = training.step

    def step(i: int) -> Tensor | float:
        wrapped.zero_grad()  # the loop of the report does so by the model
        return train(i)

    training.step = step
    return training


def spectral_norm_in_eval(fixed: bool, seed: int) -> Training:
    """The norm's vectors are found by iterations in train mode; in eval they are those drawn at first."""
    torch.manual_seed(seed)
    layers = [nn.utils.spectral_norm(nn.Linear(a, b)) for a, b in ((40, 64), (64, 64), (64, 10))]
    model = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    model.train(fixed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return plain(model, optimizer, blobs(seed), F.cross_entropy, accuracy, seed)


class AdamOfContiguous(torch.optim.Adam):
    """Adam as it was on Apple's GPUs: a kernel wrote the result of a strided weight into a copy of it."""

    def step(self, closure: Any = None) -> Any:
        every = [p for group in self.param_groups for p in group["params"]]
        kept = {p: p.grad for p in every if not p.is_contiguous()}
        for p in kept:
            p.grad = None
        value = super().step(closure)
        for p, grad in kept.items():
            p.grad = grad
        return value


class SparseAutoencoder(nn.Module):
    """An autoencoder whose encoder begins as the transpose of its decoder."""

    def __init__(self, contiguous: bool) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(20, 40), nn.Linear(40, 20)
        transpose = self.decoder.weight.detach().clone().T
        self.encoder.weight = nn.Parameter(transpose.contiguous() if contiguous else transpose)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(torch.relu(self.encoder(x)))


def strided_weight(fixed: bool, seed: int) -> Training:
    torch.manual_seed(seed)
    model = SparseAutoencoder(contiguous=fixed)
    optimizer = AdamOfContiguous(model.parameters(), lr=1e-3)
    generator = drawn(seed)
    active = torch.randn(1_800, 40, generator=generator).relu()
    active *= torch.rand(active.shape, generator=generator) < 0.1
    x = active @ torch.randn(40, 20, generator=generator)
    return plain(model, optimizer, Split.of(x, x, 300), F.mse_loss, r2, seed)


CASES: tuple[Case, ...] = (
    Case(
        "traincheck/60335387",
        ("loop",),
        "zero_grad",
        "zero_grad is missing: every step takes the sum of all gradients there ever were.",
        "optimizer.zero_grad() before the backward pass.",
        250,
        never_zeroed,
        departs="Digits of 8×8.",
    ),
    Case(
        "traincheck/84911",
        ("untrained",),
        "frozen",
        "Every parameter is frozen but those of BatchNorm, the new classifier among them.",
        "Nothing is frozen.",
        150,
        all_but_norms_frozen,
        departs="Three inverted bottlenecks in place of EfficientNet-b0, which is pretrained.",
    ),
    Case(
        "traincheck/67180955",
        ("sampling",),
        "worker",
        "All workers draw from one NumPy seed, in every epoch: a batch is four times the same.",
        "A seed for each worker and epoch.",
        300,
        equal_workers,
        departs="Workers are seeds of one process; samples are drawn, not augmented.",
    ),
    Case(
        "traincheck/pytorch-115607",
        ("untrained", "loop"),
        "optimizer",
        "Adam's compiled step was traced when gradients were None, and updates nothing.",
        "The first step comes after a backward pass.",
        150,
        compiled_before_gradients,
        departs="The trace is simulated by a list of the parameters that had gradients.",
    ),
    Case(
        "traincheck/mmpretrain-702",
        ("mode", "untrained"),
        "frozen",
        "Stages that are to be frozen are so in train() only, which is not called: they are trained.",
        "train() is called.",
        200,
        frozen_in_train_only,
        departs="An MLP, trained beforehand on another task.",
    ),
    Case(
        "traincheck/accelerate-2665",
        ("untrained",),
        "optimizer",
        "The model is wrapped after the optimizer was made, which holds the old parameters.",
        "The optimizer is made afterwards.",
        150,
        optimizer_before_wrap,
        departs="The wrapper copies the weights, as sharding does.",
    ),
    Case(
        "traincheck/pytorch-51800",
        ("mode",),
        "eval",
        "Layers under spectral_norm are in eval mode from the first step: no norm is that of its weight.",
        "train() mode.",
        200,
        spectral_norm_in_eval,
    ),
    Case(
        "traincheck/mps-addcmul",
        ("untrained",),
        "encoder",
        "Adam does not update a weight that is a transpose in memory.",
        "The weight is contiguous.",
        400,
        strided_weight,
        departs="The faulty kernel is simulated by an optimizer that leaves strided weights out.",
    ),
)
