"""Command-line flags from the fields of the configurations, and errors in one line.

argparse rather than a generator of command lines: it starts in a few milliseconds, and its errors can be
had as the one line that gradscape promises.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from gradscape.errors import ConfigError, nearest


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are one line, with the nearest match, and exit code 2."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.split())
        if choice := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", line):
            line += nearest(choice[1], choice[2].replace("'", "").split(", "))
        raise ConfigError(line)

    def flags(self) -> list[str]:
        return [flag for action in self._actions for flag in action.option_strings]

    def parse_all(self, arguments: Sequence[str]) -> argparse.Namespace:
        """`parse_args`, naming the first unknown flag and the known one nearest to it."""
        values, unknown = self.parse_known_args(arguments)
        if unknown:
            flag = unknown[0].split("=")[0]
            parser = getattr(values, "parser", self)
            known = f"; {parser.prog} --help lists what it takes"
            raise ConfigError(f"no such flag or argument: {flag}{nearest(flag, parser.flags()) or known}")
        return values


def add_config_flags(parser: argparse.ArgumentParser, kind: type, prefix: str = "") -> None:
    """One flag for each field of a configuration, `--net.depth` for a field of a field.

    Flags that are not given are absent from the result, so that a file's values keep.
    """
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        name, hint = f"{prefix}{field.name}", hints[field.name]
        if dataclasses.is_dataclass(hint):
            assert isinstance(hint, type)
            group = parser.add_argument_group(name, (hint.__doc__ or "").splitlines()[0])
            add_config_flags(typing.cast(Any, group), hint, f"{name}.")
            continue
        text = field.metadata["help"]
        shown = "" if field.default is None else f" (default: {display(field.default)})"
        parser.add_argument(
            f"--{name}",
            dest=name,
            default=argparse.SUPPRESS,
            help=text.replace("%", "%%") + shown,
            **reader(hint),
        )


def reader(hint: Any) -> dict[str, Any]:
    """argparse's options for a field's type."""
    if typing.get_origin(hint) is typing.Literal:
        return {"metavar": "|".join(typing.get_args(hint))}  # the configuration says what it refuses, and why
    kinds = [kind for kind in typing.get_args(hint) or (hint,) if kind is not types.NoneType]
    names = {int: ("N", whole), float: ("X", number), bool: ("yes|no", yes_or_no)}
    metavar, read = names[kinds[0]]
    return {"metavar": metavar, "type": read}


def whole(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from error


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from error


def yes_or_no(text: str) -> bool:
    known = {"yes": True, "true": True, "no": False, "false": False}
    if text.lower() not in known:
        raise argparse.ArgumentTypeError(f"{text!r} is not yes or no")
    return known[text.lower()]


def display(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """`{"net.depth": 38}` as `{"net": {"depth": 38}}`."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        *path, last = name.split(".")
        here = result
        for key in path:
            here = here.setdefault(key, {})
        here[last] = value
    return result


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def add_execution_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: auto")
    command.add_argument("--data-root", metavar="DIR", type=Path, help="the folder that holds CIFAR")
    command.add_argument("--download", action="store_true", help="fetch CIFAR where it is not found")
    command.add_argument(
        "--mirror", metavar="URL", action="append", default=[], help="fetch it from here; may be repeated"
    )


def require_folder(flag: str, file: Path | None, *endings: str) -> None:
    """Refuse a file that could not be written when all is computed, or has another ending than these."""
    if file and endings and file.suffix not in endings:
        known = " or ".join(filter(None, (", ".join(endings[:-1]), endings[-1])))
        raise ConfigError(f"{flag}: {file} is of no known kind; give a name that ends in {known}")
    if file and not file.absolute().parent.is_dir():
        raise ConfigError(f"{flag}: there is no folder {file.parent}; give a file in one that exists")
