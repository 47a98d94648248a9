"""Training of one run: one loop, read top to bottom."""

__all__ = ["cuda_graph", "fusion", "loop", "precision", "process", "state", "step"]
