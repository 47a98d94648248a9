"""Dependence of the output on the batch: on the input, on each sample's own alone, on no later position."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradscape._text import count_noun
from gradscape.errors import ConfigError
from gradscape.measure.core.batch import Batch, main_tensor, sample_axis
from gradscape.measure.core.containers import is_graph, tensors
from gradscape.measure.core.layer_trace import Running, Trace, unwatched
from gradscape.measure.core.preserve import seed_generators, untouched
from gradscape.measure.diagnose.advice import options
from gradscape.records.diagnosis import Finding, Symptom

# Share of the largest output by which an output changes through rounding alone: sums in another order.
ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4}
ROUNDING_OF_HALF = 0.05
DRAWN = 0.02  # standard deviation of weights that begin at 0
MOST_NAMED = 8  # features in a note
EXACT = "exactly nothing, in a pass of the same shapes"


@dataclass
class Dependence:
    """Findings on what the output of a copy in eval mode depends on.

    Attributes:
        findings: Faults.
        constant: Findings of an output that is the same for all samples, though operations lead to it from
            the input: where a layer is found to blame, that is the cause.
        notes: Remarks, as sentences.
    """

    findings: list[Finding] = field(default_factory=list)
    constant: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Passes:
    """Passes of a copy in eval mode, each with the same random numbers and from the same state.

    Args:
        model: Copy.
        batch: Batch.
    """

    def __init__(self, model: nn.Module, batch: Batch) -> None:
        self.model, self.batch = model, batch

    def output(self, batch: Batch, seen: Callable[[Running, Any], None] | None = None) -> Tensor | None:
        """Return the main tensor of the output.

        Args:
            batch: Batch of the shapes of the one given.
            seen: Callback with every layer's call and output.
        """
        with untouched(self.model), unwatched(), torch.no_grad():
            seed_generators(0)
            self.model.eval()
            with Trace(self.model, seen or (lambda *_: None)) as trace:
                found = main_tensor(trace.forward(batch))
            return None if found is None else found.detach().clone()

    def first_change(self, other: Batch, part: Callable[[Tensor], Tensor | None], size: float) -> str:
        """Return the first layer whose output differs in a part where it is run on another batch.

        Args:
            other: The other batch.
            part: Part of a layer's output to compare; None for an output that has no such part.
            size: Share of the largest value by which rounding changes it.
        """
        recorded: list[tuple[str, Tensor]] = []

        def record(call: Running, output: Any) -> None:
            value = main_tensor(output)
            if value is not None and (cut := part(value.detach())) is not None:
                recorded.append((call.name, cut.clone()))

        self.output(self.batch, record)
        own, recorded = recorded, []
        self.output(other, record)
        for (name, one), (_, two) in zip(own, recorded, strict=False):
            if one.shape == two.shape and differs(one, two, size):
                return name
        return ""


def differs(one: Tensor, other: Tensor, size: float | None = None) -> bool:
    """Return True if two outputs differ by more than rounding.

    Args:
        one, other: Outputs of the same shape.
        size: Share of the largest value by which rounding changes it; by default that of the dtype.
    """
    return change(one, other) > (rounding(one) if size is None else size)


def rounding(output: Tensor) -> float:
    """Return the share of the largest value by which rounding changes an output.

    Args:
        output: Output.
    """
    return ROUNDING.get(output.dtype, ROUNDING_OF_HALF)


def change(one: Tensor, other: Tensor) -> float:
    """Return the largest difference of two outputs as a share of the largest value; 0 for none.

    Args:
        one, other: Outputs of the same shape.
    """
    largest = float(one.abs().max()) if one.numel() else 0.0
    difference = float((one - other).abs().max()) if one.numel() else 0.0
    return difference / max(largest, torch.finfo(torch.float32).tiny) if difference else 0.0


def without_zeros(model: nn.Module) -> nn.Module:
    """Return a copy whose trained weights that begin at 0 are drawn instead: a step would move them.

    A head, learned positions or the last layer of a branch may begin so, and hide what comes before them.

    Args:
        model: Copy; its weights are replaced.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.dim() > 1 and not bool(parameter.any()):
                draw = torch.Generator(parameter.device).manual_seed(0)
                parameter.copy_(torch.empty_like(parameter).normal_(0, DRAWN, generator=draw))
    return model


