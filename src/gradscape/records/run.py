"""What is measured, as plain frozen values: no torch, no files, units in the docstrings.

A `StudyRecord` holds `RunRecord`s, a run holds one `EpochRecord` per epoch and the gradient flow of all.
`gradscape.load(DIR)` reads them from a study's folder.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gradscape.errors import ConfigError
from gradscape.records.gradients import WEIGHT_KINDS, FlowHistory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

    from gradscape.records.landscape import LandscapeRecord


def plain_number(value: Any) -> Any:
    if isinstance(value, list):
        return [plain_number(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class StepSmoothness:
    """Smoothness at one training step, on its own mini-batch (Santurkar et al. 2018, §3.1 and Fig. 4).

    Attributes:
        step: of the run, from 0.
        along: `gradient` for θ − ηg, `step` for θ + (η / lr) Δθ, of the real step Δθ, `relative` for
            θ − ρT²g / ‖Tg‖ with T = diag|θ|, which is free of the weights' scale (Kwon et al. 2021, §3).
        lr: of the step.
        loss: L(θ), in nats.
        losses: at two points, η = ½ lr and 4 lr, or ρ = 0.05 and 0.4.
        changes: ‖∇L − g‖₂ there, in nats over units of the parameters; of `relative` ‖T(∇L − g)‖₂ in nats.
        distances: ‖θ_η − θ‖₂ there; of `relative` ρ = ‖T⁻¹(θ_ρ − θ)‖₂.
        gradient_norm, weight_norm: ‖g‖₂ and ‖θ‖₂.
    """

    step: int
    along: str
    lr: float
    loss: float
    losses: tuple[float, ...]
    changes: tuple[float, ...]
    distances: tuple[float, ...]
    gradient_norm: float
    weight_norm: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values; None for what is not finite, which JSON has no number for."""
        values = {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items()}
        return {name: plain_number(value) for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StepSmoothness:
        numbers: dict[str, Any] = {n: math.nan if value is None else value for n, value in values.items()}
        arrays: dict[str, Any] = {
            name: tuple(math.nan if value is None else value for value in values[name])
            for name in ("losses", "changes", "distances")
        }
        return cls(**{**numbers, **arrays})

    @property
    def beta(self) -> float:
        """Effective β: the gradient's largest change over the distance moved; NaN where nothing moves."""
        return self.steepest(self.changes)

    @property
    def lipschitz(self) -> float:
        """The loss's largest change over the distance moved; NaN where nothing moves."""
        return self.steepest([abs(loss - self.loss) for loss in self.losses])

    def steepest(self, values: Sequence[float]) -> float:
        found = [v / d for v, d in zip(values, self.distances, strict=True) if d > 0 and math.isfinite(v)]
        return max(found, default=math.nan)


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of one run. Losses in nats and accuracies in 0…1 are means over images.

    Attributes:
        epoch: 1 for the first.
        lr: learning rate used throughout the epoch.
        train_loss, train_accuracy: running means over the epoch, train mode, augmented images.
        valid_loss, valid_accuracy: after the epoch, eval mode.
        seconds: wall time of training and validation.
        images_per_second: training images per second of training time.
        smoothness: at some of its steps, if asked for.
    """

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    valid_loss: float
    valid_accuracy: float
    seconds: float
    images_per_second: float
    smoothness: tuple[StepSmoothness, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "smoothness": [measure.to_dict() for measure in self.smoothness]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EpochRecord:
        measures = tuple(map(StepSmoothness.from_dict, values["smoothness"]))
        return cls(**{**values, "smoothness": measures})


@dataclass(frozen=True)
class Curvature:
    """The Hessian of a run's loss at one moment, BatchNorm being as in training.

    Attributes:
        loss: in nats, the mean over the images.
        images: training images, not augmented, in mini-batches of the run's size.
        parameters: n, the Hessian's size.
        largest, smallest: eigenvalues, in nats over squared units of the parameters.
        largest_residual, smallest_residual: each lies within it of an eigenvalue.
        nodes, weights: for each random vector, Gauss quadrature of the spectral density.
    """

    loss: float
    images: int
    parameters: int
    largest: float
    smallest: float
    largest_residual: float
    smallest_residual: float
    nodes: tuple[tuple[float, ...], ...]
    weights: tuple[tuple[float, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Curvature:
        rows = {name: tuple(map(tuple, values[name])) for name in ("nodes", "weights")}
        return cls(**{**values, **rows})


@dataclass(frozen=True)
class Start:
    """A network before its first step, on one batch of training images, BatchNorm taking its statistics.

    Attributes:
        images: training images in the batch, the first ones, not augmented.
        loss: in nats, the mean over them.
        layers, kinds: of the parameter tensors, as in `FlowHistory`.
        sizes: elements of each.
        mean_abs: mean |∂L/∂W| over each one's elements.
        weight_layers: names of the layers that have weights, in the order of the forward pass.
        second_moment: q of each one's output: mean h² over samples, units and positions.
        correlation: c of each one's output: mean cosine between those for two of at most 16 samples.

    What is not a number, such as the correlation of outputs that are all 0, is NaN. Source of q and c:
    Schoenholz et al. (2017).
    """

    images: int
    loss: float
    layers: tuple[str, ...]
    kinds: tuple[str, ...]
    sizes: tuple[int, ...]
    mean_abs: tuple[float, ...]
    weight_layers: tuple[str, ...]
    second_moment: tuple[float, ...]
    correlation: tuple[float, ...]

    def weights(self) -> tuple[float, ...]:
        """Mean |∂L/∂W| of the conv and linear weights alone, input to output: the paper's axis."""
        return tuple(v for v, k in zip(self.mean_abs, self.kinds, strict=True) if k in WEIGHT_KINDS)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; None for what is not finite, which JSON has no number for."""
        values = {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items()}
        return {name: plain_number(value) for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Start:
        def number(value: Any) -> Any:
            return math.nan if value is None else value

        found: dict[str, Any] = {
            name: tuple(map(number, each)) if isinstance(each, list) else number(each)
            for name, each in values.items()
        }
        return cls(**found)


@dataclass(frozen=True)
class GradientNoise:
    """How much a run's gradient differs from one mini-batch to the next, after training.

    G and Σ_B are the mean and the covariance of a mini-batch's gradient, BatchNorm being as in training;
    `gradscape.noise` has the estimators.

    Attributes:
        batches: training mini-batches, not augmented, all of one size.
        batch_size: B, images in each.
        gradient_square: |G|², in (nats / parameter)²; by chance below 0 where it is small.
        trace: tr Σ_B, in the same unit.
        low, high: 95 % interval of the noise scale, in images; infinite where |G|² may be 0.
        cosine: mean cosine between the gradients of two mini-batches.
        traces: (batch size, tr Σ of such batches) at the same weights and on the same images, of batches of
            B, B/2 and B/4 images as far as these are whole numbers; empty in runs from before they were kept.
    """

    batches: int
    batch_size: int
    gradient_square: float
    trace: float
    low: float
    high: float
    cosine: float
    traces: tuple[tuple[int, float], ...] = ()

    @property
    def scale(self) -> float:
        """Noise scale B tr Σ_B / |G|², in images (McCandlish et al. 2018, eq. 2.9); infinite for |G|² ≤ 0."""
        above = self.batch_size * self.trace
        return above / self.gradient_square if self.gradient_square > 0 else math.inf

    def to_dict(self) -> dict[str, Any]:
        """Plain values; None for what is infinite, and for a cosine that no two gradients have."""
        plain = {name: plain_number(value) for name, value in vars(self).items() if name != "traces"}
        return {**plain, "traces": [list(pair) for pair in self.traces]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GradientNoise:
        absent = {"cosine": math.nan}
        known: dict[str, Any] = {
            name: absent.get(name, math.inf) if value is None else value for name, value in values.items()
        }
        traces = tuple((int(size), float(trace)) for size, trace in values.get("traces", ()))
        return cls(**{**known, "traces": traces})


@dataclass(frozen=True)
class RunRecord:
    """One training run, read from its folder.

    Attributes:
        identity: readable name + short hash of the configuration; the folder's name.
        config: the run's configuration as plain nested values.
        state: `pending`, `running`, `done`, `diverged`, `stopped` (early, on request) or `failed`.
        status: what else `status.json` says (attempts, host, versions, epoch and step of divergence, of an
            ended run the `diagnosis`…).
        epochs: the epochs finished so far, in order.
        test: `{"last": {"loss", "accuracy"}, "best": {…, "epoch"}}` once done, else empty; means over
            the test images with the last and with the best-validation weights.
        flow: gradients and updates of every layer, a row an epoch; None before the first.
        curvature: of the loss at the `start` and at the `end` of training, where it was asked for.
        landscape: the loss over a plane around the trained weights; None where it was not asked for.
        start: gradients and signal before the first step; None for a run that has not been begun.
        noise: of the gradient after training; None where it was not asked for.
    """

    identity: str
    config: Mapping[str, Any]
    state: str
    status: Mapping[str, Any]
    epochs: tuple[EpochRecord, ...]
    test: Mapping[str, Mapping[str, float]]
    flow: FlowHistory | None = None
    curvature: Mapping[str, Curvature] = field(default_factory=dict)
    landscape: LandscapeRecord | None = None
    start: Start | None = None
    noise: GradientNoise | None = None

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    def curve(self, name: str) -> tuple[float, ...]:
        """One `EpochRecord` field over the epochs, such as `curve("valid_accuracy")`."""
        return tuple(getattr(epoch, name) for epoch in self.epochs)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        large = {
            name: None if found is None else found.to_dict()
            for name, found in (
                ("flow", self.flow),
                ("landscape", self.landscape),
                ("start", self.start),
                ("noise", self.noise),
            )
        }
        return {**asdict(replace(self, flow=None, landscape=None, start=None, noise=None)), **large}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Train and validation accuracy over the epochs; returns the axes."""
        import matplotlib.pyplot as plt

        axes = plt.subplots()[1] if ax is None else ax
        for split in ("train", "valid"):
            axes.plot(self.curve("epoch"), self.curve(f"{split}_accuracy"), label=split)
        axes.set(xlabel="epoch", ylabel="accuracy", title=self.identity)
        axes.legend()
        return axes

    def __str__(self) -> str:
        if not self.epochs:
            return f"{self.identity}: {self.state}"
        last = self.epochs[-1]
        return (
            f"{self.identity}: {self.state}, {last.epoch} epochs, "
            f"accuracy {last.train_accuracy:.3f} train / {last.valid_accuracy:.3f} valid"
        )


@dataclass(frozen=True)
class StudyRecord:
    """A study's folder, read.

    Attributes:
        study: the study's name, such as `batchnorm`.
        preset: `quick`, `small` or `paper`.
        asked: the rest of `study.json`: data, seeds, notes on how the preset departs from the paper.
        roles: what each run is for → identities of its runs, one per seed; runs may have many roles.
        runs: identity → run, in the order of the study.
    """

    study: str
    preset: str
    asked: Mapping[str, Any]
    roles: Mapping[str, tuple[str, ...]]
    runs: Mapping[str, RunRecord]

    def of(self, role: str) -> tuple[RunRecord, ...]:
        """The runs of one role that have at least one epoch, one per seed, in seed order."""
        chosen = (self.runs[identity] for identity in self.roles[role] if identity in self.runs)
        return tuple(sorted((r for r in chosen if r.epochs), key=lambda r: r.seed))

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        runs = {identity: run.to_dict() for identity, run in self.runs.items()}
        return {**asdict(replace(self, runs={})), "runs": runs}

    def to_pandas(self) -> DataFrame:
        """One row per run and epoch: identity, state, seed, lr, losses, accuracies, times (needs pandas)."""
        try:
            import pandas as pd
        except ImportError as error:
            raise ConfigError("to_pandas needs pandas; type: pip install pandas") from error

        rows = []
        for run in self.runs.values():
            for epoch in run.epochs:
                rows.append({"run": run.identity, "state": run.state, "seed": run.seed, **vars(epoch)})
        return pd.DataFrame(rows)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Validation accuracy of every run over the epochs; returns the axes."""
        import matplotlib.pyplot as plt

        axes = plt.subplots()[1] if ax is None else ax
        for run in self.runs.values():
            axes.plot(run.curve("epoch"), run.curve("valid_accuracy"), label=run.identity)
        axes.set(xlabel="epoch", ylabel="validation accuracy", title=f"{self.study} ({self.preset})")
        axes.legend(fontsize="x-small")
        return axes

    def __str__(self) -> str:
        states = [run.state for run in self.runs.values()]
        count = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        return f"study {self.study} ({self.preset}): {count or 'no runs yet'}"


@dataclass(frozen=True)
class Progress:
    """How far a running run is, sent while it trains.

    Attributes:
        epoch, epochs: the epoch at work, from 1, and how many there are.
        share: of this epoch's training images done, 0 to 1.
        loss, accuracy: running means of this epoch's training images.
        images_per_second: training images per second in this epoch.
    """

    epoch: int
    epochs: int
    share: float
    loss: float
    accuracy: float
    images_per_second: float

    def __str__(self) -> str:
        return (
            f"epoch {self.epoch}/{self.epochs} {self.share:4.0%}  loss {self.loss:.3f}  "
            f"accuracy {self.accuracy:.3f}  {self.images_per_second:,.0f} images/s"
        )
