"""Foundations of every measurement: batches, layers, parameters, and a model left as found."""
