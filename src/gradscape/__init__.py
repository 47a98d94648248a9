"""gradscape tells why a deep network trains or does not, and shows it."""

from gradscape.store import load

__all__ = ["load"]
__version__ = "0.1.0"
