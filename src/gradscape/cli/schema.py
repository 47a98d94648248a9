"""Command that prints the schema of a file that people write, or of a document that programs read."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from gradscape.cli.output import to_json

Kind = Literal["run", "sweep", "diagnosis", "diagnoses", "check"]


def schema(
    what: Annotated[
        Kind,
        Parameter(name="WHAT", help="a file, run or sweep; or a document, diagnosis, diagnoses or check"),
    ],
    /,
) -> None:
    """Print a JSON Schema.

    Args:
        what: File or document that the schema describes.
    """
    from gradscape.config.schema import run_schema, sweep_schema
    from gradscape.records.document_schemas import SCHEMAS

    schemas = {"run": run_schema, "sweep": sweep_schema, **SCHEMAS}
    print(to_json(schemas[what]()))
