"""The published studies that gradscape reproduces."""
