"""Templates of all pages."""

from __future__ import annotations

from functools import cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


@cache
def environment() -> Environment:
    """Return the environment of the pages' templates: unknown names are errors, and all text is escaped."""
    rooms = ("gradscape.report.pages", "gradscape.report.interactive")
    loader = ChoiceLoader([PackageLoader(room, package_path="") for room in rooms])
    return Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
