"""Configurations of runs: their fields, types, text forms and files."""
