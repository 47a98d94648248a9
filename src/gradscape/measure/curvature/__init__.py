"""Measure the curvature of a loss."""
