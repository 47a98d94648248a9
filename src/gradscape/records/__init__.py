"""Records of what was measured, as plain values and arrays; no torch."""
