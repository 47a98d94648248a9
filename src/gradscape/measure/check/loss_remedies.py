"""Remedies of what surrounds a network, tried on copies: its last activation, loss, inputs, learning rate.

Another loss function is put in where the user's loss calls torch's, by a `TorchFunctionMode`. Its values are
not comparable with those of the function that was there: what counts is the share of right answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from gradscape.errors import GradscapeError, first_line
from gradscape.measure.check.loss_calls import OF_NUMBERS, LossCall, LossPass, loss_call, loss_pass
from gradscape.measure.check.rate import RateTest
from gradscape.measure.check.trials import Steps, Untreated
from gradscape.measure.core.containers import tensors
from gradscape.measure.core.copied_optimizer import Steppers, SteppersOf
from gradscape.measure.core.parameters import number
from gradscape.measure.diagnose.advice import RANGED
from gradscape.records.check import Trial

FACTOR = 10.0  # of the learning rate
CENTERED, SCALED = 1.0, 2.0  # |mean| in standard deviations, and the deviation or its inverse: no need beyond
MORE = 0.05  # of the answers, and two samples at least
LOGITS = ("cross_entropy", "binary_cross_entropy_with_logits")

Replacement = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class LossRemedy:
    """A change of the steps.

    Attributes:
        name: Name of the remedy.
        what: Change that is made, in words.
        steps: Steps with the change.
        comparable: Whether the loss is the same function of the same predictions.
    """

    name: str
    what: str
    steps: Steps
    comparable: bool = True


def loss_remedies(twin: Callable[[], nn.Module], steps: Steps, passed: LossPass) -> list[LossRemedy]:
    """Return the remedies that apply.

    Args:
        twin: Maker of copies.
        steps: Steps of the model as it is.
        passed: Loss before training, and its calls of loss functions.
    """
    return list(_remedies(twin, steps, passed.main))


def loss_trials(
    twin: Callable[[], nn.Module], steps: Steps, remedies: Sequence[LossRemedy], as_is: Untreated
) -> Iterator[Trial]:
    """Try each remedy when its trial is asked for, with as many steps as the model as it is.

    Args:
        twin: Maker of copies.
        steps: Steps of the model as it is.
        remedies: Remedies that apply.
        as_is: Trial of the model as it is.
    """
    right = math.nan
    for remedy in remedies:
        if not remedy.comparable and math.isnan(right):
            _, right = _tried(LossRemedy("", "as it is", steps), twin)
        trial, share = _tried(remedy, twin)
        if remedy.comparable or trial.diagnosis is None:
            yield as_is.with_effect(trial)
        else:
            margin = max(MORE, 2 / steps.batch.size)
            yield replace(trial, right=(right, share), effect=_by_answers(right, share, margin))


def rate_trial(twin: Callable[[], nn.Module], steps: Steps, as_is: Untreated, test: RateTest) -> Trial:
    """Try the learning rate of a range test.

    Args:
        twin: Maker of copies.
        steps: Steps of the model as it is.
        as_is: Trial of the model as it is.
        test: Range test.

    Returns:
        Trial; one without a diagnosis where the test suggests no other rate.
    """
    if not test.way:
        near = "" if math.isnan(test.suggestion) else f"it is near {test.suggestion:.2g} already; "
        return Trial(RANGED, near + test.told, None, math.nan, ())
    remedy = _with_rate(RANGED, test.suggestion / test.own, steps, twin, " of a range test")
    return as_is.with_effect(_tried(remedy, twin)[0])


def _with_rate(
    name: str, factor: float, steps: Steps, twin: Callable[[], nn.Module], of: str = ""
) -> LossRemedy:
    groups = steps.optimizer(twin()).groups
    rates = ", ".join(dict.fromkeys(f"{factor * float(group['lr']):.3g}" for group in groups))
    scaled = replace(steps, optimizer=partial(_at_rate, steps.optimizer, factor))
    return LossRemedy(name, f"learning rate {rates}{of}", scaled)


def _by_answers(before: float, after: float, margin: float) -> str:
    if after > before + margin:
        return "predicts"
    return "raises" if after < before - margin else "nothing"


def _tried(remedy: LossRemedy, twin: Callable[[], nn.Module]) -> tuple[Trial, float]:
    """Return the trial of a remedy, and the share of right answers after it."""
    try:
        model = twin()
        trial = remedy.steps.trial(remedy.name, remedy.what, model)
        calls = loss_pass(partial(remedy.steps.value, model)).calls
    except Exception as error:  # of any kind: what the remedy made does not train
        told = str(error) if isinstance(error, GradscapeError) else first_line(error)
        return Trial(remedy.name, told, None, math.nan, ()), math.nan
    return trial, right_answers(calls[0]) if calls else math.nan


def _remedies(twin: Callable[[], nn.Module], steps: Steps, call: LossCall | None) -> Iterator[LossRemedy]:
    """Yield the remedies that apply."""
    if call is not None:
        if call.activation and call.name in LOGITS:
            yield _without_activation(steps, call)
        if (other := _other_loss(call)) is not None:
            name, replacement = other
            around = partial(_Replaced, call.function, replacement)
            what = f"{name} in place of {call.name}" + (
                f", of what {call.activation} was given" if call.activation else ""
            )
            yield LossRemedy("another loss", what, replace(steps, around=around), comparable=False)
    if (standard := _standardized(steps)) is not None:
        yield standard
    groups = steps.optimizer(twin()).groups
    if all(number(group.get("lr")) and group["lr"] for group in groups):
        yield _with_rate("lr × 10", FACTOR, steps, twin)
        yield _with_rate("lr ÷ 10", 1 / FACTOR, steps, twin)


def _at_rate(make: SteppersOf, factor: float, model: nn.Module) -> Steppers:
    made = make(model)
    for group in made.groups:
        group["lr"] = group["lr"] * factor
    return made


def _without_activation(steps: Steps, call: LossCall) -> LossRemedy:
    """Give the loss what the last activation was given: it computes its own."""

    def of_undone(output: Tensor, target: Tensor) -> Tensor:
        result: Tensor = call.function(undone(output, call.activation), target, **call.options)
        return result

    around = partial(_Replaced, call.function, of_undone)
    what = f"{call.name} of what {call.activation} was given: it has its own"
    return LossRemedy("no last activation", what, replace(steps, around=around))


def undone(output: Tensor, activation: str) -> Tensor:
    """Return what an activation was given, but for a constant of each sample under softmax.

    Args:
        output: Output of the activation.
        activation: `softmax`, `sigmoid`, or empty for none.
    """
    smallest = torch.finfo(output.dtype).tiny
    if activation == "softmax":
        return output.clamp(min=smallest).log()
    return output.logit(torch.finfo(output.dtype).eps) if activation == "sigmoid" else output


class _Replaced(TorchFunctionMode):
    """Context in which a loss function is another one."""

    def __init__(self, function: Callable[..., Any], replacement: Replacement) -> None:
        super().__init__()
        self.function, self.replacement = function, replacement

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is self.function and (call := loss_call(func, args, kwargs or {})) is not None:
            return self.replacement(call.output, call.target)
        return func(*args, **(kwargs or {}))


def _other_loss(call: LossCall) -> tuple[str, Replacement] | None:
    """Return the loss function that fits the targets, where it is another one."""
    activation = call.activation
    if call.name == "nll_loss" and not _is_logarithm(call.output):
        return "cross_entropy", lambda out, y: functional.cross_entropy(undone(out, activation), y)
    if _is_one_hot(call) and call.name not in ("cross_entropy", "nll_loss"):
        return "cross_entropy", lambda out, y: functional.cross_entropy(undone(out, activation), y.argmax(1))
    if call.name in OF_NUMBERS and _is_binary(call):
        return "binary_cross_entropy_with_logits", lambda out, y: functional.binary_cross_entropy_with_logits(
            undone(out, activation), y.to(out.dtype)
        )
    return None


def _is_logarithm(output: Tensor) -> bool:
    """Return True for logarithms of probabilities, which sum to 1 over the classes."""
    sums = output.detach().float().exp().sum(min(1, output.dim() - 1))
    return torch.allclose(sums, torch.ones_like(sums), atol=1e-2)


def _is_one_hot(call: LossCall) -> bool:
    target = call.target
    if target.dim() != 2 or target.shape != call.output.shape or target.shape[1] < 2:
        return False
    return bool(((target == 0) | (target == 1)).all()) and bool((target.sum(1) == 1).all())


def _is_binary(call: LossCall) -> bool:
    target = call.target
    same = target.shape == call.output.shape and (target.dim() == 1 or target[0].numel() == 1)
    return same and bool(((target == 0) | (target == 1)).all()) and len(torch.unique(target)) == 2


@torch.no_grad()
def right_answers(call: LossCall) -> float:
    """Return the share of right answers; NaN where targets are no classes.

    Args:
        call: Call of a loss function.
    """
    output, target = call.output, call.target
    if call.labels is not None:
        counts = target != call.options.get("ignore_index", -100)
        right = output.argmax(min(1, output.dim() - 1)) == target
        return float(right[counts].double().mean())
    if _is_one_hot(call):
        return float((output.argmax(1) == target.argmax(1)).double().mean())
    if _is_binary(call):
        middle = 0.0 if call.name in LOGITS else 0.5
        return float(((output > middle) == (target > 0.5)).double().mean())
    return math.nan


def _standardized(steps: Steps) -> LossRemedy | None:
    """Bring the first floating input to mean 0 and standard deviation 1, where it is far from that."""
    main = next((t for t in tensors(steps.batch.given) if t.is_floating_point() and t.dim()), None)
    if main is None or main.numel() < 2 or steps.batch.calling is not None:
        return None
    mean, std = float(main.double().mean()), float(main.double().std())
    scaled = 1 / SCALED <= std <= SCALED
    if not (math.isfinite(std) and std > 0) or (scaled and abs(mean) <= CENTERED * std):
        return None

    def change(value: Tensor) -> Tensor:
        return _features_standardized(value) if value is main else value

    what = f"inputs of mean 0 and standard deviation 1, where they have {mean:.3g} and {std:.3g}"
    changed = replace(steps, batch=steps.batch.mapped(change))
    return LossRemedy("standardized inputs", what, changed)


def _features_standardized(value: Tensor) -> Tensor:
    """Standardize each feature of (N, F), and anything else as a whole."""
    over = (0,) if value.dim() == 2 and len(value) > 1 else tuple(range(value.dim()))
    std = value.std(over, keepdim=True)
    return (value - value.mean(over, keepdim=True)) / torch.where(std > 0, std, torch.ones_like(std))
