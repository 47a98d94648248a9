"""Loss functions of a step, read from their graph, with numbers that still are on their device."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from gradscape.errors import brief, nearest
from gradscape.measure.core.batch import described
from gradscape.measure.core.graph.functions import SeenTerm
from gradscape.measure.watch.summaries import CLASSES, Pending, class_counts, is_readable, summarize
from gradscape.records.loss import REGRESSION, LossTerm

SAMPLES = 4_096  # outputs whose largest class is counted
# Class of a loss → its function's name.
LOSSES = {
    "CrossEntropyLoss": "cross_entropy",
    "NLLLoss": "nll_loss",
    "MSELoss": "mse_loss",
    "L1Loss": "l1_loss",
    "SmoothL1Loss": "smooth_l1_loss",
    "HuberLoss": "huber_loss",
    "BCELoss": "binary_cross_entropy",
    "BCEWithLogitsLoss": "binary_cross_entropy_with_logits",
    "KLDivLoss": "kl_div",
    "PoissonNLLLoss": "poisson_nll_loss",
    "GaussianNLLLoss": "gaussian_nll_loss",
    "CTCLoss": "ctc_loss",
    "MultiLabelSoftMarginLoss": "multilabel_soft_margin_loss",
    "MultiMarginLoss": "multi_margin_loss",
    "SoftMarginLoss": "soft_margin_loss",
}
LOOK_LIKE_CLASSES = 31  # whole numbers that are counted among real ones, one a sample: classes in disguise
OVER_CLASSES = ("cross_entropy", "nll_loss", "multi_margin_loss")


@dataclass(frozen=True)
class PendingTerm:
    """Loss function, whose output and target are read later.

    Attributes:
        seen: Function as the graph tells it, without its tensors.
        output, target: Summaries of what it was given.
        counts, predicted: Counts of the classes among targets and among the largest outputs.
        ignored: Share of targets that are left out.
        one_hot: Whether each target is 0 but for a single 1.
    """

    seen: LossTerm
    output: Pending | None
    target: Pending | None
    counts: Tensor | None
    predicted: Tensor | None
    ignored: Tensor | None
    one_hot: Tensor | None

    def read(self) -> LossTerm:
        """Return the term; waits for the device."""
        return replace(
            self.seen,
            output=None if self.output is None else self.output.read(),
            target=None if self.target is None else self.target.read(),
            target_counts=() if self.counts is None else tuple(self.counts.tolist()),
            predicted_counts=() if self.predicted is None else tuple(self.predicted.tolist()),
            ignored=0.0 if self.ignored is None else float(self.ignored),
            one_hot=self.one_hot is not None and bool(self.one_hot),
        )


def _differ(term: SeenTerm) -> bool:
    """Return True for a loss of each element with its own target, whose shapes are not the same."""
    return not term.classes and len(term.shapes) == 2 and term.shapes[0] != term.shapes[1]


def _is_vector(target: Tensor) -> bool:
    """Return True for real targets, one a sample."""
    return not target.is_complex() and 0 < target.numel() == target.shape[:1].numel()


def refusal(value: object, output: object, target: object, name: object) -> str:
    """Return why a loss cannot be told, or an empty string.

    Args:
        value, output, target, name: As of `Watch.loss`, of any type.
    """
    if not isinstance(value, Tensor) or value.numel() != 1 or value.is_complex():
        return (
            f"value: expected the loss, a tensor of one number; got {described(value)}; type "
            "flow.loss(loss, output, target) before loss.backward()"
        )
    for argument, given in (("output", output), ("target", target)):
        if given is not None and not isinstance(given, Tensor):
            return f"{argument}: expected a tensor that the loss was given, or None; got {described(given)}"
    if name != "unknown" and not (isinstance(name, str) and hasattr(functional, name)):
        return (
            "name: expected the name of a function in torch.nn.functional, such as 'cross_entropy'; got "
            f"{brief(name)}{nearest(name, LOSSES.values())}"
        )
    return ""


def told_term(name: str, output: Tensor | None, target: Tensor | None) -> SeenTerm:
    """Return a loss function from what it was given, without its graph.

    Args:
        name: Name of the function.
        output, target: Tensors that it was given; None where not known.
    """
    known = output is not None and target is not None
    shapes = tuple(tuple(each.shape) for each in (output, target) if each is not None) if known else ()
    classes = output.shape[1] if name in OVER_CLASSES and output is not None and output.dim() > 1 else 0
    return SeenTerm(
        name=name,
        output=None if output is None else output.detach(),
        target=None if target is None else target.detach(),
        shapes=shapes,
        classes=classes,
        class_axis=1 if classes else None,
        ignore_index=-100 if name in OVER_CLASSES[:2] else None,
    )


@torch.no_grad()
def pending_term(term: SeenTerm) -> PendingTerm:
    """Begin the summary of a loss function.

    Args:
        term: Function with its tensors.
    """
    output, classes = term.output, min(term.classes, CLASSES)
    target = term.target if term.target is not None and is_readable(term.target) else None
    labels = target is not None and not target.is_floating_point() and not target.is_complex()
    ignored = None
    if labels and target is not None and term.ignore_index is not None:
        ignored = (target == term.ignore_index).float().mean() if target.numel() else None
    counts = predicted = one_hot = None
    if target is not None and labels and target.numel() and classes:
        counts = class_counts(target, classes)
    elif term.name in REGRESSION and target is not None and _is_vector(target):
        counts = class_counts(target.nan_to_num(-1, -1, -1), LOOK_LIKE_CLASSES)
    told = output if output is not None else term.log_probabilities
    told = told if told is not None and is_readable(told) and told.numel() else None
    if told is not None and classes > 1 and term.class_axis is not None:
        rows = told.movedim(term.class_axis, -1).reshape(-1, told.shape[term.class_axis])[:SAMPLES]
        predicted = class_counts(rows.argmax(-1), classes)
    if target is not None and not labels and target.dim() > 1 and target.shape[-1] > 1 and target.numel():
        rows = target.reshape(-1, target.shape[-1])[:SAMPLES]
        one_hot = ((rows == 0) | (rows == 1)).all() & (rows.sum(-1) == 1).all()
    return PendingTerm(
        seen=LossTerm(
            name=term.name,
            operations=term.operations,
            reduction=term.reduction,
            output=None,
            target=None,
            broadcast=term.broadcast or _differ(term),
            shapes=term.shapes,
            classes=term.classes,
            class_axes=term.class_axes,
            weighted=term.weighted,
        ),
        output=None if output is None else summarize(output),
        target=None if term.target is None else summarize(term.target),
        counts=counts,
        predicted=predicted,
        ignored=ignored,
        one_hot=one_hot,
    )
