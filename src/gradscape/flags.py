"""Command-line flags from the fields of the configurations, and errors in one line.

argparse rather than a generator of command lines: it starts in a few milliseconds, and its errors can be
had as the one line that gradscape promises.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import math
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from gradscape.errors import ConfigError, brief, cut, nearest

MOST_SECONDS = 1e9  # three decades
LONGEST_NAME = 255  # bytes, of a file: what file systems take
LONGEST_PATH = 3_500  # bytes: Linux takes 4,096, and names come behind it


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are one line, with the nearest match, and exit code 2.

    `--batch_size`, as Python has it, is `--batch-size` too.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.split())
        if choice := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", line):
            line += nearest(choice[1], choice[2].replace("'", "").split(", "))
        raise ConfigError(cut(line, 1_000))

    def flags(self) -> list[str]:
        return [flag for action in self._actions for flag in action.option_strings]

    def parse_all(self, arguments: Sequence[str]) -> argparse.Namespace:
        """`parse_args`, naming the first unknown flag and the known one nearest to it."""
        values: argparse.Namespace
        values, unknown = self.parse_known_args(arguments)
        if unknown:
            flag = unknown[0].split("=")[0]
            parser = getattr(values, "parser", self)
            known = f"; {parser.prog} --help lists what it takes"
            raise ConfigError(f"no such flag or argument: {cut(flag)}{close(flag, parser.flags()) or known}")
        return values

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        known = self.flags()
        arguments = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args([kebab(each, known) for each in arguments], namespace)


def kebab(argument: str, known: Sequence[str]) -> str:
    """`--batch-size=5` for `--batch_size=5`, where the first is known and the second is not."""
    flag, sign, value = argument.partition("=")
    other = flag.replace("_", "-")
    return f"{other}{sign}{value}" if flag not in known and other in known else argument


def close(flag: str, known: Sequence[str]) -> str:
    """`"; did you mean '--optim.lr'?"` for --lr, or for a slip of the pen."""
    names = [each.lstrip("-") for each in known]
    word = flag.lstrip("-").replace("_", "-")
    ends = [name for name in names if name.split(".")[-1] == word]
    if len(word) > LONGEST_NAME:
        return ""
    found = ends or difflib.get_close_matches(word, names, n=1)
    return f"; did you mean '--{found[0]}'?" if found else ""


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
            f"--{name.replace('_', '-')}",
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
        raise argparse.ArgumentTypeError(f"{brief(text)} is not a whole number") from error


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{brief(text)} is not a number") from error


def count(low: int, high: int, of: str = "") -> Callable[[str], int]:
    """A reader of whole numbers from low to high; what is beyond would only be found out in hours."""

    def read(text: str) -> int:
        value = whole(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{brief(value)} is not possible; give {low} … {high:,}{of}")
        return value

    return read


def positive(text: str) -> float:
    """A number above 0, such as a learning rate."""
    value = number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{cut(text)} is not possible; give a number above 0")
    return value


def seconds(text: str) -> float:
    value = number(text)
    if not 0 < value <= MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"{cut(text)} is not possible; give seconds above 0")
    return value


def path(text: str) -> Path:
    """A path, with ~ for the user's own folder, as --out=~/runs reaches us unexpanded."""
    if not text.strip():
        raise argparse.ArgumentTypeError("'' names no file or folder; is a variable of the shell unset?")
    if len(os.fsencode(text)) > LONGEST_PATH:
        raise argparse.ArgumentTypeError(f"{cut(text)} is too long; give {LONGEST_PATH:,} bytes at most")
    if long := [part for part in text.split(os.sep) if len(os.fsencode(part)) > LONGEST_NAME]:
        raise argparse.ArgumentTypeError(
            f"{cut(long[0])} has {len(long[0])} letters; give a name of {LONGEST_NAME} bytes at most"
        )
    return Path(text).expanduser() if text == "~" or text.startswith(f"~{os.sep}") else Path(text)


def place(text: str) -> str:
    """What may be a path or something else, as FILE.py:FACTORY or a URI."""
    return str(path(text)) if text.startswith("~") or not text.strip() else text


def yes_or_no(text: str) -> bool:
    known = {"yes": True, "true": True, "no": False, "false": False}
    if text.lower() not in known:
        raise argparse.ArgumentTypeError(f"{brief(text)} is not yes or no")
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


def add_execution_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: auto")
    command.add_argument("--data-root", metavar="DIR", type=path, help="the folder that holds CIFAR")
    command.add_argument("--download", action="store_true", help="fetch CIFAR where it is not found")
    command.add_argument(
        "--mirror", metavar="URL", action="append", default=[], help="fetch it from here; may be repeated"
    )


def require_folder(flag: str, file: Path | None, *endings: str) -> None:
    """Refuse a file that could not be written when all is computed, or has another ending than these."""
    if file is None:
        return
    if endings and file.suffix not in endings:
        known = " or ".join(filter(None, (", ".join(endings[:-1]), endings[-1])))
        raise ConfigError(f"{flag}: {file} is of no known kind; give a name that ends in {known}")
    folder = file.absolute().parent
    if not folder.is_dir():
        raise ConfigError(f"{flag}: there is no folder {file.parent}; give a file in one that exists")
    if endings and file.is_dir():
        raise ConfigError(f"{flag}: {file} is a folder; give another name")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"{flag}: cannot write into {file.parent}; permit it, or give another folder")
