"""Measure the smoothness of a loss along a training step."""
