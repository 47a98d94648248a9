"""YAML and JSON files of plain values, read from anyone and written for people.

Stricter than YAML 1.1: no anchors, whose aliases let a few bytes stand for gigabytes; no key twice; and text
that only that standard takes for a number or a date (1:30 is 90 there) stays text. 1e-3 is a number.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

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


T = TypeVar("T")


def read_as(path: Path, what: str, build: Callable[[object], T], alone: bool = True) -> T:
    """Read a YAML or JSON file and make something of it.

    Args:
        path: Path of the file.
        what: Name of such files, for messages.
        build: Function of the file's plain values; the `ConfigError` that it raises gets the file and, where
            it begins with a key of it, the line.
        alone: Whether `build` uses nothing else, such as flags, which have no line.

    Returns:
        What `build` returns.

    Raises:
        ConfigError: The file is missing, too large, not such YAML, or `build` raised it.
    """
    values, lines = _read_marked(path, what)
    lines = lines if alone else {}
    try:
        return build(values)
    except ConfigError as error:
        line = _line_of(str(error), lines)
        place = f"{path}, line {line}" if line else str(path)
        raise ConfigError(f"{place}: {error}") from error


def _line_of(message: str, lines: Mapping[str, int]) -> int | None:
    """Return the line of the key that a message begins with, or says that there is no such field."""
    head, _, rest = message.partition(": ")
    if "=" in head:  # a point of a sweep, in which something is wrong
        head, _, rest = rest.partition(": ")
    missing = re.match(r"no such field: ([\w.]+)", rest)
    words = [*head.replace(",", " ").split(), *(missing.groups() if missing else ())]
    keys = [key for word in words for key in lines if key == word or key.endswith(f".{word}")]
    return lines[max(keys, key=len)] if keys else None


def _read_marked(path: Path, what: str) -> tuple[object, dict[str, int]]:
    """Read plain values, and the line of every key by its dotted path, in which lists have no part."""
    import yaml

    try:
        # Not to wait for ever at a pipe that nobody writes to; one that a shell made for us has its writer.
        with open(path, "rb", opener=_at_once) as file:
            content = file.read(MOST_BYTES + 1)  # bounded, for it may be a device
            if not content and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(f"{what} {path} gives nothing; expected a file with keys and values")
        if len(content) > MOST_BYTES:
            raise ConfigError(f"{what} {path} has more than {MOST_BYTES:,} bytes; give a smaller file")
        reader = _loader()(content.decode("utf-8"))
        node = reader.get_single_node()
        values = None if node is None else reader.construct_document(node)
        return values, dict(_key_lines(node)) if node is not None else {}
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"cannot read {what} {path}: {reason}") from error
    except ConfigError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # the last two: absurd numbers, nesting
        raise ConfigError(f"{path} is not YAML: {cut(error, 400)}") from error


def _key_lines(node: Any, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Yield the dotted path and the line of every key in a node."""
    for item in node.value if isinstance(node.value, list) else ():
        key, value = item if isinstance(item, tuple) else (None, item)
        path = prefix if key is None else f"{prefix}{key.value}."
        if key is not None:
            yield path[:-1], key.start_mark.line + 1
        yield from _key_lines(value, path)


def _at_once(path: str, flags: int) -> int:
    """Open a file for reading without waiting for the other end of a pipe; what is read later may wait."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if os.name == "posix":
        os.set_blocking(descriptor, True)
    return descriptor


def to_yaml(values: object) -> str:
    """Return plain values as YAML that `read_as` reads as they are; keys keep their order.

    Args:
        values: Plain values.
    """
    import yaml

    class Dumper(_plainer(yaml.SafeDumper)):  # type: ignore[misc]
        def ignore_aliases(self, data: object) -> bool:
            return True

    text: str = yaml.dump(
        values, Dumper=Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110
    )
    return text


def _loader() -> Any:
    """Return PyYAML's safe loader, made as strict as the module's docstring says."""
    import yaml

    class Loader(_plainer(yaml.SafeLoader)):  # type: ignore[misc]
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


def _plainer(kind: Any) -> Any:
    """Return PyYAML's loader or dumper, to which `NUMBERS` alone are numbers."""

    class Plainer(kind):  # type: ignore[misc]
        pass

    Plainer.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag not in LEFT_OUT]
        for first, known in kind.yaml_implicit_resolvers.items()
    }
    for tag, pattern in NUMBERS.items():
        Plainer.add_implicit_resolver(tag, pattern, list("-+.0123456789"))
    return Plainer
