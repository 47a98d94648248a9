"""Skip connections put into a network.

torch.fx puts one around each weight layer with what follows it up to its activation; where torch.fx cannot
trace the network, one is put around each block that is a module of its own.
"""

from __future__ import annotations

import operator
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from gradscape.errors import ConfigError, first_line
from gradscape.measure.check.reinitialize import CONV, is_map
from gradscape.measure.check.surgery import SkipAround, put
from gradscape.measure.core.batch import Batch
from gradscape.measure.core.layer_trace import hooked, layer_kind, layers_in_order
from gradscape.measure.core.preserve import same_buffers
from gradscape.measure.signal.functional import FUNCTIONS

METHODS = ("relu", "relu_", "tanh", "sigmoid")


def traced(model: nn.Module, batch: Batch) -> fx.GraphModule:
    """Return the network as a graph whose nodes know their shapes; running statistics stay as they were.

    Args:
        model: Network.
        batch: Batch whose shapes are propagated.

    Raises:
        ConfigError: torch.fx cannot trace it, as where Python branches on values.
    """
    try:
        graph = fx.symbolic_trace(model)
        names = [node.target for node in graph.graph.nodes if node.op == "placeholder"]
        positional, by_name = batch.arguments(model)
        named = [by_name[str(name)] for name in names[len(positional) :] if name in by_name]
        with torch.no_grad(), same_buffers(graph):
            ShapeProp(graph).propagate(*positional, *named)
    except Exception as error:
        raise ConfigError(f"torch.fx cannot trace {type(model).__name__}: {first_line(error)}") from error
    return graph


def add_skips(graph: fx.GraphModule) -> int:
    """Put in x + f(x) for each f that keeps the shape: a convolution or linear layer, norm and activation.

    Args:
        graph: Graph of `traced`, changed in place.

    Returns:
        Number of skips put in.
    """
    shapes = {node: _shape(node) for node in graph.graph.nodes}
    count = 0
    for node in list(graph.graph.nodes):
        end = _activation_after(graph, node)
        if end is None or not isinstance(given := node.args[0], fx.Node):
            continue
        if shapes[given] is None or shapes[given] != shapes[end]:
            continue
        with graph.graph.inserting_after(end):
            added = graph.graph.call_function(operator.add, (given, end))
        shapes[added] = shapes[end]
        end.replace_all_uses_with(added, delete_user_cb=partial(operator.is_not, added))
        count += 1
    graph.recompile()
    return count


def _activation_after(graph: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """Return the end of the block that a weight layer begins: the activation after it, norms between."""
    if node.op != "call_module" or not isinstance(_module_of(graph, node), (*CONV, nn.Linear)):
        return None
    while len(node.users) == 1:
        node = next(iter(node.users))
        if _activates(graph, node):
            return node
        if node.op != "call_module" or not _passes(_module_of(graph, node)):
            return None
    return None


def _activates(graph: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return layer_kind(_module_of(graph, node)) == "activation"
    return node.target in (FUNCTIONS if node.op == "call_function" else METHODS)


def _passes(module: nn.Module) -> bool:
    return isinstance(module, nn.Identity) or layer_kind(module) in ("norm", "dropout")


def _module_of(graph: fx.GraphModule, node: fx.Node) -> nn.Module:
    return graph.get_submodule(str(node.target))


def _shape(node: fx.Node) -> torch.Size | None:
    found: torch.Size | None = getattr(node.meta.get("tensor_meta"), "shape", None)
    return found


def skip_modules(model: nn.Module, batch: Batch) -> int:
    """Put a skip around each innermost module that has layers within and returns the shape it gets.

    Args:
        model: Network, changed in place.
        batch: Batch that it is run on.

    Returns:
        Number of skips put in.
    """
    same: list[nn.Module] = []

    def hook(module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        if len(given) == 1 and isinstance(given[0], Tensor) and isinstance(output, Tensor):
            weighty = any(is_map(m) for m in module.modules())
            if weighty and given[0].shape == output.shape and not any(m in same for m in module.modules()):
                same.append(module)

    blocks = [m for name, m in model.named_modules() if name and any(True for _ in m.children())]
    with hooked(blocks, hook):
        layers_in_order(model, batch)
    for module in same:
        put(model, module, SkipAround(module))
    return len(same)
