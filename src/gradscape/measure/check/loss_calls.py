"""Calls of torch's loss functions by a loss: what they were given, and what a constant output would cost."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from gradscape.errors import ConfigError
from gradscape.measure.core.preserve import random_state

OF_CLASSES = ("cross_entropy", "nll_loss")
OF_PROBABILITIES = ("binary_cross_entropy", "binary_cross_entropy_with_logits")
OF_NUMBERS = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
FUNCTIONS: dict[Callable[..., Any], str] = {
    getattr(functional, name): name for name in (*OF_CLASSES, *OF_PROBABILITIES, *OF_NUMBERS)
}
ACTIVATIONS: dict[Callable[..., Any], str] = {
    **dict.fromkeys((torch.softmax, Tensor.softmax, functional.softmax), "softmax"),
    **dict.fromkeys((torch.sigmoid, Tensor.sigmoid, functional.sigmoid), "sigmoid"),
}
RARE = 1e-12  # probability of a class that no target has
MOST_LOGIT = 30.0
SAME = 1e-4  # relative difference of the loss and a call's result


@dataclass(frozen=True)
class LossCall:
    """One call of a loss function.

    Attributes:
        name: Name of the function in `torch.nn.functional`.
        function: The function.
        output: Output of the model that it was given, with its graph.
        target: Target that it was given.
        options: Further arguments, by name.
        activation: Function that made the output, `softmax` or `sigmoid`; empty for anything else.
    """

    name: str
    function: Callable[..., Tensor]
    output: Tensor
    target: Tensor
    options: Mapping[str, Any]
    activation: str = ""

    @property
    def classes(self) -> int:
        """C, the number of classes; 0 of a function without them."""
        if self.name not in OF_CLASSES:
            return 0
        return self.output.shape[min(1, self.output.dim() - 1)]

    @property
    def labels(self) -> Tensor | None:
        """Targets that are numbers of classes, without those that are ignored, one axis; None for others."""
        if not self.classes or self.target.is_floating_point():
            return None
        return self.target[self.target != self.options.get("ignore_index", -100)].flatten()

    @torch.no_grad()
    def of(self, output: Tensor) -> float:
        """Return the loss of another output.

        Args:
            output: Output in the place of the model's.
        """
        return float(self.function(output, self.target, **self.options).mean())

    @property
    def neutral(self) -> float:
        """Loss of an output that says nothing: zeros, or the same probability everywhere."""
        values = {"nll_loss": -math.log(max(self.classes, 1)), "binary_cross_entropy": 0.5}
        return self.of(torch.full_like(self.output.detach(), values.get(self.name, 0.0)))

    @property
    def constant(self) -> float:
        """Loss of the best output that is the same for all samples; NaN where it is not known."""
        best = self._best_constant()
        return math.nan if best is None else self.of(best)

    def _best_constant(self) -> Tensor | None:
        """Return the output that is best among those that are the same for all samples."""
        target = self.target.detach()
        if (labels := self.labels) is not None:
            return self._of_frequencies(labels)
        if self.classes or len(target) < 2 or target.shape != self.output.shape:
            return None
        if self.name == "mse_loss":
            return target.mean(0, keepdim=True).expand_as(target)
        if self.name in OF_NUMBERS:
            return target.median(0, keepdim=True).values.expand_as(target)
        if self.options.get("weight") is not None or self.options.get("pos_weight") is not None:
            return None
        mean = target.mean(0, keepdim=True).expand_as(target)
        return mean if self.name == "binary_cross_entropy" else mean.logit().clamp(-MOST_LOGIT, MOST_LOGIT)

    def _of_frequencies(self, labels: Tensor) -> Tensor:
        """Return the logarithms of the classes' frequencies, in the shape of the output."""
        weight, smoothing = self.options.get("weight"), self.options.get("label_smoothing", 0.0)
        counts = torch.bincount(labels, minlength=self.classes).double()
        counts = counts if weight is None else counts * weight
        share = (1 - smoothing) * counts / counts.sum() + smoothing / self.classes
        shape = [1] * self.output.dim()
        shape[min(1, self.output.dim() - 1)] = self.classes
        logarithms: Tensor = share.clamp(min=RARE).log().to(self.output.dtype)
        return logarithms.view(shape).expand_as(self.output)


@dataclass(frozen=True)
class LossPass:
    """Loss of one pass, and the calls that it was made of.

    Attributes:
        value: Loss; NaN where the pass failed.
        calls: Calls of torch's loss functions.
    """

    value: float
    calls: tuple[LossCall, ...]

    @property
    def main(self) -> LossCall | None:
        """Call that is the whole loss; None where there are several, or something is added to it."""
        if len(self.calls) != 1:
            return None
        (call,) = self.calls
        own = call.of(call.output.detach())
        return call if math.isclose(own, self.value, rel_tol=SAME) else None


def loss_pass(loss: Callable[[], Tensor]) -> LossPass:
    """Return a loss and the calls of torch's loss functions that it is made of.

    Args:
        loss: Function to the loss, which calls the model.

    Raises:
        ConfigError: Labels are out of range, which is told before torch raises or, on a GPU, aborts.
    """
    mode = _LossCalls()
    try:
        with random_state(), torch.no_grad(), mode:
            value = float(loss())
    except Exception:  # of any kind: the signal is measured next and tells it, with the layer
        if mode.refused is not None:
            raise mode.refused from None
        return LossPass(math.nan, ())
    return LossPass(value, tuple(mode.calls))


class _LossCalls(TorchFunctionMode):
    """Context that records the calls of torch's loss functions within it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[LossCall] = []
        self.activated: dict[int, tuple[str, Tensor | None]] = {}
        self.refused: ConfigError | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        if func in FUNCTIONS and (call := loss_call(func, args, kwargs or {})) is not None:
            call = replace(call, activation=self.activated.get(id(call.output), ("", None))[0])
            try:
                refuse_out_of_range(call)
            except ConfigError as error:
                self.refused = error
                raise
            self.calls.append(call)
        result = func(*args, **(kwargs or {}))
        if func in ACTIVATIONS and isinstance(result, Tensor):
            self.activated[id(result)] = ACTIVATIONS[func], result  # kept, so that no other gets its id
        return result


def loss_call(function: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]) -> LossCall | None:
    """Return a call of one of `FUNCTIONS`; None for arguments that are no output and target.

    Args:
        function: Function of torch.
        args: Its positional arguments.
        kwargs: Its arguments by name.
    """
    given = dict(inspect.signature(function).bind(*args, **kwargs).arguments)
    output, target = given.pop("input"), given.pop("target")
    if not (isinstance(output, Tensor) and isinstance(target, Tensor) and output.dim()):
        return None
    return LossCall(FUNCTIONS[function], function, output, target, given)


def refuse_out_of_range(call: LossCall) -> None:
    """Refuse labels that are no number of a class.

    Args:
        call: Call of a loss function that has not been made yet.

    Raises:
        ConfigError: A label is below 0 or not below the number of classes.
    """
    labels = call.labels
    if labels is None or not labels.numel():
        return
    low, high, classes = int(labels.min()), int(labels.max()), call.classes
    if low >= 0 and high < classes:
        return
    if low >= 1 and high == classes:
        cure = "they count from 1: subtract 1"
    elif low < 0:
        ignored = call.options.get("ignore_index", -100)
        cure = f"leave {low} out by ignore_index={low} (it is {ignored} now), or correct the labels"
    else:
        cure = f"give the model {high + 1} outputs, or correct the labels"
    raise ConfigError(
        f"loss: unusable labels: expected 0 … {classes - 1} for {classes} outputs; got {low} … {high}; {cure}"
    )
