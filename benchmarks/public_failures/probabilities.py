"""Losses on probabilities, and initial weights, as Keras has them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLIP = 1e-7  # Keras' epsilon: outside of it a probability has no gradient


def categorical(p: Tensor, y: Tensor) -> Tensor:
    """Cross entropy of outputs (N, C) that are divided by their sum, and labels (N,)."""
    p = (p / p.sum(-1, keepdim=True)).clamp(CLIP, 1 - CLIP)
    return F.nll_loss(p.log(), y)


def binary(p: Tensor, y: Tensor) -> Tensor:
    """Binary cross entropy of outputs (N, C) and targets that broadcast to it."""
    p = p.clamp(CLIP, 1 - CLIP)
    return -(y * p.log() + (1 - y) * (1 - p).log()).mean()


def glorot(model: nn.Module) -> nn.Module:
    """Initialize as Keras does: Glorot's uniform weights, biases of 0."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    return model


def normal(std: float) -> Callable[[nn.Module], nn.Module]:
    """Initializer of weights from N(0, std²), biases of 0."""

    def apply(model: nn.Module) -> nn.Module:
        for module in model.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=std)
                nn.init.zeros_(module.bias)
        return model

    return apply


def one_hot(y: Tensor, classes: int) -> Tensor:
    return torch.eye(classes)[y]
