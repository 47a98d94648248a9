"""How much the gradient differs from one mini-batch to the next: noise scale, GSNR, confusion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gradscape._machine import memory_free
from gradscape._text import counted
from gradscape.config.arguments import typed
from gradscape.errors import ConfigError
from gradscape.measure.core.batch import Batch, Loss
from gradscape.measure.core.objective import Objective, Statistics
from gradscape.measure.core.parameters import named, plain
from gradscape.records.encoding import Values
from gradscape.records.noise import NoiseRecord

KEPT = 0.5  # of the free memory: what gradients may take
BLOCK = 2**19  # numbers of them that are looked at at once, in float64: 4 MB stay in a processor's cache
ROUNDING = 8  # times a gradient's last digit: what is not told from a constant
FEW = 6  # batches from which a GSNR has a variance: it is of t², of K − 1 > 4 degrees of freedom


@typed()
def noise(model: nn.Module, loss: Loss | None, batches: Any, *, bn: Statistics = "batch") -> NoiseRecord:
    """Measure the noise of mini-batch gradients at a model's parameters, which are left as found.

    One forward and one backward pass for each batch; their gradients are kept, in the main memory. Dropout
    is off: the noise is that of which samples a batch has. Estimates of tr Σ and |G|² are unbiased for
    batches that are drawn independently, as by a loader that shuffles; of sorted data each has its own kind.

    Args:
        model: a module in any mode; parameters that are frozen take no part.
        loss: loss(output, y), loss(output), or loss(output, dict) in turn, or loss(model, batch): the mean
            over a batch's samples. None for a model whose output has a `loss`.
        batches: K ≥ 2 of B samples each: a list of (x, y), x or dicts, or a DataLoader, of which one pass is
            kept; 10 or more tell the scale well. Those of another size than the first are left out.
        bn: whether BatchNorm takes each batch's own statistics, as in training, or the running ones.

    Raises:
        ConfigError: fewer than two batches of one size, gradients that are not finite, that are all zero, or
            that take more memory than there is.

    Source: McCandlish et al. (2018), eq. 2.9 and A.1; Liu et al. (2020); Sankararaman et al. (2020).

    Example:
        >>> print(noise(model, nn.functional.cross_entropy, list(itertools.islice(loader, 20))))
    """
    objective = Objective(model, loss, batches, bn)
    chosen, notes = _of_one_size(objective.whole)
    kept = _gradients(objective, chosen)
    products, gsnr, constant = _statistics(kept, [p.numel() for p in objective.start])
    if not products.any():
        raise ConfigError(
            "every batch's gradient is 0: there is no noise to measure; gradscape.check says why"
        )
    if len(chosen) < FEW:
        notes.append(f"GSNR of {len(chosen)} batches is uncertain without bound: give {FEW} at least")
    kinds = {id(parameter): kind for _, kind, parameter in named(objective.model)}
    return NoiseRecord(
        batch_size=next(iter(chosen.values())).size,
        bn=bn,
        products=products,
        layers=tuple(plain(name) for name in objective.names),
        # By identity: a model may have names of its own for what it holds.
        kinds=tuple(kinds[id(parameter)] for parameter in objective.parameters.values()),
        sizes=tuple(p.numel() for p in objective.start),
        gsnr=gsnr,
        constant=constant,
        notes=(*objective.notes, *notes),
    )


def _of_one_size(batches: tuple[Batch, ...]) -> tuple[dict[int, Batch], list[str]]:
    """Those as large as the first, by their place from 1; and a note on the others: variance goes by 1/B.

    Raises:
        ConfigError: fewer than two.
    """
    size = batches[0].size
    chosen = {place: batch for place, batch in enumerate(batches, 1) if batch.size == size}
    left = [batch.size for batch in batches if batch.size != size]
    if len(chosen) < 2:
        given = f"of {len(batches)} only the first has {counted(size, 'sample')}" if left else "one is given"
        raise ConfigError(
            f"batches: {given}; noise is what differs between those of one size: "
            "give a list of 2 at least, better 10"
        )
    if not left:
        return chosen, []
    sizes = ", ".join(str(each) for each in sorted(set(left)))
    what = counted(len(left), "batch", "batches")
    return chosen, [f"{what} of {sizes} samples left out: the first has {size}"]


def _gradients(objective: Objective, batches: Mapping[int, Batch]) -> Tensor:
    """(K, n) in the main memory, in the parameters' precision.

    Raises:
        ConfigError: there is no room, or one is not finite.
    """
    kept = torch.empty(0, dtype=objective.vector(objective.start).dtype)
    _check_room(len(batches), objective.size, kept.element_size())
    kept = kept.new_empty(len(batches), objective.size)
    for row, (place, batch) in zip(kept, batches.items(), strict=True):
        row.copy_(objective.gradient_of(batch, objective.start)[1])
        if not bool(row.isfinite().all()):
            pieces = zip(objective.names, objective.pieces(row), strict=True)
            where = next(plain(name) for name, piece in pieces if not bool(piece.isfinite().all()))
            raise ConfigError(
                f"batches: the gradient of batch {place} is not finite, first that of {where}; "
                "gradscape.watch with activations tells where that begins"
            )
    return kept


def _check_room(count: int, size: int, width: int) -> None:
    """Whether so many gradients can be kept.

    Raises:
        ConfigError: they cannot.
    """
    room, each = KEPT * memory_free(), size * width
    if count * each <= room:
        return
    fit = int(room / each)
    cure = f"give {fit}, as itertools.islice(loader, {fit})" if fit > 1 else "freeze layers to leave them out"
    raise ConfigError(
        f"batches: the gradients of {count} batches take {count * each / 1e9:.3g} GB, half the free memory "
        f"is {room / 1e9:.3g}: {cure}"
    )


def _statistics(kept: Tensor, sizes: list[int]) -> tuple[Values, Values, tuple[int, ...]]:
    """(K, K) products; and of each tensor the mean GSNR, and how many elements do not vary."""
    count = len(kept)
    products = torch.zeros(count, count, dtype=torch.float64)
    gsnr, constant = [], []
    for columns, size in zip(torch.split(kept, sizes, dim=1), sizes, strict=True):
        found = []
        for part in torch.split(columns, max(1, BLOCK // count), dim=1):
            block = part.double()  # in float32 the squares of 1e-23 are 0
            products += block @ block.T
            ratios = _signal_to_noise(block, ROUNDING * torch.finfo(kept.dtype).eps)
            found.append((float(ratios.sum()), len(ratios)))
        total, varied = (sum(each) for each in zip(*found, strict=True))
        gsnr.append(total / varied if varied else np.nan)
        constant.append(size - int(varied))
    return products.numpy(), np.array(gsnr), tuple(constant)


def _signal_to_noise(block: Tensor, rounding: float) -> Tensor:
    """Squared mean over variance of each column (K,) that varies by more than rounding."""
    mean = block.mean(0)
    variance = (block - mean).square_().sum(0) / (len(block) - 1)  # .var(0) takes 20 times as long
    varied = variance > (rounding * mean).square()
    return mean[varied].square() / variance[varied]
