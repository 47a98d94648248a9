"""Parsing of command lines by cyclopts, help for 80 columns, and one line for what cannot be understood."""

from __future__ import annotations

import difflib
import re
import textwrap
import typing
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal

from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts.exceptions import (
    CoercionError,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from gradscape.config.fields import WORDS
from gradscape.config.text import LONGEST_NAME, nested
from gradscape.errors import ConfigError, brief, cut, nearest

FLAT = Parameter(name="*")  # a dataclass whose fields are the command's own flags
EXECUTION = Parameter(name="*", group=Group("Execution", sort_key=20))
_METAVARS = {
    "INT": "N",
    "FLOAT": "X",
    "FLOAT FLOAT": "A B",
    "STR": "TEXT",
    "STR...": "TEXT …",
    "STR|PATH": "PATH",
}
_CONFIGS = (".yaml", ".yml", ".json")
_FRACTION = re.compile(r"[+-]?\d*\.\d*(e[+-]?\d+)?", re.IGNORECASE)
_INDENT = 26  # columns of a flag's name beside its text


def make_app(name: str, text: str, version: str) -> App:
    """Return an application without commands, whose errors are raised.

    Args:
        name: Name of the program.
        text: Description of the program.
        version: Text that --version prints.
    """
    return App(
        name=name,
        help=text,
        version=version,
        version_flags="--version",
        help_format="plaintext",
        help_formatter=_HelpFormatter(),
        default_parameter=Parameter(negative=(), allow_repeating=True, show_default=_default),
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )


def parse(app: App, arguments: Sequence[str]) -> partial[Any]:
    """Return the command that a command line names, with its arguments, to be called.

    Args:
        app: Application.
        arguments: Words of the command line, after the program's name.

    Raises:
        ConfigError: There is no such command, or it does not take a flag or a value.
    """
    try:
        command, bound, _ = app.parse_args(list(arguments))
    except CycloptsError as error:
        raise ConfigError(cut(_explain(error), 1_000)) from error
    _refuse_fractions(app, arguments)
    bound.apply_defaults()
    return partial(command, *bound.args, **bound.kwargs)


def _refuse_fractions(app: App, words: Sequence[str]) -> None:
    """Refuse a fraction for a flag of whole numbers, which cyclopts rounds."""
    given = {}
    for word, after in pairwise((*words, "")):
        flag, equals, value = word.partition("=")
        if flag.startswith("--") and _FRACTION.fullmatch(value if equals else after):
            given[flag.replace("_", "-")] = value if equals else after
    if not given:
        return
    _, apps, _ = app.parse_commands(list(words))
    for argument in apps[-1].assemble_argument_collection():
        if int not in (typing.get_args(argument.hint) or (argument.hint,)):
            continue
        for name in given.keys() & set(argument.names):
            raise ConfigError(f"{name}: expected {WORDS[int]}; got {brief(given[name])}")


def _default(value: object) -> str | None:
    """Return a default as help shows it; None for what is empty or switched off."""
    if value is None or value == () or isinstance(value, bool):
        return None
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _explain(error: CycloptsError) -> str:
    """Return what was expected, what was received, and the nearest that exists."""
    if isinstance(error, UnknownOptionError):
        return _no_such(error.token.keyword or error.token.value, error)
    if isinstance(error, UnusedCliTokensError):
        return _no_such((error.unused_tokens or [""])[0], error)
    if isinstance(error, UnknownCommandError):
        word = (error.unused_tokens or [""])[0]
        commands = [name for name in error.app or () if not name.startswith("-")]
        return f"COMMAND: expected one of {', '.join(commands)}; got {brief(word)}{nearest(word, commands)}"
    if isinstance(error, CoercionError) and error.token and error.argument:
        return _wrong_value(error.argument, error.token.value, error.target_type)
    if isinstance(error, MissingArgumentError) and error.argument:
        return f"{_name(error.argument)}: expected a value; got none{_help(error)}"
    return str(error)


def _no_such(word: str, error: CycloptsError) -> str:
    flag = word.split("=")[0]
    known = error.app.assemble_argument_collection() if error.app and error.app.default_command else ()
    flags = [name for argument in known for name in argument.names if name.startswith("--")]
    if "--config" in flags and word.endswith(_CONFIGS):
        command = " ".join(["gradscape", *(error.command_chain or ())])
        return f"no such argument: {cut(word)}; for a file of settings type: {command} --config {cut(word)}"
    return f"no such flag or argument: {cut(flag)}{_close(flag, flags) or _help(error)}"


def _help(error: CycloptsError) -> str:
    command = " ".join(["gradscape", *(error.command_chain or ())])
    return f"; {command} --help lists what it takes"


def _close(flag: str, known: Iterable[str]) -> str:
    """Return `"; did you mean '--optim.lr'?"` for --lr, or for a slip of the pen; else an empty text."""
    names = [name.lstrip("-") for name in known]
    word = flag.lstrip("-").replace("_", "-")
    ends = [name for name in names if name.split(".")[-1] == word]
    if len(word) > LONGEST_NAME:
        return ""
    close = ends or difflib.get_close_matches(word, names, n=1)
    return f"; did you mean '--{close[0]}'?" if close else ""


def _name(argument: Any) -> str:
    return str(argument.parameter.metavar or argument.name) if argument.index is not None else argument.name


def _wrong_value(argument: Any, text: str, kind: Any) -> str:
    """Return the message on a value that is not of its flag's type, or none of its choices."""
    name = _name(argument)
    if typing.get_origin(kind) is not Literal:
        return f"{name}: expected {WORDS.get(kind, kind)}; got {brief(text)}"
    _refuse_setting(argument.name, text)
    choices = typing.get_args(kind)
    return f"{name}: expected one of {', '.join(choices)}; got {brief(text)}{nearest(text, choices)}"


def _refuse_setting(flag: str, text: str) -> None:
    """Raise what the configuration says of a run's setting, which may be more than a list of choices."""
    from gradscape.config.paths import SETTINGS
    from gradscape.config.run import RunConfig
    from gradscape.config.serialize import from_dict

    name = flag.lstrip("-").replace("-", "_")
    if typing.get_origin(SETTINGS.get(name)) is Literal:
        from_dict(RunConfig, nested({name: text}))


class _HelpFormatter:
    """Formatter of help as plain lines: a flag and its value, and beside them their text."""

    def render_usage(self, console: Any, options: Any, usage: Any) -> None:
        if usage:
            print(usage, file=console.file)

    def render_description(self, console: Any, options: Any, description: Any) -> None:
        for paragraph in _text(description).strip().split("\n\n"):
            _print(console, textwrap.fill(" ".join(paragraph.split()), console.width, break_on_hyphens=False))
            _print(console, "")

    def __call__(self, console: Any, options: Any, panel: Any) -> None:
        if not panel.entries:
            return
        _print(console, f"{panel.title}:")
        for entry in panel.entries:
            entry = entry.copy(metavar=_metavar(entry))
            names = "  " + ", ".join(entry.display_labels_with_metavar)
            text = _text(entry.description)
            text += f" (default: {entry.default})" if entry.default else ""
            text += " (required)" if entry.required else ""
            beside = len(names) <= _INDENT - 2
            indent = " " * _INDENT
            lines = textwrap.wrap(text, console.width, initial_indent=indent, subsequent_indent=indent)
            if beside and lines:
                lines[0] = names + lines[0][len(names) :]
            else:
                lines.insert(0, names)
            _print(console, "\n".join(lines))
        _print(console, "")


def _metavar(entry: Any) -> str | None:
    """Return the word for a flag's value: its choices, or its type."""
    if entry.choices:
        return "|".join(entry.choices)
    metavar: str | None = entry.metavar
    return _METAVARS.get(metavar, metavar) if metavar else None


def _text(description: Any) -> str:
    """Return the words of a description that cyclopts has wrapped for a terminal."""
    inner = getattr(description, "primary_renderable", description)
    return str(getattr(inner, "plain", inner) or "")


def _print(console: Any, text: str) -> None:
    print(text, file=console.file)
