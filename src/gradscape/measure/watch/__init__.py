"""Watch a training: gradients, updates and activations of every layer."""

__all__ = ["activations", "epoch_recorder", "watch", "watch_noise"]
