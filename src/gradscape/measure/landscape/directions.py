"""Lines and planes in the space of a model's parameters, over which a loss is evaluated.

Random directions are those of Li et al. (2018), §4: Gaussian, with every filter scaled to the norm of the
weights' own, and zero for biases and the parameters of norms. Others pass through models or the checkpoints
of a training, or follow the gradient or eigenvectors of the Hessian.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gradscape.errors import ConfigError
from gradscape.measure.core.batch import described, unwrapped
from gradscape.measure.core.objective import Objective, norm
from gradscape.measure.core.parameters import named, strip_wrappers
from gradscape.measure.curvature.hvp import flat

State = nn.Module | Mapping[str, Any]
WEIGHTS = ("conv", "linear", "embedding", "scale")  # layers whose matrices random directions move


@dataclass(frozen=True)
class Plane:
    """Line or plane θ(c) = origin + Σ c_i directions_i, and buffers that move with it.

    Attributes:
        origin: Tensors like the parameters.
        directions: One or two lists of tensors like the parameters.
        words: Names of the directions.
        buffers: Values at the origin by name, of buffers and frozen parameters that differ from the model's.
        buffer_moves: Change of each by name, for each direction; empty if none moves.
    """

    origin: list[Tensor]
    directions: tuple[list[Tensor], ...]
    words: tuple[str, ...]
    buffers: Mapping[str, Tensor] = field(default_factory=dict)
    buffer_moves: tuple[Mapping[str, Tensor], ...] = ()

    @property
    def lengths(self) -> tuple[float, ...]:
        """Norms ‖d_i‖₂."""
        return tuple(norm(flat(d)) for d in self.directions)

    def checked(self) -> Plane:
        """Return itself.

        Raises:
            ConfigError: If a direction is zero or not finite, or two are parallel.
        """
        for words, length in zip(self.words, self.lengths, strict=True):
            if not 0 < length < float("inf"):
                raise ConfigError(f"direction: expected a norm above 0; got {length:g} for {words}")
        if len(self.directions) == 2:
            first, second = (flat(d).double() / n for d, n in zip(self.directions, self.lengths, strict=True))
            if abs(float(first @ second)) > 1 - 1e-6:
                raise ConfigError(
                    f"direction: expected two that span a plane; {' and '.join(self.words)} are parallel"
                )
        return self


def random_plane(
    objective: Objective, kind: str, dims: int, generator: torch.Generator, orthogonal: bool
) -> Plane:
    """Return a line or plane through the model along Gaussian directions.

    Args:
        objective: Loss, whose parameters are the origin.
        kind: `filter` or `layer`, scaled to the norm of the weights in each, or `gaussian`, of norm 1.
        dims: 1 for a line, 2 for a plane.
        generator: Random generator on the CPU, for the same numbers on every device.
        orthogonal: Whether to make the second direction orthogonal to the first, preserving its norm.

    Source: Li et al. (2018), §4.
    """
    filters = _filters_of(objective)
    directions: list[list[Tensor]] = []
    for _ in range(dims):
        drawn = [
            torch.randn(p.shape, generator=generator, dtype=torch.float64, device="cpu").to(p)
            for p in objective.start
        ]
        new = [
            _scaled(draw, p, kind, own) for draw, p, own in zip(drawn, objective.start, filters, strict=True)
        ]
        if kind == "gaussian":
            length = norm(flat(new))
            new = [piece / length for piece in new] if length else new
        if directions and orthogonal:
            new = _orthogonal_to(directions[0], new)
        directions.append(new)
    how = {"filter": "filter-normalized", "layer": "layer-normalized", "gaussian": "plain Gaussian"}[kind]
    words = tuple(f"{how} direction {number}" for number in range(1, dims + 1))
    return Plane(list(objective.start), tuple(directions), words).checked()


@dataclass(frozen=True)
class _Filters:
    """Filters of a weight: entries of an axis, and for a grouped transposed convolution, of each group.

    Such a weight is (inputs, outputs / groups, …): output i of group g has the inputs of that group alone.
    """

    axis: int
    groups: int = 1

    def lengths(self, weight: Tensor, whole: bool) -> Tensor:
        """Return ‖w‖ of each filter, or of the whole weight, in a shape that broadcasts to the weight."""
        if whole or not weight.numel():  # an empty weight has no filters to tell apart
            whole_length: Tensor = torch.linalg.vector_norm(weight)
            return whole_length
        split = weight.reshape(self.groups, -1, *weight.shape[1:])
        others = [a for a in range(1, split.dim()) if a != self.axis + 1]
        norms: Tensor = torch.linalg.vector_norm(split, dim=others, keepdim=True)
        return norms.expand(-1, split.shape[1] if self.axis else -1, *[-1] * (split.dim() - 2)).flatten(0, 1)


def _filters_of(objective: Objective) -> list[_Filters | None]:
    """Return the filters of each parameter; None for those that random directions do not move."""
    kinds = {name: kind for name, kind, _ in named(objective.model)}
    result: list[_Filters | None] = []
    for name, parameter in zip(objective.names, objective.start, strict=True):
        owner = objective.model.get_submodule(name.rpartition(".")[0])
        moved = kinds.get(strip_wrappers(name), "linear") in WEIGHTS and parameter.dim() > 1
        filters = _Filters(0)
        if isinstance(owner, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            filters = _Filters(1, owner.groups)
        result.append(filters if moved else None)
    return result


def _scaled(direction: Tensor, weight: Tensor, kind: str, filters: _Filters | None) -> Tensor:
    """Return d ‖w‖ / ‖d‖ of each filter or layer; zeros for weights that do not move."""
    if filters is None:
        return torch.zeros_like(weight)
    direction = torch.empty_like(weight).copy_(direction)
    if kind == "gaussian":
        return direction
    wanted, lengths = (filters.lengths(tensor, kind == "layer") for tensor in (weight, direction))
    scaled: Tensor = direction * (wanted / lengths)
    return scaled


def _orthogonal_to(other: list[Tensor], direction: list[Tensor]) -> list[Tensor]:
    """Remove a direction's component along another and restore its norm."""
    a, b = flat(direction).double(), flat(other).double()
    share = float(a @ b) / float(b @ b) if float(b @ b) else 0.0
    rest = norm(a - share * b)
    back = norm(a) / rest if rest > 1e-6 * norm(a) else 1.0  # otherwise parallel, which is refused later
    return [back * (d - share * o) for d, o in zip(direction, other, strict=True)]


