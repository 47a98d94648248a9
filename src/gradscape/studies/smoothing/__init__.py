"""Smoothness of the loss with BatchNorm and without, of networks that train both ways."""

__all__ = ["claims", "measures", "panels", "report", "roles", "study"]
