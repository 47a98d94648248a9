"""Training steps of a copy of a model, whose original stays as it is: loss and backward pass."""

from __future__ import annotations

from contextlib import AbstractContextManager

from torch import Tensor, nn

from gradscape.errors import ConfigError, GradscapeError, first_line
from gradscape.measure.core.as_found import AsFound, standing_in
from gradscape.measure.core.batch import Batch, Loss
from gradscape.measure.core.leaves import refuse_own, refuse_uncopied, same_gradients, told_of_backward
from gradscape.measure.core.preserve import refuse


class Original:
    """The user's module, whose copies are trained: a loss that reads its parameters is to read a copy's."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.found = model, AsFound(model)
        self.names = {id(p): name for name, p in model.named_parameters()}

    def standing_at(self, model: nn.Module) -> AbstractContextManager[None]:
        """Put a copy's parameters and buffers in the place of its own, where names and shapes agree.

        Args:
            model: Copy that is trained.
        """
        theirs, mine = (
            {**dict(m.named_parameters()), **dict(m.named_buffers())} for m in (model, self.model)
        )
        alike = {n: t for n, t in theirs.items() if n in mine and mine[n].shape == t.shape}
        return standing_in(self.model, alike, self.found)


def require_trainable(model: nn.Module) -> None:
    """Refuse a model that cannot be measured, or has nothing to train.

    Args:
        model: Module that a factory made, or a copy.

    Raises:
        ConfigError: As `refuse`, or no parameter requires a gradient.
    """
    refuse(model)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(f"make_model: {type(model).__name__} has no parameter to train")


def loss_of_copy(model: nn.Module, batch: Batch, loss: Loss | None, own: Original | None) -> Tensor:
    """Return the loss of a copy, in the mode that the copy is in.

    Args:
        model: Copy that is trained.
        batch: Batch of the step.
        loss: Loss, as of `gradscape.check`.
        own: The user's module; None for a factory.

    Raises:
        ConfigError: The copy or the loss fails, or the loss reaches the original's parameters from elsewhere
            than the original.
    """
    try:
        output = batch.output(model)
    except GradscapeError:
        raise
    except Exception as error:  # of any kind: hooks may miss what a copy has not
        made = type(model).__name__
        raise ConfigError(f"{made}: the copy that is trained fails: {first_line(error)}") from error
    if own is None:
        return batch.loss(loss, output)
    if batch.calling is None:
        refuse_uncopied(output, model, own.names)
    with own.standing_at(model):
        value = batch.loss(loss, output)
    refuse_own(value, own.names)
    return value


def go_backward(value: Tensor, model: nn.Module) -> None:
    """Make the gradients of a copy, and no others.

    Args:
        value: Loss of the copy.
        model: Copy that is trained.
    """
    with same_gradients(value, model), told_of_backward():
        value.backward()  # type: ignore[no-untyped-call]


def backward(model: nn.Module, batch: Batch, loss: Loss | None, own: Original | None) -> float:
    """Return the loss of a copy, after a backward pass that makes the copy's gradients alone.

    Args:
        model, batch, loss, own: As of `loss_of_copy`.

    Raises:
        ConfigError: As `loss_of_copy`.
    """
    value = loss_of_copy(model, batch, loss, own)
    go_backward(value, model)
    return float(value.detach())
