"""Measurements that leave a model as found."""

__all__ = ["check", "core", "curvature", "diagnose", "landscape", "noise", "signal", "smoothness", "watch"]
