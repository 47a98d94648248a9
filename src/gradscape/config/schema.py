"""JSON Schemas of the files that people write: a run's and a sweep's YAML, for editors to complete and check.

They know names, types, choices and defaults. What goes together, as a depth with its family, is said when the
file is read.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from gradscape.config.network import NetConfig
from gradscape.config.paths import CONTROLS, SETTINGS
from gradscape.config.run import DataConfig, OptimConfig, RunConfig

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


def run_schema() -> Schema:
    """Return the JSON Schema of the file that `gradscape train --config` reads."""
    from msgspec.json import schema_components

    _, schemas = schema_components([RunConfig], ref_template="#/$defs/{name}")
    for kind in (RunConfig, NetConfig, DataConfig, OptimConfig):
        section = schemas[kind.__name__]
        section["additionalProperties"] = False
        section["description"] = str(kind.__doc__).partition("\n")[0]
        for field in dataclasses.fields(kind):
            if "help" in field.metadata:
                section["properties"][field.name]["description"] = field.metadata["help"]
    return {"$schema": DIALECT, **schemas.pop("RunConfig"), "$defs": schemas}


def sweep_schema() -> Schema:
    """Return the JSON Schema of the file that `gradscape sweep` reads."""
    run = run_schema()
    leaves = {name: _leaf_schema(run, name) for name in SETTINGS}
    controls = {name: _control_schema(hint) for name, hint in CONTROLS.items()}
    nested = {name: value for name, value in run["properties"].items() if name != "seed"}
    fields = leaves | controls
    condition = _closed({name: {"anyOf": [leaf, _listed(leaf)]} for name, leaf in fields.items()})
    axis = _closed({**{name: _axis_values(leaf) for name, leaf in fields.items()}, "where": condition})
    count = {"type": "integer", "minimum": 0}
    keys = {
        "name": {"type": "string", "description": "name of the folder, runs/NAME"},
        "title": {"type": "string", "description": "title of the report"},
        "base": _closed({**nested, **leaves}) | {"description": "settings that all runs have in common"},
        "axes": _listed(axis) | {"description": "fields that vary; those of one axis vary together"},
        "exclude": {
            "type": "array",
            "items": condition,
            "description": "points that match all of one are left out",
        },
        "seeds": {**count, "minimum": 1, "default": 1, "description": "seeds of every point, from 0"},
        "seeds_at_most": count | {"description": "seeds up to which undecided points get more"},
        **controls,
    }
    return {
        "$schema": DIALECT,
        "title": "Sweep",
        **_closed(keys),
        "required": ["axes"],
        "$defs": run["$defs"],
    }


def _leaf_schema(run: Schema, name: str) -> Schema:
    """Return the schema of one setting, such as `net.depth`."""
    section, _, field = name.rpartition(".")
    if not section:
        return dict(run["properties"][field])
    kind = run["properties"][section]["$ref"].rpartition("/")[2]
    return dict(run["$defs"][kind]["properties"][field])


def _control_schema(hint: Any) -> Schema:
    from msgspec.json import schema

    return schema(hint)


def _axis_values(leaf: Schema) -> Schema:
    """Return the schema of a field's values on an axis: a list, or evenly spaced ones of numbers."""
    kinds = {each.get("type") for each in leaf.get("anyOf", [leaf])}
    if not kinds & {"number", "integer"}:
        return _listed(leaf)
    ends = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    log = {
        **_closed({"log": ends, "points": {"type": "integer", "minimum": 2}}),
        "required": ["log", "points"],
    }
    even = {**_closed({"range": ends, "step": {"type": "number"}}), "required": ["range", "step"]}
    return {"anyOf": [_listed(leaf), log, even]}


def _listed(items: Schema) -> Schema:
    return {"type": "array", "items": items, "minItems": 1}


def _closed(properties: Schema) -> Schema:
    """Return the schema of a mapping with these keys and no others."""
    return {"type": "object", "properties": properties, "additionalProperties": False}
