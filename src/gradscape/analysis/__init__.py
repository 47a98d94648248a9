"""Claims and their evidence, computed from the records of a study without drawing and without torch."""

__all__ = [
    "claims",
    "comparison",
    "comparisons",
    "curvature",
    "equal_loss",
    "evidence",
    "gradient_flow",
    "noise",
    "outcomes",
    "smoothness",
    "sweep_points",
    "trainings",
    "variation",
    "weight_norm",
]
