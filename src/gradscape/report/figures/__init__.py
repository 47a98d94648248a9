"""Figures of a report, without torch."""

__all__ = [
    "base",
    "basin",
    "before_training",
    "by_axis",
    "curves",
    "dot_plot",
    "gradient_flow",
    "heatmap",
    "landscape",
    "noise",
    "smoothness",
    "spectrum",
    "style",
    "sweep_curves",
    "turning",
    "weight_norm",
]
