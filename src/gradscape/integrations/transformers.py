"""Callback of transformers' Trainer that watches the training."""

from __future__ import annotations

from typing import Any

from gradscape.integrations.watching import Watching

try:
    from transformers import TrainerCallback
except ImportError:
    raise ImportError("transformers is not installed; type: pip install transformers") from None


class WatchCallback(Watching, TrainerCallback):  # type: ignore[misc]
    """Watch of the model of a `transformers.Trainer`; nothing in the training changes.

    The Trainer has no callback between the backward pass and its clipping: `on_pre_optimizer_step` comes
    after the clipping. Gradients are therefore read when the backward pass ends: accumulated, under DDP
    reduced, and before any clipping. Under fp16's scaler and FSDP that is too early: there they are read as
    the step begins, clipped to `max_grad_norm`; `FlowHistory.seen` and a note say it. DeepSpeed, whose
    parameters are not the model's, cannot be watched.

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
        flow: Watch of the last training; None before it. It can be read during the training and after.

    Raises:
        ConfigError: When the training begins, as `gradscape.watch`.

    Example:
        >>> seen = WatchCallback(sinks=[trackers.JsonLines("gradients.jsonl")])
        >>> Trainer(model, arguments, train_dataset=data, callbacks=[seen]).train()
        >>> print(seen.flow.history())
    """

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **_: Any
    ) -> None:
        """Begin the watch.

        Args:
            args: `TrainingArguments`.
            state: `TrainerState`.
            control: `TrainerControl`.
            model: Model that is trained.
            optimizer: Its optimizer.
        """
        flow = self._begin(model, optimizer, state.global_step)
        late = flow.moment == "step"
        scaled = getattr(optimizer, "scaler", None) is not None
        if late and not scaled and _shared_within_backward(optimizer):
            flow.moment, late = "reduced", False
        if args.max_grad_norm and (late or scaled):
            flow.notes.append(f"the Trainer clips to max_grad_norm={args.max_grad_norm} before the reading")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """End the watch.

        Args:
            args: `TrainingArguments`.
            state: `TrainerState`.
            control: `TrainerControl`.
        """
        self._end()


def _shared_within_backward(optimizer: Any) -> bool:
    """True if accelerate trains by DDP: then every gradient is whole as the backward pass ends."""
    state = getattr(optimizer, "accelerator_state", None)
    return state is not None and state.distributed_type.name.startswith("MULTI_")  # MULTI_GPU, MULTI_CPU, …
