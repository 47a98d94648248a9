"""Page of the configuration, made from its JSON Schemas."""

from __future__ import annotations

from typing import Any

from markdown_tables import code, table
from staging import write

from gradscape.config.schema import run_schema, sweep_schema

Schema = dict[str, Any]
_SECTIONS = {"net": "Network", "data": "Data", "optim": "Optimizer"}


_HEAD = """# Configuration

Settings of a run, as `gradscape train --config run.yaml` reads them, `gs.RunConfig` takes them and a sweep
varies them. On the command line `net.depth` is `--net.depth`. An editor completes and checks a file that
names its schema:

```sh
gradscape schema run > run.schema.json    # or sweep
```

```yaml
# yaml-language-server: $schema=run.schema.json
net: {depth: 38, norm: batch}
optim: {lr: 0.01}
epochs: 20
```

"""


def make() -> None:
    """Write the page of a run's and a sweep's settings."""
    run, sweep = run_schema(), sweep_schema()
    text = _HEAD + f"## Run\n\n{run['description']}\n\n"
    text += _rows("", {k: v for k, v in run["properties"].items() if k not in _SECTIONS})
    for section, title in _SECTIONS.items():
        schema = _resolved(run, run["properties"][section])
        text += f"\n## {title}\n\n{schema['description']}\n\n" + _rows(f"{section}.", schema["properties"])
    text += (
        "\n## Sweep\n\nKeys of a study file, which `gradscape sweep FILE` reads; [more](../sweeps.md).\n\n"
    )
    text += _rows("", sweep["properties"])
    write("reference/configuration.md", text)


def _resolved(run: Schema, schema: Schema) -> Schema:
    return dict(run["$defs"][schema["$ref"].rpartition("/")[2]]) if "$ref" in schema else schema


def _rows(prefix: str, properties: Schema) -> str:
    rows = [
        [code(prefix + name), _kind(each), _default(each), each.get("description", "")]
        for name, each in properties.items()
    ]
    return table(["key", "value", "default", "meaning"], rows)


def _default(schema: Schema) -> str:
    default = schema.get("default")
    return (
        "" if default in (None, []) else code(str(default).lower() if isinstance(default, bool) else default)
    )


def _kind(schema: Schema) -> str:
    if "enum" in schema:
        return ", ".join(code(each) for each in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(each) for each in schema["anyOf"]))
    words = {"integer": "whole number", "boolean": "yes or no", "array": "list", "object": "mapping"}
    return words.get(schema.get("type", ""), schema.get("type", ""))
