"""Controls of the paper's sweeps."""

__all__ = ["study"]
