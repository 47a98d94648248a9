"""BatchNorm and vanishing gradients: the paper's study."""

__all__ = ["claims", "report", "roles", "study"]
