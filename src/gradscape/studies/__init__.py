"""Published studies that gradscape reproduces."""

__all__ = ["batchnorm", "catalogue"]
