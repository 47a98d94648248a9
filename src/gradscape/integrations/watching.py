"""Base of the callbacks of training libraries: a watch, and sinks that follow it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from gradscape.errors import failure_of
from gradscape.integrations.sink import Sink
from gradscape.measure.watch.alert_delivery import Receiver
from gradscape.measure.watch.alerts import AlertOptions, receivers_of
from gradscape.measure.watch.ranks.watch_ranks import Ranks
from gradscape.measure.watch.watch import Watch, watch


class Watching:
    """Mixin beside a library's own callback; see `WatchCallback` for the arguments."""

    def __init__(
        self,
        every: int | None = None,
        capacity: int = 1_000,
        sinks: Sequence[Sink] = (),
        write_every: int = 100,
        activations: bool = False,
        on_finding: Receiver | Sequence[Receiver] | None = None,
        ranks: int | Ranks | None = None,
        distributions: bool = False,
        **alerts: Any,
    ) -> None:
        self.every, self.capacity, self.activations = every, capacity, activations
        self.sinks, self.write_every, self.ranks = tuple(sinks), write_every, ranks
        self.distributions = distributions
        self.receivers, self.options = receivers_of(on_finding), alerts
        AlertOptions(**alerts)  # a wrong one is refused before the training begins
        self.flow: Watch | None = None

    def _begin(self, model: nn.Module, optimizers: Optimizer | Sequence[Optimizer], first: int) -> Watch:
        """Return a new watch that the sinks follow, its first step numbered `first`; end an earlier one."""
        self._end()
        self.flow = watch(
            model, optimizers, self.every, self.capacity, self.activations,
            on_finding=self.receivers, ranks=self.ranks, distributions=self.distributions, **self.options,
        )  # fmt: skip
        self.flow.first = first
        for sink in self.sinks:
            sink.follow(self.flow, self.write_every, first)
        return self.flow

    def _end(self, error: BaseException | None = None) -> None:
        """Write the rest, and the error that ended the training, and end the watch; its rows stay."""
        if self.flow is not None:
            self.flow.failure = failure_of(error)
        for sink in self.sinks:
            sink.close()
        if self.flow is not None:
            self.flow.close()