def dependence(model: nn.Module, batch: Batch, causal: bool = False) -> Dependence:
    """Look what the output of a copy depends on.

    Args:
        model: Copy, left as it is.
        batch: Batch of two samples at least; of one, or of a graph, nothing is looked at.
        causal: Whether an output must not depend on later positions.

    Raises:
        ConfigError: `causal` is asked of an output without positions.
    """
    passes, found = Passes(model, batch), Dependence()
    base = None if batch.calling is not None else _repeatable(passes)
    if base is not None and not base.is_complex() and not is_of_a_graph(model, batch):
        if batch.size > 1 and base.dim() and base.shape[0] == batch.size:
            _of_samples(passes, base, found)
        _of_features(passes, found)
    if causal:
        _of_positions(passes, base, found)
    return found


def _repeatable(passes: Passes) -> Tensor | None:
    """Return the output where it is finite and the same in two passes; None otherwise."""
    one, two = passes.output(passes.batch), passes.output(passes.batch)
    if one is None or two is None or one.shape != two.shape or not bool(torch.isfinite(one).all()):
        return None
    return one if torch.equal(one, two) else None


def is_of_a_graph(model: nn.Module, batch: Batch) -> bool:
    """Return True where samples are nodes: a matrix of samples by samples, or one of edges, is there.

    Args:
        model: Network that takes the batch.
        batch: Batch.
    """
    size, given = batch.size, list(tensors(batch.given))
    if is_graph(batch.given) or any(t.layout is not torch.strided or t.is_nested for t in given):
        return True
    if any(t.dim() == 2 and t.shape[0] == 2 and not t.is_floating_point() for t in given[1:]):
        return True
    held = [t for m in model.modules() for t in (*m.buffers(recurse=False), *vars(m).values())]
    return any(
        isinstance(t, Tensor)
        and (t.layout is not torch.strided or (t.dim() == 2 and t.shape == (size, size)))
        for t in (*given[1:], *held)
    )


Axis = Callable[[Tensor], int | None]


def _axes(batch: Batch, output: Tensor) -> list[Axis]:
    """Return functions to the axis of the samples: two where it cannot be told from that of positions."""
    main = next(t for t in tensors(batch.given) if t.dim())
    if main.dim() == 3 or (main.dim() == 2 and not main.is_floating_point()):
        positions = main.shape[:2]
        if positions[0] == positions[1]:
            return []
        if output.dim() >= 2 and output.shape[:2] == positions:
            return [partial(_axis_of_length, axis, positions[axis]) for axis in (0, 1)]
    return [partial(sample_axis, size=batch.size)]


def _axis_of_length(axis: int, length: int, value: Tensor) -> int | None:
    return axis if value.dim() > axis and value.shape[axis] == length else None


def _taken(batch: Batch, axis: Axis, index: Tensor) -> Batch:
    """Return the batch with samples in the place of others."""

    def take(value: Tensor) -> Tensor:
        along = axis(value)
        return value if along is None else value.index_select(along, index.to(value.device))

    return batch.mapped(take)


def _of_samples(passes: Passes, base: Tensor, found: Dependence) -> None:
    """Look whether the output depends on the input at all, and on other samples'."""
    axes = _axes(passes.batch, base)
    if not axes or _compares_samples(passes, base):
        return
    results = [_mixed(passes, base, axis) for axis in axes]
    if not any(results) or (len(axes) == 1 and results[0] is None):
        _of_input(passes, base, axes[0], found)
    elif all(results):
        found.findings.append(_mixing(passes, base, results[0] or Mixed(0, 0.0, passes.batch)))
    elif results[0] is not None and len(axes) > 1:
        found.notes.append(
            "outputs depend on others along the first axis and not along the second, which is taken for the "
            "samples' (batch_first=True takes the first)"
        )


def _compares_samples(passes: Passes, base: Tensor) -> bool:
    """Return True for an output of samples by samples, as of a contrastive model: not of as many classes."""
    size = passes.batch.size
    if base.shape != (size, size):
        return False
    fewer = passes.output(passes.batch.part(0, size - 1))
    return fewer is None or fewer.shape != (size - 1, size)


@dataclass(frozen=True)
class Mixed:
    """Sample whose output changed with others': its index, by what share, and on which batch."""

    sample: int
    change: float
    other: Batch


