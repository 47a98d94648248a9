"""Live page: trainings in a folder, followed while they are written; only files are read."""

__all__ = ["discovery", "hub", "server", "sources"]
