"""Search of a loss for spikes, and of gradients and updates for what moved first; no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradscape.records.encoding import Values
from gradscape.records.spikes import Spike

WINDOW = 21  # steps whose median a loss is held against, those before it
FEWEST = 2 * WINDOW  # steps without which noise is not known
AROUND = 50, 250  # steps before from which the noise is taken: it may grow or shrink with the loss
ENOUGH = 40  # values before a step without which those after it are taken too
FLOOR = 1.5  # times the usual loss, below which nothing is a spike however small the noise is
DEVIATIONS = 6.0  # of robust standard deviations, which normal noise never comes to
RARE = 1e-3  # share of trainings in which noise comes above the limit
EXPECTED = 1_000  # steps of a training, at least
TAIL = 0.8, 0.95, 0.99  # quantiles from which the noise's tail is continued,
MANY = 300  # and number of values from which the last of them is known


@dataclass(frozen=True)
class Noise:
    """Noise of a logarithm about its median.

    Attributes:
        deviation: Robust standard deviation, 1.4826 times the median deviation.
        limit: Height above which a value is not noise.
    """

    deviation: float
    limit: float

    @classmethod
    def of(cls, residuals: Values, odds: float) -> Noise:
        """Return the noise of a sample.

        The limit is six deviations, or more where the tail is heavier than a normal one's: it is continued
        as an exponential through its 80 and 95 % quantiles, and through its 95 and 99 % quantiles (peaks over
        a threshold: Pickands 1975; Coles 2001, §4). In the logarithm an exponential tail is a power law of
        the loss itself. A few spikes move no quantile.

        Args:
            residuals: Values less their median, finite.
            odds: Number of values of which one is above the limit by chance.
        """
        deviation = 1.4826 * float(np.median(np.abs(residuals - np.median(residuals))))
        middle, high, top = (float(each) for each in np.quantile(residuals, TAIL))
        limit = max(DEVIATIONS * deviation, _continued(middle, high, TAIL[:2], odds))
        if len(residuals) >= MANY:
            limit = max(limit, _continued(high, top, TAIL[1:], odds))
        return cls(deviation, limit)


def _continued(lower: float, upper: float, levels: tuple[float, ...], odds: float) -> float:
    """Return the value that an exponential tail through two quantiles exceeds once in so many draws."""
    below, above = (1 - level for level in levels)
    return lower + (upper - lower) / math.log(below / above) * math.log(odds * below)


def spikes_of(
    steps: NDArray[np.int64], values: Values, small: Sequence[tuple[int, float]] = ()
) -> tuple[Spike, ...]:
    """Return the spikes of a loss: values above the median of the 21 before by more than noise explains.

    What noise explains is told by the scale and the tail of the loss's own logarithm about its running
    median, in the 50 and in the 250 steps before, by whichever is more; see `Noise`. The limit is put
    where an exponential tail has a value in one of 1,000 trainings; of heavier tails it has more. A loss
    that is not finite is a spike of infinite height. A loss that stays up is one without `back`: it may
    be a spike yet, or another level. Early steps, of which there are fewer than 21 before, are not
    judged, nor losses that are not above 0. The mean over a share of the usual samples, such as those of an
    epoch's last batch, has the noise of that share: more by its root.

    Args:
        steps: (T,) Steps, increasing.
        values: (T,) Losses.
        small: Steps with small batches, and their share of the usual size; see `LossHistory`.

    Returns:
        Spikes, oldest first, without batch, moves and window.
    """
    finite = np.isfinite(values)
    if len(values) < FEWEST or not finite.any() or not (values[finite] > 0).all():
        return ()
    logs = np.where(finite, np.log(np.where(finite, values, 1.0)), math.inf)
    medians = np.median(np.lib.stride_tricks.sliding_window_view(logs, WINDOW), axis=1)
    residuals = np.full(len(logs), math.nan)
    with np.errstate(invalid="ignore"):
        residuals[WINDOW // 2 : -(WINDOW // 2)] = logs[WINDOW // 2 : -(WINDOW // 2)] - medians
    residuals[~np.isfinite(residuals)] = math.nan
    usual = np.concatenate([np.full(WINDOW, math.inf), medians[:-1]])
    shares, found = dict(small), list[Spike]()
    start = 0
    for place in np.flatnonzero(logs > usual + math.log(FLOOR)).tolist():
        if place < start:
            continue
        noise = _noise_at(place, residuals, max(len(values), EXPECTED) / RARE)
        if noise is not None and (share := shares.get(int(steps[place]))):
            noise = Noise(noise.deviation / math.sqrt(share), noise.limit / math.sqrt(share))
        if noise is not None and logs[place] - usual[place] > noise.limit:
            spike, end = _spike_at(place, steps, logs, float(usual[place]), noise)
            found.append(spike)
            start = end if spike.back is not None else place + WINDOW
            residuals[place:start] = math.nan
    return tuple(found)


def _noise_at(place: int, residuals: Values, odds: float) -> Noise | None:
    """Return the noise before a place, and where little is before also after it; None of few values.

    After a long spike the loss is restless until it is back: that is no noise that the spike came out of.
    """
    found: list[Noise] = []
    for around in AROUND:
        near = residuals[max(0, place - around) : place]
        near = near[~np.isnan(near)]
        if len(near) < min(around, ENOUGH):  # without what may be a spike of up to ten steps
            near = np.concatenate([near, residuals[place + WINDOW // 2 : place + around]])
            near = near[~np.isnan(near)]
        if len(near) >= WINDOW:
            found.append(Noise.of(near, odds))
    return max(found, key=lambda each: each.limit) if found else None


def _spike_at(
    place: int, steps: NDArray[np.int64], logs: Values, usual: float, noise: Noise
) -> tuple[Spike, int]:
    """Return the spike that begins at a place, and the place at which the loss is back, or ends."""
    low = logs[place:] - usual <= max(DEVIATIONS / 2 * noise.deviation, noise.limit / 2)
    settled = np.flatnonzero(low & np.append(low[1:], True))  # two steps in a row, or the last
    end = place + int(settled[0]) if len(settled) else len(logs)
    peak = place + int(np.argmax(logs[place:end]))
    height = float(logs[peak] - usual)
    spike = Spike(
        first=int(steps[place]),
        peak=int(steps[peak]),
        usual=math.exp(usual),
        value=math.exp(logs[peak]) if math.isfinite(logs[peak]) else math.inf,
        factor=math.exp(height) if math.isfinite(height) else math.inf,
        deviations=height / noise.deviation if noise.deviation > 0 else math.inf,
        back=int(steps[end] - steps[place]) if len(settled) else None,
    )
    return spike, end
