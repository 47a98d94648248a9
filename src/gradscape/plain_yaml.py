"""YAML and JSON files of plain values: what is read from a file of anyone's, and written for people.

Stricter than YAML 1.1: no anchors, whose aliases let a few bytes stand for gigabytes; no key twice; and text
that only that standard takes for a number or a date (1:30 is 90 there) stays text. 1e-3 is a number.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Hashable
from pathlib import Path
from typing import Any

from gradscape.errors import ConfigError, cut

MOST_BYTES = 1_000_000
NUMBERS = {
    "tag:yaml.org,2002:int": re.compile(r"^[-+]?(0|[1-9][0-9_]*)$"),
    "tag:yaml.org,2002:float": re.compile(
        r"^[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$|^[-+]?[0-9]+[eE][-+]?[0-9]+$"
        r"|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"
    ),
}
LEFT_OUT = {*NUMBERS, "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:merge", "tag:yaml.org,2002:value"}


def read_values(path: Path, what: str) -> object:
    """Plain values from a YAML or JSON file; `what` it is, for messages.

    Raises:
        ConfigError: the file is missing, too large, or not such YAML.
    """
    import yaml

    try:
        # Not to wait for ever at a pipe that nobody writes to; one that a shell made for us has its writer.
        with open(path, "rb", opener=at_once) as file:
            content = file.read(MOST_BYTES + 1)  # bounded, for it may be a device
            if not content and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(f"{what} {path} gives nothing; expected a file with keys and values")
        if len(content) > MOST_BYTES:
            raise ConfigError(f"{what} {path} has more than {MOST_BYTES:,} bytes; give a smaller file")
        return yaml.load(content.decode("utf-8"), Loader=loader())
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"cannot read {what} {path}: {reason}") from error
    except ConfigError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # the last two: absurd numbers, nesting
        raise ConfigError(f"{path} is not YAML: {cut(error, 400)}") from error


def at_once(path: str, flags: int) -> int:
    """Open a file for reading without waiting for the other end of a pipe; what is read later may wait."""
    found = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if os.name == "posix":
        os.set_blocking(found, True)
    return found


def to_yaml(values: object) -> str:
    """Plain values as YAML that `read_values` reads as they are; keys keep their order."""
    import yaml

    class Dumper(plainer(yaml.SafeDumper)):  # type: ignore[misc]
        def ignore_aliases(self, data: object) -> bool:
            return True

    text: str = yaml.dump(
        values, Dumper=Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110
    )
    return text


def loader() -> Any:
    """PyYAML's safe loader, with what the module's docstring says."""
    import yaml

    class Loader(plainer(yaml.SafeLoader)):  # type: ignore[misc]
        def compose_node(self, parent: Any, index: Any) -> Any:
            event = self.peek_event()
            if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
                line = event.start_mark.line + 1
                raise yaml.YAMLError(f"line {line}: & and * (anchors) are not read; write the value out")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            before = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if not isinstance(key, Hashable):
                    break  # PyYAML says so
                if key in before:
                    line = key_node.start_mark.line + 1
                    raise yaml.YAMLError(f"line {line}: {cut(key)} is given twice; give it once")
                before.add(key)
            return super().construct_mapping(node, deep)

    return Loader


def plainer(kind: Any) -> Any:
    """PyYAML's loader or dumper, to which `NUMBERS` alone are numbers: both, to read what is written."""

    class Plainer(kind):  # type: ignore[misc]
        pass

    Plainer.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag not in LEFT_OUT]
        for first, known in kind.yaml_implicit_resolvers.items()
    }
    for tag, pattern in NUMBERS.items():
        Plainer.add_implicit_resolver(tag, pattern, list("-+.0123456789"))
    return Plainer
