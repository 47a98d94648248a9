"""Train networks of several widths for a few steps, and compare the sizes of their activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from gradscape._text import count_noun, join_names
from gradscape.config.arguments import typed
from gradscape.config.fields import to_python_number
from gradscape.errors import ConfigError, brief
from gradscape.measure.coordinates.layer_sizes import LayerSizes, Reading
from gradscape.measure.core.batch import Batch, Loss, unwrapped
from gradscape.measure.core.batches import fixed_batches
from gradscape.measure.core.copied_optimizer import OPTIMIZERS, MakeOptimizer, SteppersOf, steppers_of
from gradscape.measure.core.copied_training import backward, require_trainable
from gradscape.measure.core.layer_trace import unwatched
from gradscape.measure.core.preserve import leaves_loss, random_state, seed_generators
from gradscape.measure.signal.noise_batch import noise_batch
from gradscape.measure.signal.signal import call_factory
from gradscape.records.coordinates import CoordinateCheck
from gradscape.records.encoding import Values

FEWEST_WIDTHS = 3  # two fit any line
FEWEST_SEEDS = 2  # one has no interval
MOST_WIDTH = 1_000_000
MakeModel = Callable[[int], nn.Module]


@typed(seeds=1_000, steps=1_000)
@leaves_loss
def coordinate_check(
    make_model: MakeModel,
    widths: Sequence[int],
    batches: Any,
    loss: Loss | None = None,
    optimizer: MakeOptimizer = torch.optim.Adam,
    *,
    steps: int = 3,
    seeds: int = 5,
) -> CoordinateCheck:
    """Check whether every layer's activations, and their changes by training, keep their size with width.

    Networks of every width and seed are made and trained for a few steps. After each, the first batch passes
    through: of every layer the mean |x| of its output is taken, of the change since before training, and of
    the part of that change which is due to the layer's own parameters. Each goes as widthᵃ; the exponents'
    intervals over seeds say which layers are flat, as all are in muP. This takes a training step, three
    passes and a copy of the parameters per width, seed and step. Random numbers are left as found.

    Take a learning rate that is large for your network: one that is too small hides what grows behind what
    was there before (`.changes` and `.effective` do not suffer from it).

    Args:
        make_model: Function from a width to a network, called after `torch.manual_seed(0)`, 1, …; all else,
            such as depth and the sizes of input and output, stays the same.
        widths: Three widths or more, in increasing order; far apart, as 64, 128, 256, 512.
        batches: One batch, (x, y), x or a dict of the model's arguments, or several: a list, or a DataLoader
            for one pass. Steps are made on them in turn; sizes are those of the first.
        loss: loss(output, y), loss(output), or loss(output, dict) in turn, or loss(model, batch), which calls
            the model itself; None for a model whose output has a `loss`.
        optimizer: Function from parameters to the optimizer that is to train them, as a class is; or from the
            model, if its first parameter is named `model`, for rates by layer.
        steps: Number of training steps.
        seeds: Number of seeds of every width, two or more.

    Returns:
        Sizes, exponents and verdicts; `.verdict` is `flat` where all is as it should be.

    Raises:
        ConfigError: Widths, steps or seeds are out of range, the factory fails, ignores the width or makes
            other layers at another one, a batch does not fit, or the optimizer or the loss fails.

    Source: Yang et al. (2022), Tensor Programs V, §D.1; the part of a layer's own: Haas et al. (2025), On the
        Surprising Effectiveness of Large Learning Rates under Standard Width Scaling.

    Example:
        >>> def mlp(width):
        ...     hidden = nn.Linear(8, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        ...     return nn.Sequential(*hidden, nn.Linear(width, 2))
        >>> print(gs.coordinate_check(mlp, [64, 128, 256], batch, loss, steps=1).first)
        2
    """
    known = _checked(make_model, widths, steps, seeds)
    fixed, notes = fixed_batches(batches, steps)
    steppers_for = steppers_of(optimizer, None)
    _require_alike(make_model, known)
    name, samples = _described(make_model, known[0], fixed, loss, steppers_for)
    train = partial(_trained, make_model, fixed, loss, steppers_for, steps)
    runs = [[train(width, seed) for width in known] for seed in range(seeds)]
    layers, left_out = _common([reading for row in runs for run in row for reading in run])
    first = runs[0][0][0]
    arrays = [_array(runs, layers, steps, which) for which in range(3)]
    return CoordinateCheck(
        widths=tuple(known),
        layers=tuple(layers),
        kinds=tuple(first.kinds[layer] for layer in layers),
        output=first.last if first.last in layers else "",
        readout=first.readout if first.readout in layers else "",
        sizes=arrays[0],
        changes=arrays[1],
        effective=arrays[2],
        losses=np.array([[_padded([r.loss for r in run], steps) for run in row] for row in runs]),
        optimizer=name,
        batches=min(len(fixed), steps),
        samples=samples,
        notes=(*notes, *left_out),
    )


def coordinate_check_on_noise(
    make_model: MakeModel,
    widths: Sequence[int],
    shape: Sequence[int],
    *,
    optimizer: str | MakeOptimizer,
    lr: float | None = None,
    **options: Any,
) -> CoordinateCheck:
    """Call `coordinate_check` for a classifier, on standard normal noise with labels drawn at random.

    Args:
        make_model: Function from a width to a module from samples (N, …) to (N, classes).
        widths: Widths.
        shape: Shape of the batch, (N, …).
        optimizer: Key of `OPTIMIZERS`, or a function as of `coordinate_check`.
        lr: Learning rate; None for the optimizer's own.
        options: Further arguments of `coordinate_check`.

    Raises:
        ConfigError: As `coordinate_check`, and a module with another output.
    """
    known = _checked(make_model, widths, 1, FEWEST_SEEDS)
    batch = noise_batch(
        lambda: call_factory(make_model, known[0]), shape, "gradscape.coordinate_check with a loss"
    )
    make = OPTIMIZERS[optimizer] if isinstance(optimizer, str) else optimizer
    named = make if lr is None else partial(make, lr=lr)
    return coordinate_check(make_model, known, batch, nn.functional.cross_entropy, named, **options)


def _checked(make_model: Any, widths: Sequence[int], steps: int, seeds: int) -> list[int]:
    """Return the widths as Python's numbers.

    Raises:
        ConfigError: An argument is out of range.
    """
    if isinstance(make_model, nn.Module):
        raise ConfigError(
            f"make_model: expected a function from a width to a network; got the module "
            f"{type(make_model).__name__}; give one such as lambda width: {type(make_model).__name__}(width)"
        )
    found = [to_python_number(width) for width in widths]
    whole = all(isinstance(w, int) and not isinstance(w, bool) and 1 <= w <= MOST_WIDTH for w in found)
    if not whole or len(found) < FEWEST_WIDTHS or sorted(set(found)) != found:  # type: ignore[type-var]
        raise ConfigError(
            f"widths: expected {FEWEST_WIDTHS} or more increasing whole numbers such as [64, 128, 256]; "
            f"got {brief(list(widths))}"
        )
    if steps < 1:
        raise ConfigError(f"steps: expected 1 or more, such as 3; got {steps}")
    if seeds < FEWEST_SEEDS:
        raise ConfigError(f"seeds: expected {FEWEST_SEEDS} or more, since one has no interval; got {seeds}")
    return found  # type: ignore[return-value]


def _require_alike(make_model: MakeModel, widths: Sequence[int]) -> None:
    """Refuse a factory that ignores the width, or makes other layers at another one."""
    seen: dict[int, dict[str, torch.Size]] = {}
    for width in widths:
        with random_state(), unwatched():
            seed_generators(0)
            model = unwrapped(call_factory(make_model, width))
            require_trainable(model)
        seen[width] = {name: parameter.shape for name, parameter in model.named_parameters()}
    for one, other in pairwise(widths):
        if differ := sorted(seen[one].keys() ^ seen[other].keys()):
            raise ConfigError(
                f"make_model: expected the same layers at every width; {join_names(differ)} "
                f"{'is' if len(differ) == 1 else 'are'} at only one of the widths {one} and {other}"
            )
        if seen[one] == seen[other]:
            raise ConfigError(
                f"make_model: expected a wider network for {other} than for {one}; all parameters have the "
                "same shapes: make their sizes follow the width"
            )


def _described(
    make_model: MakeModel, width: int, batches: Sequence[Any], loss: Loss | None, steppers_for: SteppersOf
) -> tuple[str, int]:
    """Return the optimizer's name, and the number of samples in the first batch."""
    with random_state(), unwatched():
        seed_generators(0)
        model = unwrapped(call_factory(make_model, width))
        return steppers_for(model).name, Batch.of(batches[0], model, loss).size


def _trained(
    make_model: MakeModel,
    batches: Sequence[Any],
    loss: Loss | None,
    steppers_for: SteppersOf,
    steps: int,
    width: int,
    seed: int,
) -> list[Reading]:
    """Return the readings of one network before training and after every step, until it diverges."""
    with random_state(), unwatched(), torch.enable_grad():
        seed_generators(seed)
        model = unwrapped(call_factory(make_model, width))
        given = [Batch.of(batch, model, loss) for batch in batches]
        steppers = steppers_for(model)
        reader = LayerSizes(model, given[0], loss, seed)
        readings = [reader.read()]
        for step in range(steps):
            if not math.isfinite(readings[-1].loss):
                break
            model.zero_grad()
            backward(model, given[step % len(given)], loss, None)
            steppers.step()
            readings.append(reader.read())
        return readings


def _common(readings: Sequence[Reading]) -> tuple[list[str], list[str]]:
    """Return the layers that every pass called, the network's output last, and a note on others."""
    first = readings[0]
    kept = [name for name in first.sizes if all(name in each.sizes for each in readings)]
    others = {name for each in readings for name in each.sizes} - set(kept)
    if not kept:
        raise ConfigError("make_model: no layer with parameters is called at every width and seed")
    if not others:
        return kept, []
    left = f"{count_noun(len(others), 'layer')} left out, not called in every pass"
    return kept, [f"{left}: {join_names(sorted(others))}"]


def _array(runs: Sequence[Sequence[list[Reading]]], layers: Sequence[str], steps: int, which: int) -> Values:
    """Return sizes (S, W, T + 1, L) of one of the three, NaN after a divergence."""
    found = np.full((len(runs), len(runs[0]), steps + 1, len(layers)), math.nan)
    for seed, row in enumerate(runs):
        for place, run in enumerate(row):
            for step, reading in enumerate(run):
                found[seed, place, step] = [reading.sizes[layer][which] for layer in layers]
    return found


def _padded(values: Sequence[float], steps: int) -> list[float]:
    """Return a value for every step, NaN after a divergence."""
    return [*values, *[math.nan] * (steps + 1 - len(values))]
