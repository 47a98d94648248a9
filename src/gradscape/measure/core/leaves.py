"""Leaves of a loss's graph: tensors that a backward pass would add gradients to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from gradscape._text import join_names
from gradscape.errors import ConfigError, GradscapeError, with_place
from gradscape.measure.core.batch import main_tensor


def leaves(value: Tensor) -> Iterator[Tensor]:
    """Yield the tensors that a backward pass from a value would add gradients to.

    Args:
        value: Tensor with or without a graph.
    """
    if value.is_leaf and value.requires_grad:
        yield value
    seen, remaining = set(), [value.grad_fn]
    while remaining:
        node = remaining.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        remaining += [before for before, _ in node.next_functions]
        if isinstance(leaf := getattr(node, "variable", None), Tensor):
            yield leaf


def refuse_own(value: Tensor, own: Mapping[int, str]) -> None:
    """Refuse a loss of a model's own parameters instead of the copies that replace them.

    Args:
        value: Loss.
        own: Names of the model's own parameters by `id`.

    Raises:
        ConfigError: If its graph has such leaves, for instance from a list of parameters made before.
    """
    if names := _own_leaves(value, own):
        raise ConfigError(
            f"loss: reads {join_names(names)} from elsewhere than the model, where copies of them are "
            "measured: give a loss(model, batch) that reads model.parameters()"
        )


def refuse_uncopied(output: Any, twin: nn.Module, own: Mapping[int, str]) -> None:
    """Refuse a copy of a model that computes with parameters of the original.

    Args:
        output: Output of the copy.
        twin: The copy.
        own: Names of the original's parameters by `id`.

    Raises:
        ConfigError: If the graph of its output has leaves of the original.
    """
    value = main_tensor(output)
    if value is not None and (names := _own_leaves(value, own)):
        raise ConfigError(
            f"{type(twin).__name__} cannot be copied: its copy computes with {join_names(names)} of the "
            "original, as where a function that was made with the model is kept in it: make it a method"
        )


def _own_leaves(value: Tensor, own: Mapping[int, str]) -> list[str]:
    """Return the names of the model's own parameters in a graph."""
    return [own[id(leaf)] for leaf in leaves(value) if id(leaf) in own]


@contextmanager
def same_gradients(value: Tensor, model: nn.Module) -> Iterator[None]:
    """Preserve `.grad` of tensors outside a model when the block ends: a loss may have weights too.

    Args:
        value: Loss.
        model: Model, whose own gradients may change.
    """
    mine = {id(parameter) for parameter in model.parameters()}
    others = [(leaf, leaf.grad) for leaf in leaves(value) if id(leaf) not in mine]
    try:
        for leaf, _ in others:
            leaf.grad = None
        yield
    finally:
        for leaf, gradient in others:
            leaf.grad = gradient


@contextmanager
def told_of_backward() -> Iterator[None]:
    """Turn an error of a backward pass into a ConfigError of one line."""
    try:
        yield
    except GradscapeError:
        raise
    except Exception as error:
        raise ConfigError(f"loss: its backward pass fails: {with_place(error)}") from error
