"""Sweeps: any fields of a run, over seeds."""
