"""Public failures of training, rebuilt in PyTorch from their specifications, each with its repaired twin."""
