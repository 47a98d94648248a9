"""Figures of a report, without torch."""

__all__ = [
    "base",
    "basin",
    "by_axis",
    "by_layer",
    "curves",
    "dot_plot",
    "heatmap",
    "landscape",
    "noise",
    "smoothness",
    "spectrum",
    "style",
    "sweep_curves",
    "turning",
    "watch",
    "weight_norm",
]
