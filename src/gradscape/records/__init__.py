"""Records of what was measured: plain values and arrays, no torch."""
