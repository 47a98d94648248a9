"""Tell what is found wrong with a training while it goes on, and end it where its user wants that."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from gradscape.errors import ConfigError, TrainingStopped, brief, cut, first_line, nearest, one_line
from gradscape.measure.core.preserve import random_state
from gradscape.measure.watch.alert_delivery import Delivery, Receiver, log
from gradscape.measure.watch.alert_memory import COOL_DOWN, RANKS, FindingMemory, Grade, is_as_grave
from gradscape.measure.watch.moments import Moments
from gradscape.records.alert import Alert
from gradscape.records.diagnosis import Diagnosis, Finding
from gradscape.records.gradients import FlowHistory

if TYPE_CHECKING:
    from gradscape.measure.watch.watch import Watch

Diagnose = Callable[[FlowHistory], Diagnosis]


@dataclass(frozen=True)
class AlertOptions:
    """Options of alerts; see `gradscape.watch`.

    Attributes:
        alert_on: Grade from which on findings are told.
        stop_on: Grade from which on a finding ends the training; None for none.
        cool_down: Number of seconds from telling a finding to telling it again.
        run: Name of the run.

    Raises:
        ConfigError: A grade is another text than `fail` or `warn`, or the time is negative.
    """

    alert_on: Grade = "fail"
    stop_on: Grade | None = None
    cool_down: float = COOL_DOWN
    run: str = ""

    def __post_init__(self) -> None:
        for name in ("alert_on", "stop_on"):
            value = getattr(self, name)
            if value not in RANKS and not (name == "stop_on" and value is None):
                words = " or ".join(RANKS)
                raise ConfigError(f"{name}: expected {words}; got {brief(value)}{nearest(value, RANKS)}")
        if not self.cool_down >= 0:
            raise ConfigError(f"cool_down: expected a number of seconds, 0 or more; got {self.cool_down}")

    @property
    def least(self) -> Grade:
        """Mildest grade that is told: what ends a training is told too."""
        return "warn" if "warn" in (self.alert_on, self.stop_on) else "fail"


class Alerts:
    """Diagnoses of a watched training while it goes on, and what is told of them.

    In distributed training the first process alone diagnoses and tells.

    Args:
        flow: Watch of the training.
        diagnose: Function that diagnoses its history.
        options: Options.
        clock: Function that returns the time, in seconds.

    Attributes:
        told: Alerts so far.
    """

    def __init__(
        self,
        flow: Watch,
        diagnose: Diagnose,
        options: AlertOptions,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.flow, self.diagnose, self.options, self.clock = flow, diagnose, options, clock
        self.memory, self.moments = FindingMemory(options.least, options.cool_down), Moments(clock)
        self.delivery, self.told = Delivery(), list[Alert]()
        self.failed = False

    def after_step(self) -> None:
        """Diagnose if it is time to, and tell what is new.

        Raises:
            TrainingStopped: A finding is as grave as `stop_on`.
        """
        if self.failed:
            return
        try:
            new = self._new_findings() if self._is_time() else []
        except Exception as error:  # any type: see `recorder._harmless`; the watch goes on without alerts
            self.failed = True
            log.warning("alerts end at step %d: %s", self.flow.steps, cut(one_line(first_line(error)), 300))
            return
        step = self.flow.first + self.flow.steps
        alerts = [Alert(each, step, time.time(), self.options.run) for each in new]
        self._tell(alerts)
        for alert in alerts:
            if self.options.stop_on is not None and is_as_grave(alert.grade, self.options.stop_on):
                raise TrainingStopped(_reason(alert))

    def tell_at_once(self, finding: Finding) -> None:
        """Tell a finding from another thread, while the training may stand still.

        Args:
            finding: Finding of grade `fail`.
        """
        alert = Alert(finding, self.flow.first + self.flow.steps, time.time(), self.options.run)
        self.memory.add_told(finding, self.clock())
        self.told.append(alert)
        self.delivery.send(alert)

    def _is_time(self) -> bool:
        """Return True if it is time for a diagnosis, or the loss has just broken; the device is not asked."""
        broken = self.flow._recorder.loss.values.has_just_broken() and self.moments.is_affordable()
        return (broken or self.moments.is_due(self.flow.steps)) and is_first_process()

    def _new_findings(self) -> list[Finding]:
        """Diagnose, and return what is to be told."""
        start, history = self.clock(), self.flow.history()
        new: list[Finding] = []
        if history.is_unused or not history.lack:
            loss = history.loss
            broken = loss is not None and len(loss.values) > 0 and not np.isfinite(loss.values[-1])
            new = self.memory.new_findings(self.diagnose(history), start, at_once=bool(broken))
        self.moments.add(self.flow.steps, self.clock() - start, self.memory.is_doubtful)
        return new

    def _tell(self, alerts: list[Alert]) -> None:
        self.told += alerts
        if alerts and self.delivery.receivers:
            with random_state():  # a function may draw from the training's generators
                for alert in alerts:
                    self.delivery.send(alert)


def receivers_of(on_finding: Receiver | Sequence[Receiver] | None) -> list[Receiver]:
    """Return the receivers as a list.

    Args:
        on_finding: One or several functions; None for none.

    Raises:
        ConfigError: Something is no function.
    """
    given = list(on_finding) if isinstance(on_finding, Sequence) else [on_finding]
    receivers = [each for each in given if each is not None]
    for each in receivers:
        if not callable(each):
            raise ConfigError(
                f"on_finding: expected a function of an alert, or several; got {brief(each)}; type "
                "on_finding=print"
            )
    return receivers


def is_first_process() -> bool:
    """Return True if this process is alone or of rank 0."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank() == 0
    return True


def _reason(alert: Alert) -> str:
    """Return the text of the error that ends a training."""
    cause, remedy = alert.text.splitlines()
    return f"stopped at step {alert.step}: {alert.heading}; {cause}; {remedy}"
