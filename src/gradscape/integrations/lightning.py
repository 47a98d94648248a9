"""A watch as a callback of Lightning's Trainer, from `lightning` or `pytorch_lightning`."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer

from gradscape.integrations.watching import Watching


def the_installed() -> str:
    """Return the package whose Trainer is used: one that is imported already, else one that is installed."""
    names = ("lightning.pytorch", "pytorch_lightning")
    for name in names:
        if name in sys.modules:
            return name
    for name in names:
        if importlib.util.find_spec(name.partition(".")[0]) is not None:
            return name
    raise ImportError("Lightning is not installed; type: pip install lightning")


if TYPE_CHECKING:
    from pytorch_lightning import Callback
else:
    Callback = importlib.import_module(the_installed()).Callback


class WatchCallback(Watching, Callback):  # type: ignore[misc]
    """Watch of a LightningModule while it is fitted; nothing in the training changes.

    Gradients are read at Lightning's `on_before_optimizer_step`: whole, reduced and unscaled, before its
    clipping. With manual optimization, where the module clips before that moment, they are read as in any
    training loop, see `gradscape.watch`.

    Args:
        every: Number of steps from one reading to the next; see `gradscape.watch`.
        capacity: Number of rows to keep.
        sinks: Sinks of `gradscape.integrations.trackers` to write rows to.
        write_every: Number of steps from one writing to the next.
        activations: Read every layer's output too; see `gradscape.watch`.
        on_finding: One or several functions that are told what is found; see `gradscape.watch`.
        ranks: Number of steps from one comparison of ranks to the next; see `gradscape.watch`.
        distributions: Read distributions too; see `gradscape.watch`.
        alerts: Its `stop_on`, `alert_on`, `cool_down` and `run`.

    Attributes:
        flow: Watch of the last fit; None before it. It can be read during the training and after.

    Raises:
        ConfigError: As `gradscape.watch`: of the alerts at once, of the model when the fit starts.

    Example:
        >>> seen = WatchCallback(sinks=[trackers.JsonLines("gradients.jsonl")])
        >>> Trainer(callbacks=[seen]).fit(module, loader)
        >>> print(seen.flow.history())
    """

    # Not on_fit_start: DeepSpeed and the like restore weights and optimizers after it.
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin the watch.

        Args:
            trainer: Lightning's Trainer.
            pl_module: Module that is trained.
        """
        first = trainer.global_step // len(trainer.optimizers)  # global_step counts the steps of all of them
        flow = self._begin(pl_module, trainer.optimizers, first)
        if pl_module.automatic_optimization:
            flow.moment = "call"

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Optimizer) -> None:
        """Read the gradients.

        Args:
            trainer: Lightning's Trainer.
            pl_module: Module that is trained.
            optimizer: Optimizer that steps next.
        """
        if self.flow is not None and self.flow.moment == "call":
            self.flow.read_gradients(_still_scaled_by(trainer, optimizer))

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """End the watch.

        Args:
            trainer: Lightning's Trainer.
            pl_module: Module that was trained.
        """
        self._end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """End the watch.

        Args:
            trainer: Lightning's Trainer.
            pl_module: Module that was trained.
            exception: Error that ended the training.
        """
        self._end(exception)


def _still_scaled_by(trainer: Any, optimizer: Optimizer) -> Tensor | None:
    """Return the GradScaler's factor for an optimizer that removes it within its step, as fused Adam."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is None or not getattr(optimizer, "_step_supports_amp_scaling", False):
        return None
    scale: Tensor | None = scaler._scale  # get_scale() would wait for the device
    return scale
