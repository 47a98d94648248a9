"""Measure the smoothness of a loss along a training step."""

__all__ = ["smoothness", "within_training"]
