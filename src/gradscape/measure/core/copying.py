"""Copy models, including those that `copy.deepcopy` refuses."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradscape.errors import ConfigError, first_line


def copied(model: nn.Module) -> nn.Module:
    """Return a copy that shares no parameter and no buffer with the model, without gradients.

    Tensors that a forward pass has left, such as the weights that torch.nn.utils.weight_norm computes, are
    copied without their graph: the copy's own forward pass recomputes them.

    Args:
        model: Any module.

    Raises:
        ConfigError: If it cannot be copied.
    """
    name = type(model).__name__
    gradients = [(p, p.grad) for p in model.parameters()]
    try:
        for p, _ in gradients:
            p.grad = None
        with _WithoutGraphs():
            twin = copy.deepcopy(model)
    except Exception as error:
        raise ConfigError(f"{name} cannot be copied: {first_line(error)}") from error
    finally:
        for p, gradient in gradients:
            p.grad = gradient
    mine = {id(tensor) for tensor in [*model.parameters(), *model.buffers()]}
    if any(id(tensor) in mine for tensor in [*twin.parameters(), *twin.buffers()]):
        raise ConfigError(f"{name} cannot be copied: its copy shares its weights")
    return twin


class _WithoutGraphs(TorchFunctionMode):
    """Mode that lets `deepcopy` copy tensors with a graph, which it refuses: the copy has none."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is Tensor.__deepcopy__ and not args[0].is_leaf:
            tensor, memo = args
            return memo.setdefault(id(tensor), tensor.detach().clone())
        return func(*args, **(kwargs or {}))
