"""How far a training is from the edge of stability, by its optimiser's own measure.

On a quadratic with Hessian H, and with its preconditioner P, rate and momentum as in its next step, one of
these optimisers makes

    M ← βM + (1 − d) lr P⁻¹g,   w ← (1 − a) w − b lr P⁻¹g − c M,   g = (±H + λ) w,

with momentum β, dampening d, decoupled decay a = lr · weight_decay, a penalty λ, and b, c the weights of
gradient and momentum in the step. Iterates begin to grow where −1 becomes an eigenvalue of this map, that is
where lr P⁻¹(±H + λ) has the eigenvalue

    limit = (2 − a)(1 + β) / (b (1 + β) + c (1 − d)),

or, of groups with settings of their own, where diag(lr / (P · limit)) (±H + λ) has the eigenvalue 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, NAdam, Optimizer, RAdam

from gradscape.errors import ConfigError
from gradscape.measure.core.parameters import number
from gradscape.measure.curvature.hvp import Products
from gradscape.measure.curvature.lanczos import Carry, Draw, extremes
from gradscape.records.curvature import Stability

Group = Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """An optimiser's next step of one parameter, of P¹ = `pace`: see the module's formula.

    Attributes:
        limit: of lr P⁻¹(±H + λ).
        pace: 1 / P, like the parameter or one number.
    """

    limit: float
    pace: Tensor | float


@dataclass(frozen=True)
class Rates:
    """The steps of all parameters that are looked at, as one vector.

    Attributes:
        rate: (n,) lr / (P · limit); 0 of what the optimiser leaves as it is.
        penalty: (n,) λ.
        lr, limit: of the first that it trains, in units of which the sharpness is told.
    """

    rate: Tensor
    penalty: Tensor
    lr: float
    limit: float


def stability(
    products: Products, optimizer: Optimizer, draw: Draw, tolerance: float, carry_on: Carry
) -> Stability | str:
    """Sharpness and its limit, or why there is none, in words."""
    name = type(optimizer).__name__
    if number(optimizer.param_groups[0].get("lr")) is None:
        raise ConfigError(f"optimizer: {name} has no learning rate to hold the sharpness against")
    if type(optimizer) not in STEPS:
        known = ", ".join(kind.__name__ for kind in STEPS)
        return f"no edge of stability is known of {name}: only of torch's {known}"
    if len({bool(group.get("maximize")) for group in optimizer.param_groups}) > 1:
        return f"no edge of stability is known of {name} that maximizes in one group and not in another"
    sign = -1.0 if optimizer.param_groups[0].get("maximize") else 1.0
    rates = rates_of(products, optimizer, sign)
    if isinstance(rates, str):
        return rates
    root = rates.rate.sqrt()

    def product(vector: Tensor) -> Tensor:
        moved = root * vector
        found: Tensor = root * (sign * products(moved) + rates.penalty * moved)
        return found

    found = extremes(product, draw, 1, tolerance, room=60, most=200, carry_on=carry_on)
    reached, residual = float(found.largest[0]), float(found.largest_residuals[0])
    unit = rates.limit / rates.lr
    return Stability(name, reached * unit, residual * unit, rates.lr, rates.limit)


def rates_of(products: Products, optimizer: Optimizer, sign: float) -> Rates | str:
    """What the optimiser's next step is of every parameter, or why that is not known, in words."""
    name, step_of = type(optimizer).__name__, STEPS[type(optimizer)]
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    parameters = products.objective.parameters
    rates, penalties = [], []
    first: tuple[float, float] | None = None
    for place, gradient in zip(products.block, products.pieces(products.gradient), strict=True):
        parameter = parameters[products.objective.names[place]]
        group = groups.get(id(parameter), {})
        lr, state = float(group.get("lr", 0.0)), optimizer.state.get(parameter, {})
        if lr and step_of is not _sgd_step and "exp_avg_sq" not in state:
            return f"{name} has made no step yet: its edge of stability is not known"
        penalty = 0.0 if _is_decoupled(group) else float(group.get("weight_decay", 0.0))
        rate: Tensor | float = 0.0
        if lr:
            made = step_of(group, state, sign * gradient + penalty * parameter.detach())
            first, rate = first or (lr, made.limit), lr * made.pace / made.limit
        rates.append((torch.zeros_like(gradient) + rate).flatten())
        penalties.append(torch.full_like(gradient, penalty).flatten())
    if first is None:
        return f"the learning rate of {name} is 0: there is no step, and no edge of stability"
    return Rates(torch.cat(rates), torch.cat(penalties), *first)


