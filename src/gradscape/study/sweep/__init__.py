"""Sweeps over any fields of a run's configuration, over seeds."""
