"""Numbers of transformers within a training, read from the graph that each backward pass begins with."""

__all__ = ["reader"]
