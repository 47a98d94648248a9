"""Record the loss of a training, and at some steps what it was made of, with the data and modes around it."""

from __future__ import annotations

import math
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gradscape.measure.core.batch import main_tensor
from gradscape.measure.core.compiled_calls import hooks_traced
from gradscape.measure.core.gathered import is_fully_sharded
from gradscape.measure.core.graph.crossed_products import crossed_product
from gradscape.measure.core.graph.divisors import divisor_of
from gradscape.measure.core.graph.linear import linear_widths
from gradscape.measure.core.graph.loss import factor_of, leaves_of, read_loss
from gradscape.measure.core.graph.torn_reshapes import Shape, torn_reshapes
from gradscape.measure.core.layer_trace import Hook
from gradscape.measure.core.parameters import parameters_of, unwrapped
from gradscape.measure.watch.activations import in_backward, is_hidden, unreachable
from gradscape.measure.watch.loss_values import LossValues
from gradscape.measure.watch.modes import Modes
from gradscape.measure.watch.pending_terms import LOSSES, PendingTerm, pending_term, told_term
from gradscape.measure.watch.running_gaps import PendingGaps
from gradscape.measure.watch.safe_reader import SafeReader
from gradscape.measure.watch.schedule import SMALL
from gradscape.measure.watch.sequence_axes import SequenceAxes
from gradscape.measure.watch.step_reading import is_out_of_reach
from gradscape.measure.watch.summaries import Pending, equal_share, feature_spread, summarize
from gradscape.records.loss import SEARCHED, LossHistory, SequenceInput, StepReading

FIRST = 5, 20  # first steps, all of which are read, of a large and of a small model,
BUDGET = 0.003  # and the fraction of the time for further ones;
REGULAR = 50  # of a small model every so many steps in any case
EARLY = 20  # readings that are kept of the begin,
LATE = 40  # and of the end
SETTLED = 15  # steps after which running statistics of BatchNorm are those of the data, at a usual momentum


@dataclass(frozen=True)
class _Forward:
    """Pending numbers of a call of the model."""

    inputs: Pending | None
    size: int
    features: Tensor | None
    equal: Tensor | None
    output: Pending | None
    spread: Tensor | None = None


@dataclass(frozen=True)
class _Graph:
    """Readings of the graph of a loss, at the first steps that are read alone."""

    outside: frozenset[int] = frozenset()  # ids of parameters outside the model
    widths: tuple[int, ...] = ()  # of a linear network
    divisor: Pending | None = None
    torn: tuple[tuple[Shape, Shape], ...] = ()
    crossed: tuple[Shape, ...] = ()


@dataclass(eq=False)
class _Reading:
    """Step whose numbers still are on their device, until they are read once."""

    step: int
    terms: tuple[PendingTerm, ...]
    forward: _Forward | None
    evaluating: tuple[str, ...]
    still_norms: tuple[str, ...]
    modal: int
    gap: Tensor | None
    single: tuple[str, ...]
    running: PendingGaps | None
    dropout: tuple[tuple[str, ...], float]
    graph: _Graph
    sequences: tuple[SequenceInput, ...]
    calls: int = 0
    silent: int = 0
    done: StepReading | None = None

    def read(self, trained: Set[int]) -> StepReading:
        """Return the reading; waits for the device the first time.

        Args:
            trained: Ids of parameters that optimizers have.
        """
        if self.done is None:
            self.done = self._read(len(self.graph.outside - trained))
            self.forward, self.terms, self.running, self.graph = None, (), None, _Graph()
        return self.done

    def _read(self, outside: int) -> StepReading:
        seen = self.forward
        return StepReading(
            step=self.step,
            terms=tuple(term.read() for term in self.terms),
            inputs=None if seen is None or seen.inputs is None else seen.inputs.read(),
            input_features=() if seen is None or seen.features is None else tuple(seen.features.tolist()),
            equal_samples=0.0 if seen is None or seen.equal is None else float(seen.equal),
            output=None if seen is None or seen.output is None else seen.output.read(),
            output_features=() if seen is None or seen.spread is None else tuple(seen.spread.tolist()),
            divisor=None if self.graph.divisor is None else self.graph.divisor.read(),
            evaluating=self.evaluating,
            still_norms=self.still_norms,
            running_gap=math.nan if self.gap is None else float(self.gap),
            modal=self.modal,
            single_sample_norms=self.single,
            outside=outside,
            calls=self.calls,
            silent_calls=self.silent,
            running=None if self.running is None else self.running.read(),
            dropped=self.dropout[0],
            kept=self.dropout[1],
            linear_widths=self.graph.widths,
            torn_reshapes=self.graph.torn,
            crossed=self.graph.crossed,
            sequences=self.sequences,
        )


