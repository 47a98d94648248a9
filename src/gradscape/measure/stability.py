"""How far a training is from the edge of stability, by its optimiser's own measure."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Optimizer

from gradscape.curved import Stability
from gradscape.errors import ConfigError
from gradscape.measure.lanczos import Carry, Draw, Product, extremes
from gradscape.measure.products import Products, preconditioned
from gradscape.measure.subjects import number

ADAMS = ("Adam", "AdamW", "NAdam", "RAdam")


def stability(
    products: Products, optimizer: Optimizer, draw: Draw, tolerance: float, carry_on: Carry
) -> Stability | str:
    """Sharpness and its limit, or why there is none, in words."""
    name, group = type(optimizer).__name__, optimizer.param_groups[0]
    lr = number(group.get("lr"))
    if lr is None:
        raise ConfigError(f"optimizer: {name} has no learning rate to hold the sharpness against")
    product: Product = products
    if name == "SGD":
        limit = sgd_limit(group["momentum"], group["nesterov"])
    elif name in ADAMS:
        diagonal = preconditioner(products, optimizer)
        if diagonal is None:
            return f"{name} has made no step yet: its edge of stability is not known"
        beta = float(group["betas"][0])
        product, limit = preconditioned(products, diagonal), (2 + 2 * beta) / (1 - beta)
    else:
        return f"no edge of stability is known of {name}: only of SGD and {', '.join(ADAMS)}"
    found = extremes(product, draw, 1, tolerance, room=60, most=200, carry_on=carry_on)
    return Stability(name, float(found.largest[0]), float(found.largest_residuals[0]), lr, limit)


def sgd_limit(momentum: float, nesterov: bool) -> float:
    """Cohen et al. (2021), §2 and Appendix B."""
    return (2 + 2 * momentum) / (1 + 2 * momentum if nesterov else 1)


def preconditioner(products: Products, optimizer: Optimizer) -> Tensor | None:
    """(n,) diagonal of P = (1 − β₁ᵗ)(√v̂ + ε) (Cohen et al. 2022, eq. 3); None before the first step."""
    found = []
    parameters = products.objective.parameters
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    for place in products.block:
        parameter = parameters[products.objective.names[place]]
        state, group = optimizer.state.get(parameter, {}), groups.get(id(parameter), {})
        if "exp_avg_sq" not in state:
            return None
        first, second = group["betas"]
        step = float(state["step"])
        corrected = state.get("max_exp_avg_sq", state["exp_avg_sq"]) / (1 - second**step)
        found.append((1 - first**step) * (corrected.sqrt() + group["eps"]))
    return torch.cat([part.detach().reshape(-1) for part in found])
