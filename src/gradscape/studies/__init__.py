"""Published studies that gradscape reproduces."""
