"""Measurements that leave a model as found."""

__all__ = [
    "check",
    "coordinates",
    "core",
    "curvature",
    "diagnose",
    "landscape",
    "lr_range",
    "noise",
    "replay",
    "signal",
    "smoothness",
    "watch",
]
