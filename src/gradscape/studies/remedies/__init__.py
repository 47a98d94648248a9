"""Remedies for networks that do not train."""
