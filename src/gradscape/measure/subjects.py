"""What is watched: a model's parameters, whose they are, and which optimiser trains them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import Optimizer

from gradscape.errors import ConfigError
from gradscape.history import OptimizerFacts
from gradscape.measure.gradient_flow import parameters_and_kinds
from gradscape.measure.gradient_norms import Shards

# At the root DDP and torch.compile; anywhere torch.compile, FSDP1 and checkpoint_wrapper.
WRAPPERS = re.compile(
    r"^(?:module\.|_orig_mod\.)+|\b(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)


@dataclass(frozen=True)
class Subjects:
    """Parameters that an optimiser trains, in the order of registration: that of the forward pass, mostly.

    Attributes:
        names: without what compiling and wrapping put before them.
        kinds: `conv`, `linear`, `embedding`, `norm`, `bias` or `scale`.
        parameters: each once, however many modules share it.
        members: by an optimiser's `id`, the places of its parameters.
        shards: how the parameters are split over processes.
        notes: what was found odd, in words.
        modules: names of the classes that the model is made of, each once.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    parameters: tuple[nn.Parameter, ...]
    members: Mapping[int, list[int]]
    shards: Shards
    notes: tuple[str, ...]
    modules: tuple[str, ...]

    @classmethod
    def of(cls, model: nn.Module, optimizers: Sequence[Optimizer]) -> Subjects:
        """Of a model and the optimisers that train it.

        Raises:
            ConfigError: a model without parameters, no optimiser, or one that trains none of them.
        """
        found = named(model)
        if not found:
            raise ConfigError(f"{type(model).__name__} has no parameters: there is nothing to watch")
        if not optimizers:
            raise ConfigError(
                "optimizer: none is given; give the one that trains the model, or a list of them"
            )
        trained = [parameters_of(optimizer) for optimizer in optimizers]
        for optimizer, theirs in zip(optimizers, trained, strict=True):
            if not any(id(parameter) in theirs for _, _, parameter in found):
                raise ConfigError(
                    f"{type(optimizer).__name__} trains none of the parameters of {type(model).__name__}: "
                    "give the optimiser made from this very model's parameters()"
                )
        everyone = {key for theirs in trained for key in theirs}
        chosen = [entry for entry in found if id(entry[2]) in everyone and entry[2].requires_grad]
        if not chosen:
            raise ConfigError(
                f"every parameter of {type(model).__name__} is frozen: none has a gradient to watch"
            )
        names, kinds, parameters = zip(*chosen, strict=True)
        members = {
            id(optimizer): [place for place, parameter in enumerate(parameters) if id(parameter) in theirs]
            for optimizer, theirs in zip(optimizers, trained, strict=True)
        }
        notes = [*not_watched(found, everyone), *foreign(model, found, everyone)]
        modules = tuple(dict.fromkeys(type(module).__name__ for module in model.modules()))
        return cls(names, kinds, parameters, members, Shards.of(parameters), tuple(notes), modules)


Entry = tuple[str, str, nn.Parameter]


def named(model: nn.Module) -> list[Entry]:
    """Name, kind and parameter of each, shared ones once under their first name."""
    found, seen = [], set()
    for name, kind, parameter in parameters_and_kinds(model):
        if id(parameter) not in seen:
            seen.add(id(parameter))
            found.append((plain(name), kind, parameter))
    return found


def plain(name: str) -> str:
    """Without what torch.compile, DDP, FSDP and checkpoint wrappers put before a name.

    Example:
        >>> plain("_orig_mod.module.0.weight")
        '0.weight'
    """
    return WRAPPERS.sub("", name)


def parameters_of(optimizer: Optimizer) -> set[int]:
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}


def not_watched(found: Sequence[Entry], trained: set[int]) -> list[str]:
    """Notes on the model's parameters that no optimiser changes."""
    frozen = [name for name, _, parameter in found if not parameter.requires_grad]
    left = [name for name, _, p in found if p.requires_grad and id(p) not in trained]
    return [
        *([f"frozen, not watched: {listed(frozen)}"] if frozen else []),
        *([f"no optimiser given trains {listed(left)}"] if left else []),
    ]


def foreign(model: nn.Module, found: Sequence[Entry], trained: set[int]) -> list[str]:
    count = len(trained - {id(parameter) for _, _, parameter in found})
    return [f"{count} parameters of the optimiser are not of {type(model).__name__}"] if count else []


def listed(names: Sequence[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


# Optimizers, by their class or one that it inherits from, whose step is lr · m / (√v + ε) with that very ε;
# Adamax has |g| + ε. Adadelta's stands under the root, and Adafactor's two bound other things.
ADAPTIVE = {
    "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "RMSprop", "SparseAdam", "FusedAdam",
    "DeepSpeedCPUAdam", "Adam8bit", "AdamW8bit", "PagedAdam", "PagedAdamW", "PagedAdamW8bit", "AdamP",
    "RAdamScheduleFree", "AdamWScheduleFree", "AdamWScheduleFreeReference", "RMSpropTFLike",
}  # fmt: skip
PLAIN = {"SGD", "ASGD", "SGDW", "SGDP", "SGDScheduleFree", "SGDScheduleFreeReference"}


def facts(optimizer: Optimizer, members: Sequence[int]) -> OptimizerFacts:
    """What a diagnosis has to know of an optimiser: its kind, and its settings as they are now."""
    # Settings that differ between groups rarely differ by orders of magnitude.
    group = optimizer.param_groups[0]
    kinds = {kind.__name__ for kind in type(optimizer).__mro__}
    return OptimizerFacts(
        name=type(optimizer).__name__,
        lr=number(group.get("lr")),
        eps=number(group.get("eps")) if kinds & ADAPTIVE else None,
        momentum=number(group.get("momentum")),
        members=tuple(members),
        plain=bool(kinds & PLAIN),
    )


def number(value: object) -> float | None:
    """A setting as a number; a tensor's value, or None where there is none."""
    if isinstance(value, Tensor):
        return float(value.item())
    return float(value) if isinstance(value, int | float) else None
