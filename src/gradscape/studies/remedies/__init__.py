"""Remedies for networks that do not train."""

__all__ = ["study"]