def plane_along(objective: Objective, vectors: Sequence[Tensor], words: Sequence[str]) -> Plane:
    """Return a line or plane along vectors, scaled to norm 1.

    Args:
        objective: Loss, whose n parameters are the origin.
        vectors: One or two vectors (n,).
        words: Names of the directions.
    """
    pieces = [objective.pieces(v / norm(v) if norm(v) else v) for v in vectors]
    return Plane(list(objective.start), tuple(pieces), tuple(words)).checked()


def plane_through(objective: Objective, others: Sequence[State]) -> Plane:
    """Return the line to another model, at 1, or the plane through two others, at (1, 0) and (0, 1).

    Buffers such as running statistics are interpolated too, and frozen parameters that differ.

    Args:
        objective: Loss, whose model is the origin.
        others: One or two models or state dicts.

    Raises:
        ConfigError: If their tensors differ in name or shape, or the models span no plane.
    """
    states = [_state_of(objective, other, f"through[{index}]") for index, other in enumerate(others)]
    here = _moving_with(objective, states)
    directions = tuple(
        [s[name].to(p) - p for name, p in zip(objective.names, objective.start, strict=True)] for s in states
    )
    moves = tuple({name: s[name].to(b) - b for name, b in here.items()} for s in states)
    words = ("to the second model", "to the third model") if len(others) == 2 else ("to the other model",)
    return Plane(list(objective.start), directions, words, {}, moves).checked()


@dataclass(frozen=True)
class Trajectory:
    """Path of a training and its best-fitting plane.

    Attributes:
        states: Parameters and buffers of the checkpoints, by name.
        coordinates: Projections (T, 2) onto the plane, in units of the parameters.
        residual: Fraction (T,) of a checkpoint's distance from the last that is orthogonal to the plane.
        explained: Fractions of the variation that the two directions explain.
    """

    states: list[Mapping[str, Tensor]]
    coordinates: Tensor
    residual: Tensor
    explained: tuple[float, ...]


