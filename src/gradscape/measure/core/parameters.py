"""Watched parameters of a model: their names, kinds and optimizers."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from gradscape._text import join_names
from gradscape.errors import ConfigError
from gradscape.measure.core.gradient_statistics import Shards
from gradscape.measure.core.parameter_kinds import parameters_and_kinds
from gradscape.records.gradients import OptimizerFacts, Untrained

# Attributes that only wrappers have: torch.compile, FSDP1, checkpoint_wrapper, Fabric.
INNER = re.compile(r"\b(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)(?:\.|$)")
# A wrapper's type → attribute with the wrapped module, a name that a user's model may have too.
WRAPPERS = {
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "DeepSpeedEngine": "module",
    "OptimizedModule": "_orig_mod",
    "_FabricModule": "_forward_module",
    "GradSampleModule": "_module",  # Opacus
}


@dataclass(frozen=True)
class WatchedParameters:
    """Parameters that an optimizer trains, in the order of registration: that of the forward pass, mostly.

    Attributes:
        names: Names in the model, without those of wrappers.
        kinds: Kinds: `conv`, `linear`, `embedding`, `norm`, `bias` or `scale`.
        parameters: Parameters; shared ones appear once.
        shards: Process groups over which the parameters are sharded.
        frozen: Parameters of the optimizers that require no gradient now.
        modules: Class names of the model's modules, each once.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    parameters: tuple[nn.Parameter, ...]
    shards: Shards
    frozen: tuple[nn.Parameter, ...]
    modules: tuple[str, ...]

    @classmethod
    def of(
        cls, model: nn.Module, optimizers: Sequence[Optimizer], watched: Container[int] = frozenset()
    ) -> WatchedParameters:
        """Find the parameters of a model that optimizers train.

        Args:
            model: Any module.
            optimizers: At least one optimizer.
            watched: Ids of parameters that are watched already, which remain even if frozen.

        Raises:
            ConfigError: If the model has no parameters or lazy ones or none with values, or there is no
                optimizer that trains any.
        """
        if lazy := [name for name, parameter in model.named_parameters() if is_lazy(parameter)]:
            raise ConfigError(
                f"{type(model).__name__} has parameters without a shape before its first pass: "
                f"{join_names(lazy)}; call it on a batch, make the optimizer, then watch"
            )
        found = named(model)
        if not found:
            raise ConfigError(f"{type(model).__name__} has no parameters: there is nothing to watch")
        if not optimizers:
            raise ConfigError(
                "optimizer: none is given; give the one that trains the model, or a list of them"
            )
        trained = [parameters_of(optimizer) for optimizer in optimizers]
        for optimizer, theirs in zip(optimizers, trained, strict=True):
            if not watched and not any(id(parameter) in theirs for _, _, parameter in found):
                raise ConfigError(
                    f"{type(optimizer).__name__} trains none of the parameters of {type(model).__name__}: "
                    "give the optimizer made from this very model's parameters()"
                )
        everyone = {key for theirs in trained for key in theirs}
        chosen = [
            (name, kind, p)
            for name, kind, p in found
            if id(p) in watched or (id(p) in everyone and p.requires_grad and not p.is_meta)
        ]
        if not chosen and any(p.is_meta for _, _, p in found):
            raise ConfigError(
                f"{type(model).__name__} has its parameters on meta, without values: give them some, as by "
                "model.to_empty(device=…) and a checkpoint, then make the optimizer and watch"
            )
        if not chosen:
            raise ConfigError(
                f"every parameter of {type(model).__name__} is frozen: none has a gradient to watch"
            )
        names, kinds, parameters = zip(*chosen, strict=True)
        frozen = tuple(p for _, _, p in found if id(p) in everyone and not p.requires_grad)
        modules = tuple(dict.fromkeys(type(module).__name__ for module in model.modules()))
        return cls(names, kinds, parameters, Shards.of(parameters), frozen, modules)


Entry = tuple[str, str, nn.Parameter]