def _is_decoupled(group: Group) -> bool:
    """Whether weights decay beside the step, not by a penalty in the gradient."""
    return bool(group.get("decoupled_weight_decay", False))


def _limit_of(momentum: float, gradient_part: float, momentum_part: float, decay: float = 0.0) -> float:
    """See the module: b and c (1 − d) as `gradient_part` and `momentum_part`, a as `decay`."""
    return (2 - decay) * (1 + momentum) / (gradient_part * (1 + momentum) + momentum_part)


def _sgd_step(group: Group, state: Group, gradient: Tensor) -> Step:
    """2 without momentum, 2(1 + β) with it (Cohen et al. 2021, §2 and Appendix B), more with dampening."""
    momentum = float(group["momentum"])
    if group["nesterov"]:
        return Step(_limit_of(momentum, 1.0, momentum), 1.0)
    if momentum:
        return Step(_limit_of(momentum, 0.0, 1 - float(group["dampening"])), 1.0)
    return Step(2.0, 1.0)


def _adam_step(group: Group, state: Group, gradient: Tensor) -> Step:
    """P = (1 − β₁ᵗ)(√v̂ + ε) (Cohen et al. 2022, eq. 3)."""
    first, step = float(group["betas"][0]), float(state["step"]) + 1
    return Step(_adaptive_limit(group), 1 / ((1 - first**step) * _root_of_second(group, state, gradient)))


def _radam_step(group: Group, state: Group, gradient: Tensor) -> Step:
    """Adam's times the rectification; plain momentum in the first steps (Liu et al. 2020, Algorithm 2)."""
    (first, second), step = map(float, group["betas"]), float(state["step"]) + 1
    most = 2 / (1 - second) - 1
    length = most - 2 * step * second**step / (1 - second**step)
    corrected = 1 - first**step
    if length <= 5:
        return Step(_adaptive_limit(group), 1 / corrected)
    rectified = math.sqrt((length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length))
    epsilon = float(group["eps"]) / math.sqrt(1 - second**step)
    root = _root_of_second(group, state, gradient, epsilon)
    return Step(_adaptive_limit(group), rectified / (corrected * root))


def _nadam_step(group: Group, state: Group, gradient: Tensor) -> Step:
    """Gradient and momentum by a schedule of their own (Dozat 2016; torch.optim.NAdam)."""
    beta, step = float(group["betas"][0]), float(state["step"]) + 1

    def schedule(t: float) -> float:
        return float(beta * (1 - 0.5 * 0.96 ** (t * float(group["momentum_decay"]))))

    now, following = schedule(step), schedule(step + 1)
    made = float(state["mu_product"]) * now
    part, momentum_part = (1 - now) / (1 - made), following / (1 - made * following)
    limit = _limit_of(beta, part, momentum_part * (1 - beta), _decay_of(group))
    return Step(limit, 1 / _root_of_second(group, state, gradient))


STEPS: dict[type[Optimizer], Callable[[Group, Group, Tensor], Step]] = {
    SGD: _sgd_step,
    Adam: _adam_step,
    AdamW: _adam_step,
    NAdam: _nadam_step,
    RAdam: _radam_step,
}


def _adaptive_limit(group: Group) -> float:
    beta = float(group["betas"][0])
    return _limit_of(beta, 0.0, 1 - beta, _decay_of(group))


def _decay_of(group: Group) -> float:
    """Share of the weights that a step takes beside the gradient's part."""
    return float(group["lr"]) * float(group["weight_decay"]) if _is_decoupled(group) else 0.0


def _root_of_second(group: Group, state: Group, gradient: Tensor, epsilon: float | None = None) -> Tensor:
    """√v̂ + ε as the next step would have it, of this gradient."""
    second, step = float(group["betas"][1]), float(state["step"]) + 1
    moment = second * state["exp_avg_sq"] + (1 - second) * gradient.square()
    if "max_exp_avg_sq" in state:
        moment = torch.maximum(moment, state["max_exp_avg_sq"])
    found: Tensor = (moment / (1 - second**step)).sqrt() + (group["eps"] if epsilon is None else epsilon)
    return found
