"""Numbers and verdicts from the records of a study; no drawing, no torch."""
