"""Figures of a report; no torch."""
