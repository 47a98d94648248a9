"""Command that prints the schema by which an editor completes and checks a run's or a sweep's file."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from gradscape.cli.output import to_json


def schema(what: Annotated[Literal["run", "sweep"], Parameter(name="WHAT", help="whose file")], /) -> None:
    """Print a JSON Schema.

    Args:
        what: File that the schema describes.
    """
    from gradscape.config.schema import run_schema, sweep_schema

    values = run_schema() if what == "run" else sweep_schema()
    print(to_json(values))
