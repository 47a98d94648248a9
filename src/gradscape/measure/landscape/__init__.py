"""Evaluate a loss over lines and planes of parameters."""

__all__ = ["landscape"]
