"""Reading of what a loss was made of, from the graph that autograd built."""

__all__ = ["loss", "node"]
