"""Figures of a report, without torch."""
