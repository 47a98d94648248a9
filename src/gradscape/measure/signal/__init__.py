"""Measure the signal through a network before training."""

__all__ = ["functional", "jacobian", "noise_batch", "signal"]
