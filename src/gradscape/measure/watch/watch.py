"""Watch a training: every layer's gradient and update, at every step or as often as costs little."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from gradscape._text import count_noun
from gradscape.config.arguments import typed
from gradscape.errors import ConfigError, brief, failure_of
from gradscape.measure.core.parameters import WatchedParameters, unwrapped
from gradscape.measure.watch.alert_memory import COOL_DOWN
from gradscape.measure.watch.alerts import AlertOptions, Alerts, receivers_of
from gradscape.measure.watch.ranks.watch_ranks import Ranks, RankWatch, options_of
from gradscape.measure.watch.recorder import Recorder
from gradscape.measure.watch.step_reading import Moment
from gradscape.measure.watch.steps import all_of, each_of, is_private
from gradscape.records.alert import Alert
from gradscape.records.diagnosis import Finding
from gradscape.records.display import Displayable
from gradscape.records.distributions import Histograms
from gradscape.records.gradients import FlowHistory

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_recorders: weakref.WeakKeyDictionary[nn.Module, weakref.ref[Recorder]] = weakref.WeakKeyDictionary()


@typed(every=1_000_000_000, capacity=1_000_000)
def watch(
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer] | Any,
    every: int | None = None,
    capacity: int = 1_000,
    activations: bool = False,
    loss: nn.Module | Any | None = None,
    on_finding: Callable[[Alert], object] | Sequence[Callable[[Alert], object]] | None = None,
    stop_on: Literal["fail", "warn"] | None = None,
    alert_on: Literal["fail", "warn"] = "fail",
    cool_down: float = COOL_DOWN,
    run: str = "",
    live: bool | str | Path = False,
    ranks: int | Ranks | None = None,
    distributions: bool = False,
) -> Watch:
    """Watch every layer's gradient and update, and the loss, from now on; the training is not changed.

    Of each step the loss is read; of the first steps and some later ones also what it was made of, which the
    graph tells that autograd has built: its functions, the operations between the last layer and them,
    outputs and targets. The model's inputs and the modes of its layers are read at the same steps.

    A row is a step of the training. Gradients are read at the end of a backward pass, reduced under DDP,
    before clipping. If `.grad` differs when the optimizer's step begins (set by hand, changed in place other
    than by clipping, or removed), the row contains the gradients that the step used. The same holds in other
    distributed training and under a GradScaler: unscaled, after any clipping. `FlowHistory.seen` says which.
    With accumulation, a row contains the sum that the step used. A step that a GradScaler skipped, or whose
    gradients were discarded, is marked as skipped.

    With several optimizers, each step joins the current row, unless its parameters have had a step in it
    already: then it begins the next row. A generator and a discriminator that take turns share a row; five
    steps of a critic and one of a generator make four rows of the critic alone and one of both; optimizers
    that step within the backward pass, one for each parameter, make one row. An optimizer that is added
    later, and parameters that are unfrozen or added later, are watched from their first step on, with a note.

    With `on_finding` or `stop_on` the training is diagnosed after 20, 50 and 100 steps, and later as often as
    1 % of its time allows, or a second in all where that is more. What is found is told once, when it stands
    in two diagnoses in a row; that the loss is not finite is told at once, on a CPU after that very step. The
    receivers have threads of their own: one that raises has a line in the log `gradscape`, and one that hangs
    is waited for a second, once. In distributed training the first process alone diagnoses, tells and stops;
    launchers such as torchrun end the others then.

    A watch of the same model that is still open ends: in a notebook, a cell may run again.

    Args:
        model: Module with parameters; possibly compiled, checkpointed or wrapped in DDP or FSDP2.
        optimizer: One or several optimizers of the model, possibly in a wrapper of Accelerate, Fabric or
            Opacus.
        every: Number of steps from one reading to the next. By default, every step of a model of at most a
            million parameters is read; of a larger one the first ten, then as many as take 1.5 % of the time.
        capacity: Number of rows in memory, the last ones; a row has eight numbers for each parameter tensor.
        activations: Whether to read every layer's output too, at the same steps: second moment, correlation
            of samples, dead and saturated units, values that are not finite. Of one module's calls in a pass,
            the first eight are read, and the 16th, 32nd, …. Outputs inside compiled code are read if the
            watch begins before it first runs; those of scripted models are not, with a note.
        loss: Module of the loss. It is needed only where the graph does not tell it, as in a compiled step;
            for a function see `Watch.loss`.
        on_finding: One or several functions that are called with an `Alert` when a finding is to be told,
            such as `gradscape.integrations.Webhook`.
        stop_on: Grade from which on a finding ends the training, by an error out of the optimizer's step.
        alert_on: Grade from which on findings are told; what `stop_on` ends a training for is told too.
        cool_down: Number of seconds after which a finding that went away and came back is told again.
        run: Name of the run, for the alerts.
        live: Whether to serve a page that shows the training while it goes on, or the path of the new folder
            that it is written to; the address is printed. See `gradscape.start_live`.
        ranks: Number of steps from one comparison of the ranks of a distributed training to the next, or
            `gradscape.Ranks` with more options; None for none. Every rank must watch then. Parameters and
            gradients that several ranks hold copies of, learning rates and skipped steps are compared, and
            a rank that stands still is told: docs/distributed.md.
        distributions: Whether to read quantiles of every gradient and weight too, and with `activations` of
            every layer's output: of a model of at most a million parameters at the first five steps and each
            twentieth, of a larger one at as many steps as take 1 % of the time, with `every` at all that are
            read. See `FlowHistory.distributions` and docs/distributions.md.

    Raises:
        TrainingStopped: Later, in the training: a finding is as grave as `stop_on`. Parameters, optimizer and
            generators are as after any step, and the watch can be read.
        ConfigError: If the model has no parameters, or the optimizer trains none of them or is none; or the
            extra `live` is not installed.
        StoreError: If the folder of `live` is not empty.

    Example:
        >>> flow = gs.watch(model, optimizer)
        >>> loss(model(x), y).backward()  # the training goes on as it was
        >>> optimizer.step()
        >>> print(gs.diagnose(flow))
    """
    if every is not None and every < 1:
        raise ConfigError(f"every: expected a number of steps, 1 or more; got {every}")
    if capacity < 2:
        raise ConfigError(f"capacity: expected a number of rows, 2 or more; got {capacity}")
    if loss is not None and not isinstance(loss, nn.Module):
        raise ConfigError(
            f"loss: expected a module such as nn.CrossEntropyLoss(); got {brief(loss)}; for a function, type "
            "flow.loss(value, output, target) before each backward pass"
        )
    receivers = receivers_of(on_finding)
    options, compared = AlertOptions(alert_on, stop_on, cool_down, run), options_of(ranks)
    optimizers = all_of(optimizer)
    WatchedParameters.of(model, optimizers)  # raises before an earlier watch is ended
    replaced = _replace_open(model)
    recorder = Recorder(model, optimizers, every, capacity, activations, distributions, loss)
    recorder.notes += replaced
    recorder.reader.private = any(is_private(each) for each in each_of(optimizer))
    _recorders[unwrapped(model)] = weakref.ref(recorder)
    flow = Watch(recorder, options)
    if compared is not None:
        flow._compare_ranks(compared)
    for each in receivers:
        flow.on_finding(each)
    if live is not False:
        import gradscape  # pages lie above watches: see `Displayable.save_html`

        gradscape.start_live(flow, None if live is True else live)
    return flow


def _replace_open(model: nn.Module) -> list[str]:
    """End an open watch of the model, with a note in both."""
    reference = _recorders.get(unwrapped(model))
    earlier = reference() if reference is not None else None
    if earlier is None or earlier.closed:
        return []
    earlier.notes.append(f"ended at step {earlier.steps}, when another watch of the model began")
    steps = earlier.steps
    earlier.close()
    return [f"an earlier watch of this model was still open, and ended when this one began ({steps} steps)"]


class Watch(Displayable):
    """Running watch of a training; `gradscape.watch` returns it, a `with` statement or `close` ends it.

    Args:
        recorder: Machinery that fills the rows.
        options: Options of the alerts.

    Attributes:
        first: Number of the first step, where a training continues from a checkpoint; alerts count from it.
        failure: Error that ended the training, as far as the watch knows: one that left its `with` block.
    """

    def __init__(self, recorder: Recorder, options: AlertOptions) -> None:
        self._recorder, self._options = recorder, options
        self._alerts: Alerts | None = None
        self.first, self.failure = 0, ""
        if options.stop_on is not None:
            self._begin_alerts()

    def history(self, since: int = 0) -> FlowHistory:
        """Return the readings, oldest row first; waits for the device.

        Args:
            since: Number of rows to leave out, of all ever read, such as those already written.
        """
        return self._recorder.history(since)

    def histograms(self) -> Histograms | None:
        """Return the histograms of the last reading of distributions; None without one; waits for the device.

        Example:
            >>> flow = gs.watch(model, optimizer, distributions=True)
            >>> loss(model(x), y).backward()
            >>> optimizer.step()
            >>> for layer, each in flow.histograms().layers["gradients"].items():
            ...     print(layer, each.counts.sum())  # plt.stairs(each.counts, each.edges) draws it
        """
        return self._recorder.distributions.histograms()

    def plot(self, ax: Axes | None = None, statistic: str = "mean_abs") -> Axes:
        """Draw a map of layers and steps; see `FlowHistory.plot`.

        Args:
            ax: Axes to draw on; by default those of a new figure.
            statistic: Name of the statistic.
        """
        return self.history().plot(ax, statistic)

    def live(self, seconds: float = 5.0) -> None:
        """Show the diagnosis and the gradients in a notebook, updated in place while the training goes on.

        Args:
            seconds: Number of seconds from one drawing to the next, at least; drawing takes 1 % of the time.

        Raises:
            ConfigError: IPython is not installed, or `seconds` is not above 0.
        """
        from gradscape.measure.watch.notebook import NotebookView

        if not seconds > 0:
            raise ConfigError(f"seconds: expected a number above 0; got {brief(seconds)}")
        NotebookView(self, seconds)

    def to_dict(self) -> dict[str, Any]:
        """Return the history as plain lists, numbers and texts."""
        return self.history().to_dict()

    def close(self) -> None:
        """End the watch; its readings remain."""
        self._recorder.close()

    @property
    def model_name(self) -> str:
        """Name of the model's class."""
        return type(unwrapped(self._recorder.model)).__name__

    @property
    def steps(self) -> int:
        """Number of steps of the training so far; see `gradscape.watch` for several optimizers."""
        return self._recorder.steps

    @property
    def rows(self) -> int:
        """Number of rows read so far, also of those that later ones have replaced."""
        return self._recorder.ring.count

    @property
    def capacity(self) -> int:
        """Number of rows in memory, at most."""
        return len(self._recorder.ring.rows)

    @property
    def is_mid_row(self) -> bool:
        """True while some, but not all, optimizers have made their step of the last row."""
        return self._recorder.row is not None

    @property
    def notes(self) -> list[str]:
        """Remarks on the training, as sentences; more may be appended."""
        return self._recorder.notes

    @property
    def closed(self) -> bool:
        """True once the watch has ended."""
        return self._recorder.closed

    @property
    def error(self) -> str:
        """Error that ended the watch, though not the training; an empty string if none did."""
        return self._recorder.error

    # For training loops and libraries that know more than hooks reveal ---------------------------------

    @property
    def moment(self) -> Moment:
        """Moment when gradients are read.

        `backward`, at the end of the backward pass; `reduced`, at its end and after DDP's reduction; `step`,
        when the optimizer's step begins; or `call`, when `read_gradients` is called.
        """
        return self._recorder.reader.moment

    @moment.setter
    def moment(self, moment: Moment) -> None:
        """Set when gradients are read.

        Args:
            moment: Value of the property.
        """
        self._recorder.reader.moment = moment

    def read_gradients(self, scale: Tensor | None = None) -> None:
        """Read gradients now, and from now on only by this method.

        This suits loops that know when gradients are complete but not yet clipped, such as after a
        GradScaler's `unscale_`.

        Args:
            scale: Loss scale that the gradients still have.
        """
        self._recorder.read(scale)

    def loss(
        self,
        value: Tensor,
        output: Tensor | None = None,
        target: Tensor | None = None,
        name: str = "unknown",
    ) -> None:
        """Tell the loss of the next backward pass, where its graph cannot be read, as in a compiled step.

        What cannot be used is left out, with a note: a training is not stopped.

        Args:
            value: Loss, a tensor of one number.
            output: Tensor that the loss was given for the model's output.
            target: Tensor that it was given beside it.
            name: Name of the function in `torch.nn.functional`, such as `cross_entropy`.
        """
        self._recorder.tell(value, output, target, name)

    def batch(self, ids: Sequence[int | str] | NDArray[Any] | Tensor) -> None:
        """Tell the ids of the samples of the next step, by which a spike of the loss names its batch.

        Several calls before a step, as with accumulation, are joined. Of a step 1,024 ids are kept. Without
        ids a batch is known by a hash and statistics of what the model was given. What cannot be used is left
        out, with a note: a training is not stopped.

        Args:
            ids: Indices in the data set, or names such as of files, of each sample of the batch; a tensor
                may be on any device.

        Example:
            >>> for step, (x, y) in enumerate(batches):
            ...     flow.batch(range(4 * step, 4 * step + 4))
            ...     loss(model(x), y).backward()
            ...     optimizer.step()
        """
        self._recorder.tell_ids(ids)

    def on_step(self, callback: Callable[[], None]) -> None:
        """Call a function after each complete step of the training from now on.

        Args:
            callback: Function to call; an error in it ends the watch.
        """
        self._recorder.on_step.append(callback)

    def on_finding(self, receiver: Callable[[Alert], object]) -> None:
        """Call a function with an `Alert` for each finding from now on; see `gradscape.watch`.

        Args:
            receiver: Function to call, in a thread of its own; an error in it is logged.
        """
        self._begin_alerts().delivery.add(receiver)

    def wait_for_alerts(self, receiver: Callable[[Alert], object]) -> bool:
        """Wait a few seconds for what is on its way to a receiver; return True if nothing is any more.

        Args:
            receiver: Function that `on_finding` was given.
        """
        return self._alerts is None or self._alerts.delivery.finish(receiver=receiver)

    def _begin_alerts(self) -> Alerts:
        """Return the diagnoses while it trains, which begin now if they have not yet."""
        if self._alerts is None:
            import gradscape  # diagnoses stand on watches: see `Displayable.save_html`

            self._alerts = Alerts(self, gradscape.diagnose, self._options)
            self.on_step(self._alerts.after_step)
        return self._alerts

    def _compare_ranks(self, options: Ranks) -> None:
        """Compare the ranks from now on, before any diagnosis of the same step."""
        recorder, reference = self._recorder, weakref.ref(self)

        def tell(finding: Finding) -> None:
            flow = reference()
            if flow is not None and flow._alerts is not None:
                flow._alerts.tell_at_once(finding)

        recorder.ranks = RankWatch(recorder, lambda: recorder.members.optimizers, options, tell)
        recorder.on_step.insert(0, recorder.ranks.after_step)
        recorder.on_close.append(recorder.ranks.close)

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """Alerts so far, the oldest first."""
        return () if self._alerts is None else tuple(self._alerts.told)

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call a function when the watch is closed, before it ends.

        Args:
            callback: Function to call.
        """
        self._recorder.on_close.append(callback)

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.failure = failure_of(error)
        self.close()

    def __repr__(self) -> str:
        end, tensors = ", ended" if self.closed else "", len(self._recorder.members.watched.names)
        return f"<Watch: {count_noun(tensors, 'parameter tensor')}, step {self.steps}{end}>"

    def __str__(self) -> str:
        return str(self.history())

    def _repr_html_(self) -> str:
        return self.history()._repr_html_()
