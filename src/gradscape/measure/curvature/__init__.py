"""Measure the curvature of a loss."""

__all__ = ["curvature", "edge_of_stability", "hvp"]
