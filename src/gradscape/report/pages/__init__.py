"""Pages of HTML, each one self-contained file."""

__all__ = ["landscape", "save", "study"]
