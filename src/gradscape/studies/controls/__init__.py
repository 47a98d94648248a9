"""The study of controls of the paper's sweeps."""
