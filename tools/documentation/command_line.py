"""Page of the command line, made from the parser itself."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from typing import Any, Literal

from markdown_tables import code, table
from staging import write

from gradscape.cli.main import app

_FLAG = re.compile(r"(?<![\w`-])--[a-z][\w.-]*\w")
_VALUES = {int: "N", float: "X", bool: "", str: "TEXT"}


_HEAD = """# Command line

Each command's `--help` says the same. Flags are spelled with hyphens; `_` is read as `-`. Exit codes: 0 all
well; 1 a finding of grade `fail`, or a run that failed; 2 wrong input, named on one line; 130 interrupted:
[more on that](../programs.md#exit-codes).

"""


def make() -> None:
    """Write the page of all commands."""
    commands = {name: app[name] for name in app if not name.startswith("-")}
    rows = [[f"[{name}](#{name})", _first(each)] for name, each in commands.items()]
    text = _HEAD + table(["command", "purpose"], rows)
    write("reference/command-line.md", text + "".join(_section(*each) for each in commands.items()))


def _first(command: Any) -> str:
    return str(command.help).partition("\n")[0]


def _section(name: str, command: Any) -> str:
    rest = str(command.help).partition("\n")[2].strip()
    usage = command.usage or f"gradscape {name} [OPTIONS]"
    text = f"\n## {name}\n\n{_first(command)}\n\n```text\n{usage}\n```\n\n{rest}\n"
    for title, rows in _groups(command).items():
        text += f"\n**{title}**\n\n" + table(["name", "value", "default", "meaning"], rows)
    return text


def _groups(command: Any) -> dict[str, list[list[str]]]:
    """Rows of a command's arguments, by the title of their group."""
    found: dict[str, list[list[str]]] = {}
    for argument in command.assemble_argument_collection():
        if argument.show and argument.parameter.name != ("*",):
            group = argument.parameter.group[0]
            found.setdefault(getattr(group, "name", str(group)), []).append(_row(argument))
    return found


def _row(argument: Any) -> list[str]:
    is_flag = bool in _kinds(argument.hint) and argument.index is None
    names = argument.names if argument.field_info.default is True else argument.names[:1]
    default = "required" if argument.required else code(_default(argument))
    value = "" if is_flag else code(_value(argument.hint)) if argument.index is None else ""
    return [
        ", ".join(map(code, names)),
        value,
        default,
        _FLAG.sub(r"`\g<0>`", str(argument.parameter.help or "")),
    ]


def _default(argument: Any) -> str:
    show = argument.parameter.show_default
    default = argument.field_info.default
    shown = show(default) if callable(show) else app.default_parameter.show_default(default)
    return (
        "" if shown is None or (default is argument.field_info.empty and not callable(show)) else str(shown)
    )


def _kinds(hint: Any) -> Iterator[Any]:
    """Yield the types within a hint, None and containers apart."""
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is Literal or not inner:
        yield hint
        return
    for each in inner:
        if each not in (type(None), Ellipsis):
            yield from _kinds(each)


def _value(hint: Any) -> str:
    kinds = list(dict.fromkeys(_kinds(hint)))
    for kind in kinds:
        if typing.get_origin(kind) is Literal:
            return "|".join(map(str, typing.get_args(kind)))
    word = "PATH" if len(kinds) > 1 else _VALUES.get(kinds[0], "TEXT")
    many = typing.get_origin(hint) is tuple or "tuple" in str(hint)
    return f"{word} …" if many else word
