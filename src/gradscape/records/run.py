"""Runs and studies, as plain frozen values: no torch, no files, units in the docstrings.

A `StudyRecord` holds `RunRecord`s, a run holds one `EpochRecord` per epoch and the gradient flow of all.
`gradscape.load(DIR)` reads them from a study's folder.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from gradscape._codec import Record
from gradscape._text import literal, shorten
from gradscape.config.paths import Value
from gradscape.errors import ConfigError
from gradscape.records.display import Displayable, Reported, with_verdict
from gradscape.records.gradients import FlowHistory
from gradscape.records.role import Role
from gradscape.records.smoothness import StepSmoothness

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

    from gradscape.records.curvature import CurvatureRecord
    from gradscape.records.landscape import LandscapeRecord
    from gradscape.records.noise import RunNoise
    from gradscape.records.signal import RunStart

LAST = 5  # epochs, of 100, that the paper's tables average over
SHARE = 3  # a shorter run is averaged over its last third at most: before that it is still learning
DRAWN = 1_000  # most runs in a drawing: of more, one hides another
NAMED, LETTERS = 10, 40  # most roles whose labels have room in a drawing, and letters of one


@dataclass(frozen=True, repr=False)
class EpochRecord(Record):
    """One epoch of one run. Losses in nats and accuracies in 0…1 are means over images.

    Attributes:
        epoch: Number of the epoch, from 1.
        lr: Learning rate used throughout the epoch.
        train_loss, train_accuracy: Running means over the epoch, in train mode, on augmented images.
        valid_loss, valid_accuracy: Means after the epoch, in eval mode.
        seconds: Wall time of training and validation; of training together with other runs, an equal share.
        images_per_second: Number of training images per second of training time.
        smoothness: Smoothness at some of its steps, if requested.
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


