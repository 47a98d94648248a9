"""Training of one run: one loop, read top to bottom."""
