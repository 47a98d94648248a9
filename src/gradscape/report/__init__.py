"""From a study's records to its figures, tables, checked claims and page; no torch."""
