"""Kinds of parameters: convolution, linear, embedding, norm, bias or scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

NORM_LAYERS = ("BatchNorm", "BatchRenorm", "Algorithm1", "GroupNorm", "LayerNorm", "InstanceNorm", "RMSNorm")


def parameter_kind(module: nn.Module, name: str, shape: Sequence[int]) -> str:
    """Return the kind of a parameter: `conv`, `linear`, `embedding`, `norm`, `bias` or `scale`.

    Curves never mix kinds. Fixup's multipliers replace a norm's γ and have its kind. A `scale` is any other
    tensor that is no matrix: a layer scale's γ, a PReLU's slope, a class token, a temperature. It may be tiny
    at first by design, and its size says nothing about the signal.

    Args:
        module: Owner of the parameter.
        name: Name of the parameter within its owner.
        shape: Shape of the parameter.
    """
    owner = type(module).__name__
    if any(word in owner for word in (*NORM_LAYERS, "ScalarMultiplier")):
        return "norm"
    if "bias" in name:  # recurrent layers have several, Swin a relative_position_bias_table
        return "bias"
    if "Embedding" in owner or "embed" in name:
        return "embedding"
    if "Linear" in owner and len(shape) > 1:  # with one output too
        return "linear"
    if "Conv" in owner and owner != "Conv1D" and len(shape) > 1:  # transformers' Conv1D is a linear layer
        return "conv"
    return "linear" if sum(size > 1 for size in shape) > 1 else "scale"


def parameters_and_kinds(model: nn.Module) -> Iterator[tuple[str, str, nn.Parameter]]:
    """Yield name, kind and parameter in the order of registration, shared ones under each of their names.

    Parameters from which torch.nn.utils.parametrize computes a weight have the kind of that weight, except
    the gain g of weight normalization, which is a norm's.

    Args:
        model: Any module.
    """
    for prefix, module in model.named_modules():
        owner, _, tensor = prefix.rpartition(PARAMETRIZED)
        for name, parameter in module.named_parameters(recurse=False):
            full = f"{prefix}.{name}" if prefix else name
            if not isinstance(module, ParametrizationList):
                yield full, parameter_kind(module, name, parameter.shape), parameter
            elif name == "original0" and type(module[0]).__name__ == "_WeightNorm":
                yield full, "norm", parameter
            else:
                whole = model.get_submodule(owner.removesuffix("."))
                yield full, parameter_kind(whole, tensor, parameter.shape), parameter


PARAMETRIZED = "parametrizations."  # between a module's name and its tensor's
