"""Foundations of every measurement: batches, layers, parameters, and a model left as found."""

__all__ = [
    "as_found",
    "batch",
    "batches",
    "containers",
    "copied_training",
    "copying",
    "cuda_graph",
    "fold_batchnorm",
    "gradient_statistics",
    "layer_statistics",
    "layer_trace",
    "leaves",
    "objective",
    "parameter_kinds",
    "parameters",
    "preserve",
]
