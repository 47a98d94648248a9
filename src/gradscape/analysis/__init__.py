"""Claims and their evidence, computed from the records of a study without drawing and without torch."""
