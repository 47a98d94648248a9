"""Weights drawn anew in place: He's, Glorot's, orthogonal ones, and those of LSUV.

A weight here is the matrix or kernel of one map: of an LSTM each gate's, of an attention each projection's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _WeightNorm

from gradscape.errors import ConfigError
from gradscape.measure.core.batch import Batch
from gradscape.measure.core.layer_trace import hooked, layers_in_order

CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
VARIANCE = 1e-12  # of an output below which it is taken for constant


@torch.no_grad()
def redraw(model: nn.Module, draw: Callable[[Tensor], object]) -> tuple[int, int]:
    """Draw every weight and zero the biases beside them.

    Args:
        model: Network, changed in place.
        draw: Function that fills a weight, (outputs, inputs, …), in place.

    Returns:
        Number of layers drawn, and number of layers left as they are because they are parametrized.
    """
    drawn = left = 0
    for module in model.modules():
        if parametrize.is_parametrized(module):  # its weight is computed from others
            left += 1
            continue
        weights = list(_weights_of(module))
        for weight in weights:
            draw(weight)
        for name, parameter in module.named_parameters(recurse=False):
            if weights and "bias" in name:
                parameter.zero_()
        drawn += bool(weights)
    return drawn, left


def orthogonal_(weight: Tensor) -> None:
    """Draw an orthogonal matrix, (outputs, everything else), in float32 at least: in less there is no QR.

    It is drawn into memory of its own, for torch writes into none that is channels-last.

    Args:
        weight: Weight to fill, (outputs, …).
    """
    exact = torch.promote_types(weight.dtype, torch.float32)
    with torch.no_grad():
        weight.copy_(nn.init.orthogonal_(weight.new_empty(weight.shape, dtype=exact)))


def is_map(module: nn.Module) -> bool:
    """Return True for a convolution or a linear layer, transformers' Conv1D among them.

    Args:
        module: Layer.
    """
    return isinstance(module, (*CONV, nn.Linear)) or is_transposed(module)


def is_transposed(module: nn.Module) -> bool:
    """Return True for transformers' Conv1D, a linear layer whose weight is (inputs, outputs).

    Args:
        module: Layer.
    """
    return type(module).__name__ == "Conv1D" and isinstance(getattr(module, "weight", None), Tensor)


def _weights_of(module: nn.Module) -> Iterator[Tensor]:
    """Views of a layer's own weights, (outputs, inputs, …) each."""
    if isinstance(module, (*CONV, nn.Linear)):
        yield module.weight
    elif is_transposed(module):
        yield cast(Tensor, module.weight).T
    elif isinstance(module, nn.RNNBase | nn.RNNCellBase):
        for name, parameter in module.named_parameters(recurse=False):
            if "weight" in name:
                yield from parameter.chunk(max(1, parameter.shape[0] // _hidden(module, name)))
    elif isinstance(module, nn.MultiheadAttention):
        if module.in_proj_weight is not None:
            yield from module.in_proj_weight.chunk(3)
        else:
            yield from (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)


def _hidden(module: nn.RNNBase | nn.RNNCellBase, name: str) -> int:
    """Rows of one gate."""
    projected = getattr(module, "proj_size", 0)
    return int(projected if projected and "weight_hr" in name else module.hidden_size)


def slope_of(model: nn.Module) -> float:
    """Return the negative slope for He's gain: that of the first LeakyReLU, else 0, ReLU's.

    Args:
        model: Network.
    """
    return next((m.negative_slope for m in model.modules() if isinstance(m, nn.LeakyReLU)), 0.0)


@torch.no_grad()
def unit_variance(model: nn.Module, batch: Batch) -> tuple[int, list[str]]:
    """LSUV's second half (Mishkin & Matas 2016, Algorithm 1): every layer's output of variance 1, in order.

    Weights and biases are divided by the output's standard deviation; of weights under torch's weight_norm
    the gain g is (Salimans & Kingma 2016, eq. 5 and 6); those parametrized otherwise stay. One forward pass
    does it for all layers: an output is linear in weights and bias, so that divided it is that of both
    divided. Of a layer called several times the first call counts.

    Args:
        model: Network in the mode to scale it in; running statistics and all other buffers stay as they are.
        batch: Batch that it is run on.

    Returns:
        Number of layers that were scaled, and the names of those whose output is constant or not finite.
    """
    done: set[int] = set()
    failed: list[str] = []

    def hook(module: nn.Module, _: object, output: Tensor) -> Tensor | None:
        if id(module) in done:
            return None
        if torch._C._functorch.is_functorch_wrapped_tensor(output):
            name = names[id(module)]
            raise ConfigError(
                f"lsuv: layer {name} runs within vmap or another transform, which hides its output"
            )
        done.add(id(module))
        variance = float(output.double().var())
        if not VARIANCE < variance < float("inf"):
            failed.append(names[id(module)])
            return None
        for part in scales[id(module)]:
            part /= variance**0.5
        return output.div(variance**0.5)

    layers = {name: m for name, m in model.named_modules() if is_map(m)}
    scales = {id(m): found for m in layers.values() if (found := _scales_of(m))}
    names = {id(m): name for name, m in layers.items() if id(m) in scales}
    with hooked([m for m in layers.values() if id(m) in names], hook):
        layers_in_order(model, batch)
    return len(done) - len(failed), failed


def _scales_of(module: nn.Module) -> list[Tensor]:
    """Parameters in which a layer's output is linear; none where its weight is computed in another way."""
    own = dict(module.named_parameters(recurse=False))
    found: list[Tensor] = [own[name] for name in ("weight", "bias") if name in own]
    if not parametrize.is_parametrized(module):
        return found
    computed = dict(cast(nn.ModuleDict, module.parametrizations).items())
    chain = computed.pop("weight", None)
    if computed or not isinstance(chain, nn.ModuleList) or [type(each) for each in chain] != [_WeightNorm]:
        return []
    return [cast(Tensor, chain.original0), *found]  # g
