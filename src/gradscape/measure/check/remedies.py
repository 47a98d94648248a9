"""Remedies tried on a copy of a network: another initialization, norms, skip connections, another activation.

Each of `REMEDIES` takes (model, batch, seed) and gives what was `Applied`, or why it cannot be in one line.
The model itself, its hooks and all random numbers stay as they are.

    >>> for name, remedy in REMEDIES.items():
    ...     found = remedy(model, (x, y))
    ...     print(name, "–", found.what if isinstance(found, Applied) else f"not tried: {found}")
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

from torch import nn

from gradscape._text import count_noun
from gradscape.errors import ConfigError, GradscapeError, first_line
from gradscape.measure.check.reinitialize import orthogonal_, redraw, slope_of, unit_variance
from gradscape.measure.check.skip_connections import add_skips, skip_modules, traced
from gradscape.measure.check.surgery import NormAfter, norm_for, put
from gradscape.measure.core.batch import Batch, unwrapped
from gradscape.measure.core.copying import copied
from gradscape.measure.core.layer_trace import layer_kind, layers_in_order
from gradscape.measure.core.preserve import random_state, seed_generators


@dataclass(frozen=True)
class Applied:
    """A copy with a remedy in it.

    Attributes:
        model: the changed copy, in the mode of the original.
        what: was done, in words.
    """

    model: nn.Module
    what: str

    def __str__(self) -> str:
        return self.what


RemedyFunction = Callable[..., Applied | str]


def _remedy(change: Callable[..., Applied]) -> RemedyFunction:
    """Turn a change of a copy into a remedy that copies, draws from a seed, and returns refusals as text."""

    @wraps(change)
    def tried(model: nn.Module, batch: Any, seed: int = 0, **options: Any) -> Applied | str:
        try:
            with random_state():
                seed_generators(seed)
                given = Batch.of(batch, unwrapped(model))
                applied = change(copied(unwrapped(model)), given, **options)
                layers_in_order(applied.model, given)  # whether it runs
        except GradscapeError as error:
            return str(error)
        except Exception as error:  # of any kind: one remedy's failure is no other's
            return f"it fails: {first_line(error)}"
        return applied

    return tried


@_remedy
def _he(model: nn.Module, batch: Batch) -> Applied:
    """Normal weights of variance 2/((1 + a²) fan_in), a of the first LeakyReLU (He et al. 2015, eq. 15)."""
    slope = slope_of(model)
    done = _drawn(model, partial(nn.init.kaiming_normal_, a=slope))
    return Applied(model, f"He initialization, normal with variance 2/((1 + {slope:g}²) fan_in), of {done}")


@_remedy
def _glorot(model: nn.Module, batch: Batch) -> Applied:
    """Uniform weights of variance 2/(fan_in + fan_out) (Glorot & Bengio 2010, eq. 16)."""
    done = _drawn(model, nn.init.xavier_uniform_)
    return Applied(model, f"Glorot initialization, uniform with variance 2/(fan_in + fan_out), of {done}")


@_remedy
def _orthogonal(model: nn.Module, batch: Batch) -> Applied:
    """Orthogonal matrices, a kernel as (outputs, everything else) (Saxe et al. 2014)."""
    return Applied(model, f"orthogonal initialization of {_drawn(model, orthogonal_)}")


@_remedy
def _lsuv(model: nn.Module, batch: Batch) -> Applied:
    """Orthogonal weights, then each output scaled to variance 1 on the batch (Mishkin & Matas 2016)."""
    _drawn(model, orthogonal_)
    scaled, failed = unit_variance(model, batch)
    if not scaled:
        raise ConfigError("lsuv: no convolution or linear layer's output varies on the batch")
    rest = f"; left as drawn, its output does not vary: {', '.join(failed[:4])}" if failed else ""
    return Applied(model, f"LSUV: orthogonal, then {scaled} layers' outputs of variance 1{rest}")


def _drawn(model: nn.Module, draw: Callable[[Any], object]) -> str:
    """Draw all weights; how many layers, in words."""
    count, left = redraw(model, draw)
    if not count:
        raise ConfigError(
            f"{type(model).__name__} has no convolution, linear or recurrent layer to initialize"
        )
    return f"{count_noun(count, 'layer')}, biases 0" + (
        f"; {left} parametrized ones left as they were" if left else ""
    )


@_remedy
def _norm(model: nn.Module, batch: Batch) -> Applied:
    """BatchNorm after each convolution, LayerNorm after each linear one; not the last, nor before a norm."""
    order = _called_in_order(model, batch)
    follows = dict(zip(map(id, order[:-1]), order[1:], strict=True))
    last = next((m for m in reversed(order) if norm_for(m) is not None), None)
    done: dict[int, str] = {}
    for layer in order:
        after = follows.get(id(layer))
        normed = after is not None and layer_kind(after) == "norm"
        made = None if layer is last or normed else norm_for(layer)
        if made is not None and id(layer) not in done:
            done[id(layer)] = type(made).__name__
            put(model, layer, NormAfter(layer, made))
    if not done:
        raise ConfigError("norm: no convolution or linear layer but the last is without a norm after it")
    norms = Counter(done.values())
    told = " and ".join(f"{norm} after {count_noun(number, 'layer')}" for norm, number in norms.items())
    return Applied(model, told + ", the last left as it was")


def _called_in_order(model: nn.Module, batch: Batch) -> list[nn.Module]:
    """Layers in the order in which they are called, and norms that call others, such as an activation."""
    layers = {id(m) for _, m, _ in layers_in_order(model, batch) if not isinstance(m, nn.Identity)}
    order: list[nn.Module] = []
    marked = [m for m in model.modules() if id(m) in layers or layer_kind(m) == "norm"]
    handles = [m.register_forward_pre_hook(lambda module, _: order.append(module)) for m in marked]
    try:
        layers_in_order(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return order


@_remedy
def _skip(model: nn.Module, batch: Batch) -> Applied:
    """Put x + f(x) around each block that keeps its shape (He et al. 2016, eq. 1): see `skip_connections`."""
    layers_in_order(model, batch)  # a batch that does not fit is told of as such
    try:
        graph = traced(model, batch)
    except ConfigError as error:
        count = skip_modules(model, batch)
        if not count:
            raise ConfigError(
                f"skip: {error}; and none of its modules is a block that keeps shape"
            ) from error
        return Applied(model, f"a skip around {count} modules that keep their shape; {error}")
    count = add_skips(graph)
    if not count:
        raise ConfigError("skip: no weight layer with an activation keeps the shape of what it is given")
    return Applied(graph, f"a skip around {count} weight layers with their activation, by torch.fx")


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
}
EXCHANGED = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Tanh, nn.Hardtanh, nn.Sigmoid, nn.Hardsigmoid, nn.Softsign, nn.Softplus,
)  # fmt: skip


@_remedy
def _activation(model: nn.Module, batch: Batch, to: str = "relu") -> Applied:
    """Another activation in the place of each module that is one; functions called in `forward` stay."""
    if to not in ACTIVATIONS:
        raise ConfigError(f"activation: {to!r} is not known; give one of {', '.join(ACTIVATIONS)}")
    wanted = type(ACTIVATIONS[to]())
    found = [m for m in model.modules() if isinstance(m, EXCHANGED)]
    others = [m for m in found if type(m) is not wanted]
    if not found:
        raise ConfigError("activation: no module is one; functions called in forward cannot be exchanged")
    if not others:
        raise ConfigError(f"activation: every one is {wanted.__name__} already")
    for module in others:
        put(model, module, ACTIVATIONS[to]().train(module.training))
    was = ", ".join(dict.fromkeys(type(m).__name__ for m in others))
    return Applied(model, f"{wanted.__name__} in the place of {len(others)} × {was}")


# A dict of callables: name → (model, batch, seed) to what was applied, or why it cannot be.
REMEDIES: dict[str, RemedyFunction] = {
    "he": _he,
    "glorot": _glorot,
    "orthogonal": _orthogonal,
    "lsuv": _lsuv,
    "norm": _norm,
    "skip": _skip,
    **{f"activation {name}": partial(_activation, to=name) for name in ACTIVATIONS},
}
