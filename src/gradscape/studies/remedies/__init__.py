"""The study of remedies for networks that do not train."""
