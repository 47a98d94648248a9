"""Distance of a training from the edge of stability, in the preconditioned measure of its optimizer.

On a quadratic with Hessian H, with preconditioner P, rate and momentum as in the next step, these optimizers
iterate

    M ← βM + (1 − d) lr P⁻¹g,   w ← (1 − a) w − b lr P⁻¹g − c M,   g = (±H + λ) w,

with momentum β, dampening d, decoupled decay a = lr · weight_decay, a penalty λ, and b, c the weights of
gradient and momentum in the step. Iterates begin to grow when −1 becomes an eigenvalue of this map, which is
when lr P⁻¹(±H + λ) has the eigenvalue

    limit = (2 − a)(1 + β) / (b (1 + β) + c (1 − d)),

or, for parameter groups with different settings, when diag(lr / (P · limit)) (±H + λ) has the eigenvalue 1.
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
from gradscape.measure.core.gathered import gathered
from gradscape.measure.core.parameters import number
from gradscape.measure.curvature.hvp import Products
from gradscape.measure.curvature.lanczos import NormalSampler, ShouldContinue, extremes
from gradscape.records.curvature import Stability

Group = Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """Next step of an optimizer for one parameter, in the terms of the module's formula.

    Attributes:
        limit: Limit of the eigenvalues of lr P⁻¹(±H + λ).
        pace: 1 / P, of the parameter's shape or one number.
    """

    limit: float
    pace: Tensor | float


@dataclass(frozen=True)
class _Rates:
    """Steps of all parameters of the block, as vectors.

    Attributes:
        rate: lr / (P · limit), (n,); 0 for parameters that are not trained.
        penalty: λ, (n,).
        lr, limit: Values of the first trained parameter, the units of the sharpness.
    """

    rate: Tensor
    penalty: Tensor
    lr: float
    limit: float


def stability(
    products: Products,
    optimizer: Optimizer,
    draw: NormalSampler,
    tolerance: float,
    should_continue: ShouldContinue,
) -> Stability | str:
    """Return the sharpness and its limit, or a sentence that says why there is none.

    Args:
        products: Hessian of the training loss.
        optimizer: Optimizer of the model, with its state.
        draw: Function that draws random vectors.
        tolerance: Residual of the eigenvalue, relative to the largest modulus.
        should_continue: Function that returns False when time is up.

    Raises:
        ConfigError: If the optimizer has no learning rate.

    Source: Cohen et al. (2021, 2022).
    """
    name = type(optimizer).__name__
    if number(optimizer.param_groups[0].get("lr")) is None:
        raise ConfigError(f"optimizer: {name} has no learning rate to compare the sharpness with")
    if type(optimizer) not in STEPS:
        names = ", ".join(kind.__name__ for kind in STEPS)
        return f"no edge of stability is known for {name}, only for torch's {names}"
    if len({bool(group.get("maximize")) for group in optimizer.param_groups}) > 1:
        return f"no edge of stability is known for {name} that maximizes in one group and not in another"
    sign = -1.0 if optimizer.param_groups[0].get("maximize") else 1.0
    rates = _rates_of(products, optimizer, sign)
    if isinstance(rates, str):
        return rates
    root = rates.rate.sqrt()

    def product(vector: Tensor) -> Tensor:
        moved = root * vector
        preconditioned: Tensor = root * (sign * products(moved) + rates.penalty * moved)
        return preconditioned

    ends = extremes(product, draw, 1, tolerance, room=60, most=200, should_continue=should_continue)
    largest, residual = float(ends.largest[0]), float(ends.largest_residuals[0])
    unit = rates.limit / rates.lr
    return Stability(name, largest * unit, residual * unit, rates.lr, rates.limit)


def _rates_of(products: Products, optimizer: Optimizer, sign: float) -> _Rates | str:
    """Return the optimizer's next step of every parameter, or a sentence that says why it is unknown."""
    name, step_of = type(optimizer).__name__, STEPS[type(optimizer)]
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    parameters = products.objective.parameters
    rates, penalties = [], []
    first: tuple[float, float] | None = None
    for index, gradient in zip(products.block, products.pieces(products.gradient), strict=True):
        parameter = parameters[products.objective.names[index]]
        group = groups.get(id(parameter), {})
        lr, state = float(group.get("lr", 0.0)), _whole(optimizer.state.get(parameter, {}))
        if lr and step_of is not _sgd_step and "exp_avg_sq" not in state:
            return f"{name} has made no step yet: its edge of stability is unknown"
        penalty = 0.0 if _is_decoupled(group) else float(group.get("weight_decay", 0.0))
        rate: Tensor | float = 0.0
        if lr:
            made = step_of(group, state, sign * gradient + penalty * gathered(parameter).detach())
            first, rate = first or (lr, made.limit), lr * made.pace / made.limit
        rates.append((torch.zeros_like(gradient) + rate).flatten())
        penalties.append(torch.full_like(gradient, penalty).flatten())
    if first is None:
        return f"the learning rate of {name} is 0: there is no step, and no edge of stability"
    return _Rates(torch.cat(rates), torch.cat(penalties), *first)


def _whole(state: Group) -> Group:
    """Return a parameter's state with its sharded tensors gathered."""
    return {key: gathered(value) if isinstance(value, Tensor) else value for key, value in state.items()}


def _is_decoupled(group: Group) -> bool:
    """Return True if weight decay is decoupled from the gradient."""
    return bool(group.get("decoupled_weight_decay", False))


def _limit_of(momentum: float, gradient_part: float, momentum_part: float, decay: float = 0.0) -> float:
    """Return the module's limit, with b, c (1 − d) and a as `gradient_part`, `momentum_part` and `decay`."""
    return (2 - decay) * (1 + momentum) / (gradient_part * (1 + momentum) + momentum_part)


def _sgd_step(group: Group, state: Group, gradient: Tensor) -> Step:
    """Limit 2, with momentum 2(1 + β) (Cohen et al. 2021, §2, Appendix B), more with dampening."""
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
    """Adam's step times the rectification; momentum alone at first (Liu et al. 2020, Algorithm 2)."""
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
    """Gradient and momentum weighted by a schedule (Dozat 2016; torch.optim.NAdam)."""
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
    """Return the fraction of the weights that decoupled decay removes in a step."""
    return float(group["lr"]) * float(group["weight_decay"]) if _is_decoupled(group) else 0.0


def _root_of_second(group: Group, state: Group, gradient: Tensor, epsilon: float | None = None) -> Tensor:
    """Return √v̂ + ε of the next step with this gradient."""
    second, step = float(group["betas"][1]), float(state["step"]) + 1
    moment = second * state["exp_avg_sq"] + (1 - second) * gradient.square()
    if "max_exp_avg_sq" in state:
        moment = torch.maximum(moment, state["max_exp_avg_sq"])
    root: Tensor = (moment / (1 - second**step)).sqrt() + (group["eps"] if epsilon is None else epsilon)
    return root
