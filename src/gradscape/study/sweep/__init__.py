"""Sweeps over any fields of a run's configuration, over seeds."""

__all__ = ["axes", "batch_size_controls", "grid", "report", "sequential", "sweep"]
