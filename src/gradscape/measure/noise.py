"""Differences of the gradient between mini-batches: noise scale, GSNR, confusion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gradscape._machine import memory_free
from gradscape._text import count_noun
from gradscape.config.arguments import typed
from gradscape.errors import ConfigError
from gradscape.measure.core.batch import Batch, Loss
from gradscape.measure.core.objective import NormStatistics, Objective
from gradscape.measure.core.parameters import named, strip_wrappers
from gradscape.measure.core.preserve import leaves_loss
from gradscape.records.encoding import Values
from gradscape.records.noise import NoiseRecord
from gradscape.records.norm_statistics import NONE

KEPT = 0.5  # of the free memory, for gradients
BLOCK = 2**19  # numbers per block, in float64: 4 MB stay in a processor's cache
ROUNDING = 8  # times a gradient's last digit: smaller variation counts as constant
FEW = 6  # batches from which a GSNR has a variance: it follows t² with K − 1 > 4 degrees of freedom


@typed()
@leaves_loss
def noise(model: nn.Module, loss: Loss | None, batches: Any, *, bn: NormStatistics = "batch") -> NoiseRecord:
    """Measure the noise of mini-batch gradients at a model's parameters, which are not changed.

    This takes one forward and one backward pass per batch, and main memory for all gradients. Dropout is off:
    the noise comes from the choice of samples alone. Estimates of tr Σ and |G|² are unbiased for
    independently drawn batches, as from a shuffling loader, but not for sorted data.

    Args:
        model: Module in any mode; frozen parameters are left out.
        loss: Function loss(output, y), loss(output) or loss(output, dict), tried in this order, or
            loss(model, batch): the mean over a batch's samples. None for a model whose output has a `loss`.
        batches: K ≥ 2 batches of B samples each: a list of (x, y), x or dicts, or a DataLoader for one pass;
            10 or more estimate the scale well. Batches of another size than the first are left out.
        bn: Statistics of BatchNorm: `batch` of each batch as in training, `running` as in evaluation.

    Raises:
        ConfigError: If there are fewer than two batches of one size, or their gradients are not finite, all
            zero, or too large for the memory.

    Source: McCandlish et al. (2018), eq. 2.9 and A.1; Liu et al. (2020); Sankararaman et al. (2020).

    Example:
        >>> print(gs.noise(model, loss, batches))
    """
    objective = Objective(model, loss, batches, bn)
    chosen, notes = _of_one_size(objective.whole)
    gradients = _gradients(objective, chosen)
    products, gsnr, constant = _statistics(gradients, [p.numel() for p in objective.start])
    if not products.any():
        raise ConfigError(
            "every batch's gradient is 0: there is no noise to measure; gradscape.check says why"
        )
    if len(chosen) < FEW:
        notes.append(f"the GSNR of {len(chosen)} batches has an unbounded error: give {FEW} at least")
    kinds = {id(parameter): kind for _, kind, parameter in named(objective.model)}
    return NoiseRecord(
        batch_size=next(iter(chosen.values())).size,
        bn=bn if objective.has_batchnorm else NONE,
        products=products,
        layers=tuple(strip_wrappers(name) for name in objective.names),
        # By identity: a model may have names of its own for what it holds.
        kinds=tuple(kinds[id(parameter)] for parameter in objective.parameters.values()),
        sizes=tuple(p.numel() for p in objective.start),
        gsnr=gsnr,
        constant=constant,
        notes=(*objective.notes, *notes),
    )


def _of_one_size(batches: tuple[Batch, ...]) -> tuple[dict[int, Batch], list[str]]:
    """Select the batches as large as the first, by number from 1, with a note on the others.

    Variances of batches of different sizes differ, as 1/B.

    Raises:
        ConfigError: If there are fewer than two.
    """
    size = batches[0].size
    chosen = {number: batch for number, batch in enumerate(batches, 1) if batch.size == size}
    others = [batch.size for batch in batches if batch.size != size]
    if len(chosen) < 2:
        got = f"{len(batches)}, only the first of {count_noun(size, 'sample')}" if others else "1"
        raise ConfigError(
            f"batches: expected at least 2 of one size, better 10, since noise is their difference; got {got}"
        )
    if not others:
        return chosen, []
    sizes = ", ".join(map(str, sorted(set(others))))
    count = count_noun(len(others), "batch", "batches")
    return chosen, [f"{count} of {sizes} samples left out: the first has {size}"]


def _gradients(objective: Objective, batches: Mapping[int, Batch]) -> Tensor:
    """Return the gradients (K, n) in main memory, in the parameters' precision.

    Raises:
        ConfigError: If they do not fit, or one is not finite.
    """
    empty = torch.empty(0, dtype=objective.vector(objective.start).dtype, device="cpu")
    _check_room(len(batches), objective.size, empty.element_size())
    gradients = empty.new_empty(len(batches), objective.size)
    for row, (number, batch) in zip(gradients, batches.items(), strict=True):
        row.copy_(objective.gradient_of(batch, objective.start)[1])
        if not bool(row.isfinite().all()):
            pieces = zip(objective.names, objective.pieces(row), strict=True)
            where = next(strip_wrappers(name) for name, piece in pieces if not bool(piece.isfinite().all()))
            raise ConfigError(
                f"batches: the gradient of batch {number} is not finite, first that of {where}; "
                "gradscape.watch with activations shows where this begins"
            )
    return gradients


def _check_room(count: int, size: int, width: int) -> None:
    """Check that the gradients fit in memory.

    Raises:
        ConfigError: If they do not.
    """
    room, one = KEPT * memory_free(), size * width
    if count * one <= room:
        return
    fit = int(room / one)
    cure = f"give {fit}, as itertools.islice(loader, {fit})" if fit > 1 else "freeze layers to leave them out"
    raise ConfigError(
        f"batches: the gradients of {count} batches take {count * one / 1e9:.3g} GB, half the free memory "
        f"is {room / 1e9:.3g}: {cure}"
    )


def _statistics(gradients: Tensor, sizes: list[int]) -> tuple[Values, Values, tuple[int, ...]]:
    """Return the inner products (K, K), and each tensor's mean GSNR and number of constant elements."""
    count = len(gradients)
    products = torch.zeros(count, count, dtype=torch.float64, device="cpu")
    gsnr, constant = [], []
    for columns, size in zip(torch.split(gradients, sizes, dim=1), sizes, strict=True):
        sums = []
        for part in torch.split(columns, max(1, BLOCK // count), dim=1):
            block = part.double()  # the square of 1e-23 is 0 in float32
            products += block @ block.T
            ratios = _signal_to_noise(block, ROUNDING * torch.finfo(gradients.dtype).eps)
            sums.append((float(ratios.sum()), len(ratios)))
        total, varied = (sum(column) for column in zip(*sums, strict=True))
        gsnr.append(total / varied if varied else np.nan)
        constant.append(size - int(varied))
    return products.numpy(), np.array(gsnr), tuple(constant)


def _signal_to_noise(block: Tensor, rounding: float) -> Tensor:
    """Return mean² / variance of each column (K,) that varies by more than rounding."""
    mean = block.mean(0)
    variance = (block - mean).square_().sum(0) / (len(block) - 1)  # .var(0) takes 20 times as long
    varied = variance > (rounding * mean).square()
    return mean[varied].square() / variance[varied]
