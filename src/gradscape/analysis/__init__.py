"""Claims and their evidence, from the records of a study; no drawing, no torch."""
