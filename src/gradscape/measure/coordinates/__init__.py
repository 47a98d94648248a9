"""Coordinate check: how the sizes of activations and of their changes go with a network's width."""

__all__ = ["coordinate_check", "layer_sizes"]
