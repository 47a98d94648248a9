"""Smoothness of a loss along the next step of a training, as plain arrays; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradscape._codec import Record
from gradscape._text import count_noun
from gradscape.records.display import Displayable
from gradscape.records.encoding import Values
from gradscape.records.norm_statistics import describe_statistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, repr=False)
class Line(Record):
    """Loss and gradient at θ − ηd, at P rates η along a direction d (Santurkar et al. 2018, §3.1, Fig. 4).

    Arrays have a row for each of K losses. Values that are not finite stay as they are; minima and maxima are
    over the points where all are finite, NaN where there is none.

    Attributes:
        along: Name of d, in words.
        loss: (K,) L(θ), in the loss's own unit, as are the losses.
        losses: (K, P) L(θ − ηd).
        changes: (K, P) ‖∇L(θ − ηd) − ∇L(θ)‖₂, in units of the loss over those of the parameters.
        distances: (K, P) ‖ηd‖₂, in units of the parameters.
    """

    along: str
    loss: Values
    losses: Values
    changes: Values
    distances: Values

    @property
    def finite(self) -> NDArray[np.bool_]:
        """(K, P) where loss, gradient and distance all are."""
        return np.isfinite(self.losses) & np.isfinite(self.changes) & np.isfinite(self.distances)

    @property
    def loss_variation(self) -> Values:
        """(K, 2) smallest and largest L(θ − ηd) over η (Fig. 4a)."""
        return _ends(self.losses, self.finite)

    @property
    def predictiveness(self) -> Values:
        """(K, 2) smallest and largest change of the gradient over η (Fig. 4b): the less, the better."""
        return _ends(self.changes, self.finite)

    @property
    def beta(self) -> Values:
        """(K,) effective β, max_η ‖∇L(θ − ηd) − ∇L(θ)‖ / ‖ηd‖, over the distance moved (Fig. 4c)."""
        return self._steepest(self.changes)

    @property
    def lipschitz(self) -> Values:
        """(K,) Lipschitz estimate of the loss, max_η |L(θ − ηd) − L(θ)| / ‖ηd‖."""
        return self._steepest(np.abs(self.losses - self.loss[:, None]))

    def _steepest(self, values: Values) -> Values:
        """Return the largest (K,) per distance moved; NaN where nothing moves."""
        moved = self.finite & (self.distances > 0)
        return _ends(np.divide(values, self.distances, out=np.zeros_like(values), where=moved), moved)[:, 1]

    def derived(self) -> Mapping[str, Any]:
        """Return ranges over η, effective β and Lipschitz estimate."""
        return {
            name: getattr(self, name) for name in ("loss_variation", "predictiveness", "beta", "lipschitz")
        }

    def __str__(self) -> str:
        low, high = self.loss_variation.mean(axis=0)
        least, most = self.predictiveness.mean(axis=0)
        return (
            f"along {self.along}: loss {low:.4g} to {high:.4g}, "
            f"gradient changes by {least:.3g} to {most:.3g}, "
            f"effective β {self.beta.mean():.3g}, Lipschitz estimate {self.lipschitz.mean():.3g}"
        )


@dataclass(frozen=True, eq=False, repr=False)
class SmoothnessRecord(Displayable, Record):
    """Smoothness of a loss at a model's parameters θ, along its gradient and an optimizer's next step.

    Arrays have a row for each of K losses: one, the mean over the batches, or that of each batch.

    Attributes:
        lr: Learning rate.
        rates: (P,) η, evenly spaced multiples of it.
        gradient_norm: (K,) ‖∇L(θ)‖₂, in units of the loss over those of the parameters.
        weight_norm: ‖w‖₂ of all parameters that are measured.
        along_gradient: d = ∇L(θ).
        along_step: d = −Δθ / lr of the step Δθ that the optimizer would make; None without an optimizer.
        relative: Line along the gradient, every parameter and its change over the parameter's own |θ_i|: its
            losses are at θ − ρT²g / ‖Tg‖ with T = diag|θ|, its changes ‖T(∇L − g)‖₂ in the loss's unit,
            its distances ρ = ‖T⁻¹Δθ‖₂. Weights can be scaled by a before a norm, or by a in one layer and
            1/a in the next one of a ReLU network, without changing the loss: the gradient and β of them
            change, these numbers do not (Kwon et al. 2021, ASAM, §3; Dinh et al. 2017).
        parameters: Number of parameters that are measured.
        batches: Number of batches, B; K = 1 loss is their mean, or each has its own.
        samples: Number of samples in all batches.
        bn: Statistics that BatchNorm took, `batch` or `running`; `none` without BatchNorm.
        cost: Number of gradients that were taken, each of one of the K losses.
        notes: Remarks on how it was measured.
    """

    lr: float
    rates: Values
    gradient_norm: Values
    weight_norm: float
    along_gradient: Line
    along_step: Line | None
    relative: Line
    parameters: int
    batches: int
    samples: int
    bn: str
    cost: int
    notes: tuple[str, ...]

    @property
    def loss(self) -> Values:
        """(K,) L(θ)."""
        return self.along_gradient.loss

    @property
    def scale_free_beta(self) -> Values:
        """(K,) effective β of `relative`, in the loss's unit: the weights' scale does not change it."""
        return self.relative.beta

    @property
    def lines(self) -> tuple[Line, ...]:
        """Lines along the gradient and, with an optimizer, along its step."""
        return (self.along_gradient, *([] if self.along_step is None else [self.along_step]))

    def derived(self) -> Mapping[str, Any]:
        """Return the effective β that the weights' scale does not change."""
        return {"scale_free_beta": self.scale_free_beta}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the loss over η, its range in a band, and the gradient's change at the right; return the axes.

        Several losses are drawn by their mean.

        Args:
            ax: Axes to draw on; by default a new figure's.
        """
        import matplotlib.pyplot as plt
        from matplotlib.ticker import MaxNLocator

        axes = plt.subplots(layout="constrained")[1] if ax is None else ax
        right = axes.twinx()
        for number, line in enumerate(self.lines):
            color = f"C{number}"
            axes.plot(
                self.rates, line.losses.mean(axis=0), color=color, marker="o", label=f"along {line.along}"
            )
            axes.axhspan(*line.loss_variation.mean(axis=0), color=color, alpha=0.15, linewidth=0)
            right.plot(self.rates, line.changes.mean(axis=0), color=color, linestyle="--")
        axes.axhline(float(self.loss.mean()), color="tab:gray", linestyle=":", label="at θ")
        axes.xaxis.set_major_locator(MaxNLocator(4))  # small rates have long labels
        axes.set(xlabel="learning rate η", ylabel="loss L(θ − ηd) and its range (band)")
        right.set(ylabel="change of the gradient\n‖∇L(θ − ηd) − ∇L(θ)‖ (dashed)", ylim=(0, None))
        axes.legend()
        return axes

    def __str__(self) -> str:
        parameters, samples = count_noun(self.parameters, "parameter"), count_noun(self.samples, "sample")
        batches = count_noun(self.batches, "batch", "batches")
        lines = [
            f"smoothness of the loss of {parameters} on {samples} in {batches}"
            + describe_statistics(self.bn)
            + ("; means over each batch's own" if len(self.loss) > 1 else ""),
            f"loss {self.loss.mean():.4g}, gradient norm {self.gradient_norm.mean():.3g}, "
            f"weight norm {self.weight_norm:.3g}",
            f"lr {self.lr:.3g}, {len(self.rates)} rates η from {self.rates[0]:.3g} to {self.rates[-1]:.3g}",
            *map(str, self.lines),
            f"{self.relative} (free of the weights' scale)",
            f"cost: {count_noun(self.cost, 'gradient')}",
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def _ends(values: Values, usable: NDArray[np.bool_]) -> Values:
    """Return the smallest and largest usable value of each row, (K, 2); NaN where there is none."""
    low = np.where(usable, values, np.inf).min(axis=1)
    high = np.where(usable, values, -np.inf).max(axis=1)
    found = np.stack([low, high], axis=1)
    found[low > high] = np.nan
    return found


@dataclass(frozen=True)
class StepSmoothness(Record):
    """Smoothness at one training step, on its own mini-batch (Santurkar et al. 2018, §3.1 and Fig. 4).

    Attributes:
        step: Number of the run's step, from 0.
        lr: Learning rate of the step.
        gradient_norm, weight_norm: ‖g‖₂ and ‖θ‖₂.
        line: Loss and gradient at two points: η = ½ lr and 4 lr along `gradient`, θ − ηg, or along `step`,
            θ + (η / lr) Δθ of the real step Δθ; or ρ = 0.05 and 0.4 along `relative`, θ − ρT²g / ‖Tg‖ with
            T = diag|θ|, which is free of the weights' scale (see `SmoothnessRecord.relative`). One row each.
    """

    step: int
    lr: float
    gradient_norm: float
    weight_norm: float
    line: Line

    @property
    def along(self) -> str:
        """`gradient`, `step` or `relative`."""
        return self.line.along

    @property
    def loss(self) -> float:
        """L(θ), in nats."""
        return float(self.line.loss[0])

    @property
    def beta(self) -> float:
        """Effective β: the gradient's largest change over the distance moved; NaN where nothing moves."""
        return float(self.line.beta[0])

    @property
    def lipschitz(self) -> float:
        """The loss's largest change over the distance moved; NaN where nothing moves."""
        return float(self.line.lipschitz[0])
