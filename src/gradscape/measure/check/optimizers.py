"""Parameters that the user's optimizers leave out."""

from __future__ import annotations

from torch import nn

from gradscape._text import count_noun, join_names
from gradscape.measure.core.copied_optimizer import Given, all_given
from gradscape.measure.core.parameters import parameters_of, strip_wrappers
from gradscape.measure.diagnose.advice import options
from gradscape.records.diagnosis import Finding, Symptom


def outside(given: Given, model: nn.Module) -> list[Finding]:
    """Report parameters that require a gradient and that no optimizer of the user's has.

    Args:
        given: As of `steppers_of`.
        model: The user's module.
    """
    optimizers = all_given(given)
    if not optimizers:
        return []
    held = {key for optimizer in optimizers for key in parameters_of(optimizer)}
    names = [n for n, p in model.named_parameters() if p.requires_grad and id(p) not in held]
    if not names:
        return []
    having = " and ".join(type(optimizer).__name__ for optimizer in optimizers)
    what = f"parameters with requires_grad that {having} does not have"
    return [
        Finding(
            verdict="parameters outside the optimizer",
            layer=strip_wrappers(names[0]),
            cause=f"{count_noun(len(names), 'parameter')} will never get a step: {join_names(names)}",
            remedy=options(
                "make the optimizer of model.parameters() after the model is complete",
                "requires_grad_(False), if they are to stay as they are",
            ),
            evidence=(Symptom(what, float(len(names)), 0.0, "none is meant to be"),),
        )
    ]