def _mixed(passes: Passes, base: Tensor, axis: Axis) -> Mixed | None:
    """Return a sample whose output changes where all others are replaced; None where there is none."""
    along = axis(base)
    if along is None:
        return None
    size = base.shape[along]
    for sample in dict.fromkeys((0, size // 2, size - 1)):
        index = torch.full((size,), (sample + 1) % size)
        index[sample] = sample
        other = _taken(passes.batch, axis, index)
        output = passes.output(other)
        if output is None or output.shape != base.shape:
            continue
        one, two = base.select(along, sample), output.select(along, sample)
        moved = float((one - two).abs().max()) / max(float(base.abs().max()), 1e-30) if one.numel() else 0.0
        if moved > rounding(base):
            return Mixed(sample, moved, other)
    return None


def _mixing(passes: Passes, base: Tensor, mixed: Mixed) -> Finding:
    """Report that samples are mixed, with the layer where it begins and what there is to blame."""

    def own(value: Tensor) -> Tensor | None:
        axis = sample_axis(value, len(base))
        return None if axis is None else value.select(axis, mixed.sample)

    layer = passes.first_change(mixed.other, own, rounding(base))
    reasons, cures = _suspects(passes)
    return Finding(
        verdict="samples are mixed",
        layer=layer,
        cause="; ".join(
            (f"the output of sample {mixed.sample} changes where the other samples are replaced", *reasons)
        ),
        remedy=options(*cures, "look for view or reshape where transpose or permute is meant"),
        evidence=(
            Symptom(
                f"change of sample {mixed.sample}'s output through others, as a share of the largest output",
                mixed.change,
                rounding(base),
                "a sample's output in eval mode is its own; beyond what rounding changes",
            ),
        ),
    )


def _suspects(passes: Passes) -> tuple[list[str], list[str]]:
    """Return what in the model mixes samples, and what to do about it."""
    reasons, cures = [], []
    for name, module in passes.model.named_modules():
        kind = type(module).__name__
        if isinstance(module, nn.RNNBase | nn.MultiheadAttention) and not module.batch_first:
            reasons.append(f"{name or 'the model'} ({kind}) has batch_first=False: its first axis is time")
            cures.append("batch_first=True")
        elif isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            reasons.append(
                f"{name} ({kind}) has no running statistics: it takes the batch's in eval mode too"
            )
            cures.append("track_running_stats=True")
    with _SoftmaxAxes() as mode:
        passes.output(passes.batch)
    if 0 in mode.axes:
        reasons.append("a softmax goes over axis 0, that of the samples")
        cures.append("softmax over the last axis, dim=-1")
    return list(dict.fromkeys(reasons)), list(dict.fromkeys(cures))


SOFTMAX = (torch.softmax, torch.log_softmax, Tensor.softmax, Tensor.log_softmax,
           torch.nn.functional.softmax, torch.nn.functional.log_softmax)  # fmt: skip


def first_argument(args: Sequence[Any], named: Mapping[str, Any]) -> Tensor:
    """Return the input of one of torch's functions, which may be called by its name.

    Args:
        args, named: Arguments of the call.
    """
    found: Tensor = args[0] if args else named["input"]
    return found


class _SoftmaxAxes(TorchFunctionMode):
    """Context that records the axes that softmax goes over."""

    def __init__(self) -> None:
        super().__init__()
        self.axes: set[int] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        if func in SOFTMAX:
            count = first_argument(args, named).dim()
            axis = named.get("dim", args[1] if len(args) > 1 else None)
            if axis is None:  # torch's choice where none is given
                axis = 0 if count in (0, 1, 3) else 1
            self.axes.add(axis % max(count, 1) if count > 1 else -1)
        return func(*args, **named)


def _of_input(passes: Passes, base: Tensor, axis: Axis, found: Dependence) -> None:
    """Look whether another sample in its place changes a sample's output, or a gradient reaches the input."""
    size = passes.batch.size
    rolled = _taken(passes.batch, axis, torch.arange(size).roll(-1))
    if all(
        torch.equal(a, b) for a, b in zip(tensors(passes.batch.given), tensors(rolled.given), strict=True)
    ):
        return
    output = passes.output(rolled)
    if output is None or not torch.equal(output, base):
        return
    gradient, source = _gradient(passes)
    if gradient is not None and bool(gradient.any()):
        return
    path = source is None or gradient is not None
    (found.constant if path else found.findings).append(
        Finding(
            verdict="output ignores the input",
            layer="",
            cause="the output is the same for every sample"
            + ("" if path else ", and no operation leads from the input to it: detach(), .data, numpy or a "
               "variable that is never used"),
            remedy=options(
                "follow the input through forward() and print what becomes of it",
                "look for a softmax over an axis of one, a mask or a gate that is 0",
            ),
            evidence=(
                Symptom("change of the output where every sample is replaced by another", 0.0,
                        torch.finfo(torch.float32).tiny, EXACT, below=True),
            ),
        )
    )  # fmt: skip


def _gradient(passes: Passes) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradient of a random sum of the outputs by the input, and that input; None without one."""
    with untouched(passes.model), unwatched(), torch.enable_grad():
        seed_generators(0)
        passes.model.eval()
        batch, source = passes.batch.differentiable()
        output = main_tensor(batch.output(passes.model))
        if source is None or output is None or not output.requires_grad:
            return None, source
        weights = torch.randn(output.shape, device=output.device).to(output.dtype)
        (found,) = torch.autograd.grad(output, source, weights, allow_unused=True)
        return found, source


def _of_features(passes: Passes, found: Dependence) -> None:
    """Note features of a two-dimensional input that no output depends on."""
    main = next((t for t in tensors(passes.batch.given) if t.dim()), None)
    if main is None or main.dim() != 2 or not main.is_floating_point() or found.findings or found.constant:
        return
    gradient, _ = _gradient(passes)
    if gradient is None or gradient.shape != main.shape:
        return
    unused = (gradient == 0).all(0)
    if not bool(unused.any()) or bool(unused.all()):
        return
    names = unused.nonzero().flatten().tolist()
    listed = ", ".join(map(str, names[:MOST_NAMED])) + (" …" if len(names) > MOST_NAMED else "")
    found.notes.append(
        f"no output depends on {count_noun(len(names), 'feature')} of {main.shape[1]} of the input: {listed}"
    )


def _of_positions(passes: Passes, base: Tensor | None, found: Dependence) -> None:
    """Look whether an output depends on positions after its own."""
    main = next((t for t in tensors(passes.batch.given) if t.dim()), None)
    pairs = (
        ()
        if main is None or base is None
        else [
            (inside, outside)
            for inside in range(1, main.dim())
            for outside in range(1, base.dim())
            if main.shape[inside] == base.shape[outside] > 1
        ]
    )
    if main is None or base is None or not pairs:
        given, got = ("nothing" if t is None else str(tuple(t.shape)) for t in (main, base))
        raise ConfigError(
            f"causal: expected an output at each position of the input; got {got} for an input {given}; "
            "leave causal out, or give a model that returns (N, T, …) for (N, T, …)"
        )
    inside, outside = pairs[0]
    length = main.shape[inside]
    for last in dict.fromkeys((length // 2 - 1, 0, length - 2)):
        other = _later_replaced(passes.batch, main.shape, inside, last)
        output = passes.output(other)
        if output is None:
            continue
        past = slice(0, last + 1)
        one, two = (t.transpose(0, outside)[past] for t in (base, output))
        if (moved := change(one, two)) > rounding(base):
            found.findings.append(_future(passes, other, length, last, moved, rounding(base)))
            return


def _later_replaced(batch: Batch, shape: torch.Size, axis: int, last: int) -> Batch:
    """Return the batch with other samples' values, or values in reverse order, after a position."""

    def replace(value: Tensor) -> Tensor:
        if value.shape[: axis + 1] != shape[: axis + 1]:
            return value
        later = value.narrow(axis, last + 1, value.shape[axis] - last - 1)
        changed = later.roll(1, 0) if not torch.equal(later.roll(1, 0), later) else later.flip(axis)
        if torch.equal(changed, later):
            changed = torch.zeros_like(later)
        return torch.cat([value.narrow(axis, 0, last + 1), changed], axis)

    return batch.mapped(replace)


def _future(passes: Passes, other: Batch, length: int, last: int, moved: float, size: float) -> Finding:
    """Report an output that depends on later positions, with the first layer whose output does."""

    def past(value: Tensor) -> Tensor | None:
        return value[:, : last + 1] if value.dim() > 2 and value.shape[1] == length else None

    return Finding(
        verdict="sees the future",
        layer=passes.first_change(other, past, size),
        cause=f"outputs up to position {last} change where the input after it is replaced",
        remedy=options(
            "a mask that hides later positions: True or −∞ above the diagonal, torch.triu(…, diagonal=1)",
            "no bidirectional layer, no pooling or norm over positions",
        ),
        evidence=(
            Symptom(
                f"change of the output up to position {last} of {length} through later input, as a share of "
                "the largest output",
                moved,
                size,
                "a prediction of what it has seen is none; beyond what rounding changes",
            ),
        ),
    )
