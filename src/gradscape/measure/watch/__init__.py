"""Watch a training: gradients, updates and activations of every layer."""
