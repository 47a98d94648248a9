"""Check a network before it is trained, and try remedies on copies."""

__all__ = ["check", "reinitialize"]