@dataclass(frozen=True, repr=False)
class RunRecord(Reported, Displayable, Record):
    """One training run, read from its folder.

    Attributes:
        identity: Readable name and short hash of the configuration; the folder's name.
        config: Configuration in plain nested values.
        state: `pending`, `running`, `interrupted`, `done`, `diverged`, `stopped` (early, on request) or
            `failed`.
        status: Further values of `status.json` (attempts, host, versions, epoch and step of divergence, the
            `diagnosis` of an ended run…).
        epochs: Epochs finished so far, in order.
        test: `{"last": {"loss", "accuracy"}, "best": {…, "epoch"}}` once done, else empty; means over
            the test images with the last and with the best-validation weights.
        flow: Gradients and updates of every layer, a row an epoch; None before the first.
        curvature: Curvature of the loss at the `start` and at the `end` of training, where requested.
        landscape: Loss over a plane around the trained weights; None unless requested.
        start: Gradients and signal before the first step; None for a run that has not been begun.
        noise: Noise of the gradient after training; None unless requested.
    """

    identity: str
    config: Mapping[str, Any]
    state: str
    status: Mapping[str, Any]
    epochs: tuple[EpochRecord, ...]
    test: Mapping[str, Mapping[str, float]]
    flow: FlowHistory | None = None
    curvature: Mapping[str, CurvatureRecord] = field(default_factory=dict)
    landscape: LandscapeRecord | None = None
    start: RunStart | None = None
    noise: RunNoise | None = None

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return int(self.config["seed"])

    @property
    def last_epochs(self) -> tuple[EpochRecord, ...]:
        """Epochs that a final value is the mean over: 5 as in the paper, fewer in runs below 15 epochs."""
        return self.epochs[-max(1, min(LAST, len(self.epochs) // SHARE)) :]

    def curve(self, name: str) -> tuple[float, ...]:
        """Return one `EpochRecord` field over the epochs, such as `curve("valid_accuracy")`.

        Args:
            name: Name of the field.
        """
        return tuple(getattr(epoch, name) for epoch in self.epochs)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw train and validation accuracy over the epochs; return the axes.

        Args:
            ax: Axes to draw on; by default a new figure's.
        """
        import matplotlib.pyplot as plt
        from matplotlib.ticker import MaxNLocator

        axes = plt.subplots()[1] if ax is None else ax
        for split in ("train", "valid"):
            axes.plot(self.curve("epoch"), self.curve(f"{split}_accuracy"), label=split)
        axes.set(xlabel="epoch", ylabel="accuracy", title=literal(self.identity))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
        return axes

    def _summary(self) -> str:
        return with_verdict(self, str(self))

    def __str__(self) -> str:
        if not self.epochs:
            return f"{self.identity}: {self.state}"
        last = self.epochs[-1]
        return (
            f"{self.identity}: {self.state}, {last.epoch} epochs, "
            f"accuracy {last.train_accuracy:.3f} train / {last.valid_accuracy:.3f} valid"
        )


@dataclass(frozen=True, repr=False)
class StudyRecord(Reported, Displayable, Record):
    """Record of a study and its runs.

    Attributes:
        study: Name of the study, such as `batchnorm`.
        preset: `quick`, `small` or `paper`.
        asked: Further values of `study.json`: data, seeds, notes on how the preset departs from the paper.
        roles: Role per name, with the identities of its runs; a run may have several roles.
        runs: Run per identity, in the order of the study.
    """

    study: str
    preset: str
    asked: Mapping[str, Any]
    roles: Mapping[str, Role]
    runs: Mapping[str, RunRecord]

    def of(self, role: str) -> tuple[RunRecord, ...]:
        """Return the runs of a role that have at least one epoch, one per seed, in seed order.

        Args:
            role: Name of the role.
        """
        chosen = (self.runs[identity] for identity in self.roles[role].runs if identity in self.runs)
        return tuple(sorted((r for r in chosen if r.epochs), key=lambda r: r.seed))

    def where(self, **parameters: Value) -> tuple[Role, ...]:
        """Return the roles that have these values of their parameters, in the study's order.

        Args:
            parameters: Value per name, such as `lr=0.01`.
        """
        return tuple(
            role
            for role in self.roles.values()
            if all(
                name in role.parameters and role.parameters[name] == parameters[name] for name in parameters
            )
        )

    def labels(self, *names: str, **parameters: Value) -> dict[str, str]:
        """Return the label per name of roles, for a figure or a table.

        Args:
            names: Names of roles, in the order to show them; those that the study lacks are left out.
                Without any, all roles are chosen.
            parameters: Values of parameters that the roles must have, see `where`.
        """
        found = {role.name: role.label for role in self.where(**parameters)}
        return {name: found[name] for name in names if name in found} if names else found

    def to_pandas(self) -> DataFrame:
        """Return a row per run and epoch: identity, state, seed and the epoch's numbers (needs pandas)."""
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
        """Draw the validation accuracy of the runs over the epochs, a color for each role; return the axes.

        Of more than 1,000 runs every second, third, … is drawn.

        Args:
            ax: Axes to draw on; by default a new figure's.
        """
        import matplotlib.pyplot as plt
        from matplotlib.collections import LineCollection
        from matplotlib.ticker import MaxNLocator

        axes = plt.subplots()[1] if ax is None else ax
        every = -(-len(self.runs) // DRAWN) or 1
        begun = {name: run for name, run in [*self.runs.items()][::every] if run.epochs}
        roles = {name: role.label for role in [*self.roles.values()][::-1] for name in role.runs}
        labels = {name: roles.get(name, name) for name in begun}
        colors = {label: f"C{place % 10}" for place, label in enumerate(dict.fromkeys(labels.values()))}
        curves = [
            np.column_stack([run.curve("epoch"), run.curve("valid_accuracy")]) for run in begun.values()
        ]
        # One artist for all: thousands of runs take a tenth of the time.
        axes.add_collection(LineCollection(curves, colors=[colors[label] for label in labels.values()]))
        axes.autoscale_view()
        part = f", {len(begun)} of {len(self.runs)} runs" if every > 1 else ""
        title = literal(f"{self.study} ({self.preset}){part}")
        axes.set(xlabel="epoch", ylabel="validation accuracy", title=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(colors) <= NAMED:
            for label, color in colors.items():
                axes.plot([], [], color=color, label=literal(shorten(label, LETTERS)))
            axes.legend(fontsize="x-small")
        return axes

    def __str__(self) -> str:
        states = Counter(run.state for run in self.runs.values())
        text = f"study {self.study} ({self.preset}): {_counted(states) or 'no runs yet'}"
        diagnoses = [run.status.get("diagnosis") for run in self.runs.values()]
        verdicts = Counter(each["verdict"] for each in diagnoses if each)
        return f"{text}\nverdicts on runs that have ended: {_counted(verdicts)}" if verdicts else text


def _counted(words: Counter[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in words.items())


Phase = Literal[
    "signal at the start",
    "curvature at the start",
    "training",
    "curvature at the end",
    "landscape",
    "gradient noise",
    "test",
]
PHASES: tuple[Phase, ...] = get_args(Phase)  # in order; a run has those that it asks for


@dataclass(frozen=True)
class Progress:
    """Progress of a run, reported while it trains and when it begins to measure.

    Attributes:
        epoch, epochs: Number of the current epoch, from 1, and of all epochs.
        share: Share of this epoch's training images that are done, 0 to 1.
        loss, accuracy: Running means over this epoch's training images; NaN in other phases than training.
        images_per_second: Number of training images per second in this epoch; NaN likewise.
        phase: What the run is at.
    """

    epoch: int
    epochs: int
    share: float
    loss: float
    accuracy: float
    images_per_second: float
    phase: Phase = "training"

    @classmethod
    def measuring(cls, phase: Phase, epochs: int) -> Progress:
        """Return the report of a phase before or after all epochs.

        Args:
            phase: Phase that begins.
            epochs: Number of all epochs.
        """
        before = PHASES.index(phase) < PHASES.index("training")
        nan = math.nan
        return cls(1 if before else epochs, epochs, 0.0 if before else 1.0, nan, nan, nan, phase)

    def __str__(self) -> str:
        if self.phase != "training":
            return self.phase
        return (
            f"epoch {self.epoch}/{self.epochs} {self.share:4.0%}  loss {self.loss:.3f}  "
            f"accuracy {self.accuracy:.3f}  {self.images_per_second:,.0f} images/s"
        )
