"""The package's version, also where it is run from its source, uninstalled."""

__version__ = "0.1.0"
