"""Lines and planes in the space of a model's parameters, on which a loss is looked at.

Random directions are those of Li et al. (2018), §4: Gaussian, every filter scaled to the length of the
weights' own, biases and the parameters of norms left alone. Others go through given points: models, the
checkpoints of a training, or along the gradient or eigenvectors of the Hessian.
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
from gradscape.measure.core.parameters import named, plain
from gradscape.measure.curvature.hvp import flat

Pieces = list[Tensor]
State = nn.Module | Mapping[str, Any]
WEIGHTS = ("conv", "linear", "embedding", "scale")  # kinds that random directions move, if no vectors


@dataclass(frozen=True)
class Plane:
    """θ(c) = origin + Σ c_i directions_i, and likewise the buffers that are moved along.

    Attributes:
        origin: tensors like the parameters.
        directions: one or two lists of tensors like them.
        words: what they are.
        buffers: name → value at the origin, of those that are not the model's own.
        buffer_moves: for each direction, name → how that buffer changes; empty where they stay.
    """

    origin: Pieces
    directions: tuple[Pieces, ...]
    words: tuple[str, ...]
    buffers: Mapping[str, Tensor] = field(default_factory=dict)
    buffer_moves: tuple[Mapping[str, Tensor], ...] = ()

    @property
    def lengths(self) -> tuple[float, ...]:
        """‖d_i‖₂."""
        return tuple(norm(flat(d)) for d in self.directions)

    def checked(self) -> Plane:
        """Itself.

        Raises:
            ConfigError: a direction is zero or not finite, or two are parallel.
        """
        for words, length in zip(self.words, self.lengths, strict=True):
            if not 0 < length < float("inf"):
                raise ConfigError(f"direction: {words} has norm {length:g}, and leads nowhere; give another")
        if len(self.directions) == 2:
            first, second = (flat(d).double() / n for d, n in zip(self.directions, self.lengths, strict=True))
            if abs(float(first @ second)) > 1 - 1e-6:
                raise ConfigError(f"direction: {' and '.join(self.words)} are parallel: they span no plane")
        return self


def random_plane(
    objective: Objective, kind: str, dims: int, generator: torch.Generator, orthogonal: bool
) -> Plane:
    """Through the model along Gaussian directions.

    Args:
        objective: whose parameters are at the origin.
        kind: `filter` or `layer`, scaled to the weights' length in each, or `gaussian`, of length 1 in all.
        dims: 1 or 2.
        generator: of the random numbers, on the CPU, so that every device has the same.
        orthogonal: make the second direction orthogonal to the first, and as long as it was in all.
    """
    filters = _filters_of(objective)
    found: list[Pieces] = []
    for _ in range(dims):
        new = [
            _scaled(torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p), p, kind, own)
            for p, own in zip(objective.start, filters, strict=True)
        ]
        if kind == "gaussian":
            length = norm(flat(new))
            new = [piece / length for piece in new] if length else new
        if found and orthogonal:
            new = _orthogonal_to(found[0], new)
        found.append(new)
    how = {"filter": "filter-normalised", "layer": "layer-normalised", "gaussian": "plain Gaussian"}[kind]
    words = tuple(f"{how} direction {place}" for place in range(1, dims + 1))
    return Plane(list(objective.start), tuple(found), words).checked()


@dataclass(frozen=True)
class _Filters:
    """Where a weight has its filters: along an axis, and of a grouped transposed convolution in each group.

    Such a weight is (inputs, outputs / groups, …): output i of group g has the inputs of that group alone.
    """

    axis: int
    groups: int = 1

    def lengths(self, weight: Tensor, whole: bool) -> Tensor:
        """‖w‖ of each filter, or of all of them, in a shape that the weight can be divided by."""
        if whole:
            whole_length: Tensor = torch.linalg.vector_norm(weight)
            return whole_length
        split = weight.reshape(self.groups, -1, *weight.shape[1:])
        others = [a for a in range(1, split.dim()) if a != self.axis + 1]
        found: Tensor = torch.linalg.vector_norm(split, dim=others, keepdim=True)
        return found.expand(-1, split.shape[1] if self.axis else -1, *[-1] * (split.dim() - 2)).flatten(0, 1)


def _filters_of(objective: Objective) -> list[_Filters | None]:
    """The filters of each parameter; None for what random directions leave alone."""
    kinds = {name: kind for name, kind, _ in named(objective.model)}
    found: list[_Filters | None] = []
    for name, parameter in zip(objective.names, objective.start, strict=True):
        owner = objective.model.get_submodule(name.rpartition(".")[0])
        moved = kinds.get(plain(name), "linear") in WEIGHTS and parameter.dim() > 1
        filters = _Filters(0)
        if isinstance(owner, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            filters = _Filters(1, owner.groups)
        found.append(filters if moved else None)
    return found


def _scaled(direction: Tensor, weight: Tensor, kind: str, filters: _Filters | None) -> Tensor:
    """d ‖w‖ / ‖d‖ of each filter or layer; zeros where the weights are left alone."""
    if filters is None:
        return torch.zeros_like(weight)
    direction = torch.empty_like(weight).copy_(direction)
    if kind == "gaussian":
        return direction
    wanted, lengths = (filters.lengths(tensor, kind == "layer") for tensor in (weight, direction))
    found: Tensor = direction * (wanted / lengths)
    return found


def _orthogonal_to(other: Pieces, direction: Pieces) -> Pieces:
    """A direction less its part along another, of the length that it had."""
    a, b = flat(direction).double(), flat(other).double()
    share = float(a @ b) / float(b @ b) if float(b @ b) else 0.0
    left = norm(a - share * b)
    back = norm(a) / left if left > 1e-6 * norm(a) else 1.0  # else it is parallel, and refused
    return [back * (d - share * o) for d, o in zip(direction, other, strict=True)]


def given_plane(objective: Objective, vectors: Sequence[Tensor], words: Sequence[str]) -> Plane:
    """Along vectors (n,) of the parameters that are looked at, each made of length 1."""
    pieces = [objective.pieces(v / norm(v) if norm(v) else v) for v in vectors]
    return Plane(list(objective.start), tuple(pieces), tuple(words)).checked()


def plane_through(objective: Objective, others: Sequence[State]) -> Plane:
    """The line to another model, at 1, or the plane through two others, at (1, 0) and (0, 1).

    Buffers such as running statistics move along.
    """
    states = [_state_of(objective, other, f"through[{place}]") for place, other in enumerate(others)]
    names = _moving_buffers(objective)
    here = {name: buffer for name, buffer in objective.model.named_buffers() if name in names}
    directions = tuple(
        [s[name].to(p) - p for name, p in zip(objective.names, objective.start, strict=True)] for s in states
    )
    moves = tuple({name: s[name].to(b) - b for name, b in here.items()} for s in states)
    words = ("to the second model", "to the third model") if len(others) == 2 else ("to the other model",)
    return Plane(list(objective.start), directions, words, {}, moves).checked()


@dataclass(frozen=True)
class Trajectory:
    """A training's path as it lies to its best plane.

    Attributes:
        states: of all checkpoints, their parameters and buffers by name.
        coordinates: (T, 2) in the plane, in units of the parameters.
        residual: (T,) share of a checkpoint's distance from the last that lies off the plane.
        explained: shares of the variation that the two directions explain.
    """

    states: list[Mapping[str, Tensor]]
    coordinates: Tensor
    residual: Tensor
    explained: tuple[float, ...]


def trajectory_plane(objective: Objective, checkpoints: Sequence[State]) -> tuple[Plane, Trajectory]:
    """The plane through the last checkpoint that is nearest to all, by the SVD of θ_t − θ_n.

    Source: Li et al. (2018), §7.2.

    Raises:
        ConfigError: fewer than three checkpoints, or none that differs from the last.
    """
    if len(checkpoints) < 3:
        raise ConfigError(
            f"path: {len(checkpoints)} checkpoints span no plane; give 3 or more, or one as through=[…]"
        )
    states = [_state_of(objective, each, f"path[{place}]") for place, each in enumerate(checkpoints)]
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
    # Of the T × T matrix of inner products: the parameters are many, the checkpoints few.
    squares, mixed = torch.linalg.eigh(away @ away.T)
    squares, mixed = squares.flip(0).clamp(min=0), mixed.flip(1)
    if not squares[1] > 1e-12 * squares[0]:
        raise ConfigError("path: all checkpoints lie on a line; give one of them as through=[…] instead")
    vectors = (mixed[:, :2].T @ away) / squares[:2, None].sqrt()
    inside = torch.cat([away @ vectors.T, away.new_zeros(1, 2)])
    far = torch.cat([away.square().sum(1), away.new_zeros(1)])
    off = (far - inside.square().sum(1)).clamp(min=0)
    residual = torch.where(far > 0, (off / far.clamp(min=1e-300)).sqrt(), 0.0)
    shares = (squares[:2] / squares.sum()).tolist()
    pieces = tuple(objective.changed(start=tuple(last)).pieces(v.to(last[0])) for v in vectors)
    words = tuple(f"principal direction {i + 1} of the path" for i in range(2))
    buffers = {name: states[-1][name] for name in _moving_buffers(objective)}
    plane = Plane(last, pieces, words, buffers).checked()
    return plane, Trajectory(states, inside, residual, tuple(shares))


def _state_of(objective: Objective, given: State, where: str) -> Mapping[str, Tensor]:
    """A model's or checkpoint's tensors, checked to be of the objective's model.

    Raises:
        ConfigError: it has other names or shapes.
    """
    if isinstance(given, nn.Module):
        found = dict(unwrapped(given).state_dict())
    elif isinstance(given, Mapping):
        found = {plain(str(name)): value for name, value in given.items()}
    else:
        raise ConfigError(f"{where}: got {type(given).__name__}; give a module or its state_dict()")
    wanted = objective.model.state_dict()
    by_plain = {plain(name): value for name, value in found.items()}
    kept: dict[str, Tensor] = {}
    for name, tensor in wanted.items():
        other = by_plain.get(plain(name), by_plain.get(f"module.{plain(name)}"))  # of one wrapped in DDP
        if not isinstance(other, Tensor):
            raise ConfigError(f"{where}: has no {plain(name)}, which the model has; give one of its own kind")
        if other.shape != tensor.shape:
            raise ConfigError(
                f"{where}: {plain(name)} is {described(other)}, in the model {described(tensor)}; give one "
                "of its own kind"
            )
        kept[name] = other.detach()
    return kept


def _moving_buffers(objective: Objective) -> set[str]:
    """Names of the floating buffers that a checkpoint keeps."""
    kept = objective.model.state_dict()
    return {name for name, b in objective.model.named_buffers() if name in kept and b.is_floating_point()}
