"""Measurements: functions and accumulators that read a model and leave it as found."""
