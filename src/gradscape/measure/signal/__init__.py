"""Measure the signal through a network before training."""
