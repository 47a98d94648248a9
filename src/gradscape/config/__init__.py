"""Configurations of runs: their fields, types, text forms and files."""

__all__ = [
    "arguments",
    "fields",
    "network",
    "options",
    "paths",
    "plain_yaml",
    "run",
    "schema",
    "serialize",
    "text",
]
