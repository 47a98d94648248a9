"""Commands: a module for each group of them."""

__all__ = ["main"]
