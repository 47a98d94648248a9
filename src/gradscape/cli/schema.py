"""The command that prints what an editor needs to complete and check a run's or a sweep's file."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from cyclopts import Parameter


def schema(what: Annotated[Literal["run", "sweep"], Parameter(name="WHAT", help="whose file")], /) -> None:
    """Print a JSON Schema."""
    from gradscape.config.schema import run_schema, sweep_schema

    found = run_schema() if what == "run" else sweep_schema()
    print(json.dumps(found, indent=1, ensure_ascii=False))