def named(model: nn.Module) -> list[Entry]:
    """Return name, kind and parameter of each; shared ones once, under their first name.

    Args:
        model: Any module.
    """
    found, seen = [], set()
    wrappers = {name: inner for name, module in model.named_modules() if (inner := _held_by(module))}
    for name, kind, parameter in parameters_and_kinds(model):
        if id(parameter) not in seen:
            seen.add(id(parameter))
            found.append((_without(wrappers, name), kind, parameter))
    return found


def _held_by(module: nn.Module) -> str:
    """Return the attribute with a wrapper's wrapped module; empty for any other module."""
    return next((WRAPPERS[kind.__name__] for kind in type(module).__mro__ if kind.__name__ in WRAPPERS), "")


def _without(wrappers: Mapping[str, str], name: str) -> str:
    """Remove the parts of a name that wrappers insert.

    Args:
        wrappers: Result of `_held_by` by the name of each wrapper.
        name: Name of a module or parameter.

    Example:
        >>> _without({"": "module"}, "module.module.weight")
        'module.weight'
    """
    kept, place = [], ""
    for part in name.split("."):
        if wrappers.get(place) != part:
            kept.append(part)
        place = f"{place}.{part}" if place else part
    return strip_wrappers(".".join(kept))


def strip_wrappers(name: str) -> str:
    """Remove the parts of a name that only wrappers have.

    Args:
        name: Name of a module or parameter.

    Example:
        >>> strip_wrappers("_orig_mod.0._checkpoint_wrapped_module.weight")
        '0.weight'
    """
    return INNER.sub("", name)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module inside all its wrappers.

    Args:
        model: Any module.
    """
    while (inner := _held_by(model)) and isinstance(held := getattr(model, inner, None), nn.Module):
        model = held
    return model


def parameters_of(optimizer: Optimizer) -> set[int]:
    """Return the ids of an optimizer's parameters.

    Args:
        optimizer: Any optimizer.
    """
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}


def not_watched(found: Sequence[Entry], trained: set[int], watched: Container[int] = ()) -> list[str]:
    """Return notes on the model's parameters that no optimizer trains.

    Args:
        found: Result of `named`.
        trained: Ids of the optimizers' parameters.
        watched: Ids of parameters that are watched already.
    """
    still = [(name, id(p) in watched) for name, _, p in found if not p.requires_grad]
    frozen, by_now = ([name for name, seen in still if seen is which] for which in (False, True))
    left = [name for name, _, p in found if p.requires_grad and id(p) not in trained]
    meta = [name for name, _, p in found if p.is_meta]
    return [
        *([f"on meta, without values, not watched: {join_names(meta)}"] if meta else []),
        *([f"frozen, not watched: {join_names(frozen)}"] if frozen else []),
        *([f"frozen since the watch began: {join_names(by_now)}"] if by_now else []),
        *([f"no optimizer given trains {join_names(left)}"] if left else []),
    ]


def untrained(found: Sequence[Entry], trained: set[int]) -> Untrained:
    """Return the model's parameters that no optimizer trains, and those that require no gradient.

    Args:
        found: Result of `named`.
        trained: Ids of the optimizers' parameters.
    """
    left = [(name, p.numel()) for name, _, p in found if p.requires_grad and id(p) not in trained]
    frozen = [(name, p.numel()) for name, _, p in found if not p.requires_grad]
    total = max(1, sum(parameter.numel() for _, _, parameter in found))
    return Untrained(
        tuple(name for name, _ in left),
        sum(size for _, size in left) / total,
        _not_among(found, trained),
        tuple(name for name, _ in frozen),
        sum(size for _, size in frozen) / total,
    )


def _not_among(found: Sequence[Entry], trained: set[int]) -> int:
    """Return the number of the optimizers' parameters that are not the model's."""
    return len(trained - {id(parameter) for _, _, parameter in found})


def foreign(model: nn.Module, found: Sequence[Entry], trained: set[int]) -> list[str]:
    """Return a note on the optimizers' parameters that are not the model's, in a list, or an empty list.

    Args:
        model: Any module.
        found: Result of `named`.
        trained: Ids of the optimizers' parameters.
    """
    count = _not_among(found, trained)
    return [f"{count} parameters of the optimizer are not of {type(model).__name__}"] if count else []


# Optimizers, by their class or one of its bases, with a step lr · m / (√v + ε); Adamax has |g| + ε. The ε of
# Adadelta is under the root, and the two of Adafactor bound other quantities.
ADAPTIVE = {
    "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "RMSprop", "SparseAdam", "FusedAdam",
    "DeepSpeedCPUAdam", "Adam8bit", "AdamW8bit", "PagedAdam", "PagedAdamW", "PagedAdamW8bit", "AdamP",
    "RAdamScheduleFree", "AdamWScheduleFree", "AdamWScheduleFreeReference", "RMSpropTFLike",
}  # fmt: skip
DECOUPLED = {
    "AdamW", "SGDW", "AdamW8bit", "PagedAdamW", "PagedAdamW8bit", "AdamWScheduleFree",
    "AdamWScheduleFreeReference", "Lion", "Muon",
}  # fmt: skip
PLAIN = {"SGD", "ASGD", "SGDW", "SGDP", "SGDScheduleFree", "SGDScheduleFreeReference"}


def facts(
    optimizer: Optimizer, members: Sequence[int], parameters: Sequence[nn.Parameter] = ()
) -> OptimizerFacts:
    """Return the facts on an optimizer that a diagnosis needs: its kind and current settings.

    Args:
        optimizer: Any optimizer.
        members: Indices of its parameters among the watched ones.
        parameters: Those parameters; without them the decay is not told.
    """
    # Settings that differ between groups rarely differ by orders of magnitude.
    group = optimizer.param_groups[0]
    decay = tuple(_settings(optimizer, parameters, "weight_decay"))
    kinds = {kind.__name__ for kind in type(optimizer).__mro__}
    return OptimizerFacts(
        name=type(optimizer).__name__,
        lr=number(group.get("lr")),
        eps=number(group.get("eps")) if kinds & ADAPTIVE else None,
        momentum=number(group.get("momentum")),
        members=tuple(members),
        plain=bool(kinds & PLAIN),
        decay=decay if any(decay) else (),
        decoupled=bool(kinds & DECOUPLED) or bool(group.get("decoupled_weight_decay")),
        maximize=bool(group.get("maximize")),
    )


def _settings(optimizer: Optimizer, parameters: Sequence[nn.Parameter], name: str) -> list[float]:
    """Return a setting of each parameter's group; 0 where it has none or it is no number."""
    value_of = {
        id(parameter): number(group.get(name)) or 0.0
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    return [value_of.get(id(parameter), 0.0) for parameter in parameters]


def learning_rates(optimizer: Optimizer, parameters: Sequence[nn.Parameter]) -> list[float]:
    """Return the current learning rate of each parameter; NaN where it is on another device, or is none.

    Args:
        optimizer: Any optimizer.
        parameters: Some of its parameters.
    """
    rate_of: dict[int, float] = {}
    for group in optimizer.param_groups:
        rate = group.get("lr")
        known = not (isinstance(rate, Tensor) and rate.is_cuda)  # reading it would wait for the device
        found = number(rate) if known else None
        rate_of |= dict.fromkeys(map(id, group["params"]), math.nan if found is None else found)
    return [rate_of.get(id(parameter), math.nan) for parameter in parameters]


def number(value: object) -> float | None:
    """Return a setting as a number; None if it is none.

    Args:
        value: Number, tensor of one number, or anything else.
    """
    if isinstance(value, Tensor):
        return float(value.item())
    return float(value) if isinstance(value, int | float) else None


def is_plain(values: Tensor) -> bool:
    """Return True for a tensor whose elements are all here, as numbers: not sharded, sparse or quantized.

    Args:
        values: Tensor.
    """
    sharded = hasattr(values, "placements")
    return not (sharded or values.is_meta or values.is_sparse or values.is_quantized)