def trajectory_plane(objective: Objective, checkpoints: Sequence[State]) -> tuple[Plane, Trajectory]:
    """Return the plane through the last checkpoint that is nearest to all, by the SVD of θ_t − θ_T.

    Args:
        objective: Loss of the model.
        checkpoints: T models or state dicts.

    Raises:
        ConfigError: If there are fewer than three checkpoints, or all lie on a line.

    Source: Li et al. (2018), §7.2.
    """
    if len(checkpoints) < 3:
        raise ConfigError(
            f"path: expected 3 or more checkpoints; got {len(checkpoints)}; for a line, type through=[…]"
        )
    states = [_state_of(objective, state, f"path[{index}]") for index, state in enumerate(checkpoints)]
    last = [states[-1][name].to(p) for name, p in zip(objective.names, objective.start, strict=True)]
    away = torch.stack(
        [
            torch.cat(
                [
                    (state[name].to(p).double() - p.double()).reshape(-1)
                    for name, p in zip(objective.names, last, strict=True)
                ]
            )
            for state in states[:-1]
        ]
    )
    # Decompose the T × T matrix of inner products: there are many parameters and few checkpoints.
    squares, mixed = torch.linalg.eigh(away @ away.T)
    squares, mixed = squares.flip(0).clamp(min=0), mixed.flip(1)
    if not squares[1] > 1e-12 * squares[0]:
        raise ConfigError(
            "path: expected checkpoints that span a plane; got a line; give one of them as through=[…]"
        )
    vectors = (mixed[:, :2].T @ away) / squares[:2, None].sqrt()
    inside = torch.cat([away @ vectors.T, away.new_zeros(1, 2)])
    far = torch.cat([away.square().sum(1), away.new_zeros(1)])
    off = (far - inside.square().sum(1)).clamp(min=0)
    residual = torch.where(far > 0, (off / far.clamp(min=1e-300)).sqrt(), 0.0)
    shares = (squares[:2] / squares.sum()).tolist()
    pieces = tuple(objective.changed(start=tuple(last)).pieces(v.to(last[0])) for v in vectors)
    words = tuple(f"principal direction {i + 1} of the path" for i in range(2))
    buffers = {name: states[-1][name] for name in _moving_with(objective, states)}
    plane = Plane(last, pieces, words, buffers).checked()
    return plane, Trajectory(states, inside, residual, tuple(shares))


def _state_of(objective: Objective, other: State, where: str) -> Mapping[str, Tensor]:
    """Return the tensors of a model or checkpoint, by the names of the objective's model.

    Raises:
        ConfigError: If names or shapes differ.
    """
    if isinstance(other, nn.Module):
        tensors = dict(unwrapped(other).state_dict())
    elif isinstance(other, Mapping):
        tensors = {strip_wrappers(str(name)): value for name, value in other.items()}
    else:
        raise ConfigError(f"{where}: expected a module or its state_dict(); got {type(other).__name__}")
    by_plain = {strip_wrappers(name): value for name, value in tensors.items()}
    state: dict[str, Tensor] = {}
    for name, tensor in objective.model.state_dict().items():
        plain = strip_wrappers(name)
        value = by_plain.get(plain, by_plain.get(f"module.{plain}"))  # the other may be wrapped in DDP
        if not isinstance(value, Tensor):
            raise ConfigError(f"{where}: expected {plain} as in the model; got none; give one of its kind")
        if value.shape != tensor.shape:
            raise ConfigError(
                f"{where}: {plain}: expected {described(tensor)} as in the model; "
                f"got {described(value)}; give one of its kind"
            )
        state[name] = value.detach()
    return state


def _moving_with(objective: Objective, states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return floating-point buffers of checkpoints, and frozen parameters that differ in one, by name."""
    frozen = {name for name, _ in objective.model.named_parameters()}
    others = {
        name: own for name, own in objective.others().items() if name in states[0] and own.is_floating_point()
    }
    return {
        name: own
        for name, own in others.items()
        if name not in frozen or any(not torch.equal(state[name].to(own), own) for state in states)
    }
