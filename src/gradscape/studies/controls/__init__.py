"""Controls of the paper's sweeps."""