class LossRecorder(SafeReader):
    """Values of the loss at every step, and readings of the whole step at some.

    Args:
        model: Watched model.
        criterion: Module of the loss, whose arguments tell what the graph does not; None if none is given.
        on_error: Callback with what went wrong; nothing of the loss is read any more.

    Attributes:
        trained: Ids of the parameters that any optimizer has; one that another has is no fault.
    """

    def __init__(
        self, model: nn.Module, criterion: nn.Module | None, on_error: Callable[[str], None]
    ) -> None:
        super().__init__(on_error)
        self.model, self.criterion = unwrapped(model), criterion
        self.hooked, self.traced = not unreachable(model), hooks_traced()
        self.gathered = is_fully_sharded(self.model)  # no gradient is one of the watched parameters
        self.is_counted = not is_hidden(model)  # whether every call of the model is known by its hook
        self.small = sum(parameter.numel() for parameter in model.parameters()) <= SMALL
        self.values = LossValues()
        self.early: list[_Reading] = []
        self.late: deque[_Reading] = deque(maxlen=LATE)
        self.trained: set[int] = set()
        self._met: weakref.WeakSet[Optimizer] = weakref.WeakSet()
        self.due = self.closed = False
        self.forward: _Forward | None = None
        self.passes: list[_Reading] = []  # of the current step
        self.told: tuple[Tensor | None, PendingTerm | None] = (None, None)  # of the next backward pass
        self.waiting: tuple[Tensor | None, _Reading | None] = (None, None)  # until a gradient is ours
        self.calls = self.reached = 0  # calls of the model since the last step, and those with a gradient
        self.handles: list[Any] = []
        self.modes, self.sequences = Modes(self.model), SequenceAxes(self.model)
        self.follow(0)

    def meet(self, optimizer: Optimizer) -> None:
        """Take the parameters of an optimizer for trained, whatever model they are of.

        Args:
            optimizer: Any optimizer that makes a step.
        """
        if optimizer not in self._met:
            self._met.add(optimizer)
            self.trained |= parameters_of(optimizer)

    def follow(self, step: int) -> None:
        """Hook the model in a step that is read, and only then.

        Args:
            step: Number of the step that begins.
        """
        within_budget = self.spent <= BUDGET * (time.perf_counter() - self.began)
        regular = step < FIRST[self.small] or (self.small and step % REGULAR == 0)
        self.due = not self.closed and (regular or within_budget)
        self.modes.settled = step >= SETTLED
        self.modes.is_due = self.sequences.is_due = self.due
        if self.due and not self.handles:
            self._hook()
        elif not self.due and not self.gathered and hooks_traced() == self.traced:  # it would compile anew
            self._unhook()

    def _hook(self) -> None:
        if self.hooked:
            self.handles = [
                self.model.register_forward_pre_hook(Hook(self._before_forward), with_kwargs=True),
                self.model.register_forward_hook(Hook(self._after_forward)),
                *self.modes.hooks(),
                *self.sequences.hooks(),
            ]
        if self.criterion is not None:
            hook = Hook(self._after_loss)
            self.handles.append(self.criterion.register_forward_hook(hook, with_kwargs=True))

    def _unhook(self) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles, self.forward = [], None

    def close(self) -> None:
        """Remove the hooks; the readings remain."""
        self.closed = True
        self._unhook()

    # The forward pass -----------------------------------------------------------------------------------

    def _before_forward(self, _: nn.Module, positional: Any, named: Any) -> None:
        if self.due and torch.is_grad_enabled() and not is_out_of_reach():
            self._safely(lambda: self._read_inputs((*positional, *named.values())))

    def _read_inputs(self, given: tuple[Any, ...]) -> None:
        tensors = [each for each in given if isinstance(each, Tensor) and each.dim()]
        values = main_tensor(given) if tensors == [] or not _is_whole(tensors[0]) else tensors[0]
        if values is None:
            self.forward = _Forward(None, 0, None, None, None)
            return
        size = values.shape[0] if values.dim() else 1
        several = size > 1 and values.numel() > 0
        self.forward = _Forward(
            inputs=summarize(values),
            size=size,
            features=feature_spread(values) if several and values.dim() == 2 else None,
            equal=equal_share(values) if several else None,
            output=None,
        )

    def _after_forward(self, _: nn.Module, __: Any, output: Any) -> None:
        if is_out_of_reach() or in_backward():
            return
        self.calls += 1
        self.is_counted = True
        if (self.due or self.gathered) and torch.is_grad_enabled():
            self._safely(lambda: self._read_output(output))

    def _read_output(self, output: Any) -> None:
        values, seen = main_tensor(output), self.forward if self.due else None
        if values is not None and values.grad_fn is not None:
            values.grad_fn.register_prehook(self._on_output_gradient)
        if values is not None and seen is not None:
            several = values.dim() == 2 and len(values) > 1 and values.shape[1] > 1
            spread = feature_spread(values) if several and values.is_floating_point() else None
            self.forward = replace(seen, output=summarize(values), spread=spread)

    def _on_output_gradient(self, *_: Any) -> None:
        self.reached += 1
        if self.gathered:
            self.confirm()

    def _after_loss(self, criterion: nn.Module, given: Any, named: dict[str, Any], value: Any) -> None:
        both = *given, *(each for name, each in named.items() if name != "target"), None, None
        output, target = (
            each if isinstance(each, Tensor) else None for each in (both[0], named.get("target", both[1]))
        )
        if isinstance(value, Tensor) and torch.is_grad_enabled() and not is_out_of_reach():
            self.tell(value, output, target, LOSSES.get(type(criterion).__name__, "unknown"))

    def tell(self, value: Tensor, output: Tensor | None, target: Tensor | None, name: str) -> None:
        """Take a loss for that of the next backward pass, as far as its graph does not tell more.

        Args:
            value: Loss, of one number.
            output: Tensor that the loss was given for the model's output; None if it is not known.
            target: Target; None if there is none.
            name: Name of the function, as in `LossTerm`.
        """

        def act() -> None:
            single = value.detach().clone().float().mean()
            self.told = single, pending_term(told_term(name, output, target)) if self.due else None

        if not self.closed:
            self._safely(act)

    # The backward pass ----------------------------------------------------------------------------------

    def before_backward(self, roots: Sequence[Tensor], scaled: bool, step: int) -> None:
        """Read the loss that a backward pass begins with, perhaps another model's.

        Args:
            roots: Tensors that it begins with.
            scaled: Whether it begins with gradients other than 1.
            step: Number of the current step.
        """
        self.waiting = None, None
        if self.closed or is_out_of_reach():
            return
        if self.is_counted and self.handles and not self.calls:  # another model's, or of ours past its hooks
            self.waiting = None if scaled else _plain(roots), None
        else:
            self._safely(lambda: self._read_loss(roots, scaled, step))

    def _read_loss(self, roots: Sequence[Tensor], scaled: bool, step: int) -> None:
        single = [root for root in roots if root.numel() == 1 and not root.is_complex()]
        value, told = self.told
        self.told = None, None
        if single and not scaled:
            values = [_without_factor(root) for root in single]
            value = values[0] if len(values) == 1 else torch.stack(values).sum()
        self.waiting = value, self._reading(roots, told, step) if self.due else None

    def _reading(self, roots: Sequence[Tensor], told: PendingTerm | None, step: int) -> _Reading:
        terms = [pending_term(term) for root in roots for term in read_loss(root).terms]
        if told is not None and all(term.seen.name == "unknown" for term in terms):
            terms = [told]
        gap, single = self.modes.take()
        return _Reading(
            step=step,
            terms=tuple(terms),
            forward=self.forward,
            evaluating=self.modes.evaluating(),
            still_norms=self.modes.still_norms(),
            modal=self.modes.number,
            gap=gap,
            single=single,
            running=self.modes.running.take(),
            dropout=self.modes.dropout(),
            graph=self._of_graph(roots) if roots and len(self.early) < SEARCHED else _Graph(),
            sequences=self.sequences.take(),
        )

    def _of_graph(self, roots: Sequence[Tensor]) -> _Graph:
        own = {id(each): each.dim() for each in self.model.parameters()}
        leaves = [leaf for root in roots for leaf in leaves_of(root)[0] if isinstance(leaf, nn.Parameter)]
        matrices = {key for key, axes in own.items() if axes > 1}
        widths = linear_widths(roots[0], matrices) if len(roots) == 1 else ()
        divisor = divisor_of(roots[0])
        return _Graph(
            outside=frozenset(map(id, leaves)) - own.keys(),
            widths=widths,
            divisor=None if divisor is None else summarize(divisor),
            torn=torn_reshapes(roots[0]),
            crossed=crossed_product(roots[0]) or (),
        )

    def confirm(self) -> None:
        """Take the loss of the backward pass, whose gradients have reached the model."""
        value, reading = self.waiting
        self.waiting = None, None
        if self.handles and not self.calls:  # compiled with all around it, or called past its hooks
            self.hooked = self.is_counted = False
            if hooks_traced() == self.traced:
                self._unhook()
        if value is not None:
            self.values.add_pass(value)
        if reading is not None:
            self.passes.append(reading)

    def end_step(self, step: int) -> None:
        """End a step of the training.

        Args:
            step: Number of the step.
        """
        self.values.end_step(step)
        for reading in self.passes:
            reading.calls, reading.silent = self.calls, max(0, self.calls - self.reached)
        self.calls = self.reached = 0
        # Three are those of a GAN, of real samples, of made ones and the generator's; more are micro-batches.
        for reading in self.passes[: 3 if len(self.passes) == 3 else 2]:
            if len(self.early) < EARLY:
                self.early.append(reading)
            else:
                self.late.append(reading)
        self.passes = []
        self.follow(step + 1)

    def history(self) -> LossHistory:
        """Return what was seen of the loss; waits for the device."""
        steps, values = self.values.read()
        readings = tuple(each.read(self.trained) for each in (*self.early, *self.late))
        return LossHistory(steps, values, readings)


def _plain(roots: Sequence[Tensor]) -> Tensor | None:
    """Return the loss as it is, at no cost; None where there may be a factor in front of it."""
    if len(roots) != 1 or roots[0].numel() != 1 or roots[0].is_complex() or roots[0].grad_fn is None:
        return None
    factor = roots[0].grad_fn.name().startswith(("Mul", "Div"))
    return None if factor else roots[0].detach().reshape(())


def _without_factor(root: Tensor) -> Tensor:
    """Return a loss without the constant in front of it; as it is where that is 0."""
    factor, value = factor_of(root), root.detach().clone().reshape(())
    return value / (torch.where(factor == 0, 1, factor) if isinstance(factor, Tensor) else factor or 1.0)


def _is_whole(values: Tensor) -> bool:
    """Return True for tokens and indices."""
    return not (values.is_floating_point() or values.is_complex())
